"""Reads a table of rows: CSV, TSV or Parquet."""

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cnn_jax import extras
from cnn_jax.errors import RunError

_DELIMITERS = ",;\t|"


@dataclasses.dataclass(frozen=True)
class Table:
    """A table in memory.

    Attributes:
        path: the file.
        columns: {name: its cells}, strings of CSV and TSV, and whatever Parquet holds.
        count: the number of rows.
        lines: the line of the file on which each row begins, or () where it has no lines.
    """

    path: Path
    columns: Mapping[str, Sequence[Any]]
    count: int
    lines: Sequence[int] = ()

    def where(self, row: int) -> str:
        """Returns how a message names a row, counted from 0."""
        return f"{self.path} line {self.lines[row]}" if self.lines else f"{self.path} row {row}"


def read(path: Path) -> Table:
    """Returns the table in a file; Parquet is told by its first bytes, not by its name.

    Raises:
        RunError: it cannot be read, or is none of the three.
    """
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
        return _parquet(path) if is_parquet else _text(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or 'it is damaged'}") from error


def _text(path: Path) -> Table:
    try:
        words = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RunError(
            f"{path} is no CSV, TSV or Parquet file, or not in UTF-8; save it again as UTF-8"
        ) from error
    if "\0" in words:
        raise RunError(f"{path} is no CSV, TSV or Parquet file: it holds null characters")
    head = words.split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=head.count)
    reader = csv.reader(io.StringIO(words, newline=""), delimiter=delimiter, strict=True)
    rows, lines, line = [], [], 1
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(row)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise RunError(f"{path} line {line} is no line of a table: {error}") from error
    if not rows:
        raise RunError(f"{path} is empty; its first line names the columns")
    header = [name.strip() for name in rows[0]]
    if repeated := sorted({name for name in header if name and header.count(name) > 1}):
        raise RunError(f"{path} has the column {repeated[0]!r} twice")
    for row, line in zip(rows[1:], lines[1:], strict=True):
        if len(row) != len(header):
            raise RunError(
                f"{path} line {line} has {len(row)} cells, and the first line names {len(header)} "
                "columns"
            )
    columns = {name: [row[i] for row in rows[1:]] for i, name in enumerate(header)}
    return Table(path, columns, len(rows) - 1, lines[1:])


def _parquet(path: Path) -> Table:
    # Takes a tenth of a second, which the other data sets do not need.
    parquet = extras.need("pyarrow.parquet", f"the table {path.name}", "parquet")
    pyarrow = extras.need("pyarrow", f"the table {path.name}", "parquet")
    try:
        table = parquet.read_table(path)
        columns = {name: table.column(name).to_pylist() for name in table.column_names}
    except (pyarrow.ArrowException, ValueError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is a damaged Parquet file") from error
    return Table(path, columns, table.num_rows)
