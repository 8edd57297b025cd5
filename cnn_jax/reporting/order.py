"""The order in which classes are shown, which need not be that of a network's outputs."""

import re
from collections.abc import Sequence

_DIGITS = re.compile("([0-9]+)")


def shown(class_names: Sequence[str]) -> list[int]:
    """Returns the indices of the classes in the order to show them.

    Classes that are sorted by their names, as those of folders, are shown with numbers by size: 1,
    2, 10 and not 1, 10, 2. Any other order was somebody's choice, and stays.
    """
    indices = list(range(len(class_names)))
    if list(class_names) != sorted(class_names):
        return indices
    return sorted(indices, key=lambda i: _natural(class_names[i]))


def _natural(name: str) -> list[tuple[int, str]]:
    """Returns what sorts names by their text, and by the size of the numbers in it."""
    found = []
    for i, part in enumerate(_DIGITS.split(name)):
        digits = part.lstrip("0")
        found.append((len(digits), digits) if i % 2 else (0, part))
    return found
