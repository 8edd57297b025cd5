"""Intervals of 95 % for what an evaluation measures, over images or over groups of them.

Where images come in groups, several of one patient, say, they are no independent examples: every
interval here then counts groups.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Interval = tuple[float, float]

_Z = 1.959963984540054  # of a normal distribution, 95 % are within
_RESAMPLES = 400
_MOST_CELLS = 10_000_000  # of weights that are drawn at a time


def group_numbers(groups: Sequence[str] | None, count: int) -> np.ndarray:
    """Returns int64 [count], the number of each example's group; without groups its own."""
    if groups is None:
        return np.arange(count)
    return np.unique(np.asarray(groups), return_inverse=True)[1]


def wilson(successes: float, count: float) -> Interval:
    """Returns Wilson's interval of a proportion (Wilson 1927).

    Args:
        successes: of `count`; neither need be whole.
        count: trials, more than 0.
    """
    p, z2 = successes / count, _Z**2 / count
    centre = (p + z2 / 2) / (1 + z2)
    half = _Z / (1 + z2) * math.sqrt(p * (1 - p) / count + z2 / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def proportion(hits: np.ndarray, groups: np.ndarray) -> Interval | None:
    """Returns the interval of a share of examples; None: there are none.

    It is Wilson's with the effective number of examples: so many independent ones would scatter as
    much as the groups do. Where all hit or none does, every group counts as one example.

    Args:
        hits: bool [n].
        groups: int [n], from `group_numbers`.
    """
    count = len(hits)
    if count == 0:
        return None
    p = float(hits.mean())
    _, inverse = np.unique(groups, return_inverse=True)
    number = int(inverse.max()) + 1
    effective = float(number)
    if 0 < p < 1 and number > 1:
        residuals = np.bincount(inverse, hits - p)
        variance = number / (number - 1) * float((residuals**2).sum()) / count**2
        effective = p * (1 - p) / variance if variance else float(count)
        effective = min(effective, float(count))
    return wilson(p * effective, effective)


def within_unit(value: float, variance: float, count: float) -> Interval:
    """Returns the interval of a value between 0 and 1 whose variance is known.

    It is symmetric in the logarithm of the odds, and so stays between 0 and 1. A value of exactly 0
    or 1 has no variance that could be estimated; its interval is Wilson's.

    Args:
        value: the estimate.
        variance: its variance.
        count: independent examples, for a value of 0 or 1.
    """
    if not 0 < value < 1:
        return wilson(value * count, count)
    half = _Z * math.sqrt(variance) / (value * (1 - value))
    odds = math.log(value / (1 - value))
    low, high = (1 / (1 + math.exp(-min(max(odds + s * half, -700), 700))) for s in (-1, 1))
    return low, high


def between(value: float, variance: float) -> Interval:
    """Returns the interval of a value between -1 and 1, symmetric in its Fisher z (its artanh)."""
    if not -1 < value < 1:
        return value, value
    centre, half = math.atanh(value), _Z * math.sqrt(variance) / (1 - value**2)
    return math.tanh(centre - half), math.tanh(centre + half)


def resamples(groups: np.ndarray, seed: int = 0) -> Iterator[np.ndarray]:
    """Yields float64 [some, n], how often each example is drawn when groups are drawn at random.

    As many groups are drawn as there are, each with all of its examples; `_RESAMPLES` times.

    Args:
        groups: int [n], from `group_numbers`.
        seed: of the draws.
    """
    number = int(groups.max()) + 1
    random = np.random.default_rng(seed)
    some = max(1, min(_RESAMPLES, _MOST_CELLS // len(groups)))
    for start in range(0, _RESAMPLES, some):
        drawn = random.integers(number, size=(min(some, _RESAMPLES - start), number))
        counts = [np.bincount(each, minlength=number) for each in drawn]
        yield np.stack(counts)[:, groups].astype(np.float64)


def bootstrap_variances(
    statistic: Callable[[np.ndarray], np.ndarray], groups: np.ndarray
) -> np.ndarray:
    """Returns the variances [statistics] of statistics, over bootstrap samples (Efron 1979).

    Args:
        statistic: weights [draws, n] -> values [draws, statistics]; NaN where one has no value.
        groups: int [n], from `group_numbers`.

    Returns:
        NaN where a statistic has a value in fewer than two draws.
    """
    draws = np.concatenate([statistic(weights) for weights in resamples(groups)])
    known = ~np.isnan(draws)
    count = known.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(known, draws, 0).sum(axis=0) / count
        squares = np.where(known, (draws - mean) ** 2, 0).sum(axis=0)
        return np.where(count > 1, squares / (count - 1), np.nan)
