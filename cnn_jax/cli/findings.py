"""What `evaluate` and `predict` print where an image may have several findings."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from cnn_jax import text
from cnn_jax.cli.invocation import Invocation
from cnn_jax.data import Split
from cnn_jax.evaluation import findings
from cnn_jax.evaluation.evaluator import Evaluation
from cnn_jax.reporting import findings as shown
from cnn_jax.reporting import tables
from cnn_jax.runs.trained import Run


def record(
    invocation: Invocation,
    run: Run,
    split: Split,
    found: Evaluation,
    rule: tuple[str, float] | None,
) -> dict[str, Any]:
    """Returns what result.json says of an evaluation, with an operating point for each finding.

    Args:
        invocation: the command line.
        run: the run.
        split: the examples.
        found: their evaluation.
        rule: what the thresholds are chosen by, or None.
    """
    made = findings.record(found, split, run.data_info, run.step)
    if rule is not None:
        validation, chosen = split, found
        if rule[0] != "threshold":
            validation = run.split("validation")
            if validation is not split or invocation.views != "one":
                chosen = run.evaluate(validation, views=invocation.views)
        findings.add_operating_points(made, rule, found, split, chosen, validation)
    return made


def lines(made: dict[str, Any]) -> list[str]:
    """Returns the lines of a record of several findings."""
    return [*shown.lines(made), *shown.table(made).splitlines()]


def predicted(paths: Sequence[str], found: Any) -> list[dict[str, Any]]:
    """Returns what JSON shows of each image: the findings, and the probability of every one."""
    return [
        {
            "image": path,
            "findings": [name for name in found.class_names if row[name] >= findings.THRESHOLD],
            "probabilities": row,
        }
        for path, each in zip(paths, found.top(len(found.class_names)), strict=True)
        for row in [dict(each)]
    ]


def csv_text(predictions: list[dict[str, Any]], class_names: Sequence[str]) -> str:
    """Returns a row for each image: file, findings with | between them, every probability."""
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(map(text.printable, ["file", "findings", *(f"p_{n}" for n in class_names)]))
    for each in predictions:
        names = findings.BETWEEN.join(each["findings"])
        numbers = (f"{each['probabilities'][name]:.6g}" for name in class_names)
        writer.writerow([*map(text.printable, (each["image"], names)), *numbers])
    return lines.getvalue()


def table(predictions: list[dict[str, Any]]) -> str:
    """Returns the findings of each image, the most probable first, as a text table."""
    rows = []
    for each in predictions:
        found = sorted(each["findings"], key=lambda name: -each["probabilities"][name])
        listed = ", ".join(f"{name} {each['probabilities'][name]:.3f}" for name in found)
        rows.append([each["image"], listed or "no finding"])
    return tables.table(rows, ["image", "findings"])
