"""Prediction sets that hold the true class with a stated probability: split conformal prediction.

The threshold is the ceil((n + 1) (1 - alpha))-th smallest score of n images that the network has
not seen (Vovk et al. 2005; Lei et al. 2018). Where images are exchangeable, the true class of a new
one is in its set with a probability of at least 1 - alpha, over calibration images and new ones; of
one set of calibration images the coverage has the law Beta(n + 1 - l, l), l = floor((n + 1) alpha).
"""

import dataclasses
import fractions
import math
from typing import Any

import numpy as np
import scipy.stats

PENALTY, FREE = 0.01, 5  # of RAPS: for each class beyond the first five
# Of the hash that `uniforms` computes; a logit beyond the limit counts as the limit.
PRIME, WEIGHTS, LIMIT = 46337, (28637, 17699, 10937, 6761), 1e5


def rank(count: int, alpha: float) -> int:
    """Returns ceil((count + 1) (1 - alpha)), computed in fractions; floats err by one at times."""
    share = 1 - fractions.Fraction(str(alpha))
    return math.ceil((count + 1) * share)


def quantile(scores: np.ndarray, alpha: float) -> float:
    """Returns the conformal quantile: an order statistic, or infinity where there are too few.

    Args:
        scores: float [n] of the true classes; large is strange.
        alpha: the share of true classes that may be missed, between 0 and 1.
    """
    k = rank(len(scores), alpha)
    return float(np.partition(scores, k - 1)[k - 1]) if k <= len(scores) else math.inf


def coverage_law(count: int, alpha: float) -> tuple[float, float]:
    """Returns what 90 % of draws of `count` calibration images have as their true coverage."""
    missed = math.floor((count + 1) * fractions.Fraction(str(alpha)))
    if missed == 0:
        return 1.0, 1.0
    law = scipy.stats.beta(count + 1 - missed, missed)
    return float(law.ppf(0.05)), float(law.ppf(0.95))


def lac(p: np.ndarray) -> np.ndarray:
    """Returns the scores 1 - p_k [n, classes] (LAC, Sadinle et al. 2019): the smallest sets."""
    return 1 - p


def raps(p: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Returns the scores of RAPS (Angelopoulos et al. 2021, arXiv:2009.14193), [n, classes].

    The probability of all classes that are more probable, a random part of the class's own, and
    0.01 for each class beyond the first five: large where the class stands late.

    Args:
        p: float [n, classes].
        uniform: float [n], within 0..1, see `uniforms`.
    """
    order = np.argsort(-p, axis=1, kind="stable")
    ordered = np.take_along_axis(p, order, axis=1)
    before = np.cumsum(ordered, axis=1) - ordered
    late = PENALTY * np.maximum(np.arange(1, p.shape[1] + 1) - FREE, 0)
    scores = before + uniform[:, None] * ordered + late
    found = np.empty_like(scores)
    np.put_along_axis(found, order, scores, axis=1)
    return found


def uniforms(logits: np.ndarray) -> np.ndarray:
    """Returns float64 [n] within 0..1, a function of each image's largest logits alone.

    They take the place of random numbers, so that an image has the same set every time, also in an
    exported graph: a linear hash of four integers, modulo a prime whose square 32 bits hold. Logits
    are rounded to hundredths first, which hides the rounding of another batch size.

    Args:
        logits: float [n, classes].
    """
    largest = -np.sort(-np.asarray(logits, np.float64), axis=1)[:, : len(WEIGHTS)]
    whole = np.floor(100 * np.clip(largest, -LIMIT, LIMIT) + 0.5).astype(np.int64) % PRIME
    hashed = (whole * np.array(WEIGHTS[: whole.shape[1]]) % PRIME).sum(axis=1) % PRIME
    return (hashed + 0.5) / PRIME


@dataclasses.dataclass(frozen=True)
class Sets:
    """How prediction sets are made.

    Attributes:
        method: "lac" or "raps".
        alpha: the share of true classes that may be missed.
        quantiles: float [classes], all equal where coverage is marginal.
        class_conditional: whether each class has its own quantile.
        counts: int [classes], the images that each quantile is of.
    """

    method: str
    alpha: float
    quantiles: np.ndarray
    class_conditional: bool
    counts: np.ndarray

    def __call__(self, p: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        """Returns bool [n, classes], which classes are in the set of each image.

        Args:
            p: float64 [n, classes], calibrated.
            uniform: float [n] for RAPS, see `uniforms`.
        """
        return scores(self.method, p, uniform) <= self.quantiles

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON; an infinite quantile is None."""
        return {
            "method": self.method,
            "alpha": self.alpha,
            "class_conditional": self.class_conditional,
            "quantiles": [None if math.isinf(q) else float(q) for q in self.quantiles],
            "counts": self.counts.tolist(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Sets":
        """Returns the Sets that `to_dict` was called on."""
        quantiles = [math.inf if q is None else q for q in values["quantiles"]]
        return cls(
            values["method"],
            values["alpha"],
            np.asarray(quantiles, np.float64),
            values["class_conditional"],
            np.asarray(values["counts"]),
        )


def scores(method: str, p: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
    """Returns the scores [n, classes] of a method by name."""
    if method == "lac":
        return lac(p)
    assert uniform is not None
    return raps(p, uniform)


def fit(
    method: str,
    p: np.ndarray,
    labels: np.ndarray,
    alpha: float,
    *,
    class_conditional: bool = False,
    uniform: np.ndarray | None = None,
) -> Sets:
    """Returns prediction sets of a coverage of at least 1 - alpha.

    Args:
        method: "lac" or "raps".
        p: float64 [n, classes] of independent calibration images.
        labels: int [n].
        alpha: the share of true classes that may be missed.
        class_conditional: whether that holds within each class; one with fewer than 1 / alpha - 1
            images has an infinite quantile: it is in every set.
        uniform: float [n] for RAPS.
    """
    classes = p.shape[1]
    own = scores(method, p, uniform)[np.arange(len(labels)), labels]
    if not class_conditional:
        quantiles = np.full(classes, quantile(own, alpha))
        return Sets(method, alpha, quantiles, False, np.full(classes, len(labels)))
    counts = np.bincount(labels, minlength=classes)
    quantiles = np.array([quantile(own[labels == k], alpha) for k in range(classes)])
    return Sets(method, alpha, quantiles, True, counts)


def measure(found: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Measures sets on labelled images that did not make them.

    Args:
        found: bool [n, classes].
        labels: int [n].

    Returns:
        `coverage`, `mean_size`, `empty` and `single` (shares), `sizes` (how many images have a set
        of 0, 1, ... classes), `per_class` (coverage of each class, or None) and `per_size`
        ({size: [images, coverage]}).
    """
    hit = found[np.arange(len(labels)), labels]
    size = found.sum(axis=1)
    counts = np.bincount(size, minlength=found.shape[1] + 1)
    return {
        "coverage": float(hit.mean()),
        "mean_size": float(size.mean()),
        "empty": float((size == 0).mean()),
        "single": float((size == 1).mean()),
        "sizes": counts.tolist(),
        "per_class": [
            float(hit[labels == k].mean()) if (labels == k).any() else None
            for k in range(found.shape[1])
        ],
        "per_size": {
            str(s): [int(counts[s]), float(hit[size == s].mean())] for s in np.flatnonzero(counts)
        },
    }
