"""Writes self-contained HTML pages: they need no network and suit phones, the dark and paper."""

import base64
import hashlib
import html
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from cnn_jax.reporting.scale import Scale

_HERE = pathlib.Path(__file__).resolve().parent
_WIDTH, _HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 36
_COLOURS = ("var(--a)", "var(--b)", "var(--c)")


def escape(value: Any) -> str:
    """Returns a value as text that is safe in an HTML element or a quoted attribute."""
    return html.escape(str(value), quote=True)


def page(title: str, parts: Sequence[str]) -> str:
    """Returns the whole document; its policy forbids loading anything from elsewhere."""
    style, script = ((_HERE / name).read_text() for name in ("page.css", "page.js"))
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src "
    digest = base64.b64encode(_sha256(script)).decode()
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}'sha256-{digest}'">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
{chr(10).join(parts)}
</main>
<div id="tip" role="tooltip"></div>
<script>{script}</script>
</body>
</html>
"""


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def heading(text: str) -> str:
    """Returns the title of a section."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str, soft: bool = False) -> str:
    """Returns a paragraph of plain text."""
    return f'<p class="soft">{escape(text)}</p>' if soft else f"<p>{escape(text)}</p>"


def cards(values: Mapping[str, str]) -> str:
    """Returns key figures side by side.

    Args:
        values: {what it is: the figure as text}.
    """
    items = "".join(
        f'<div class="card"><b>{escape(value)}</b>{escape(name)}</div>'
        for name, value in values.items()
    )
    return f'<div class="cards">{items}</div>'


def code(text: str) -> str:
    """Returns lines of code."""
    return f"<pre>{escape(text)}</pre>"


def details(summary: str, content: str) -> str:
    """Returns a summary that shows its content on a click."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    """Returns a table that a click on a header sorts: a column of floats or ints by number."""
    numeric = [
        all(isinstance(row[i], int | float) or row[i] in ("", None) for row in rows)
        for i in range(len(headers))
    ]
    head = "".join(
        f'<th scope="col"{" class=n" if n else ""}><button type="button">{escape(h)}</button></th>'
        for h, n in zip(headers, numeric, strict=True)
    )
    body = []
    for row in rows:
        cells = []
        for value, number in zip(row, numeric, strict=True):
            data = f' data-value="{value}"' if isinstance(value, int | float) else ""
            cells.append(f"<td{' class=n' if number else ''}{data}>{escape(_shown(value))}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def image(png: bytes, caption: str) -> str:
    """Returns a PNG picture with its caption, which is its alternative text too."""
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def choice(name: str, panels: Mapping[str, str]) -> str:
    """Returns a menu and the panel that it chooses.

    Args:
        name: the menu's id, unique in the page.
        panels: {entry of the menu: HTML of its panel}.
    """
    options = "".join(f'<option value="{escape(p)}">{escape(p)}</option>' for p in panels)
    shown = "".join(
        f'<div data-panel-of="{escape(name)}" data-panel="{escape(p)}">{content}</div>'
        for p, content in panels.items()
    )
    return f'<label>show <select id="{escape(name)}" data-panels>{options}</select></label>{shown}'


def lines(series: Mapping[str, Sequence[float]], x_label: str, y_label: str) -> str:
    """Returns curves over 1, 2, 3, ... as an SVG whose points show their values under the mouse.

    Args:
        series: {name: values}; a value that is not finite leaves a gap.
        x_label: what the positions count, for example "epoch".
        y_label: what the values are.
    """
    values = [v for ys in series.values() for v in ys if math.isfinite(v)]
    if not values:
        return ""
    count = max(len(ys) for ys in series.values())
    x = _axis(1, max(count, 2), _LEFT, _WIDTH - _RIGHT)
    y = _axis(min(values), max(values), _HEIGHT - _BOTTOM, _TOP)
    ticks = sorted({1 + round(i * (count - 1) / 5) for i in range(6)})
    parts = _frame({t: str(t) for t in ticks}, x, y, min(values), max(values), x_label)
    for (name, ys), colour in zip(series.items(), _COLOURS, strict=False):
        points = [(i, v) for i, v in enumerate(ys, start=1) if math.isfinite(v)]
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="4" fill="{colour}" '
            f'data-tip="{escape(f"{name}, {x_label} {a}: {b:.4f}")}"/>'
            for a, b in points
        ]
    legend = " ".join(
        f'<span style="color:{colour}">&#9679; {escape(name)}</span>'
        for name, colour in zip(series, _COLOURS, strict=False)
    )
    title = f"<figcaption>{escape(y_label)}: {legend}</figcaption>"
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
    scale, ys = Scale([p[0] for p in points]), [p[1] for p in points]
    margin = 0.5 if scale.names else 0.0
    x = _axis(scale.low - margin, scale.high + margin, _LEFT, _WIDTH - _RIGHT)
    y = _axis(min(ys), max(ys), _HEIGHT - _BOTTOM, _TOP)
    label = f"{x_label} (log)" if scale.is_log else x_label
    parts = _frame(scale.ticks(5), x, y, min(ys), max(ys), label)
    parts += [
        f'<circle cx="{x(scale.place(a)):.1f}" cy="{y(b):.1f}" r="5" fill="var(--a)" '
        f'fill-opacity="0.7" data-tip="{escape(text)}"/>'
        for a, b, text in points
    ]
    title = f"<figcaption>{escape(y_label)}</figcaption>"
    return f"<figure>{_svg(parts, y_label)}{title}</figure>"


def _svg(parts: Sequence[str], label: str) -> str:
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    return f'<svg {box} role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _axis(low: float, high: float, start: float, stop: float) -> Any:
    span = high - low or 1.0
    return lambda value: start + (value - low) / span * (stop - start)


def _frame(
    ticks: Mapping[float, str], x: Any, y: Any, low: float, high: float, x_label: str
) -> list[str]:
    """Returns the grid lines and numbers of both axes, and the label of x."""
    parts = []
    for i in range(5):
        value = low + i * (high - low) / 4
        parts.append(
            f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" '
            f'text-anchor="end">{value:.3g}</text>'
        )
    below = _HEIGHT - _BOTTOM + 16
    for at, text in ticks.items():
        side = "end" if x(at) > _WIDTH - 30 else "middle"  # "middle" would cut it off
        shift = _RIGHT - 1 if side == "end" else 0
        place = f'x="{x(at) + shift:.1f}" y="{below}" text-anchor="{side}"'
        parts.append(f"<text {place}>{escape(text)}</text>")
    middle = (_LEFT + _WIDTH) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'
    )
    return parts
