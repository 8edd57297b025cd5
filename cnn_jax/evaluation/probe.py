"""The linear probe: how well a linear classifier does on features, in closed form.

Ridge regression on one-hot targets (Hoerl and Kennard 1970). One eigendecomposition serves a whole
path of penalties, so that the answer is there in seconds, before anything is trained.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Of a penalty for each training example, since the eigenvalues grow with their number.
_PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-10, 7))


class ProbeResult(NamedTuple):
    """What the probe found.

    Attributes:
        accuracy: on validation, with the chosen penalty.
        penalty: the chosen one, in the units of scikit-learn's `Ridge(alpha=...)`.
        path: (penalty, validation accuracy) of all that were tried, in the order of the penalties.
    """

    accuracy: float
    penalty: float
    path: list[tuple[float, float]]


def ridge_probe(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    validation_features: np.ndarray,
    validation_labels: np.ndarray,
    num_classes: int,
    penalties: Sequence[float] | None = None,
) -> ProbeResult:
    """Fits ridge regression to the one-hot classes and keeps the penalty that validates best.

    Features are standardised by the mean and standard deviation of the training split (one that
    does not vary there is only centred), targets are centred, and the class of the largest
    prediction is taken. The computation is in float64.

    The penalty is selected on the validation split, so the accuracy is that of a selected model, as
    the best epoch's is: a little too favourable. Of equally accurate penalties the largest is kept.

    Args:
        train_features: float [n, ...]; of rank 4 they are averaged over height and width first, of
            any other rank flattened.
        train_labels: int [n], in 0..num_classes - 1.
        validation_features: float [m, ...], likewise.
        validation_labels: int [m].
        num_classes: how many classes there are.
        penalties: above 0, to try; None: 10**-5 to 10**3 for each training example.
    """
    train, validation = _rows(train_features), _rows(validation_features)
    mean, std = train.mean(axis=0), train.std(axis=0)
    # What float32 features vary by less than this is rounding, which must not be blown up.
    scale = np.where(std > 1e-6 * np.abs(mean), std, 1.0)
    train, validation = (train - mean) / scale, (validation - mean) / scale
    targets = np.eye(num_classes)[train_labels]
    intercept = targets.mean(axis=0)
    targets -= intercept
    # predictions = left / (eigenvalues + penalty) @ right + intercept, for every penalty
    n, d = train.shape
    if n < d:
        eigenvalues, vectors = np.linalg.eigh(train @ train.T)
        left, right = validation @ (train.T @ vectors), vectors.T @ targets
    else:
        eigenvalues, vectors = np.linalg.eigh(train.T @ train)
        left, right = validation @ vectors, vectors.T @ (train.T @ targets)
    eigenvalues = np.maximum(eigenvalues, 0.0)
    path = []
    for penalty in sorted(n * p for p in _PENALTIES) if penalties is None else penalties:
        predicted = ((left / (eigenvalues + penalty)) @ right + intercept).argmax(axis=1)
        path.append((float(penalty), float(np.mean(predicted == validation_labels))))
    penalty, accuracy = max(path, key=lambda pair: (pair[1], pair[0]))
    return ProbeResult(accuracy, penalty, path)


def _rows(features: np.ndarray) -> np.ndarray:
    """Returns float64 [n, d] of features that may be a memory map."""
    if features.ndim == 4:
        return features.mean(axis=(1, 2), dtype=np.float64)
    return features.reshape(len(features), -1).astype(np.float64)
