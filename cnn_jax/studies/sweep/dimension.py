"""One dimension of a sweep's space: a setting and the values that it may take."""

import dataclasses
import math
from typing import Any

from cnn_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One setting and the values that it may take.

    Attributes:
        path: the path of the field in the Experiment, such as "optimizer.learning_rate".
        kind: "log" and "uniform" (floats), "int" (whole numbers, both ends included), "choice".
        low: the lower end of a range.
        high: the upper end of a range.
        points: the number of values that a grid takes from a range; None where it was not given.
        choices: the values of a "choice".
    """

    path: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    points: int | None = None
    choices: tuple[Any, ...] = ()

    @property
    def size(self) -> float:
        """The number of values."""
        if self.kind == "choice":
            return len(self.choices)
        return self.high - self.low + 1 if self.kind == "int" else math.inf

    def grid(self) -> list[Any]:
        """Returns the values of a grid: all choices, or evenly spread points of the range.

        Raises:
            UsageError: the number of points of a range was not given.
        """
        if self.kind == "choice":
            return list(self.choices)
        if self.points is None:
            raise UsageError(
                f"--sweep.method=grid needs the number of points of {self.path}: "
                f"{self.path}={self.kind}({self.low:g},{self.high:g},POINTS), or a list"
            )
        shares = [i / max(1, self.points - 1) for i in range(self.points)]
        return list(dict.fromkeys(self.at(share) for share in shares))

    def at(self, share: float) -> Any:
        """Returns the value at a share of the way, 0 to 1, through the range or the list."""
        if self.kind == "choice":
            return self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)]
        if self.kind == "log":
            between = math.log(self.low) + share * (math.log(self.high) - math.log(self.low))
            # Rounding must not leave the range, whose ends were checked.
            return min(max(float(f"{math.exp(between):.6g}"), self.low), self.high)
        if self.kind == "int":
            count = int(self.high) - int(self.low) + 1
            return int(self.low) + min(int(share * count), count - 1)
        between = self.low + share * (self.high - self.low)
        return min(max(float(f"{between:.6g}"), self.low), self.high)

    def ends(self) -> list[Any]:
        """Returns the values that must be legal: the ends of the range, or every choice."""
        return list(self.choices) if self.kind == "choice" else [self.at(0.0), self.at(1.0)]
