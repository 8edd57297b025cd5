"""Reliability: how often a network is right where it says p, in bins, and what bins alone cause.

The expected calibration error is no proper score, and is above 0 for a perfectly calibrated
network, since every bin has few images (Roelofs et al. 2022, arXiv:2012.08668). So it stands here
beside what it would be for a perfectly calibrated network with the same confidences.
"""

import dataclasses

import numpy as np

from cnn_jax.evaluation import intervals

BINS = 15
_DRAWS = 400
_LEAST = 20  # images in a bin that is drawn


@dataclasses.dataclass(frozen=True)
class Error:
    """An expected calibration error.

    Attributes:
        value: sum over bins of share * |share of hits - mean confidence|, 0 to 1.
        by_chance: the mean of it for a perfectly calibrated network: the bias of finite bins.
        upper: what 95 % of perfectly calibrated networks stay below.
        p_value: the share of perfectly calibrated networks with a value as large, plus 1 / draws.
        squared: the root of the debiased mean squared error of the bins (Kumar et al. 2019,
            arXiv:1909.10155); 0 where the noise is larger than the error.
    """

    value: float
    by_chance: float
    upper: float
    p_value: float
    squared: float

    @property
    def excess(self) -> float:
        """The value less what finite bins cause, at least 0."""
        return max(0.0, self.value - self.by_chance)


def equal_mass(confidences: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Returns the bin of each confidence, int [n]; equal confidences are in one bin.

    Bins have about as many images each; with many ties there are fewer of them. A confidence of 1
    is in the last one.

    Args:
        confidences: float [n].
        bins: how many at most.
    """
    n = len(confidences)
    _, inverse, counts = np.unique(confidences, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2  # of each value, among all in order
    own = np.minimum((middle * bins / n).astype(np.int64), bins - 1)
    return np.unique(own, return_inverse=True)[1][inverse]


def calibration_error(
    confidences: np.ndarray, hits: np.ndarray, bins: int = BINS, seed: int = 0
) -> Error:
    """Measures the expected calibration error with bins of equal mass.

    Args:
        confidences: float [n], the probability that was said.
        hits: bool [n], whether it came true.
        bins: how many at most.
        seed: of the draws of a perfectly calibrated network, whose hits are Bernoulli(confidence).
    """
    n = len(confidences)
    own = equal_mass(confidences, bins)
    number = int(own.max()) + 1
    order = np.argsort(own, kind="stable")
    starts = np.searchsorted(own[order], np.arange(number))
    ordered = confidences[order]
    sizes = np.diff(np.append(starts, n))
    sums = np.add.reduceat(ordered, starts)
    found = np.add.reduceat(hits[order].astype(np.float64), starts)
    value = float(np.abs(found - sums).sum() / n)
    random = np.random.default_rng(seed)
    drawn = np.empty(_DRAWS)
    for i in range(_DRAWS):
        came = (random.random(n) < ordered).astype(np.float64)
        drawn[i] = np.abs(np.add.reduceat(came, starts) - sums).sum() / n
    rates, many = found / sizes, sizes > 1
    noise = rates * (1 - rates) / np.maximum(sizes - 1, 1)
    squares = sizes / n * ((rates - sums / sizes) ** 2 - noise)
    return Error(
        value,
        float(drawn.mean()),
        float(np.quantile(drawn, 0.95)),
        float(((drawn >= value - 1e-12).sum() + 1) / (_DRAWS + 1)),
        float(np.sqrt(max(0.0, squares[many].sum()))),
    )


def class_wise(p: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[float]:
    """Returns the calibration error of each class's own probability, against the rest.

    Args:
        p: float [n, classes].
        labels: int [n].
        bins: of equal mass, how many at most.
    """
    found = []
    for k in range(p.shape[1]):
        own = equal_mass(p[:, k], bins)
        gap = np.bincount(own, p[:, k] - (labels == k))
        found.append(float(np.abs(gap).sum() / len(labels)))
    return found


def table(
    confidences: np.ndarray, hits: np.ndarray, groups: np.ndarray, bins: int = BINS
) -> list[dict[str, float]]:
    """Returns a row a bin of equal mass, for the reliability diagram.

    Args:
        confidences: float [n].
        hits: bool [n].
        groups: int [n], from `intervals.group_numbers`.
        bins: how many at most; of fewer than 300 images one for every 20.

    Returns:
        `confidence` (mean), `accuracy`, `low` and `high` (its interval of 95 %), `examples`.
    """
    own = equal_mass(confidences, min(bins, max(2, len(confidences) // _LEAST)))
    rows = []
    for i in range(int(own.max()) + 1):
        chosen = own == i
        ends = intervals.proportion(hits[chosen], groups[chosen])
        low, high = ends if ends is not None else (0.0, 1.0)
        rows.append(
            {
                "confidence": float(confidences[chosen].mean()),
                "accuracy": float(hits[chosen].mean()),
                "low": low,
                "high": high,
                "examples": int(chosen.sum()),
            }
        )
    return rows
