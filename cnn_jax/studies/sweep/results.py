"""The results of a sweep: its files, and the table of its best settings."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from cnn_jax import experiment, extras
from cnn_jax.evaluation import selection
from cnn_jax.experiment import Experiment
from cnn_jax.reporting import tables
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import collapse
from cnn_jax.studies.collapse import COLLAPSED
from cnn_jax.studies.sweep.study import Study

# The number of settings that the table shows.
_MOST_ROWS = 10


class Results(NamedTuple):
    """What the settings of a sweep reached.

    Attributes:
        records: the records of all settings; see `Study.records`.
        complete: those of settings with a value to compare, the best first.
        largest_share: the largest class's share of the validation images, where it is known and
            the same for all settings.
        metric: what settings are judged by, a key of `selection.METRICS`.
    """

    records: list[dict[str, Any]]
    complete: list[dict[str, Any]]
    largest_share: float | None
    metric: str = "accuracy"

    @property
    def collapsed(self) -> list[dict[str, Any]]:
        """The records of settings with a network that says one class only."""
        return [record for record in self.records if record["state"] == COLLAPSED]

    @property
    def states(self) -> dict[str, int]:
        """{state: the number of settings in it}."""
        counts: dict[str, int] = {}
        for record in self.records:
            counts[record["state"]] = counts.get(record["state"], 0) + 1
        return counts

    @property
    def any(self) -> bool:
        """Whether any setting has a result; having diverged or collapsed is one."""
        return not self.states.keys().isdisjoint({"complete", "diverged", COLLAPSED})


def write(study: Study, base: Experiment) -> Results:
    """Writes sweep.json, figures/sweep.png and best.json, and returns the results."""
    directory = RunDirectory(study.directory)
    records = study.write_records()
    metric = base.train.select
    complete = best_first(records, metric)
    share = collapse.largest_share_of(study.directory) if metric == "accuracy" else None
    if records and extras.can_draw():
        from cnn_jax.reporting import figures

        figure = figures.sweep(
            records, list(records[0]["setting"]), share, selection.METRICS[metric].title
        )
        figures.save(figure, directory.figures / "sweep.png")
    if complete:
        best = experiment.replace(base, complete[0]["setting"])
        directory.write("best", experiment.to_dict(best))
    return Results(records, complete, share, metric)


def best_first(records: Sequence[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    """Returns the records of settings with a value to compare, the best first."""
    complete = [record for record in records if record["state"] == "complete"]
    return sorted(complete, key=lambda record: -selection.score(metric, record["value"]))


def table(results: Results) -> str:
    """Returns the best settings, and those that collapsed, as a table of plain text."""
    shown = [*results.complete[:_MOST_ROWS], *results.collapsed[:_MOST_ROWS]]
    paths = list(shown[0]["setting"])
    rows = [
        [
            record["place"],
            *(tables.shown(record["setting"][path]) for path in paths),
            f"{record['value']:.4f}",
            "" if record["std"] is None else f"{record['std']:.4f}",
            f"{record['seconds']:.0f}",
            *([record["state"]] if results.collapsed else []),
        ]
        for record in shown
    ]
    title = f"validation {selection.METRICS[results.metric].title}"
    headers = ["trial", *paths, title, "± std", "seconds"]
    headers += ["state"] if results.collapsed else []
    lines = [tables.table(rows, headers)]
    if len(results.complete) > _MOST_ROWS:
        lines.append(f"and {len(results.complete) - _MOST_ROWS} more")
    if results.collapsed:
        lines.append(f"{collapse.MEANING}.")
    if results.largest_share is not None:
        lines.append(collapse.level(results.largest_share))
    return "\n".join(lines)
