"""Several findings in one image: what a network found, each finding against its absence."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn_jax.data import DataInfo, Split
from cnn_jax.errors import UsageError
from cnn_jax.evaluation import intervals, measures, ranking, two_classes
from cnn_jax.evaluation.evaluator import Evaluation

BETWEEN = "|"  # the findings of one image
THRESHOLD = 0.5


def named(row: np.ndarray, class_names: Sequence[str]) -> str:
    """Returns the findings of one image, "A|B"; "" where it has none.

    Args:
        row: bool or int [findings].
        class_names: their names.
    """
    return BETWEEN.join(name for name, has in zip(class_names, row, strict=True) if has)


def as_classes(rows: np.ndarray, class_names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Returns (int [n], the names that they index) of combinations of findings.

    Args:
        rows: bool or int [n, findings].
        class_names: the names of the findings.
    """
    unique, inverse = np.unique(np.asarray(rows) > 0, axis=0, return_inverse=True)
    return inverse.reshape(-1), [named(row, class_names) or "no finding" for row in unique]


def record(found: Evaluation, split: Split, info: DataInfo, step: int) -> dict[str, Any]:
    """Returns the record of an evaluation, ready for JSON.

    Args:
        found: the evaluation.
        split: the examples that it is of, labels uint8 [n, findings].
        info: names the findings.
        step: of the checkpoint.

    Returns:
        `accuracy` is the share of findings that are right at a probability of 1/2, and `all_right`
        the share of images of which all are. `auc` and `average_precision` are the means over the
        findings that have a value. `per_class` holds of each finding `class`, `examples` that have
        it, `recall` (sensitivity), `specificity`, `precision`, `f1`, `auc`, `average_precision`,
        `confusion` ([[true negatives, false positives], [false negatives, true positives]]) and
        `intervals` of 95 %. With groups intervals are by groups.
    """
    own = intervals.group_numbers(split.groups, len(split))
    said = found.probabilities >= THRESHOLD
    has = split.labels > 0
    right = said == has
    per_class = [
        _of_finding(name, found.probabilities[:, c], has[:, c], said[:, c], own)
        for c, name in enumerate(info.class_names)
    ]
    made: dict[str, Any] = {
        "loss": found.loss,
        "examples": found.examples,
        "checkpoint_step": step,
        "class_names": list(info.class_names),
        "multilabel": True,
        "accuracy": float(right.mean()),
        "all_right": float(right.all(axis=1).mean()),
        "per_class_accuracy": [float(part.mean()) for part in right.T],
        "per_class": per_class,
        "intervals": {"all_right": intervals.proportion(right.all(axis=1), own)},
    }
    if split.groups is not None:
        made["groups"] = int(own.max()) + 1
    made |= _mean_areas(found.probabilities, has, own, made["intervals"])
    return made


def _of_finding(
    name: str, scores: np.ndarray, has: np.ndarray, said: np.ndarray, own: np.ndarray
) -> dict[str, Any]:
    both = int((said & has).sum())
    confusion = [
        [int((~said & ~has).sum()), int((said & ~has).sum())],
        [int((~said & has).sum()), both],
    ]
    of = {"recall": (has, said), "specificity": (~has, ~said), "precision": (said, has)}
    total = int(said.sum() + has.sum())
    return {
        "class": name,
        "examples": int(has.sum()),
        **{key: float(hit[of_].mean()) if of_.any() else None for key, (of_, hit) in of.items()},
        "f1": 2 * both / total if has.any() else None,
        "auc": measures.number(ranking.auc(scores, has)),
        "average_precision": measures.number(ranking.average_precision(scores, has)),
        "confusion": confusion,
        "intervals": {
            **{key: intervals.proportion(hit[of_], own[of_]) for key, (of_, hit) in of.items()},
            "auc": ranking.auc_interval(scores, has, own),
        },
    }


def _mean_areas(
    probabilities: np.ndarray, has: np.ndarray, own: np.ndarray, ends: dict[str, Any]
) -> dict[str, float | None]:
    """Returns the means of AUC and average precision, and adds their intervals to `ends`."""
    chosen = [c for c in range(has.shape[1]) if has[:, c].any() and not has[:, c].all()]
    if not chosen:
        return {"auc": None, "average_precision": None}
    curves = [ranking.Curves.of(probabilities[:, c], has[:, c]) for c in chosen]

    def means(weights: np.ndarray) -> np.ndarray:
        areas = np.array([each.areas(weights) for each in curves])  # [findings, 2, draws]
        known = ~np.isnan(areas)
        return (np.where(known, areas, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)).T

    values = means(np.ones((1, len(has))))[0]
    variances = intervals.bootstrap_variances(means, own)
    for i, name in enumerate(("auc", "average_precision")):
        ends[name] = measures.interval(values[i], variances[i], own)
    return {"auc": float(values[0]), "average_precision": float(values[1])}


def add_operating_points(
    record: dict[str, Any],
    rule: tuple[str, float],
    found: Evaluation,
    split: Split,
    chosen: Evaluation,
    validation: Split,
) -> None:
    """Adds to each finding of a record the rates at the threshold that validation chose.

    Args:
        record: as `record` returns it.
        rule: ("sensitivity" or "specificity", its least value), or ("threshold", the threshold).
        found: the evaluation of `split`.
        split: the examples.
        chosen: the evaluation of the validation split.
        validation: its examples.
    """
    name, value = rule
    for c, each in enumerate(record["per_class"]):
        threshold = value
        if name != "threshold":
            try:
                threshold = two_classes.threshold(
                    chosen.probabilities[:, c], validation.labels[:, c] > 0, name, value
                )
            except UsageError:  # no validation image to choose by
                continue
        said = found.probabilities[:, c] >= threshold
        rates = two_classes.rates(said, split.labels[:, c] > 0, split.groups)
        each["operating_point"] = {
            "rule": f"{name}:{value:g}",
            "threshold": threshold,
            "chosen_on": None if name == "threshold" else "validation",
            **rates,
        }
