"""The section of a page that says how far a network can be trusted."""

import re
from collections.abc import Sequence
from typing import Any

from cnn_jax.reporting import page
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.evaluations import best_step
from cnn_jax.trust import tables

_INTRODUCTION = (
    "A network that answers every image is wrong at times and does not say when. This one gives no "
    "answer where it is not sure enough, or where an image is unlike those it was trained on; a "
    "person looks at these. What is promised was counted on images that neither trained it nor "
    "chose its threshold."
)


def section(directory: RunDirectory, history: Sequence[dict[str, Any]], images: bool) -> list[str]:
    """Returns the section; [] where there is no trust.json.

    Args:
        directory: the run directory.
        history: one record an epoch.
        images: whether the names of files and folders may be shown.
    """
    record = directory.read("trust")
    if record is None:
        return []
    said = [line for line in record["sentences"] if images or not re.search(r"[/\\~]", line)]
    found = [page.heading("Trust"), page.paragraph(_INTRODUCTION, soft=True)]
    step, best = record["network"]["step"], best_step(history)
    if best is not None and step != best:
        found.append(
            page.paragraph(
                f"This is of the checkpoint of step {step}, and the best one is of step {best}."
            )
        )
    found += map(page.paragraph, said)
    for table in tables.of(record):
        found.append(page.paragraph(f"{table.title}:"))
        found.append(page.table(table.rows, list(table.columns)))
    return found
