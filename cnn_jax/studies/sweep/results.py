"""The results of a sweep: its files, and the table of its best settings."""

from typing import Any, NamedTuple

from cnn_jax import experiment
from cnn_jax.experiment import Experiment
from cnn_jax.reporting import figures, tables
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies.sweep.study import Study

# The number of settings that the table shows.
_MOST_ROWS = 10


class Results(NamedTuple):
    """What the settings of a sweep reached.

    Attributes:
        records: the records of all settings; see `Study.records`.
        complete: those of settings with an accuracy, the best first.
    """

    records: list[dict[str, Any]]
    complete: list[dict[str, Any]]

    @property
    def states(self) -> dict[str, int]:
        """{state: the number of settings in it}."""
        counts: dict[str, int] = {}
        for record in self.records:
            counts[record["state"]] = counts.get(record["state"], 0) + 1
        return counts

    @property
    def any(self) -> bool:
        """Whether any setting has a result; having diverged is one."""
        return not self.states.keys().isdisjoint({"complete", "diverged"})


def write(study: Study, base: Experiment) -> Results:
    """Writes sweep.json, figures/sweep.png and best.json, and returns the results."""
    directory = RunDirectory(study.directory)
    records = study.write_records()
    complete = sorted((r for r in records if r["state"] == "complete"), key=lambda r: -r["value"])
    if records:
        figure = figures.sweep(records, list(records[0]["setting"]))
        figures.save(figure, directory.figures / "sweep.png")
    if complete:
        best = experiment.replace(base, complete[0]["setting"])
        directory.write("best", experiment.to_dict(best))
    return Results(records, complete)


def table(results: Results) -> str:
    """Returns the best settings as a table of plain text."""
    paths = list(results.complete[0]["setting"])
    rows = [
        [
            record["place"],
            *(tables.shown(record["setting"][path]) for path in paths),
            f"{record['value']:.4f}",
            "" if record["std"] is None else f"{record['std']:.4f}",
            f"{record['seconds']:.0f}",
        ]
        for record in results.complete[:_MOST_ROWS]
    ]
    lines = [tables.table(rows, ["trial", *paths, "validation accuracy", "± std", "seconds"])]
    if len(results.complete) > _MOST_ROWS:
        lines.append(f"and {len(results.complete) - _MOST_ROWS} more")
    return "\n".join(lines)
