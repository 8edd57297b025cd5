"""What each confusion costs: a matrix that a person writes as a table."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax.errors import UsageError


def read(path: str | Path, class_names: Any) -> np.ndarray:
    """Returns the matrix in a .csv file of what each confusion costs, float64 [classes, classes].

    Args:
        path: the file; its first row and its first column name the classes, rows are the true ones.
        class_names: the run's, in the order of the result.

    Raises:
        UsageError: the file is not such a matrix of these classes.
    """
    names = list(class_names)
    where = f"--trust.costs={path}"
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is no .csv file"
        raise UsageError(f"{where} cannot be read: {reason}") from error
    head = [cell.strip() for cell in rows[0][1:]] if rows else []
    if sorted(head) != sorted(names) or sorted(r[0].strip() for r in rows[1:]) != sorted(names):
        raise UsageError(
            f"{where}: the first row and the first column have to name the classes, "
            f"{', '.join(names[:5])}{' and so on' if len(names) > 5 else ''}, each once"
        )
    found = np.zeros((len(names), len(names)))
    for row in rows[1:]:
        own = row[0].strip()
        if len(row) != len(names) + 1:
            raise UsageError(f"{where}: the row of {own!r} has {len(row) - 1} numbers")
        for said, cell in zip(head, row[1:], strict=True):
            try:
                value = float(cell)
            except ValueError:
                value = float("nan")
            if not 0 <= value < 1e12:
                raise UsageError(f"{where}: {own!r} called {said!r} costs {cell!r}: no number")
            found[names.index(own), names.index(said)] = value
    if np.diag(found).any() or not found.any():
        raise UsageError(f"{where}: a right answer costs 0, and some wrong one costs more")
    return found
