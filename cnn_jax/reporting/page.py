"""Writes self-contained HTML pages: they need no network and suit phones, the dark and paper."""

import base64
import hashlib
import html
import pathlib
import struct
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cnn_jax.text import printable

_HERE = pathlib.Path(__file__).resolve().parent
# Pixels that an inch of a figure has at least on a screen, so that its text can be read.
_PIXELS = 66
_DOTS = 150  # of an inch in a saved figure


def escape(value: Any) -> str:
    """Returns a value as text that is safe in an HTML element or a quoted attribute."""
    return html.escape(printable(str(value)), quote=True)


def page(title: str, parts: Sequence[str]) -> str:
    """Returns the whole document; its policy forbids loading anything from elsewhere."""
    style, script = ((_HERE / name).read_text() for name in ("page.css", "page.js"))
    # Figures have style attributes, which no digest allows.
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src '{digest(script)}'"
    )
    main = "\n".join(["<main>", *parts, "</main>", '<div id="tip" role="tooltip"></div>'])
    return document(title, policy, style, main, script)


def document(title: str, policy: str, style: str, body: str, script: str) -> str:
    """Returns an HTML document with everything in it.

    Args:
        title: as text.
        policy: its Content-Security-Policy.
        style: CSS.
        body: the HTML before the script.
        script: JavaScript.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
{body}
<script>{script}</script>
</body>
</html>
"""


def digest(text: str) -> str:
    """Returns what a policy names a style or a script by."""
    return f"sha256-{base64.b64encode(_sha256(text)).decode()}"


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


class Link(NamedTuple):
    """A text that leads to a place beside the page.

    Attributes:
        text: what is shown.
        place: a relative path.
    """

    text: str
    place: str


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
        for value, header, number in zip(row, headers, numeric, strict=True):
            data = f' data-value="{value}"' if isinstance(value, int | float) else ""
            cells.append(f"<td{' class=n' if number else ''}{data}>{_cell(value, header)}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="wide"><table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(value: Any, header: str) -> str:
    if isinstance(value, Link):
        place = escape(urllib.parse.quote(value.place))
        return f'<a href="{place}">{escape(value.text)}</a>'
    return escape(_shown(value, header))


def _shown(value: Any, header: str) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and "accuracy" in header:
        return f"{value:.4f}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def image(png: bytes, caption: str) -> str:
    """Returns a PNG picture with its caption, which is its alternative text too.

    On a screen that is too narrow to read the text in the picture, it can be pushed sideways.
    """
    data = base64.b64encode(png).decode()
    (width,) = struct.unpack(">I", png[16:20])  # in the header of every PNG
    inches = width / _DOTS
    return (
        f'<figure><div class="wide"><img alt="{escape(caption)}" '
        f'style="min-width: {min(inches * _PIXELS, 700):.0f}px" src="data:image/png;base64,{data}">'
        f"</div><figcaption>{escape(caption)}</figcaption></figure>"
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
