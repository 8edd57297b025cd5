"""What a network confuses: its surest errors, and the confusion matrix in result.json.

The matrix is kept as its rows, or as its counts where it would be mostly zeros.
"""

from typing import Any

import numpy as np

# More classes have a matrix of millions of numbers, almost all of them 0.
_MOST_CLASSES = 1000


def surest_errors(probabilities: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Returns the indices of the errors whose wrong class is the most probable, at most `count`.

    Args:
        probabilities: float [n, classes].
        labels: int [n].
        count: how many are wanted.
    """
    predicted, surest = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    return wrong[np.argsort(-surest[wrong], kind="stable")][:count]


def to_record(confusion: np.ndarray) -> dict[str, Any]:
    """Returns what result.json holds of a confusion matrix, under its key.

    Args:
        confusion: int [classes, classes], rows are true classes.

    Returns:
        {"confusion_matrix": the rows}, or with more than 1,000 classes {"confusion_counts":
        [[true class, predicted class, examples], ...]}, of all pairs that have examples.
    """
    if len(confusion) <= _MOST_CLASSES:
        return {"confusion_matrix": confusion.tolist()}
    true, predicted = np.nonzero(confusion)
    entries = np.stack([true, predicted, confusion[true, predicted]], axis=1)
    return {"confusion_counts": entries.tolist()}


def is_in(record: dict[str, Any]) -> bool:
    """Returns whether the record of an evaluation has a confusion matrix."""
    return "confusion_matrix" in record or {"class_names", "confusion_counts"} <= record.keys()


def of_record(record: dict[str, Any]) -> np.ndarray:
    """Returns the confusion matrix of an evaluation in result.json, int [classes, classes]."""
    if "confusion_matrix" in record:
        return np.asarray(record["confusion_matrix"])
    classes = len(record["class_names"])
    confusion = np.zeros((classes, classes), int)
    true, predicted, examples = np.asarray(record["confusion_counts"], int).reshape(-1, 3).T
    confusion[true, predicted] = examples
    return confusion
