"""Calibration: probabilities that mean what they say.

A network says 0.9 and is right 0.83 of the time. One temperature, fitted on images that neither
trained nor chose it, mends most of that and changes no answer (Guo et al. 2017, arXiv:1706.04599).
"""

import dataclasses
import math
from typing import Any

import numpy as np
import scipy.optimize
from scipy.special import logsumexp

from cnn_jax.evaluation import intervals

_LOW, _HIGH = math.log(1e-3), math.log(1e3)  # of 1 / T
_FOLDS = 5
_RIDGE = 0.1  # of vector scaling: weights and offsets stay finite where a class is separable


@dataclasses.dataclass(frozen=True)
class Scaling:
    """A map from logits to calibrated log-probabilities: log softmax(weights * z + offsets).

    Attributes:
        kind: "temperature": one weight 1 / T for all, no offsets; "vector": one pair a class.
        weights: float64 [classes].
        offsets: float64 [classes].
        note: what was refused in the fit, in words, or "".
    """

    kind: str
    weights: np.ndarray
    offsets: np.ndarray
    note: str = ""

    @classmethod
    def of_temperature(cls, value: float, classes: int, note: str = "") -> "Scaling":
        """Returns the scaling that divides logits by a temperature."""
        return cls("temperature", np.full(classes, 1 / value), np.zeros(classes), note)

    @property
    def temperature(self) -> float:
        """T, which logits are divided by; of vector scaling the one of its mean weight."""
        return float(1 / self.weights.mean())

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """Returns log-probabilities, float64 [n, classes], of logits [n, classes]."""
        return log_softmax(logits * self.weights + self.offsets)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        return {
            "kind": self.kind,
            "temperature": self.temperature,
            "weights": self.weights.tolist(),
            "offsets": self.offsets.tolist(),
            "note": self.note,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Scaling":
        """Returns the Scaling that `to_dict` was called on."""
        weights, offsets = (np.asarray(values[k], np.float64) for k in ("weights", "offsets"))
        return cls(values["kind"], weights, offsets, values.get("note", ""))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns log-probabilities of logits [n, classes]."""
    return logits - logsumexp(logits, axis=1, keepdims=True)


def nll(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean negative log-likelihood, in nats; a proper score, 0 is perfect."""
    return max(0.0, float(-log_probabilities[np.arange(len(labels)), labels].mean()))


def temperature(logits: np.ndarray, labels: np.ndarray) -> Scaling:
    """Returns the temperature of the least negative log-likelihood.

    With b = 1 / T the mean of logsumexp(b z) - b z_y is convex in b. Its derivative, the mean of
    sum_k p_k z_k - z_y, rises with b; Newton's method finds where it is 0, in log T, within
    [0.001, 1000], and halves that interval where a step would leave it. There the mean logit that
    the probabilities expect is the mean logit of the true classes.

    Args:
        logits: float64 [n, classes].
        labels: int [n].

    Returns:
        A temperature that is no worse than 1 on these images. It is 1, with a note, where the
        likelihood has no maximum: all images are right by any margin, or the network is worse than
        chance.
    """
    classes = logits.shape[1]
    own = logits[np.arange(len(labels)), labels]

    def slopes(u: float) -> tuple[float, float]:
        """Returns the derivative by b at b = exp(u), and the derivative of that by u."""
        b = math.exp(u)
        p = np.exp(log_softmax(b * logits))
        mean = (p * logits).sum(axis=1)
        variance = (p * (logits - mean[:, None]) ** 2).sum(axis=1)
        return float((mean - own).mean()), b * float(variance.mean())

    low, high = _LOW, _HIGH
    scale = max(float(np.abs(logits).max()), 1e-300)
    if slopes(high)[0] <= 1e-12 * scale:
        note = "every image is right: no temperature can be told from one"
        return Scaling.of_temperature(1.0, classes, note)
    if slopes(low)[0] >= 0:
        return Scaling.of_temperature(1.0, classes, "the logits say less than chance")
    u = 0.0
    for _ in range(100):
        slope, curvature = slopes(u)
        if abs(slope) <= 1e-14 * scale or high - low < 1e-13:
            break
        low, high = (u, high) if slope < 0 else (low, u)
        step = u - slope / curvature if curvature > 0 else math.inf
        u = step if low < step < high else (low + high) / 2
    found = Scaling.of_temperature(math.exp(-u), classes)
    plain = Scaling.of_temperature(1.0, classes)
    return found if nll(found(logits), labels) <= nll(plain(logits), labels) else plain


def vector_scaling(logits: np.ndarray, labels: np.ndarray) -> Scaling:
    """Returns a weight and an offset a class, of the least penalised negative log-likelihood.

    The objective, the mean of logsumexp(w z + b) - (w_y z_y + b_y) plus 0.1 / n times the squared
    distance of (w, b) from (1 / T, 0), is strictly convex; L-BFGS minimises it. Of two classes it
    is Platt's slope and offset (Platt 1999).

    Args:
        logits: float64 [n, classes].
        labels: int [n].
    """
    n, classes = logits.shape
    start = temperature(logits, labels).weights
    truth = np.zeros((n, classes))
    truth[np.arange(n), labels] = 1
    origin = np.concatenate([start, np.zeros(classes)])
    ridge = _RIDGE / n

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        w, b = x[:classes], x[classes:]
        logs = log_softmax(logits * w + b)
        rest = (np.exp(logs) - truth) / n
        value = nll(logs, labels) + ridge * float(((x - origin) ** 2).sum())
        slope = np.concatenate([(rest * logits).sum(axis=0), rest.sum(axis=0)])
        return value, slope + 2 * ridge * (x - origin)

    best = scipy.optimize.minimize(objective, origin, jac=True, method="L-BFGS-B")
    return Scaling("vector", best.x[:classes], best.x[classes:])


def fit(logits: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Scaling:
    """Returns the scaling to use: a temperature, or vector scaling where that is clearly better.

    Vector scaling is tried where there are two classes or one class has 1.5 times its share, and
    each class has 20 images. It has to have a smaller negative log-likelihood on images that it was
    not fitted on, in five folds of whole groups, by 1.96 standard errors of the difference.

    Args:
        logits: float64 [n, classes].
        labels: int [n].
        groups: int [n], from `intervals.group_numbers`.
    """
    one = temperature(logits, labels)
    classes = logits.shape[1]
    counts = np.bincount(labels, minlength=classes)
    uneven = classes == 2 or counts.max() > 1.5 * len(labels) / classes
    if not uneven or counts.min() < 20 or one.note:
        return one
    gains = np.zeros(len(labels))
    for fold in range(_FOLDS):
        held = groups % _FOLDS == fold
        if not held.any() or len(np.unique(labels[~held])) < classes:
            return one
        simple = temperature(logits[~held], labels[~held])(logits[held])
        rich = vector_scaling(logits[~held], labels[~held])(logits[held])
        rows = np.arange(int(held.sum()))
        gains[held] = (rich - simple)[rows, labels[held]]
    sums = np.bincount(groups, gains - gains.mean())
    error = math.sqrt(float((sums**2).sum())) / len(labels)
    return vector_scaling(logits, labels) if gains.mean() > 1.96 * error else one


def brier(p: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean over images of sum_k (p_k - 1[y = k])^2 (Brier 1950): 0 to 2."""
    own = p[np.arange(len(labels)), labels]
    return float(((p**2).sum(axis=1) - 2 * own + 1).mean())


def brier_parts(p: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Splits the Brier score: score = miscalibration - discrimination + uncertainty, exactly.

    Each class against the rest, summed, by isotonic regression of the outcome on the probability
    (CORP, Dimitriadis et al. 2021, doi:10.1073/pnas.2016191118). Uncertainty is the score of the
    class shares; discrimination is what sorting the images gains, and miscalibration what saying
    the wrong numbers loses.
    """
    total = {"brier": 0.0, "miscalibration": 0.0, "discrimination": 0.0, "uncertainty": 0.0}
    for k in range(p.shape[1]):
        y = (labels == k).astype(np.float64)
        values, inverse, counts = np.unique(p[:, k], return_inverse=True, return_counts=True)
        means = np.bincount(inverse, y) / counts
        weights = counts.astype(np.float64)
        best = scipy.optimize.isotonic_regression(means, weights=weights).x[inverse]
        score, recalibrated, base = (
            float(((q - y) ** 2).mean()) for q in (values[inverse], best, y.mean())
        )
        total["brier"] += score
        total["miscalibration"] += score - recalibrated
        total["discrimination"] += base - recalibrated
        total["uncertainty"] += base
    return total


def calibration_line(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Returns (slope, intercept) of the outcome on the logit of two classes; 1 and 0 are perfect.

    The two numbers of medical reporting (Van Calster et al. 2019): a slope below 1 means that the
    probabilities are too extreme, an intercept above 0 that they are too small.

    Args:
        logits: float64 [n, 2], log-probabilities or logits.
        labels: int [n].
    """
    z = logits[:, 1] - logits[:, 0]
    found = vector_scaling(np.stack([np.zeros_like(z), z], axis=1), labels)
    return float(found.weights[1]), float(found.offsets[1] - found.offsets[0])


def priors(logits: np.ndarray, trained: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Returns logits for other class shares: z + log(expected / trained) (Saerens et al. 2002)."""
    return logits + np.log(expected / trained)


def standard_error(values: np.ndarray, groups: np.ndarray) -> float:
    """Returns the standard error of a mean over images that come in groups.

    Args:
        values: float [n].
        groups: int [n], from `intervals.group_numbers`.
    """
    number = int(groups.max()) + 1
    sums = np.bincount(groups, values - values.mean())
    return math.sqrt(number / max(number - 1, 1) * float((sums**2).sum())) / len(values)


def overconfidence(
    p: np.ndarray, labels: np.ndarray, groups: np.ndarray
) -> tuple[float, intervals.Interval]:
    """Returns by how much the mean confidence exceeds the accuracy, and its interval of 95 %."""
    gap = p.max(axis=1) - (p.argmax(axis=1) == labels)
    mean, error = float(gap.mean()), standard_error(gap, groups)
    return mean, (mean - 1.96 * error, mean + 1.96 * error)
