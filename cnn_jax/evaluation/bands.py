"""The ROC and the precision-recall curve of an evaluation, with bands of 95 % from resamples."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cnn_jax.evaluation import intervals, ranking

# Where curves are read: shares of the negatives for ROC, of the positives for precision-recall.
GRID = np.linspace(0, 1, 201)
# Of more scores than these a curve gets no band; it would take minutes.
_MOST_RESAMPLED = 300_000


@dataclasses.dataclass(frozen=True)
class Curve:
    """A curve over `GRID`.

    Attributes:
        y: float [201], between 0 and 1.
        band: (lower end, upper end), float [201] each; None: there is none.
    """

    y: np.ndarray
    band: tuple[np.ndarray, np.ndarray] | None = None


def curves(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[int],
    groups: Sequence[str] | None = None,
    *,
    with_band: bool = True,
) -> tuple[Curve, Curve]:
    """Returns the ROC and the precision-recall curve of some classes, each against the rest.

    Of several classes they are the means: of the sensitivities at each false positive rate, and of
    the precisions at each recall. A band is pointwise: at each place it holds the middle 95 % of
    400 resamples of the examples, or of the groups where there are any (Efron 1979). Where the
    curve of one class is at 1, which resamples do not leave, the lower end is Wilson's.

    Args:
        probabilities: float [n, classes].
        labels: int [n].
        classes: those to draw; each has examples, and others have some as well.
        groups: n names of groups, or None.
        with_band: whether to resample.
    """
    each = [ranking.Curves.of(probabilities[:, c], labels == c) for c in classes]
    roc, precision = (found[0] for found in _means(each, np.ones((1, len(labels)))))
    if not with_band or len(labels) * len(each) > _MOST_RESAMPLED:
        return Curve(roc), Curve(precision)
    own = intervals.group_numbers(groups, len(labels))
    drawn = [_means(each, weights) for weights in intervals.resamples(own)]

    def band(part: int) -> tuple[np.ndarray, np.ndarray]:
        low, high = np.nanpercentile(
            np.concatenate([found[part] for found in drawn]), (2.5, 97.5), axis=0
        )
        return low, high

    found = [band(0), band(1)]
    if len(each) == 1:
        counts = _counts_behind(each[0], own)
        for (low, _), curve, count in zip(found, (roc, precision), counts, strict=True):
            for at in np.flatnonzero(curve == 1):
                low[at] = min(low[at], intervals.wilson(count[at], count[at])[0])
    return Curve(roc, found[0]), Curve(precision, found[1])


def _counts_behind(curve: ranking.Curves, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many groups a sensitivity and a precision are a share of, float [201] each.

    The first is the number of groups with a positive; the second, at each recall, of the groups
    with an example that is taken for positive there.

    Args:
        curve: of one class.
        groups: int [n], from `intervals.group_numbers`.
    """
    ordered = groups[curve.order]
    positives = len(np.unique(ordered[curve.positive]))
    first = np.zeros(len(ordered), int)
    first[np.unique(ordered, return_index=True)[1]] = 1
    seen = np.cumsum(first)[curve.ends]
    true, _ = curve.counts(np.ones((1, len(groups))))
    return np.full(len(GRID), float(positives)), seen[_reached(true[0])].astype(np.float64)


def _means(each: Sequence[ranking.Curves], weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns sensitivities and precisions, float [draws, 201], of weights [draws, n].

    A draw in which a class has no positives, or no negatives, counts without this class.
    """
    sums = np.zeros((2, len(weights), len(GRID)))
    known = np.zeros((len(weights), 1))
    for curve in each:
        true, false = curve.counts(weights)
        for draw, (t, f) in enumerate(zip(true, false, strict=True)):
            if t[-1] and f[-1]:
                known[draw] += 1
                sums[:, draw] += _read(t, f)
    with np.errstate(invalid="ignore"):
        return sums[0] / known, sums[1] / known


def _read(true: np.ndarray, false: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sensitivity at each false positive rate, and the precision at each recall.

    Args:
        true: float [thresholds], the positives that score at least as high, ascending.
        false: float [thresholds], the negatives that do.
    """
    # Of equal rates np.interp takes the last: the upper end of an upright step.
    roc = np.interp(GRID, np.append(0, false / false[-1]), np.append(0, true / true[-1]))
    seen = true + false
    precision = np.divide(true, seen, out=np.zeros_like(true), where=seen > 0)
    return roc, precision[_reached(true)]


def _reached(true: np.ndarray) -> np.ndarray:
    """Returns the threshold that reaches each recall; for recall 0 the first with a positive."""
    needed = np.maximum(GRID * true[-1] - 1e-9, np.finfo(float).tiny)
    return np.minimum(np.searchsorted(true, needed), len(true) - 1)
