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
        """Returns {coordinate: label}: of every name, or of about `count` round numbers."""
        if self.names:
            return {float(place): name for place, name in enumerate(self.names)}
        if not self.is_log:
            values = round_ticks(self.low, self.high, count)
            return dict(zip(values, labels(values), strict=True))
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        for digits in ((1,), (1, 2, 5)):
            places = [e + math.log10(digit) for e in decades for digit in digits]
            inside = [p for p in places if self.low - 1e-9 <= p <= self.high + 1e-9]
            if len(inside) > 2:
                break
        inside = inside[:: -(-len(inside) // (count + 1)) or 1]
        return {place: f"{10**place:.4g}" for place in inside}


def round_ticks(low: float, high: float, count: int, around: bool = False) -> list[float]:
    """Returns round numbers, evenly spaced: multiples of 1, 2, 2.5 or 5 times a power of ten.

    Args:
        low: the lowest value.
        high: the highest value.
        count: about how many numbers, at least 3.
        around: whether they end around the values, instead of between them. There are always two
            numbers or more then.
    """
    span = high - low
    if span <= 1e-9 * max(abs(low), abs(high)):
        if not around:
            return [low]
        span = abs(high) / 5 or 1.0  # one value is in the middle of an axis
        low, high = low - span / 2, high + span / 2
    power = 10.0 ** math.floor(math.log10(span / count))
    slack = 1e-6  # of a step: what rounding may do

    def ends(step: float) -> tuple[int, int]:
        if around:
            return math.floor(low / step + slack), math.ceil(high / step - slack)
        return math.ceil(low / step - slack), math.floor(high / step + slack)

    steps = [factor * power for factor in (1, 2, 2.5, 5, 10, 20)]
    step = next((s for s in steps if ends(s)[1] - ends(s)[0] <= count), steps[-1])
    first, last = ends(step)
    return [step * i for i in range(first, last + 1)]


def labels(ticks: Sequence[float]) -> list[str]:
    """Returns evenly spaced numbers as text, with as many decimals as tell them apart."""
    largest = max(map(abs, ticks)) or 1.0
    step = ticks[1] - ticks[0] if len(ticks) > 1 else largest
    if largest >= 1e6 or step < 1e-5:
        digits = max(3, math.ceil(math.log10(largest / step)) + 2)
        return [f"{tick:.{digits}g}" for tick in ticks]
    decimals = next((d for d in range(8) if abs(round(step, d) - step) < 1e-4 * step), 8)
    return [f"{tick:,.{decimals}f}" for tick in ticks]
