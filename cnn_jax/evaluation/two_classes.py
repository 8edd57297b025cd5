"""Which of two classes is the positive one, and the rates that depend on it."""

from collections.abc import Sequence

import numpy as np

from cnn_jax.errors import UsageError


def positive_class(name: str | None, class_names: Sequence[str]) -> int | None:
    """Returns the index of the positive one of two classes, by default the second; else None.

    Raises:
        UsageError: a name was given, and there are not two classes, or none of this name.
    """
    if name is None:
        return 1 if len(class_names) == 2 else None
    if len(class_names) != 2:
        raise UsageError(
            f"--dataset.positive={name} is for two classes, and there are {len(class_names)}"
        )
    if name not in class_names:
        raise UsageError(
            f"--dataset.positive={name} is no class; the classes are {' and '.join(class_names)}"
        )
    return list(class_names).index(name)


def rates(confusion: np.ndarray, positive: int) -> dict[str, float | None]:
    """Returns sensitivity and specificity of two classes; None where a class has no example.

    Args:
        confusion: int [2, 2], rows are true classes.
        positive: the index of the positive class.
    """
    found = []
    for label in (positive, 1 - positive):
        count = int(confusion[label].sum())
        found.append(float(confusion[label, label] / count) if count else None)
    return dict(zip(("sensitivity", "specificity"), found, strict=True))
