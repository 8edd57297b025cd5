"""An evaluation as people read it: lines and a table, each figure with its interval of 95 %."""

from collections.abc import Mapping, Sequence
from typing import Any

from cnn_jax import text
from cnn_jax.reporting import tables

_MOST_ROWS, _ROWS = 100, 30  # of the table of classes, and of that of more classes
_WORDS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced",
    "macro_f1": "macro F1",
    "auc": "AUC",
    "average_precision": "average precision",
    "quadratic_kappa": "quadratic kappa",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "positive_predictive_value": "PPV",
    "negative_predictive_value": "NPV",
}


def with_interval(value: float | None, interval: Sequence[float] | None, digits: int = 4) -> str:
    """Returns "0.9123 (0.9010 to 0.9224)"; "-" where there is no value."""
    if value is None:
        return "-"
    if interval is None:
        return f"{value:.{digits}f}"
    low, high = interval
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def named(record: Mapping[str, Any], names: Sequence[str], ends: Mapping[str, Any]) -> str:
    """Returns "balanced 0.91 (0.90 to 0.92), macro F1 ..." of those that have a value."""
    return ", ".join(
        f"{_WORDS[name]} {with_interval(record[name], ends.get(name))}"
        for name in names
        if record.get(name) is not None
    )


def lines(record: Mapping[str, Any]) -> list[str]:
    """Returns the figures of the whole split, as lines, of a record of `records.record`."""
    ends = record["intervals"]
    found = [f"accuracy   {with_interval(record['accuracy'], ends['accuracy'])} with 95 %"]
    if "groups" in record:
        found[0] += f", by {record['groups']:,} groups"
    found.append(f"           {named(record, ('balanced_accuracy', 'macro_f1'), ends)}")
    areas = named(record, ("auc", "average_precision"), ends)
    if areas:
        of = record.get("positive") or "mean over the classes, each against the rest"
        found.append(f"ranking    {areas} ({of})")
    if record.get("quadratic_kappa") is not None:
        found.append(f"grades     {named(record, ('quadratic_kappa',), ends)}")
    return found


def group_lines(record: Mapping[str, Any]) -> list[str]:
    """Returns the figures of groups, each judged by the mean over its images, as lines."""
    judged = record.get("per_group")
    if judged is None:
        return []
    left_out = ""
    if judged["left_out"]:
        left_out = f"; {judged['left_out']:,} left out, whose images are of several classes"
    count = text.plural(judged["groups"], "group")
    found = [f"by group   {count}, each by the mean over its images{left_out}"]
    names = ("accuracy", "balanced_accuracy", "macro_f1")
    rows = [(names, "intervals"), (("auc", "average_precision", "quadratic_kappa"), "intervals")]
    rows.append((tuple(_WORDS)[-4:], "rate_intervals"))
    for names, ends in rows:
        if line := named(judged, names, judged.get(ends, {})):
            found.append(f"           {line}")
    return found


def calibrated_line(record: Mapping[str, Any]) -> str:
    """Returns what the temperature of `trust` changes, of a record of `trusting.recalibrated`."""
    return (
        f"calibrated divided by a temperature of {record['temperature']:.3g} (trust.json), the "
        f"negative log-likelihood is {record['nll_before']:.4f} -> {record['nll']:.4f}, the "
        f"calibration error {100 * record['ece_before']:.2f} % -> {100 * record['ece']:.2f} % "
        f"({100 * record['ece_by_chance']:.2f} % by chance); probabilities here are calibrated"
    )


def table(record: Mapping[str, Any], order: Sequence[int]) -> str:
    """Returns the table of the classes; of more than 100, of those that are found least.

    Args:
        record: of `records.record`.
        order: the indices of the classes, as they are shown.
    """
    rows, more = [], ""
    if len(order) > _MOST_ROWS:
        known = [(r, i) for i in order if (r := record["per_class"][i]["recall"]) is not None]
        order = [i for _, i in sorted(known, key=lambda pair: pair[0])[:_ROWS]]
        more = f"\nThese are the {len(order)} of {len(record['per_class']):,} classes with the "
        more += "lowest recall; result.json has all."
    for one in (record["per_class"][i] for i in order):
        ends = one["intervals"]
        rows.append(
            [
                one["class"],
                f"{one['examples']:,}",
                with_interval(one["recall"], ends["recall"], 3),
                with_interval(one["precision"], ends["precision"], 3),
                with_interval(one["f1"], None, 3),
                with_interval(one.get("auc"), None, 3),
            ]
        )
    return (
        tables.table(rows, ["class", "examples", "recall", "precision", "F1", "AUC"], "lrllrr")
        + more
    )
