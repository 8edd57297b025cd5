"""The order in which classes are shown, which need not be that of a network's outputs."""

from collections.abc import Sequence

from cnn_jax.text import natural_key


def shown(class_names: Sequence[str]) -> list[int]:
    """Returns the indices of the classes in the order to show them.

    Classes that are sorted by their names, as those of folders, are shown with numbers by size: 1,
    2, 10 and not 1, 10, 2. Any other order was somebody's choice, and stays.
    """
    indices = list(range(len(class_names)))
    if list(class_names) != sorted(class_names):
        return indices
    return sorted(indices, key=lambda i: natural_key(class_names[i]))
