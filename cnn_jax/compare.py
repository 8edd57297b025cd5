"""The command `compare`: what runs came to, side by side.

It reads run directories, or every run below a directory (a sweep's, say). Runs that differ in
nothing but their seed are one group; of the settings only those are shown that differ between
groups. A group that cannot be told from the best one is marked. Only finished runs are judged.
"""

import collections
import csv
import dataclasses
import io
import json
import math
import pathlib
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from cnn_jax import experiment, flags, run
from cnn_jax.errors import RunError, UsageError
from cnn_jax.evaluation.comparison import SIGNIFICANCE, gigaflops, paired, welch
from cnn_jax.flags import Invocation
from cnn_jax.reporting import figures, tables

# What every group may be sorted by besides a setting: (title, whether more is better).
METRICS = {
    "validation_accuracy": ("validation accuracy", True),
    "best_validation_accuracy": ("best epoch", True),
    "test_accuracy": ("test accuracy", True),
    "seconds": ("seconds", False),
    "flops": ("GFLOPs", False),
    "peak_memory": ("peak GiB", False),
}
_WHERE = re.compile(r"([\w.]+)\s*(<=|>=|!=|=|<|>)\s*(.*)")
_IGNORED = ("name", "seed")
DATA = (  # of which runs must not differ for their accuracies to be comparable
    "dataset.name",
    "dataset.path",
    "dataset.validation_split",
    "dataset.validation_fraction",
    "dataset.test_fraction",
)


@dataclasses.dataclass(frozen=True)
class Run:
    """What one run directory says.

    Attributes:
        path: the directory.
        settings: {path of the field: value}.
        status: of `run.Status`, or "unknown".
        epochs: that were finished.
        metrics: {key of METRICS: value} of those that are known.
        validation_images: that its accuracy was measured on.
    """

    path: pathlib.Path
    settings: dict[str, Any]
    status: str
    epochs: int
    metrics: dict[str, float]
    validation_images: int


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        runs: one a seed.
        settings: of all of them.
        note: how it compares to the best group, "" for groups that have nothing to compare.
    """

    runs: tuple[Run, ...]
    settings: dict[str, Any]
    note: str = ""

    def values(self, metric: str) -> list[float]:
        """Returns a metric of every run that has it."""
        return [r.metrics[metric] for r in self.runs if metric in r.metrics]

    def mean(self, metric: str) -> float:
        """Returns the mean of a metric; NaN where no run has it."""
        values = self.values(metric)
        return statistics.fmean(values) if values else math.nan

    def std(self, metric: str) -> float | None:
        """Returns the sample standard deviation of a metric; None of fewer than two runs."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def status(self) -> str:
        """The runs' statuses, with their numbers where they differ."""
        counts = {r.status: 0 for r in self.runs}
        for each in self.runs:
            counts[each.status] += 1
        if len(counts) == 1:
            return next(iter(counts))
        return ", ".join(f"{count} {status}" for status, count in counts.items())


def find(paths: Sequence[str]) -> list[Run]:
    """Returns the runs in directories and below them, each once, in order.

    Raises:
        UsageError: a path does not exist, or there is no run in it.
    """
    found: dict[pathlib.Path, Run] = {}
    for text in paths:
        top = pathlib.Path(text).expanduser()
        if not top.is_dir():
            raise UsageError(f"compare: there is no directory {text}")
        if (top / "config.json").is_file():
            below = [_read(run.RunDirectory(top))]
        else:
            below = list(_below(top))
        if not below:
            raise UsageError(f"compare: there is no run in {text} (no config.json)")
        for each in below:
            found.setdefault(each.path, each)
    return list(found.values())


def _below(top: pathlib.Path) -> Iterator[Run]:
    """Yields the runs below a directory, and says which config.json is of something else."""
    for config in sorted(top.rglob("config.json")):
        try:
            yield _read(run.RunDirectory(config.parent))
        except RunError as error:
            print(f"left out: {error}", file=sys.stderr)


def _read(directory: run.RunDirectory) -> Run:
    history = directory.read("history", [])
    result = directory.read("result", {})
    training = result.get("training", {})
    metrics: dict[str, float] = {}
    if history:
        accuracies = [record["validation_accuracy"] for record in history]
        metrics["validation_accuracy"] = accuracies[-1]
        metrics["best_validation_accuracy"] = max(accuracies)
        features = result.get("features", {}).get("seconds", 0.0)
        metrics["seconds"] = directory.trained_seconds() + features
    test = result.get("evaluation", {}).get("test")
    if test is not None:
        metrics["test_accuracy"] = test["accuracy"]
    for key, source in (("flops", "flops"), ("peak_memory", "peak_memory_bytes")):
        if source in training:
            metrics[key] = training[source]
    return Run(
        path=directory.path,
        settings=experiment.flatten(directory.config()),
        status=directory.status() or "unknown",
        epochs=len(history),
        metrics=metrics,
        validation_images=directory.read("data", {}).get("sizes", {}).get("validation", 1),
    )


def group(runs: Sequence[Run]) -> list[Group]:
    """Returns the runs by their settings without the seed, in order of appearance.

    A run that repeats settings and seed of another is none of its group's sample: it starts a group
    of repetitions.
    """
    groups: dict[tuple[str, int], list[Run]] = {}
    seen: collections.Counter[str] = collections.Counter()
    for each in runs:
        settings = {k: v for k, v in each.settings.items() if k not in _IGNORED}
        repetition = json.dumps(each.settings | {"name": ""}, sort_keys=True)
        key = json.dumps(settings, sort_keys=True), seen[repetition]
        seen[repetition] += 1
        groups.setdefault(key, []).append(each)
    return [Group(tuple(members), members[0].settings) for members in groups.values()]


def differing(groups: Sequence[Group]) -> list[str]:
    """Returns the settings in which the groups differ, in the order of the Experiment."""
    return [
        path
        for path, _ in experiment.fields()
        if path not in _IGNORED and len({str(g.settings[path]) for g in groups}) > 1
    ]


def keep(groups: Sequence[Group], where: str | None) -> list[Group]:
    """Returns the groups for which every condition of "model.name=mlp,seconds<60" holds.

    Raises:
        UsageError: a condition is not of that form, or names nothing there is.
    """
    kept = list(groups)
    known = _fields()
    for text in where.split(",") if where else []:
        match = _WHERE.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f"--where takes NAME=VALUE (also !=, <, <=, >, >=), joined by commas, not {text!r}"
            )
        name, relation, wanted = match.groups()
        if name not in known and name not in METRICS and name != "status":
            tip = flags.did_you_mean(name, [*known, *METRICS, "status"])
            raise UsageError(f"--where: there is no setting or metric {name!r}{tip}")
        kept = [g for g in kept if _holds(_value(g, name), relation, wanted)]
    return kept


def _fields() -> list[str]:
    """Returns the settings that a group has one value of."""
    return [path for path, _ in experiment.fields() if path != "seed"]


def _value(of: Group, name: str) -> Any:
    if name == "status":
        return of.status
    return of.mean(name) if name in METRICS else of.settings[name]


def _holds(value: Any, relation: str, wanted: str) -> bool:
    if relation in ("=", "!="):
        same = str(value).lower() == wanted.lower()
        if not same and isinstance(value, int | float) and not isinstance(value, bool):
            try:
                same = float(value) == float(wanted)
            except ValueError:
                same = False
        return same == (relation == "=")
    try:
        a, b = float(value), float(wanted)
    except (TypeError, ValueError):
        raise UsageError(
            f"--where: {relation} compares numbers, not {value!r} and {wanted!r}"
        ) from None
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[relation]


def rank(groups: Sequence[Group], by: str | None) -> list[Group]:
    """Returns the groups sorted, the best first where it is by a metric; "-NAME" turns it around.

    Raises:
        UsageError: there is no such setting or metric.
    """
    name = (by or "validation_accuracy").removeprefix("-")
    known = _fields()
    if name not in METRICS and name not in known:
        tip = flags.did_you_mean(name, [*known, *METRICS])
        raise UsageError(f"--sort: there is no setting or metric {name!r}{tip}")
    have = [g for g in groups if not _missing(_value(g, name))]
    rest = [g for g in groups if _missing(_value(g, name))]
    numeric = all(isinstance(_value(g, name), int | float) for g in have)
    have.sort(key=lambda g: _value(g, name) if numeric else str(_value(g, name)))
    descending = name in METRICS and METRICS[name][1]
    if descending != (by or "").startswith("-"):
        have.reverse()
    return [*have, *rest]


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def judge(groups: Sequence[Group]) -> list[Group]:
    """Returns the groups with a note on how each compares to the most accurate of the same data.

    Groups are judged whose runs are all finished, by the last epoch's validation accuracy. The test
    is the paired t-test where they have the same seeds, else Welch's.
    """
    judged: dict[int, Group] = {}
    for data in {_data(g) for g in groups}:
        same = [g for g in groups if _data(g) == data]
        judged |= {id(g): new for g, new in zip(same, _judge(same), strict=True)}
    return [judged[id(g)] for g in groups]


def _data(of: Group) -> str:
    """Returns what two groups must have in common for their accuracies to be comparable."""
    return json.dumps([v for k, v in of.settings.items() if k in DATA])


def _judge(groups: Sequence[Group]) -> list[Group]:
    metric = "validation_accuracy"
    have = [g for g in groups if g.status == "finished" and g.values(metric)]
    if len(have) < 2:
        return list(groups)
    best = max(have, key=lambda g: g.mean(metric))
    judged = []
    for each in groups:
        note = ""
        if each is best:
            note = "best"
        elif each in have:
            note = _against(best, each)
        judged.append(dataclasses.replace(each, note=note))
    return judged


def _against(best: Group, other: Group) -> str:
    """Returns how a group compares to the best one, in a few words."""
    images = min(r.validation_images for r in best.runs + other.runs)
    first, second = (
        {r.settings["seed"]: r.metrics["validation_accuracy"] for r in g.runs}
        for g in (best, other)
    )
    if min(len(first), len(second)) < 2:
        return "one seed"
    if first.keys() == second.keys():
        test, p = "paired", paired([*first.values()], [second[seed] for seed in first], images)
    else:
        test, p = "Welch", welch([*first.values()], [*second.values()], images)
    return f"{'tie' if p >= SIGNIFICANCE else 'less'} (p = {p:.2g}, {test})"


def _cell(of: Group, metric: str) -> str:
    if not of.values(metric):
        return ""
    mean, std = of.mean(metric), of.std(metric)
    if metric == "flops":
        return gigaflops(int(mean))
    if metric == "peak_memory":
        return f"{mean / 2**30:.2f}"
    if metric == "seconds":
        return f"{mean:,.0f}"
    return f"{mean:.4f}" + (f" ± {std:.4f}" if std is not None else "")


def _table(groups: Sequence[Group], paths: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """Returns (rows, headers) of what a person reads."""
    metrics = [key for key in METRICS if any(g.values(key) for g in groups)]
    names = len({g.runs[0].settings["name"] for g in groups}) > 1 or not paths
    rows = []
    for each in groups:
        head = [each.runs[0].settings["name"]] if names else []
        settings = [tables.shown(each.settings[path]) for path in paths]
        tail = [_cell(each, key) for key in metrics]
        counts = [str(len(each.runs)), "/".join(map(str, sorted({r.epochs for r in each.runs})))]
        rows.append([*head, *settings, *counts, *tail, each.status, each.note])
    titles = ["n", "epochs", *(METRICS[key][0] for key in metrics), "status", "against the best"]
    headers = [*(["name"] if names else []), *paths, *titles]
    return rows, headers


def _record(of: Group, paths: Sequence[str]) -> dict[str, Any]:
    """Returns what JSON says of a group."""
    return {
        "name": of.runs[0].settings["name"],
        "settings": {path: of.settings[path] for path in paths},
        "n": len(of.runs),
        "status": of.status,
        "metrics": {
            key: {"mean": of.mean(key), "std": of.std(key), "values": of.values(key)}
            for key in METRICS
            if of.values(key)
        },
        "note": of.note,
        "runs": [str(each.path) for each in of.runs],
    }


def _csv(groups: Sequence[Group], paths: Sequence[str]) -> str:
    """Returns a line for every run, as a spreadsheet or pandas reads it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["run", "name", "seed", *paths, "status", "epochs", *METRICS, "against_the_best"]
    )
    for each in groups:
        for one in each.runs:
            values = [one.settings[path] for path in paths]
            metrics = [one.metrics.get(key, "") for key in METRICS]
            head = [one.path, one.settings["name"], one.settings["seed"]]
            writer.writerow([*head, *values, one.status, one.epochs, *metrics, each.note])
    return text.getvalue()


def run_command(invocation: Invocation) -> int:
    """Runs `compare` and returns the exit code.

    Raises:
        UsageError: there are no runs, or a flag is not legal.
    """
    flags.refuse_settings(invocation, "name directories, and give --where=NAME=VALUE to choose")
    every = group(find(invocation.arguments))
    groups = judge(rank(keep(every, invocation.where), invocation.sort))
    if not groups:
        raise UsageError(f"--where={invocation.where} leaves none of {len(every)} groups of runs")
    paths = differing(groups)
    if invocation.format == "json":
        print(json.dumps([_record(each, paths) for each in groups], indent=2))
    elif invocation.format == "csv":
        print(_csv(groups, paths), end="")
    else:
        rows, headers = _table(groups, paths)
        write = tables.markdown if invocation.format == "markdown" else tables.table
        print(write(rows, headers))
        if any(each.note for each in groups):
            print(
                "\nValidation accuracy is that of the last epoch, mean ± sample standard deviation "
                f"over n seeds; a tie is a t-test with p >= {SIGNIFICANCE:g}, paired where the "
                "seeds are the same, else Welch's. Runs that have not finished are not judged."
            )
    if invocation.output is not None:
        _draw(groups, paths, pathlib.Path(invocation.output))
        path = run.shown(pathlib.Path(invocation.output).resolve())
        # What else is printed may be for a program to read.
        to = sys.stderr if invocation.format in ("json", "csv") else sys.stdout
        print(f"figure     {path}", file=to)
    return 0


def _draw(groups: Sequence[Group], paths: Sequence[str], output: pathlib.Path) -> None:
    if not paths:
        raise UsageError("--output: the runs differ in no setting, so there is nothing to draw")
    states = {"finished": "complete", "failed": "fail"}
    records = [
        {
            "setting": {path: each.settings[path] for path in paths},
            "state": states.get(each.status, each.status),
            "value": each.mean("validation_accuracy"),
            "std": each.std("validation_accuracy"),
        }
        for each in groups
    ]
    figures.save(figures.sweep(records, list(paths)), output)
