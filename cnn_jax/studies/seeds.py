"""Folds the values of several seeds into their mean and sample standard deviation."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """The mean of some values and how far they scatter.

    Attributes:
        mean: the mean; NaN of no values.
        std: the sample standard deviation (divisor n - 1); None of fewer than two values.
    """

    mean: float
    std: float | None

    def __str__(self) -> str:
        """Returns "0.9100 ± 0.0100", or "0.9100" without a deviation."""
        return f"{self.mean:.4f}" + ("" if self.std is None else f" ± {self.std:.4f}")


def fold(values: Sequence[float]) -> Spread:
    """Returns the mean and the sample standard deviation of one value per seed."""
    return Spread(
        mean=statistics.fmean(values) if values else math.nan,
        std=statistics.stdev(values) if len(values) > 1 else None,
    )
