"""Renders tables in plain text and in Markdown."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

_GAP = "  "
_LONGEST = 32  # columns of a cell of `fitting`
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
    return _aligned(lines, _widths(lines), align)


def fitting(
    rows: Sequence[Sequence[Any]], headers: Sequence[str], width: int, first: Sequence[str] = ()
) -> str:
    """Returns the table of `table` in lines of a width.

    Where it is wider, the rows are numbered, and it is continued in further blocks; a long cell
    loses its middle, and what it was stands below.

    Args:
        rows: as `table` takes them.
        headers: likewise.
        width: the columns that a line may have; fewer than 30 count as 30.
        first: the headers of columns that the blocks begin with, in this order.
    """
    cells, align = _prepare(rows, headers, None)
    lines = [[_printable(header) for header in headers], *cells]
    widths = _widths(lines)
    if sum(widths) + len(_GAP) * (len(widths) - 1) <= width:
        return _aligned(lines, widths, align)
    numbers = ["#", *map(str, range(1, len(lines)))]
    own = len(numbers[-1]) + len(_GAP)
    width = max(width, 30)
    longest = min(_LONGEST, width - own)
    titles = [*lines[0]]
    order = [titles.index(title) for title in first if title in titles]
    order += [i for i in range(len(titles)) if i not in order]
    align = [align[i] for i in order]
    columns, legend = [], []
    for header, *column in ([line[i] for line in lines] for i in order):
        short, known = _shortened(column, longest)
        name = _cut(header, longest)
        legend += [f"{header} {number} = {value}" for number, value in known.items()]
        columns.append([name, *short])
    blocks: list[list[int]] = []
    room = 0
    for place, column in enumerate(columns):
        needed = len(_GAP) + max(map(_columns, column))
        if not blocks or needed > room:
            blocks.append([])
            room = width - own + len(_GAP)
        blocks[-1].append(place)
        room -= needed
    found = []
    for block in blocks:
        part = [list(line) for line in zip(numbers, *(columns[i] for i in block), strict=True)]
        found.append(_aligned(part, _widths(part), ["r", *(align[i] for i in block)]))
    found += ["\n".join(_folded(line, width) for line in legend)] if legend else []
    return "\n\n".join(found)


def _shortened(column: Sequence[str], longest: int) -> tuple[list[str], dict[str, str]]:
    """Returns the cells without the middles of long ones, and {number: such a value}."""
    long = dict.fromkeys(cell for cell in column if _columns(cell) > longest)
    numbers = {value: f"({i})" for i, value in enumerate(long, start=1)}
    short = [
        f"{numbers[cell]} {_cut(cell, longest - len(numbers[cell]) - 1)}"
        if cell in numbers
        else cell
        for cell in column
    ]
    return short, {number: value for value, number in numbers.items()}


def _cut(cell: str, longest: int) -> str:
    """Returns a text of at most `longest` columns; a long one keeps its ends, the last the more."""
    if _columns(cell) <= longest:
        return cell
    head, tail = "", ""
    for character in cell:
        if _columns(head + character) > longest // 4:
            break
        head += character
    for character in reversed(cell):
        if _columns(head + tail + character) > longest - 1:
            break
        tail = character + tail
    return f"{head}…{tail}"


def _folded(line: str, width: int) -> str:
    """Returns a line, continued in further lines where it is wider; nothing else is inserted."""
    parts = [""]
    for character in line:
        if _columns(parts[-1] + character) > width:
            parts.append("")
        parts[-1] += character
    return "\n".join(parts)


def _columns(cell: str) -> int:
    """Returns how many columns of a terminal a text takes."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in cell)
    return len(cell) + wide - sum(map(bool, map(unicodedata.combining, cell)))


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(_columns, column)) for column in zip(*lines, strict=True)]


def _aligned(lines: Sequence[Sequence[str]], widths: Sequence[int], align: Sequence[str]) -> str:
    """Returns lines of cells under each other, with a rule below the first."""

    def padded(cell: str, width: int, side: str) -> str:
        space = " " * (width - _columns(cell))
        return space + cell if side == "r" else cell + space

    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join(_GAP.join(map(padded, line, widths, align)).rstrip() for line in ruled)


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
