"""How well scores rank the examples of a class above the others: ROC-AUC, average precision."""

import dataclasses
import functools

import numpy as np

from cnn_jax.evaluation import intervals
from cnn_jax.evaluation.intervals import Interval


def _midranks(values: np.ndarray) -> np.ndarray:
    """Returns float64 [n], the ranks from 1; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Returns the area under the ROC curve: P(a positive scores above a negative), ties as half.

    Args:
        scores: float [n].
        positive: bool [n].

    Returns:
        NaN where there are no positives, or no negatives.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return float("nan")
    return float((_midranks(scores)[positive].sum() - m * (m + 1) / 2) / (m * n))


def auc_interval(scores: np.ndarray, positive: np.ndarray, groups: np.ndarray) -> Interval | None:
    """Returns the interval of an AUC; None where it has no value.

    The variance is DeLong's (DeLong et al. 1988), computed from ranks (Sun and Xu 2014); of groups
    with several examples Obuchowski's (1997), which is the same where each has one.

    Args:
        scores: float [n].
        positive: bool [n].
        groups: int [n], from `intervals.group_numbers`.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return None
    area = auc(scores, positive)
    ranks = _midranks(scores)
    above = (ranks[positive] - _midranks(scores[positive])) / n  # share of negatives below
    below = 1 - (ranks[~positive] - _midranks(scores[~positive])) / m
    size = int(groups.max()) + 1
    of_positives = np.bincount(groups[positive], above - area, minlength=size)
    of_negatives = np.bincount(groups[~positive], below - area, minlength=size)
    have = [len(np.unique(groups[chosen])) for chosen in (positive, ~positive)]
    every = len(np.unique(groups))
    variance = (
        _unbiased(have[0]) * float((of_positives**2).sum()) / m**2
        + _unbiased(have[1]) * float((of_negatives**2).sum()) / n**2
        + 2 * _unbiased(every) * float((of_positives * of_negatives).sum()) / (m * n)
    )
    return intervals.within_unit(area, max(variance, 0.0), min(have))


def _unbiased(count: int) -> float:
    return count / (count - 1) if count > 1 else 1.0


@dataclasses.dataclass(frozen=True)
class Curves:
    """What a threshold on scores gives, for weighted examples.

    Attributes:
        order: int [n], the examples from the highest score down.
        ends: int [thresholds], the last example in that order of each distinct score.
        positive: bool [n], in that order.
    """

    order: np.ndarray
    ends: np.ndarray
    positive: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, positive: np.ndarray) -> "Curves":
        """Returns the curves of scores [n] and whether each example is positive, bool [n]."""
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
        return cls(order, ends, positive[order])

    @functools.cached_property
    def _signs(self) -> np.ndarray:
        return self.positive.astype(np.float64)

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (true positives, false positives) [draws, thresholds] of weights [draws, n]."""
        ordered = weights[:, self.order]
        true = np.cumsum(ordered * self._signs, axis=1)[:, self.ends]
        false = np.cumsum(ordered * (1 - self._signs), axis=1)[:, self.ends]
        return true, false

    def areas(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (ROC-AUC, average precision) [draws]; NaN where they have no value."""
        true, false = self.counts(weights)
        positives, negatives = true[:, -1], false[:, -1]
        steps = np.diff(true, axis=1, prepend=0)
        across = np.diff(false, axis=1, prepend=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            roc = (across * (true - steps / 2)).sum(axis=1) / (positives * negatives)
            seen = true + false
            precision = np.divide(true, seen, out=np.zeros_like(true), where=seen > 0)
            average = (steps * precision).sum(axis=1) / positives
        return roc, average


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Returns the mean of the precision over the positives: sum of precision x step in recall.

    Args:
        scores: float [n].
        positive: bool [n].

    Returns:
        NaN where there are no positives.
    """
    return float(Curves.of(scores, positive).areas(np.ones((1, len(scores))))[1][0])


def mean_areas(
    probabilities: np.ndarray, labels: np.ndarray, positive: int | None = None
) -> dict[str, float]:
    """Returns `auc` and `average_precision`, of a class or as means over the classes.

    Args:
        probabilities: float [n, classes].
        labels: int [n].
        positive: the class; None: every class against the rest, as far as there are both.

    Returns:
        {} where there is nothing to rank.
    """
    classes = range(probabilities.shape[1]) if positive is None else [positive]
    chosen = [c for c in classes if 0 < (labels == c).sum() < len(labels)]
    if not chosen:
        return {}
    ones = np.ones((1, len(labels)))
    areas = [Curves.of(probabilities[:, c], labels == c).areas(ones) for c in chosen]
    values = np.mean(areas, axis=0)[:, 0]
    return {"auc": float(values[0]), "average_precision": float(values[1])}
