"""What an accuracy is worth: the share of the largest class, and classes that are never said."""

from collections.abc import Sequence

import numpy as np

from cnn_jax.reporting import order

_NAMED = 10


def largest_class(counts: Sequence[int] | np.ndarray) -> tuple[int, float]:
    """Returns the index of the largest class, of equals the first, and its share of the examples.

    Args:
        counts: int [classes], the examples of each class, at least one in all.
    """
    counts = np.asarray(counts)
    largest = int(counts.argmax())
    return largest, float(counts[largest] / counts.sum())


def never_predicted(confusion: np.ndarray) -> list[int]:
    """Returns the classes that have examples and that no example was taken for.

    Args:
        confusion: int [classes, classes], rows are true classes.
    """
    return np.flatnonzero((confusion.sum(axis=1) > 0) & (confusion.sum(axis=0) == 0)).tolist()


def lines(
    counts: Sequence[int] | np.ndarray, never: Sequence[int], class_names: Sequence[str]
) -> list[str]:
    """Returns what belongs beside an accuracy, as lines.

    Args:
        counts: int [classes], the examples of each class in the split.
        never: the indices of the classes that are never predicted.
        class_names: the names of the classes.
    """
    largest, share = largest_class(counts)
    found = [f"baseline   {share:.4f}: always saying {class_names[largest]}, the largest class"]
    if never:
        found.append(f"never predicted: {named(never, class_names)}")
    return found


def named(chosen: Sequence[int], class_names: Sequence[str]) -> str:
    """Returns the names of some classes, of many the first ones and how many more there are."""
    among = set(chosen)
    shown = [class_names[i] for i in order.shown(class_names) if i in among]
    more = f" and {len(shown) - _NAMED} more" if len(shown) > _NAMED else ""
    return ", ".join(shown[:_NAMED]) + more
