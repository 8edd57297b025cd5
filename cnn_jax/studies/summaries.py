"""Reads what finished and unfinished run directories say, for studies that look at many of them."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cnn_jax import experiment, places
from cnn_jax.errors import RunError, UsageError
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import collapse

# What runs are measured by: {key: (title, whether more is better)}.
METRICS = {
    "validation_accuracy": ("validation accuracy", True),
    "best_validation_accuracy": ("best epoch", True),
    "test_accuracy": ("test accuracy", True),
    "seconds": ("seconds", False),
    "flops": ("GFLOPs", False),
    "peak_memory": ("peak GiB", False),
}


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """What one run directory says.

    Attributes:
        path: the directory.
        settings: the Experiment as {path of the field: value}.
        status: a `runs.directory.Status`; `COLLAPSED` in place of "finished"; or "unknown".
        epochs: the number of finished epochs.
        metrics: {key of METRICS: value}, those that are known: accuracies in 0..1, seconds, FLOPs,
            bytes.
        validation_images: the number of images that its accuracy was measured on.
        largest_share: the largest class's share of them, where it is known.
    """

    path: pathlib.Path
    settings: dict[str, Any]
    status: str
    epochs: int
    metrics: dict[str, float]
    validation_images: int
    largest_share: float | None


def find(paths: Sequence[str], left_out: Callable[[str], None]) -> list[RunSummary]:
    """Returns the runs in directories and below them, each once, in order.

    Args:
        paths: run directories, or directories with run directories somewhere below them.
        left_out: takes a sentence on each config.json below a directory that is not of a run.

    Raises:
        UsageError: a path does not exist, or there is no run in it.
        RunError: a path has a config.json that is not of a run.
    """
    runs: dict[pathlib.Path, RunSummary] = {}
    for path in paths:
        top = places.place(path, "directory").absolute()  # "~a" is no home from here on
        if not top.is_dir():
            raise UsageError(f"there is no directory {path}")
        is_run = (top / "config.json").is_file()
        below = [_read(RunDirectory(top))] if is_run else list(_below(top, left_out))
        if not below:
            raise UsageError(f"there is no run in {path} (no config.json)")
        for run in below:
            runs.setdefault(run.path, run)
    return list(runs.values())


def _below(top: pathlib.Path, left_out: Callable[[str], None]) -> Iterator[RunSummary]:
    """Yields the runs below a directory."""
    for config in sorted(top.rglob("config.json")):
        try:
            yield _read(RunDirectory(config.parent))
        except RunError as error:
            left_out(error.for_command_line)


def _read(directory: RunDirectory) -> RunSummary:
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
    data = directory.read("data", {})
    status = directory.status() or "unknown"
    if status == "finished" and collapse.has_collapsed(history, data):
        status = collapse.COLLAPSED
    return RunSummary(
        path=directory.path,
        settings=experiment.flatten(directory.config()),
        status=status,
        epochs=len(history),
        metrics=metrics,
        validation_images=data.get("sizes", {}).get("validation", 1),
        largest_share=collapse.largest_share(collapse.validation_counts(data)),
    )
