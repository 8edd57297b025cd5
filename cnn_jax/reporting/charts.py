"""Draws curves and points as SVG for pages; its axes have round numbers."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnn_jax.reporting import scale
from cnn_jax.reporting.page import escape
from cnn_jax.reporting.scale import Scale

# In the units of the picture, whose text page.css makes larger where the screen is narrow.
_WIDTH, _HEIGHT = 640, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 14, 56
_LINES = (("var(--a)", ""), ("var(--b)", "8 4"), ("var(--c)", "2 4"))
_HOW = ("", " (dashed)", " (dotted)")
_MOST_POINTS = 100  # of a curve that tell their values
_MOST_CORNERS = 500  # a longer curve is drawn by the extremes of so many parts
_LETTERS = 40  # that fit below the x axis on a telephone

Place = Callable[[float], float]


def lines(
    series: Mapping[str, Sequence[float]],
    x_label: str,
    y_label: str,
    mark: tuple[int, str] | None = None,
) -> str:
    """Returns curves over 1, 2, 3, ... as an SVG whose points show their values under the mouse.

    Args:
        series: {name: values}, at most three; a value that is not finite leaves a gap.
        x_label: what the positions count, for example "epoch".
        y_label: what the values are.
        mark: a position to mark by an upright line, and what the legend says of it.
    """
    values = [v for ys in series.values() for v in ys if math.isfinite(v)]
    if not values:
        return ""
    count = max(len(ys) for ys in series.values())
    x = _axis(1, max(count, 2), _LEFT, _WIDTH - _RIGHT)
    whole = [t for t in scale.round_ticks(1, count, 5) if t == int(t)]
    parts, y = _frame({t: f"{t:,.0f}" for t in whole}, x, values, x_label)
    if mark is not None:
        at = f"{x(mark[0]):.1f}"
        parts.append(f'<line class="mark" x1="{at}" x2="{at}" y1="{_TOP}" y2="{_floor()}"/>')
    for (name, ys), (colour, dashes) in zip(series.items(), _LINES, strict=False):
        style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"'
        for part in _unbroken(ys):
            path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in _corners(part))
            parts.append(f'<polyline points="{path}" {style}/>')
        points = [(i, v) for i, v in enumerate(ys, start=1) if math.isfinite(v)]
        step = -(-len(points) // _MOST_POINTS)
        parts += [
            f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="4" fill="{colour}" '
            f'data-tip="{escape(f"{name}, {x_label} {a:,}: {b:.4f}")}"/>'
            for a, b in points[::step]
        ]
    legend = [
        f'<span style="color:{colour}">&#9679; {escape(name)}{how}</span>'
        for name, (colour, _), how in zip(series, _LINES, _HOW, strict=False)
    ]
    if mark is not None:
        legend.append(f"<span>&#9482; {escape(mark[1])}</span>")
    title = f"<figcaption>{escape(y_label)}: {' '.join(legend)}</figcaption>"
    return f"<figure>{_svg(parts, y_label)}{title}</figure>"


def scatter(points: Sequence[tuple[Any, float, str]], x_label: str, y_label: str) -> str:
    """Returns points as an SVG, each with a text that shows under the mouse.

    If all x are numbers, the axis is a scale: a logarithmic one where they are positive and span a
    factor of 20 or more. Else each value has its own place on the axis.

    Args:
        points: (x, y, text) of each point, at least one.
        x_label: what x is.
        y_label: what y is.
    """
    places, ys = Scale([p[0] for p in points]), [p[1] for p in points]
    margin = 0.5 if places.names else 0.0
    x = _axis(places.low - margin, places.high + margin, _LEFT, _WIDTH - _RIGHT)
    ticks = places.ticks(5)
    room = max(2, _LETTERS // len(ticks))
    ticks = {at: t if len(t) <= room else f"{t[: room - 1]}…" for at, t in ticks.items()}
    parts, y = _frame(ticks, x, ys, f"{x_label} (log)" if places.is_log else x_label)
    parts += [
        f'<circle cx="{x(places.place(a)):.1f}" cy="{y(b):.1f}" r="5" fill="var(--a)" '
        f'fill-opacity="0.7" data-tip="{escape(text)}"/>'
        for a, b, text in points
    ]
    title = f"<figcaption>{escape(y_label)}</figcaption>"
    return f"<figure>{_svg(parts, y_label)}{title}</figure>"


def _unbroken(ys: Sequence[float]) -> list[list[tuple[int, float]]]:
    """Returns the (position, value) of each run of finite values."""
    groups = itertools.groupby(enumerate(ys, start=1), key=lambda point: math.isfinite(point[1]))
    return [list(points) for finite, points in groups if finite]


def _corners(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Returns the points of a short curve; of a long one the lowest and highest of each part."""
    if len(points) <= _MOST_CORNERS:
        return points
    size = -(-len(points) // _MOST_CORNERS)
    kept = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        ends = {f(part, key=lambda point: point[1]) for f in (min, max)}
        kept += sorted(ends)
    return kept


def _svg(parts: Sequence[str], label: str) -> str:
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    return f'<svg {box} role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _axis(low: float, high: float, start: float, stop: float) -> Place:
    span = high - low or 1.0
    return lambda value: start + (value - low) / span * (stop - start)


def _floor() -> int:
    return _HEIGHT - _BOTTOM


def _frame(
    x_ticks: Mapping[float, str], x: Place, values: Sequence[float], x_label: str
) -> tuple[list[str], Place]:
    """Returns the grid lines and numbers of both axes and the label of x; and the places of y.

    Args:
        x_ticks: {coordinate: label}.
        x: the place of each coordinate.
        values: the values of y, whose axis ends at round numbers around them.
        x_label: what x is.
    """
    y_ticks = scale.round_ticks(min(values), max(values), 5, around=True)
    y = _axis(y_ticks[0], y_ticks[-1], _floor(), _TOP)
    parts = []
    for value, label in zip(y_ticks, scale.labels(y_ticks), strict=True):
        parts.append(
            f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text x="{_LEFT - 6}" y="{y(value):.1f}" '
            f'dominant-baseline="middle" text-anchor="end">{label}</text>'
        )
    for at, text in x_ticks.items():
        side = "end" if x(at) > _WIDTH - 40 else "middle"  # "middle" would cut it off
        shift = _RIGHT - 1 if side == "end" else 0
        place = f'x="{x(at) + shift:.1f}" y="{_floor() + 8}" dominant-baseline="hanging"'
        parts.append(f'<text {place} text-anchor="{side}">{escape(text)}</text>')
    middle = (_LEFT + _WIDTH) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
    )
    return parts, y
