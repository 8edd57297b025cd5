"""Places the values of a setting on an axis, for figures and pages."""

import math
from collections.abc import Sequence
from typing import Any

from cnn_jax.reporting import tables

_MANY_TIMES = 20  # a larger span of positive numbers is shown by logarithm


class Scale:
    """An axis for the values of a setting, of which there is at least one.

    Numbers are placed by their size, or by their logarithm where they are positive and span a
    factor of 20 or more. If any value is no number, all stand side by side, sorted by their text.

    Attributes:
        names: the texts of the values that stand side by side; empty for numbers.
        is_log: whether numbers are placed by their logarithm to base 10.
        low: the lowest coordinate of a value.
        high: the highest.
    """

    def __init__(self, values: Sequence[Any]):
        self.names: list[str] = []
        self.is_log = False
        if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
            self.names = sorted({tables.shown(value) for value in values})
        elif min(values) > 0 and max(values) / min(values) >= _MANY_TIMES:
            self.is_log = True
        places = [self.place(value) for value in values]
        self.low, self.high = min(places), max(places)

    def place(self, value: Any) -> float:
        """Returns the coordinate of a value."""
        if self.names:
            return float(self.names.index(tables.shown(value)))
        return math.log10(value) if self.is_log else float(value)

    def share(self, place: float) -> float:
        """Returns a coordinate as a share of the axis: 0 at the lowest, 1 at the highest."""
        if self.high == self.low:
            return 0.5
        return (place - self.low) / (self.high - self.low)

    def ticks(self, count: int) -> dict[float, str]:
        """Returns {coordinate: label}: of every name, or of `count` numbers, evenly spaced."""
        if self.names:
            return {float(place): name for place, name in enumerate(self.names)}
        span = self.high - self.low
        places = [self.low + i * span / (count - 1) for i in range(count)]
        return {place: f"{10**place if self.is_log else place:.2g}" for place in places}
