"""Renders tables in plain text and in Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(e[-+]?\d+)?\s*%?|nan|[-+]?inf", re.IGNORECASE)


def shown(value: Any) -> str:
    """Returns the value of a setting as text for a cell or a sentence."""
    return f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)


def settings(values: Mapping[str, Any]) -> str:
    """Returns settings as "NAME=VALUE, NAME=VALUE"."""
    return ", ".join(f"{name}={shown(value)}" for name, value in values.items())


def table(
    rows: Sequence[Sequence[Any]], headers: Sequence[str], align: Sequence[str] | None = None
) -> str:
    """Returns an aligned text table: the headers, a rule, the rows; no newline at the end.

    Args:
        rows: rows as long as the headers; a cell is shown by `str`, and None as an empty cell.
        headers: the title of each column.
        align: "l" or "r" for each column, as one string or a list. None: a column whose cells are
            all numbers is aligned to the right.

    Raises:
        ValueError: a row is longer or shorter than the headers.
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
    """Returns the table of `table` in Markdown, with `|` in a cell escaped."""
    cells, align = _prepare(rows, headers, align)
    rule = ["---:" if side == "r" else "---" for side in align]
    titles = [_printable(header) for header in headers]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in [titles, *cells]]
    escaped.insert(1, rule)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def _prepare(
    rows: Sequence[Sequence[Any]], headers: Sequence[str], align: Sequence[str] | None
) -> tuple[list[list[str]], Sequence[str]]:
    """Returns the cells as text, and the alignment of each column."""
    cells = [["" if cell is None else _printable(str(cell)) for cell in row] for row in rows]
    for row in cells:
        if len(row) != len(headers):
            raise ValueError(f"a row has {len(row)} cells under {len(headers)} headers: {row}")
    if align is None:
        columns = [[row[i] for row in cells if row[i]] for i in range(len(headers))]
        align = ["r" if c and all(map(_NUMBER.fullmatch, c)) else "l" for c in columns]
    return cells, align


def _printable(text: str) -> str:
    """Returns the text with the control characters and line breaks of odd file names escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
