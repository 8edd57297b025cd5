"""What an evaluation found, each figure with an interval of 95 % and the examples it is of."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from cnn_jax.evaluation import intervals, ranking
from cnn_jax.evaluation.intervals import Interval

# Of more scores than these rankings get no interval, and none at all: they would take minutes.
_MOST_RESAMPLED, _MOST_RANKED = 300_000, 2_000_000


def measure(
    probabilities: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    positive: int | None = None,
    ordered: bool = False,
) -> dict[str, Any]:
    """Measures predictions.

    Args:
        probabilities: float [n, classes].
        labels: int [n].
        class_names: the names of the classes.
        groups: n names of groups, whose images are no independent examples; None: they are.
        positive: of two classes the one that `auc` and `average_precision` are about; None: the
            means over all classes, each against the rest.
        ordered: whether the classes are grades in their order, so that kappa has a meaning.

    Returns:
        Values and, under `intervals`, [lower, upper] by the same names, each None where it has no
        value: accuracy, balanced_accuracy (the mean of the recalls), macro_f1, auc,
        average_precision and, of ordered classes, quadratic_kappa. `per_class` holds for each
        class `class`, `examples`, `recall`, `precision`, `f1`, `auc`, `average_precision` and
        `intervals`. `groups` is the number of groups, where there are any.
    """
    probabilities = np.asarray(probabilities, np.float64)
    predicted = probabilities.argmax(axis=1)
    own = intervals.group_numbers(groups, len(labels))
    found: dict[str, Any] = {}
    if groups is not None:
        found["groups"] = int(own.max()) + 1
    found["accuracy"] = float((predicted == labels).mean())
    ends: dict[str, Any] = {"accuracy": intervals.proportion(predicted == labels, own)}

    counted = Counts(labels, predicted, len(class_names), ordered)
    values = counted(np.ones((1, len(labels))))[0]
    variances = intervals.bootstrap_variances(counted, own)
    for i, name in enumerate(counted.names):
        found[name] = number(values[i])
        ends[name] = interval(values[i], variances[i], own, name == "quadratic_kappa")
    ranked = probabilities.size <= _MOST_RANKED
    per_class = [
        _of_class(name, labels == label, predicted == label, own)
        for label, name in enumerate(class_names)
    ]
    for label, record in enumerate(per_class):
        place = len(counted.names) + label
        record["f1"] = number(values[place])
        record["intervals"]["f1"] = interval(values[place], variances[place], own)
        if ranked:
            _rank(record, probabilities[:, label], labels == label, own)
    if ranked:
        for name, (value, both) in _areas(probabilities, labels, own, positive).items():
            found[name], ends[name] = value, both
    return {**found, "intervals": ends, "per_class": per_class}


def number(value: float) -> float | None:
    """Returns a value, None in place of NaN."""
    return None if math.isnan(value) else float(value)


def interval(
    value: float, variance: float, groups: np.ndarray, signed: bool = False
) -> Interval | None:
    """Returns the interval of a value of 0 to 1, or of -1 to 1 where it is signed.

    Args:
        value: NaN where there is none.
        variance: of the value, over resamples.
        groups: int [n], from `intervals.group_numbers`.
        signed: whether the value is an agreement such as kappa.
    """
    if math.isnan(value) or math.isnan(variance):
        return None
    if signed:
        return intervals.between(value, variance)
    return intervals.within_unit(value, variance, int(groups.max()) + 1)


class Counts:
    """Statistics that follow from how often each class was taken for which, of weighted examples.

    They are balanced accuracy, macro F1 and, of ordered classes, the quadratic kappa; then the F1
    of every class.
    """

    def __init__(self, labels: np.ndarray, predicted: np.ndarray, classes: int, ordered: bool):
        self.names = ("balanced_accuracy", "macro_f1", *(["quadratic_kappa"] if ordered else []))
        self._classes = classes
        self._ordered = ordered
        each = np.arange(len(labels))
        ones = np.ones(len(labels))
        shape = (len(labels), classes)
        self._true = scipy.sparse.csr_array((ones, (each, labels)), shape)
        self._said = scipy.sparse.csr_array((ones, (each, predicted)), shape)
        right = predicted == labels
        self._right = scipy.sparse.csr_array((ones[right], (each[right], labels[right])), shape)
        self._distance = (labels - predicted).astype(np.float64) ** 2

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Returns the statistics [draws, ...] of weights [draws, n]."""
        true, said, right = (weights @ m for m in (self._true, self._said, self._right))
        with np.errstate(divide="ignore", invalid="ignore"):
            recall = right / true
            f1 = np.where(true + said > 0, 2 * right / (true + said), np.nan)
            f1 = np.where(true > 0, f1, np.nan)  # a class without examples has none
            columns = [_mean(recall), _mean(f1)]
            if self._ordered:
                columns.append(self._kappa(weights, true, said))
        return np.column_stack([*columns, f1])

    def _kappa(self, weights: np.ndarray, true: np.ndarray, said: np.ndarray) -> np.ndarray:
        grades = np.arange(self._classes)
        far = (grades[:, None] - grades[None]).astype(np.float64) ** 2
        total = weights.sum(axis=1)
        by_chance = np.einsum("di,ij,dj->d", true, far, said) / total
        return 1 - (weights @ self._distance) / by_chance


def _mean(values: np.ndarray) -> np.ndarray:
    """Returns the mean over the classes that have a value; there is always one."""
    known = ~np.isnan(values)
    return np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)


def _of_class(name: str, is_it: np.ndarray, said: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    """Returns the record of a class; bool [n]: which examples are of it, and are taken for it."""
    return {
        "class": name,
        "examples": int(is_it.sum()),
        "recall": float(said[is_it].mean()) if is_it.any() else None,
        "precision": float(is_it[said].mean()) if said.any() else None,
        "intervals": {
            "recall": intervals.proportion(said[is_it], groups[is_it]),
            "precision": intervals.proportion(is_it[said], groups[said]),
        },
    }


def _rank(
    record: dict[str, Any], scores: np.ndarray, is_it: np.ndarray, groups: np.ndarray
) -> None:
    """Adds how well the scores of a class rank its examples above the others."""
    record["auc"] = number(ranking.auc(scores, is_it))
    record["average_precision"] = number(ranking.average_precision(scores, is_it))
    record["intervals"]["auc"] = ranking.auc_interval(scores, is_it, groups)


def _areas(
    probabilities: np.ndarray, labels: np.ndarray, groups: np.ndarray, positive: int | None
) -> dict[str, tuple[float | None, Any]]:
    """Returns AUC and average precision of the positive class, or their means over the classes."""
    classes = range(probabilities.shape[1]) if positive is None else [positive]
    chosen = [c for c in classes if 0 < (labels == c).sum() < len(labels)]
    if not chosen:
        return {"auc": (None, None), "average_precision": (None, None)}
    curves = [ranking.Curves.of(probabilities[:, c], labels == c) for c in chosen]

    def means(weights: np.ndarray) -> np.ndarray:
        found = np.array([each.areas(weights) for each in curves])  # [classes, 2, draws]
        known = ~np.isnan(found)
        return (np.where(known, found, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)).T

    values = means(np.ones((1, len(labels))))[0]
    found: list[Interval | None] = [None, None]
    if len(labels) * len(chosen) <= _MOST_RESAMPLED:
        variances = intervals.bootstrap_variances(means, groups)
        found = [interval(values[i], variances[i], groups) for i in range(2)]
    if positive is not None:
        found[0] = ranking.auc_interval(probabilities[:, positive], labels == positive, groups)
    names = ("auc", "average_precision")
    return {name: (float(values[i]), found[i]) for i, name in enumerate(names)}
