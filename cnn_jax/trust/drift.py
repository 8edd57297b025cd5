"""Drift: does a batch without labels look like the images of before, and how right will it be?

Two-sample tests on what the network says (Rabanser et al. 2019, arXiv:1810.11953) find a shift that
the network can see. The accuracy to be expected is an estimate (average thresholded confidence,
Garg et al. 2022, arXiv:2201.04234) that no assumption of ours makes a guarantee.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import scipy.stats

_COMPONENTS = 5


@dataclasses.dataclass(frozen=True)
class Test:
    """A two-sample test.

    Attributes:
        statistic: Kolmogorov and Smirnov's, 0 to 1.
        p_value: corrected for the number of tests.
        rejects: whether the two samples differ at the level.
    """

    statistic: float
    p_value: float
    rejects: bool


def holm(p_values: np.ndarray) -> np.ndarray:
    """Returns p-values corrected for several tests (Holm 1979): no independence is assumed."""
    order = np.argsort(p_values, kind="stable")
    m = len(p_values)
    stepped = np.maximum.accumulate(p_values[order] * (m - np.arange(m)))
    found = np.empty(m)
    found[order] = np.minimum(stepped, 1.0)
    return found


def compare(
    old: Mapping[str, np.ndarray], new: Mapping[str, np.ndarray], level: float = 0.05
) -> dict[str, Test]:
    """Tests each statistic of two samples of independent images, corrected over all of them.

    Args:
        old: {name: float [m]}.
        new: {name: float [n]}, the same names.
        level: the chance of any false alarm where nothing has changed.
    """
    pairs = [tuple(scipy.stats.ks_2samp(old[name], new[name], method="asymp")) for name in old]
    statistics, found = np.array(pairs, np.float64).reshape(-1, 2).T
    return {
        name: Test(float(statistic), float(p), bool(p <= level))
        for name, statistic, p in zip(old, statistics, holm(found), strict=True)
    }


def components(features: np.ndarray, *others: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Returns the first principal components of features, those of others along the same axes.

    Args:
        features: float [m, channels], that fix mean and axes.
        *others: float [n, channels].
    """
    mean = features.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(features - mean, full_matrices=False)
    axes = axes[:_COMPONENTS].T
    return [
        {f"component {i + 1}": column for i, column in enumerate(((x - mean) @ axes).T)}
        for x in (features, *others)
    ]


def expected_accuracy(scores: np.ndarray, right: np.ndarray, new_scores: np.ndarray) -> float:
    """Returns the accuracy to be expected of new images, from their scores alone.

    The threshold is that at or above which as many labelled images lie as are right; of new images
    the share at or above it is the estimate. It is near the truth where the network is as sure of
    what it gets right as before, and may be far from it elsewhere.

    Args:
        scores: float [m], negative entropy or largest probability.
        right: bool [m].
        new_scores: float [n].
    """
    count = int(right.sum())
    if count == 0:
        return 0.0
    threshold = np.sort(scores)[::-1][count - 1]
    return float((new_scores >= threshold).mean())
