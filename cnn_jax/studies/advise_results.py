"""The results of `advise`: what the runs reached, the tables, and the files."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cnn_jax import extras, files
from cnn_jax.evaluation import selection
from cnn_jax.reporting import tables
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import collapse
from cnn_jax.studies.advise_plan import RETRY_RATE, Cost, Trial
from cnn_jax.studies.comparison import Cell, Recommendation, gigaflops, named, recommend

TITLES = {"epochs": "Equal epochs", "flops": "Equal FLOPs"}

_ALIGN = "lrrlrr"


def headers(metric: str) -> list[str]:
    """Returns the titles of the columns where a metric is compared."""
    title = f"validation {selection.METRICS[metric].title}"
    return ["strategy", "images", "epochs", title, "GFLOPs", "seconds"]


def written() -> tuple[str, ...]:
    """Returns the names of the files that `write` writes, the one to read first."""
    figure = ("figures/advise.png",) if extras.has("matplotlib") else ()
    return ("advise.md", "advise.json", *figure)


class Outcome(NamedTuple):
    """The result of one run.

    Attributes:
        accuracy: the validation accuracy after the last epoch; None where the run diverged.
        metric: what `accuracy` is where --train.select is another, a key of `selection.METRICS`.
        collapsed: whether the network says one class only.
        training_seconds: the seconds of steps, evaluations and checkpoints.
        feature_seconds: the seconds of computing the frozen features; next to 0 where they were in
            the cache.
    """

    accuracy: float | None
    training_seconds: float
    feature_seconds: float
    collapsed: bool = False
    metric: str = "accuracy"

    @property
    def is_lost(self) -> bool:
        """Whether the run learnt nothing."""
        return self.accuracy is None or self.collapsed

    @property
    def text(self) -> str:
        """What came of it, as a person reads it."""
        if self.accuracy is None:
            return "diverged"
        note = ", collapsed: says one class only" if self.collapsed else ""
        return f"validation {selection.METRICS[self.metric].title} {self.accuracy:.4f}{note}"

    @property
    def seconds(self) -> float:
        """The seconds of the whole run."""
        return self.training_seconds + self.feature_seconds


class Advice(NamedTuple):
    """The comparison of strategies.

    Attributes:
        cells: {budget: one cell for each strategy and size}.
        recommendations: {budget: the recommendation at the largest size}.
        largest_share: the largest class's share of the validation images, where accuracy is
            compared.
        metric: what is compared, a key of `selection.METRICS`.
    """

    cells: dict[str, list[Cell]]
    recommendations: dict[str, Recommendation]
    largest_share: float | None
    metric: str = "accuracy"

    @property
    def recommended(self) -> Cell | None:
        """What the first budget that recommends something recommends."""
        for budget, recommendation in self.recommendations.items():
            for cell in reversed(self.cells[budget]):  # the largest size of a strategy comes last
                if (cell.strategy, cell.rate) == (recommendation.strategy, recommendation.rate):
                    return cell
        return None

    def sentence(self, budget: str) -> tuple[str, str]:
        """Returns the strategy that a budget recommends, or "nothing", and why."""
        recommendation = self.recommendations[budget]
        strategy = recommendation.strategy
        name = "nothing" if strategy is None else named(strategy, recommendation.rate)
        return name, recommendation.text


def read_outcome(directory: RunDirectory, validation_counts: Sequence[int]) -> Outcome:
    """Returns the result of a run that has ended, read from its directory.

    Args:
        directory: the run directory.
        validation_counts: the images of each class that it was validated on.
    """
    history = directory.read("history", [])
    diverged = directory.status() == "diverged"
    return Outcome(
        accuracy=None if diverged else selection.value_of(history[-1]),
        metric="accuracy" if diverged else selection.metric_of(history[-1]),
        training_seconds=directory.trained_seconds(),
        feature_seconds=directory.read("result", {}).get("features", {}).get("seconds", 0.0),
        collapsed=not diverged and collapse.has_collapsed(history, validation_counts),
    )


def summarise(
    outcomes: Mapping[Trial, Outcome],
    costs: Mapping[int, Mapping[str, Cost]],
    epochs: Mapping[str, Mapping[int, Mapping[str, int]]],
    validation_counts: Sequence[int],
) -> Advice:
    """Returns the comparison of all runs.

    Args:
        outcomes: the result of every run.
        costs: the cost of each strategy at each size, {size: {strategy: cost}}.
        epochs: the epochs of each run, {budget: {size: {strategy: epochs}}}; sizes ascend.
        validation_counts: the images of each class that the accuracies were measured on.
    """
    cells: dict[str, list[Cell]] = {}
    for budget, by_size in epochs.items():
        largest = max(by_size)
        kinds = [
            Trial(strategy, size, by_size[size][strategy], 0, rate)
            for strategy in by_size[largest]
            for rate in (1.0, RETRY_RATE)
            for size in by_size
        ]
        trained = {trial.kind for trial in outcomes}
        cells[budget] = [
            _cell(kind, costs[kind.images], outcomes) for kind in kinds if kind.kind in trained
        ]
    metric = next((run.metric for run in outcomes.values() if run.accuracy is not None), "accuracy")
    share = collapse.largest_share(validation_counts) if metric == "accuracy" else None
    recommendations = {
        budget: recommend(
            [cell for cell in found if cell.images == max(epochs[budget])],
            sum(validation_counts),
            share,
            metric,
        )
        for budget, found in cells.items()
    }
    return Advice(cells, recommendations, share, metric)


def _cell(kind: Trial, costs: Mapping[str, Cost], outcomes: Mapping[Trial, Outcome]) -> Cell:
    """Returns the cell of all runs of a trial's kind."""
    runs = [outcome for trial, outcome in outcomes.items() if trial.kind == kind.kind]
    # The run that came first computed the features, and all others found them in the cache.
    feature_seconds = max(
        outcome.feature_seconds for trial, outcome in outcomes.items() if trial[:2] == kind[:2]
    )
    return Cell(
        strategy=kind.strategy,
        images=kind.images,
        epochs=kind.epochs,
        accuracies=tuple(run.accuracy for run in runs if run.accuracy is not None),
        diverged=sum(run.accuracy is None for run in runs),
        flops=costs[kind.strategy].of(kind.epochs),
        seconds=statistics.fmean(run.training_seconds for run in runs) + feature_seconds,
        collapsed=sum(run.collapsed for run in runs),
        rate=kind.rate,
    )


def table(
    cells: Sequence[Cell],
    largest_share: float | None = None,
    markdown: bool = False,
    metric: str = "accuracy",
) -> str:
    """Returns the cells of a budget, and the largest class's share, as plain text or Markdown."""
    rows = [
        [
            cell.name,
            f"{cell.images:,}",
            f"{cell.epochs:,}",
            cell.text,
            gigaflops(cell.flops),
            f"{cell.seconds:,.1f}",
        ]
        for cell in cells
    ]
    if largest_share is not None:
        rows.append(["largest class alone", "", "", f"{largest_share:.4f}", "", ""])
    return (tables.markdown if markdown else tables.table)(rows, headers(metric), _ALIGN)


def write(
    directory: RunDirectory,
    advice: Advice,
    outcomes: Mapping[Trial, Outcome],
    notes: Sequence[str],
    preset: str,
    subject: str,
) -> None:
    """Writes advise.json, advise.md and, where Matplotlib is installed, figures/advise.png.

    Args:
        directory: where they go.
        advice: the comparison.
        outcomes: the result of every run.
        notes: a sentence on each strategy that was left out.
        preset: the name of the preset.
        subject: what was trained, "MODEL on DATA".
    """
    directory.write("advise", _record(advice, outcomes, notes))
    page = _markdown(advice, notes, preset, subject)
    files.write_whole(directory.path / "advise.md", lambda file: file.write(page.encode()))
    if not extras.can_draw():
        return
    from cnn_jax.reporting import figures

    panels = {TITLES[budget]: _lines(cells) for budget, cells in advice.cells.items()}
    figure = figures.learning_curves(
        panels, advice.largest_share, selection.METRICS[advice.metric].title
    )
    figures.save(figure, directory.figures / "advise.png")


def _record(
    advice: Advice, outcomes: Mapping[Trial, Outcome], notes: Sequence[str]
) -> dict[str, Any]:
    """Returns the contents of advise.json."""
    budgets = {}
    for budget, cells in advice.cells.items():
        records = []
        for cell in cells:
            spread = {"mean": cell.mean, "std": cell.std} if cell.accuracies else {}
            records.append({**dataclasses.asdict(cell), **spread})
        recommendation = dataclasses.asdict(advice.recommendations[budget])
        budgets[budget] = {"cells": records, "recommendation": recommendation}
    runs = [
        {"run": f"runs/{trial.name}", **trial._asdict(), **outcome._asdict()}
        for trial, outcome in outcomes.items()
    ]
    return {
        "notes": list(notes),
        "largest_class_share": advice.largest_share,
        "metric": advice.metric,
        "budgets": budgets,
        "runs": runs,
    }


def _markdown(advice: Advice, notes: Sequence[str], preset: str, subject: str) -> str:
    """Returns the text of advise.md."""
    title = selection.METRICS[advice.metric].title
    paragraphs = [
        f"# Freeze or fine-tune? {subject}",
        f"Preset `{preset}`. Validation {title} is that after the last epoch, mean ± sample "
        "standard deviation over the seeds. GFLOPs are of one run: the cached stages once for "
        "every training image, then the steps. Seconds are of this machine, evaluations included; "
        "features that were in the cache before cost none.",
        *notes,
    ]
    if extras.has("matplotlib"):
        paragraphs.append(f"![Validation {title} against training images](figures/advise.png)")
    for budget, cells in advice.cells.items():
        strategy, reason = advice.sentence(budget)
        paragraphs += [
            f"## {TITLES[budget]}",
            table(cells, advice.largest_share, True, advice.metric),
            *filter(None, [meaning(cells)]),
            f"**Recommended: {strategy}.** {reason}",
        ]
    return "\n\n".join(paragraphs) + "\n"


def meaning(cells: Sequence[Cell]) -> str:
    """Returns what "collapsed" means and what follows, where a strategy has; else ""."""
    return f"{collapse.MEANING}." if any(cell.collapsed for cell in cells) else ""


def _lines(cells: Sequence[Cell]) -> dict[str, list[tuple[int, float, float]]]:
    """Returns {strategy: (images, mean, deviation) of each size} of what is compared."""
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for cell in cells:
        if cell.accuracies and not cell.lost:
            point = (cell.images, cell.mean, cell.std or 0.0)
            lines.setdefault(cell.name, []).append(point)
    return lines
