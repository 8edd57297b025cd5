"""The page of an advise: what is recommended and why, the comparison, and its runs."""

from collections.abc import Callable
from typing import Any

from cnn_jax.errors import RunError
from cnn_jax.evaluation import selection
from cnn_jax.experiment import Experiment
from cnn_jax.reporting import page
from cnn_jax.reporting import private as report_private
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import advise_results, collapse, report_parts, sides
from cnn_jax.studies.comparison import Cell, gigaflops, named


def page_of(
    directory: RunDirectory,
    plan: dict[str, Any],
    question: Callable[[Experiment], str | None],
    images: bool = True,
) -> str:
    """Returns the page of an advise, finished or not.

    Args:
        directory: the directory of the advise.
        plan: the contents of plan.json.
        question: returns the question that an experiment's preset asks, or None.
        images: whether images and the names and places of files are shown.

    Raises:
        RunError: a file in the directory is damaged.
    """
    base = sides.experiment_of(directory, plan)
    found = sides.read(directory, "advise")
    title = f"Freeze or fine-tune? {base.model.name} on {base.dataset.name}"
    parts = report_parts.title_and_question(title, question(base))
    if found is None:
        parts.append(
            page.paragraph("It has not ended: the strategies are compared once all are trained.")
        )
    else:
        parts += [page.paragraph(note) for note in found.get("notes", [])]
        for budget, record in found["budgets"].items():
            parts += _budget(budget, record, found.get("largest_class_share"), base.train.select)
    parts += _runs(directory, images, base.train.select)
    parts += report_parts.settings(base, images)
    if command := plan.get("command"):
        shown = command if images else report_private.command_text(command)
        parts += [page.heading("Do it again"), page.code(shown)]
    return report_parts.with_figures(title, parts, directory.figures, images)


def _budget(budget: str, record: dict[str, Any], share: float | None, metric: str) -> list[str]:
    """Returns the recommendation of a budget, and the table that it follows from."""
    recommendation = record["recommendation"]
    strategy = recommendation.get("strategy")
    name = "nothing" if strategy is None else named(strategy, recommendation.get("rate", 1.0))
    names = Cell.__dataclass_fields__
    cells = [Cell(**{k: v for k, v in cell.items() if k in names}) for cell in record["cells"]]
    rows = [
        [cell.name, cell.images, cell.epochs, cell.text, gigaflops(cell.flops), cell.seconds]
        for cell in cells
    ]
    headers = advise_results.headers(metric)
    meaning = advise_results.meaning(cells)
    level = [] if share is None else [page.paragraph(f"{collapse.level(share)}.")]
    return [
        page.heading(advise_results.TITLES.get(budget, budget)),
        page.cards({"recommended": name}),
        page.paragraph(str(recommendation.get("text", ""))),
        page.table(rows, headers),
        *([page.paragraph(meaning)] if meaning else []),
        *level,
    ]


def _runs(directory: RunDirectory, images: bool, metric: str) -> list[str]:
    """Returns a table with a row, and a link, for each run that has begun."""
    rows = []
    for path in sorted((directory.path / "runs").glob("*/")):
        run = RunDirectory(path)
        try:
            if not run.exists():
                continue
            history, status = run.read("history", []), run.status() or "unknown"
        except RunError:
            history, status = [], "damaged"
        counts = collapse.validation_counts(run.read("data", {}))
        if status == "finished" and collapse.has_collapsed(history, counts):
            status = collapse.COLLAPSED
        accuracy = selection.value_of(history[-1]) if history else None
        place = page.Link(path.name, f"runs/{path.name}/") if images else path.name
        rows.append([place, len(history), accuracy, run.trained_seconds(), status])
    if not rows:
        return []
    headers = [
        "run",
        "epochs",
        f"validation {selection.METRICS[metric].title}",
        "seconds",
        "status",
    ]
    return [page.heading("Runs"), page.table(rows, headers)]
