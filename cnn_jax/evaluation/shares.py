"""What an accuracy is worth: the share of the largest class, and classes that are never said."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn_jax.reporting import order

_NAMED = 10
_COUNT = "never_predicted_count"


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


def never_record(confusion: np.ndarray) -> dict[str, Any]:
    """Returns how many classes `never_predicted` finds, and the first of them, for a record.

    Of several findings, whose matrices are [findings, 2, 2], none are counted.
    """
    if confusion.ndim == 3:
        return {}
    never = never_predicted(confusion)
    return {"never_predicted": never[:_NAMED], _COUNT: len(never)}


def never_count(record: Mapping[str, Any]) -> int | None:
    """Returns the count of `never_record`; None in a run of a version that did not count."""
    never = record.get("never_predicted")
    return record.get(_COUNT, None if never is None else len(never))  # once it named all of them


def lines(
    counts: Sequence[int] | np.ndarray,
    never: Sequence[int],
    class_names: Sequence[str],
    never_count: int | None = None,
) -> list[str]:
    """Returns what belongs beside an accuracy, as lines.

    Args:
        counts: int [classes], the examples of each class in the split.
        never: the indices of the classes that are never predicted, or the first of them.
        class_names: the names of the classes.
        never_count: how many they are; None: as many as are given.
    """
    largest, share = largest_class(counts)
    found = [f"baseline   {share:.4f}: always saying {class_names[largest]}, the largest class"]
    if never:
        found.append(f"never predicted: {named(never, class_names, never_count)}")
    return found


def named(chosen: Sequence[int], class_names: Sequence[str], count: int | None = None) -> str:
    """Returns the names of some classes, of many the first ones and how many more there are.

    Args:
        chosen: the indices of the classes, or of the first of them.
        class_names: the names of all classes.
        count: how many are meant; None: as many as are chosen.
    """
    among = set(chosen)
    shown = [class_names[i] for i in order.shown(class_names) if i in among]
    left = (len(shown) if count is None else count) - min(len(shown), _NAMED)
    more = f" and {left} more" if left > 0 else ""
    return ", ".join(shown[:_NAMED]) + more
