"""Tests whether two groups of accuracies have the same mean.

Accuracies are counts of images, divided by their number. So no variance is taken below that of
rounding to one image: seeds that agree by chance prove nothing.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

# A difference is called noise where the p-value is at least this.
SIGNIFICANCE = 0.05


def welch(a: Sequence[float], b: Sequence[float], images: int) -> float:
    """Returns the p-value of Welch's two-sided t-test of equal means.

    Args:
        a: accuracies in 0..1, two or more.
        b: other accuracies, two or more.
        images: the number of images that each accuracy was measured on.

    Source: Welch 1947, "The generalization of 'Student's' problem".
    """
    first, second = (_deviation(values, _rounding(images)) for values in (a, b))
    means = float(np.mean(a)), float(np.mean(b))
    test = stats.ttest_ind_from_stats(
        means[0], first, len(a), means[1], second, len(b), equal_var=False
    )
    return float(test.pvalue)


def paired(a: Sequence[float], b: Sequence[float], images: int, held_out: float = 0.0) -> float:
    """Returns the p-value of the two-sided paired t-test of equal means.

    Args:
        a: accuracies in 0..1, two or more.
        b: the accuracies that belong to them, of the same seeds or folds in the same order.
        images: the number of images that each accuracy was measured on.
        held_out: of folds, the number of images of one over that of the others. Their training
            images overlap, so the accuracies vary less than those of new images would.

    Source: "Student" 1908, "The probable error of a mean"; for folds Nadeau and Bengio 2003,
    "Inference for the generalization error".
    """
    differences = np.subtract(a, b)
    count = len(differences)
    error = _deviation(differences, 2 * _rounding(images)) * math.sqrt(1 / count + held_out)
    return float(2 * stats.t.sf(abs(float(np.mean(differences))) / error, count - 1))


def _rounding(images: int) -> float:
    """Returns the variance of rounding an accuracy to a whole number of images."""
    return 1 / (12 * images**2)


def _deviation(values: Sequence[float] | np.ndarray, least_variance: float) -> float:
    """Returns the sample standard deviation of values, not below that of `least_variance`."""
    return math.sqrt(max(float(np.var(values, ddof=1)), least_variance))
