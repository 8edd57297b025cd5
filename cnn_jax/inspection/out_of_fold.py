"""Probabilities of training examples by networks that were not trained on them."""

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.optimize
import scipy.special

from cnn_jax import experiment, text
from cnn_jax.data import Data, folds, splits
from cnn_jax.experiment import Experiment
from cnn_jax.runs.trained import Run
from cnn_jax.training import start
from cnn_jax.training.parts import prepare

Say = Callable[[str], None]
_PENALTY = 100.0  # of standardised features; 1/C of scikit-learn
_PIECE = 4096
_MOST_FEATURES = 2048  # of an image; more are averaged over the positions


def backbone_is_frozen(config: Experiment, data: Data) -> bool:
    """Returns whether a run leaves the whole backbone as it is, so that no label is in it."""
    plan = prepare(config, data).plan
    stages = len(plan.assembly.model.stage_names)
    return stages > 0 and min(phase.frozen_stages for phase in plan.phases) == stages


def assign(data: Data, count: int, name: str) -> np.ndarray:
    """Returns int [n], the fold of each training example: groups stay whole, classes even.

    Args:
        data: the data.
        count: the number of folds.
        name: the setting that said so, for messages.

    Raises:
        RunError: there are too few examples or groups of a class.
    """
    train = data.train
    folds.check(train, f"{name}={count}", count, data.info.class_names)
    groups = None if train.groups is None else list(train.groups)
    return folds.assign(np.asarray(train.labels), train.ids, groups, count)


def by_retraining(
    config: Experiment, data: Data, fold_of: np.ndarray, say: Say, *, progress: bool = False
) -> np.ndarray:
    """Trains the experiment anew for each fold, on the others, and returns its probabilities.

    The best epoch is chosen on the validation split, which no fold is part of.

    Args:
        config: the experiment.
        data: its data.
        fold_of: int [n], the fold of each training example.
        say: shows a line.
        progress: whether training shows a bar.

    Returns:
        float32 [n, classes].
    """
    train, info = data.train, data.info
    classes = len(info.class_names)
    found = np.empty((len(train), classes), np.float32)
    count = int(fold_of.max()) + 1
    for fold in range(count):
        held = np.flatnonzero(fold_of == fold)
        rest = splits.take(train, np.flatnonzero(fold_of != fold))
        counts = tuple(splits.counts(rest.labels, classes).tolist())
        about = dataclasses.replace(
            info,
            sizes={**info.sizes, "train": len(rest)},
            class_counts={**info.class_counts, "train": counts},
        )
        others = Data(about, {"train": rest, "validation": data.validation}, config.dataset)
        run = start.train(config, others, progress=progress)
        for first in range(0, len(held), _PIECE):
            at = held[first : first + _PIECE]
            found[at] = run.predict(np.ascontiguousarray(train.images[at])).probabilities
        right = float((found[held].argmax(axis=1) == train.labels[held]).mean())
        say(
            f"fold {fold + 1} of {count}: trained on {len(rest):,} images; "
            f"{right:.4f} of the labels of the other {len(held):,} are as predicted"
        )
    return found


def by_heads(run: Run, data: Data, fold_of: np.ndarray, say: Say) -> np.ndarray:
    """Fits a linear classifier for each fold, on the features of the others.

    It is logistic regression with a quadratic penalty on standardised features. Where the backbone
    was trained on the same labels, the probabilities are not out of fold: it has seen them.

    Args:
        run: the trained network.
        data: its data.
        fold_of: int [n], the fold of each training example.
        say: shows a line.

    Returns:
        float32 [n, classes].
    """
    train, classes = data.train, len(data.info.class_names)
    pieces = []
    for first in range(0, len(train), _PIECE):
        images = np.ascontiguousarray(train.images[first : first + _PIECE])
        features = run.features(images)
        if features.ndim == 4 and features[0].size > _MOST_FEATURES:
            features = features.mean(axis=(1, 2))
        pieces.append(features.reshape(len(features), -1))
    features = np.concatenate(pieces)
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    say(f"features   {features.shape[1]:,} of {text.plural(len(train), 'training image')}")
    found = np.zeros((len(train), classes), np.float32)
    labels = np.asarray(train.labels)
    for fold in range(int(fold_of.max()) + 1):
        held = fold_of == fold
        known, place = np.unique(labels[~held], return_inverse=True)
        weights, bias = logistic_regression(features[~held], place, _PENALTY)
        said = scipy.special.softmax(features[held] @ weights + bias, axis=1)
        found[np.ix_(held, known)] = said
    right = float((found.argmax(axis=1) == labels).mean())
    say(f"heads      {right:.4f} of the labels are as predicted out of fold")
    return found


def logistic_regression(
    features: np.ndarray, labels: np.ndarray, penalty: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fits multinomial logistic regression with a quadratic penalty, by L-BFGS.

    It minimises the sum of the cross-entropies plus `penalty` / 2 times the sum of the squared
    weights. Of two classes the penalty counts twice, as if only their difference had weights.

    Args:
        features: float32 [n, channels].
        labels: int [n]; each of 0..classes-1 occurs.
        penalty: its strength; the bias has none.

    Returns:
        (weights float32 [channels, classes], bias float32 [classes]).
    """
    n, channels = features.shape
    classes = int(labels.max()) + 1
    strength = penalty * (2 if classes == 2 else 1) / n
    rows = np.arange(n)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = np.split(flat, [channels * classes])
        weights = weights.reshape(channels, classes)
        log_p = features @ weights.astype(np.float32) + bias
        log_p -= scipy.special.logsumexp(log_p, axis=1, keepdims=True)
        away = np.exp(log_p)
        away[rows, labels] -= 1
        slope = features.T @ away.astype(np.float32) / n + strength * weights
        value = -log_p[rows, labels].mean() + strength / 2 * (weights**2).sum()
        return float(value), np.concatenate([slope.ravel(), away.mean(axis=0)])

    found = scipy.optimize.minimize(
        loss,
        np.zeros((channels + 1) * classes),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": 300, "gtol": 1e-5, "ftol": 1e-9},
    )
    weights, bias = np.split(found.x.astype(np.float32), [channels * classes])
    return weights.reshape(channels, classes), bias


def shortened(config: Experiment, epochs: int | None) -> Experiment:
    """Returns the experiment with another number of epochs, and without what writes to a folder."""
    changes = {} if epochs is None else {"train.epochs": epochs}
    return experiment.replace(config, changes)
