"""The section of a page that says how far a network can be trusted."""

import re
from collections.abc import Mapping, Sequence
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
    found.append(page.paragraph(_plainly(record["report"])))
    found += map(page.paragraph, said)
    for table in tables.of(record):
        if table.columns[0] == "score":  # for those who choose one; `trust` prints it
            continue
        found.append(page.paragraph(f"{table.title}:"))
        found.append(page.table(table.rows, list(table.columns)))
    return found


def _plainly(report: Mapping[str, Any]) -> str:
    """Returns what was measured as counts of a hundred images."""

    def about(share: float) -> str:
        count = 100 * share
        return "fewer than one" if 0 < count < 0.75 else f"about {count:.0f}" if count else "none"

    every = f"Answering all of them, {about(report['error_without_abstention'])} would be wrong."
    if not report["certified"] or report["error"] is None:
        return f"Of 100 such images a person has to look at all of them. {every}"
    share, wrong = report["share"], report["share"] * report["error"]
    return (
        f"Of 100 such images it answers {about(share)} on its own, {about(wrong)} of these "
        f"wrongly; a person has to look at the other {100 * (1 - share):.0f}. {every}"
    )
