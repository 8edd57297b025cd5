"""Tables of plain text and of Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?\s*%?|nan|[-+]?inf", re.IGNORECASE)


def shown(value: Any) -> str:
    """Returns the value of a setting as a person reads it, in a cell or a sentence."""
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


def settings(values: Mapping[str, Any]) -> str:
    """Returns "NAME=VALUE, NAME=VALUE" of some settings."""
    return ", ".join(f"{name}={shown(value)}" for name, value in values.items())


def table(
    rows: Sequence[Sequence[Any]], headers: Sequence[str], align: Sequence[str] | None = None
) -> str:
    """Returns an aligned text table: the headers, a rule, the rows; no newline at the end.

    Args:
        rows: each as long as the headers; cells are shown by `str`, None as an empty cell.
        headers: the title of each column.
        align: "l" or "r" for each column, as one string or a list; without it a column goes to the
            right where all its cells read as numbers.
    """
    cells, align = _prepare(rows, headers, align)
    lines = [[_printable(header) for header in headers], *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(line, widths, align, strict=True)
        ).rstrip()
        for line in lines
    )


def markdown(
    rows: Sequence[Sequence[Any]], headers: Sequence[str], align: Sequence[str] | None = None
) -> str:
    """Returns the same as `table` in Markdown, with `|` in a cell escaped."""
    cells, align = _prepare(rows, headers, align)
    rule = ["---:" if side == "r" else "---" for side in align]
    titles = [_printable(header) for header in headers]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in [titles, *cells]]
    escaped.insert(1, rule)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _prepare(
    rows: Sequence[Sequence[Any]], headers: Sequence[str], align: Sequence[str] | None
) -> tuple[list[list[str]], Sequence[str]]:
    """Returns the cells as text, and the side of each column."""
    cells = [["" if cell is None else _printable(str(cell)) for cell in row] for row in rows]
    for row in cells:
        if len(row) != len(headers):
            raise ValueError(f"a row has {len(row)} cells under {len(headers)} headers: {row}")
    if align is None:
        columns = [[row[i] for row in cells if row[i]] for i in range(len(headers))]
        align = ["r" if c and all(map(_NUMBER.fullmatch, c)) else "l" for c in columns]
    return cells, align


def _printable(text: str) -> str:
    """Returns the text with line breaks and control characters (file names!) escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
