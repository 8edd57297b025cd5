"""Compares runs: seeds folded, the settings that differ, and what is a tie with the best.

The runs are given by their directories, or by a directory above them, such as that of a sweep.
"""

import csv
import dataclasses
import io
import json
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cnn_jax.errors import UsageError
from cnn_jax.evaluation import selection
from cnn_jax.reporting import tables
from cnn_jax.studies import collapse, mcnemar, summaries
from cnn_jax.studies.comparison import gigaflops
from cnn_jax.studies.groups import HARMLESS, Group, differing, group, keep, rank
from cnn_jax.studies.judging import by_images, judge, judged_by
from cnn_jax.studies.summaries import CHOSEN_BY, METRICS
from cnn_jax.studies.ttest import SIGNIFICANCE

if TYPE_CHECKING:
    from cnn_jax.reporting.figures import Compared

EXPLANATION = (
    "Accuracies are means ± sample standard deviations over n runs (seeds and folds), by the best "
    "checkpoint or by that of the last epoch. What chose the best checkpoint (accuracy, unless all "
    "runs have another --train.select) is judged on validation: a tie is a t-test with p >= "
    f"{SIGNIFICANCE:g}, paired where the seeds are the same, else Welch's; of folds it is paired, "
    "and corrected for the training images that they share. Runs that have not finished are not "
    "judged."
)
_ACCURACY = "best_validation_accuracy"
# The words of a sweep for the statuses that it calls otherwise.
_STATES = {"finished": "complete", "failed": "fail"}
WIDTH = 120  # columns of the table
_NUMBERS, _LAST = ("n", "folds", "epochs"), ("status", "against the best")


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Groups of runs side by side.

    Attributes:
        groups: sorted and judged; at least one.
        settings: the paths of the settings in which they differ.
    """

    groups: tuple[Group, ...]
    settings: tuple[str, ...]

    @property
    def judged(self) -> bool:
        """Whether any group could be compared to another."""
        return any(each.note for each in self.groups)


def compare(
    paths: Sequence[str],
    where: str | None = None,
    sort: str | None = None,
    left_out: Callable[[str], None] = lambda _: None,
) -> Comparison:
    """Returns the runs in some directories, grouped, chosen, sorted and judged.

    Args:
        paths: run directories, or directories above them.
        where: which groups to keep; see `groups.keep`.
        sort: what to sort the groups by; see `groups.rank`.
        left_out: takes a sentence on each config.json that is not of a run.

    Raises:
        UsageError: there are no runs, or a condition or a name is not legal.
        RunError: a path has a config.json that is not of a run.
    """
    everything = group(summaries.find(paths, left_out))
    groups = keep(everything, where)
    if groups:
        metric = judged_by(groups)
        groups = judge(rank(groups, sort or metric), metric)
    if not groups:
        raise UsageError(f"--where={where} leaves none of {len(everything)} groups of runs")
    return Comparison(tuple(groups), tuple(differing(groups)))


def table(comparison: Comparison, markdown: bool = False, width: int = WIDTH) -> str:
    """Returns the comparison as a table of Markdown, or of plain text in lines of a width."""
    groups, paths = comparison.groups, comparison.settings
    metrics = [key for key in METRICS if any(each.values(key) for each in groups)]
    names = len({_name(each) for each in groups}) > 1 or not paths
    has_steps = any(map(_best_steps, groups))
    has_folds = any(each.folds for each in groups)
    rows = []
    for each in groups:
        head = [_name(each)] if names else []
        settings = [tables.shown(each.settings[path]) for path in paths]
        epochs = "/".join(map(str, sorted({run.epochs for run in each.runs})))
        cells = [_cell(each, key) for key in metrics]
        step = [_best_steps(each)] if has_steps else []
        number = [str(len(each.runs)), *([_folds(each)] if has_folds else []), epochs]
        rows.append([*head, *settings, *number, *step, *cells, each.status, each.note])
    titles = [
        "n",
        *(["folds"] if has_folds else []),
        "epochs",
        *(["best step"] if has_steps else []),
    ]
    titles += [*(METRICS[key][0] for key in metrics), *_LAST]
    headers = [*(["name"] if names else []), *paths, *titles]
    if markdown:
        return tables.markdown(rows, headers)
    of_best = [METRICS[key][0] for key in (judged_by(groups), "test_accuracy")]
    return tables.fitting(rows, headers, width, ["name", *_NUMBERS, *of_best, *_LAST, *paths])


def levels(comparison: Comparison) -> list[str]:
    """Returns the lines that the accuracies of a table are read against."""
    groups = comparison.groups
    lines = [f"{collapse.MEANING}."] if any(collapse.COLLAPSED in g.status for g in groups) else []
    shares = {
        (g.settings["dataset.name"], g.largest_share) for g in groups if g.largest_share is not None
    }
    several = len({name for name, _ in shares}) > 1
    for name, share in sorted(shares):
        lines.append(f"{collapse.level(share)}{f' of {name}' if several else ''}")
    return lines


def json_text(comparison: Comparison) -> str:
    """Returns the comparison as JSON: a list with one object per group."""
    records = [_record(each, comparison.settings) for each in comparison.groups]
    tests = mcnemar.compared(comparison.groups)
    for each, record in zip(comparison.groups, records, strict=True):
        paths = {run.path for run in each.runs}
        if of_group := [test.record() for test in tests if test.second in paths]:
            record["mcnemar"] = of_group
    return json.dumps(records, indent=2)


def csv_text(comparison: Comparison) -> str:
    """Returns one line per run, as a spreadsheet or pandas reads it."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    runs = [run for each in comparison.groups for run in each.runs]
    harmless = [p for p in HARMLESS if len({str(run.settings[p]) for run in runs}) > 1]
    paths = [*comparison.settings, *harmless]
    if any(each.folds for each in comparison.groups) and "dataset.fold" not in paths:
        paths.append("dataset.fold")
    steps = ["best_step", "last_step"]
    columns = [
        key for key in METRICS if key not in CHOSEN_BY or any(key in r.metrics for r in runs)
    ]
    writer.writerow(
        ["run", "name", "seed", *paths, "status", "epochs", *steps, *columns, "against_the_best"]
    )
    for each in comparison.groups:
        for run in each.runs:
            values = [run.settings[path] for path in paths]
            metrics = [run.metrics.get(key, "") for key in columns]
            head = [run.path, run.settings["name"], run.settings["seed"]]
            at = [run.steps.get(f"{which}validation_accuracy", "") for which in ("best_", "")]
            writer.writerow([*head, *values, run.status, run.epochs, *at, *metrics, each.note])
    return lines.getvalue()


def draw(comparison: Comparison, output: pathlib.Path) -> None:
    """Writes a figure of accuracies, and of what they depend on, by data set (.png or .svg).

    Raises:
        UsageError: the runs differ in no setting.
        RunError: the file cannot be written.
    """
    if not comparison.settings:
        raise UsageError("--output: the runs differ in no setting, so there is nothing to draw")
    from cnn_jax.reporting import figures

    found = [_compared(same) for same in by_images(comparison.groups)]
    figures.save(figures.comparison(found), output)


def _compared(same: Sequence[Group]) -> "Compared":
    """Returns what is drawn of groups that were validated on the same images."""
    from cnn_jax.reporting import figures

    records = []
    metric = judged_by(same)
    for each in rank(same, metric):
        spread = each.spread(metric)
        state = _STATES.get(each.status, each.status)
        records.append(
            {
                "name": _name(each),
                "setting": each.settings,
                "state": "unknown" if state == "complete" and math.isnan(spread.mean) else state,
                "value": spread.mean,
                "std": spread.std,
            }
        )
    first = same[0].settings
    shares = {each.largest_share for each in same}
    path, fold = first["dataset.path"], first["dataset.fold"]
    folds = "" if fold is None else f"(mean over {fold.partition('/')[2]} folds)"
    return figures.Compared(
        title=" ".join(filter(None, (first["dataset.name"], path, folds))),
        records=records,
        paths=differing(same),
        largest_share=shares.pop() if len(shares) == 1 and metric == _ACCURACY else None,
        metric=selection.METRICS[metric.removeprefix("best_validation_")].title,
    )


def _best_steps(of: Group) -> str:
    """Returns the steps of the checkpoints with the best validation accuracy."""
    steps = {run.steps.get("best_validation_accuracy") for run in of.runs} - {None}
    return "/".join(map(str, sorted(step for step in steps if step is not None)))


def _folds(of: Group) -> str:
    """Returns on which folds there are runs: "5 of 5", or "1,3 of 5" where some lack."""
    if not of.folds:
        return ""
    count = str(of.settings["dataset.fold"]).partition("/")[2]
    whole = len(of.folds) == int(count)
    return f"{count if whole else ','.join(map(str, of.folds))} of {count}"


def _name(of: Group) -> str:
    return of.runs[0].settings["name"]


def _cell(of: Group, metric: str) -> str:
    if not of.values(metric):
        return ""
    spread = of.spread(metric)
    if metric == "flops":
        return gigaflops(int(spread.mean))
    if metric == "peak_memory":
        return f"{spread.mean / 2**30:.2f}"
    if metric == "seconds":
        return f"{spread.mean:,.0f}"
    return str(spread)


def _record(of: Group, paths: Sequence[str]) -> dict[str, Any]:
    """Returns a group as JSON shows it."""
    metrics = {}
    for key in METRICS:
        if values := of.values(key):
            metrics[key] = {**of.spread(key)._asdict(), "values": values}
            if steps := [run.steps[key] for run in of.runs if key in run.steps]:
                metrics[key]["steps"] = steps
    return {
        "name": _name(of),
        "settings": {path: of.settings[path] for path in paths},
        "n": len(of.runs),
        **({"folds": _folds(of)} if of.folds else {}),
        "status": of.status,
        "metrics": metrics,
        "note": of.note,
        "runs": [str(run.path) for run in of.runs],
    }
