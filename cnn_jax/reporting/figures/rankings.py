"""The figure of the curves that a threshold moves along: ROC and precision-recall."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cnn_jax.reporting.figures import canvas, words

_STYLES = (
    (canvas.BLUE, "-", 2.2),
    (canvas.ORANGE, (0, (5, 2)), 1.4),
    (canvas.GREEN, (0, (1, 1.4)), 1.6),
    ("#CC79A7", (0, (6, 2, 1, 2)), 1.4),
    ("#56B4E9", (0, (3, 1)), 1.4),
    ("0.35", (0, (8, 3)), 1.2),
)
_MARKERS = ("o", "s", "D")
MOST_LINES = len(_STYLES)


class Line(NamedTuple):
    """A class, or the mean of several.

    Attributes:
        name: what the legends call it.
        roc: float [points], the sensitivity at false positive rates from 0 to 1, evenly spaced.
        precision: float [points], the precision at recalls from 0 to 1.
        roc_band: (lower, upper) around `roc`, or None.
        precision_band: likewise.
        area: what the legend of ROC says of its area.
        average: what that of precision-recall says of the average precision.
    """

    name: str
    roc: np.ndarray
    precision: np.ndarray
    roc_band: tuple[np.ndarray, np.ndarray] | None
    precision_band: tuple[np.ndarray, np.ndarray] | None
    area: str
    average: str


class Mark(NamedTuple):
    """A threshold.

    Attributes:
        name: what the legends call it.
        rates: {"sensitivity", "specificity", "positive_predictive_value": share or None}.
        ends: the intervals of the rates by the same names, each (lower, upper) or None.
    """

    name: str
    rates: dict[str, float | None]
    ends: dict[str, Sequence[float] | None]


def ranking(lines: Sequence[Line], marks: Sequence[Mark], prevalence: float, title: str) -> Figure:
    """Draws the ROC curve beside the precision-recall curve, with their bands and some thresholds.

    Args:
        lines: at most `MOST_LINES`; the first one has the thickest line and the bands.
        marks: at most three thresholds, of the first line.
        prevalence: the precision of guessing, drawn beside the curves.
        title: a line above the panels.
    """
    figure = Figure(figsize=(11, 6.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    x = np.linspace(0, 1, len(lines[0].roc))
    names = words.distinct([line.name for line in lines], 24)
    guess = {"color": "0.45", "lw": 1.1, "linestyle": (0, (2, 3))}
    for axes in (left, right):
        entries: list[tuple[Any, str]] = []
        for line, name, (colour, dashes, width) in zip(lines, names, _STYLES, strict=False):
            y, band, area = line.roc, line.roc_band, line.area
            if axes is right:
                y, band, area = line.precision, line.precision_band, line.average
            order = 3 - len(entries) / 100  # the first one above the others
            (drawn,) = axes.plot(x, y, color=colour, linestyle=dashes, lw=width, zorder=order)
            entries.append((drawn, f"{name}: {area}"))
            if band is not None:
                area = axes.fill_between(x, *band, color=colour, alpha=0.18, lw=0)
                entries.append((area, "95 % of resamples, at each place"))
        level = [0, 1] if axes is left else [prevalence] * 2
        (drawn,) = axes.plot([0, 1], level, **guess)
        entries.append((drawn, "guessing" if axes is left else f"guessing: {prevalence:.3f}"))
        rates = ("specificity", "sensitivity")
        if axes is right:
            rates = ("sensitivity", "positive_predictive_value")
        for mark, marker in zip(marks, _MARKERS, strict=False):
            if (point := _mark(axes, mark, marker, rates)) is not None:
                entries.append((point, mark.name))
        _finish(axes, entries)
    left.set_title("ROC", fontsize=13)
    left.set(xlabel="false positive rate (1 - specificity)", ylabel="sensitivity (recall)")
    right.set_title("Precision and recall", fontsize=13)
    right.set(xlabel="recall (sensitivity)", ylabel="precision")
    figure.suptitle(title, fontsize=13, parse_math=False)
    return figure


def _finish(axes: Axes, entries: Sequence[tuple[Any, str]]) -> None:
    """Sets the limits of a panel, and its legend below it."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), aspect="equal")
    axes.grid(color="0.92")
    canvas.despine(axes)
    handles, labels = zip(*entries, strict=True)
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13)}
    legend = axes.legend(handles, labels, fontsize=9, frameon=False, **below)
    for entry in legend.get_texts():
        entry.set(**words.style([entry.get_text()]))


def _mark(axes: Axes, mark: Mark, marker: str, names: tuple[str, str]) -> Any:
    """Draws a threshold as a point with the intervals of both rates as a cross; None: it has none.

    Args:
        axes: the panel.
        mark: the threshold.
        marker: its shape.
        names: the rates along x and y; specificity is drawn as 1 - specificity.
    """
    values = [mark.rates.get(name) for name in names]
    if values[0] is None or values[1] is None:
        return None
    x, y = float(values[0]), float(values[1])
    ends = [mark.ends.get(name) or (v, v) for name, v in zip(names, (x, y), strict=True)]
    errors = [[[v - low], [high - v]] for v, (low, high) in zip((x, y), ends, strict=True)]
    if names[0] == "specificity":
        x, errors[0] = 1 - x, errors[0][::-1]
    return axes.errorbar(
        x,
        y,
        xerr=np.maximum(errors[0], 0),
        yerr=np.maximum(errors[1], 0),
        fmt=marker,
        color="black",
        markerfacecolor="white",
        markersize=7,
        lw=1,
        capsize=3,
        zorder=5,
    )
