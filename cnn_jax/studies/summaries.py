"""Reads what finished and unfinished run directories say, for studies that look at many of them."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cnn_jax import experiment, places, text
from cnn_jax.errors import RunError, UsageError
from cnn_jax.evaluation import selection
from cnn_jax.evaluation.selection import best_of
from cnn_jax.runs import code, evaluations
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.evaluations import best_step
from cnn_jax.runs.shapes import is_number
from cnn_jax.studies import collapse

# The metrics of --train.select besides accuracy, of the best and of the last epoch.
CHOSEN_BY = {
    f"{key}validation_{name}": (f"{metric.title} ({which})", metric.sign > 0)
    for key, which in (("best_", "best"), ("", "last"))
    for name, metric in selection.METRICS.items()
    if name != "accuracy"
}
# What runs are measured by: {key: (title, whether more is better)}.
# "last" and "best" name the checkpoint: of the last epoch, of the best one by validation.
METRICS = {
    "best_validation_accuracy": ("validation (best)", True),
    "test_accuracy": ("test (best)", True),
    "validation_accuracy": ("validation (last)", True),
    **CHOSEN_BY,
    "last_test_accuracy": ("test (last)", True),
    "test_auc": ("test AUC (best)", True),
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
        steps: {key of METRICS: step of the checkpoint that it was measured by}, of accuracies.
        validation_images: the number of images that its accuracy was measured on.
        largest_share: the largest class's share of them, where it is known.
    """

    path: pathlib.Path
    settings: dict[str, Any]
    status: str
    epochs: int
    metrics: dict[str, float]
    steps: dict[str, int]
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
        below = [_read(RunDirectory(top), left_out)] if is_run else list(_below(top, left_out))
        if not below:
            raise UsageError(f"there is no run in {path} (no config.json)")
        for run in below:
            runs.setdefault(run.path, run)
    return list(runs.values())


def _below(top: pathlib.Path, left_out: Callable[[str], None]) -> Iterator[RunSummary]:
    """Yields the runs below a directory."""
    for config in sorted(top.rglob("config.json")):
        try:
            yield _read(RunDirectory(config.parent), left_out)
        except RunError as error:
            left_out(error.for_command_line)


def _read(directory: RunDirectory, left_out: Callable[[str], None]) -> RunSummary:
    history = directory.read("history", [])
    result = directory.read("result", {})
    training = result.get("training", {})
    metrics: dict[str, float] = {}
    steps: dict[str, int] = {}
    if history:
        for key, record in (("", history[-1]), ("best_", best_of(history))):
            metrics[f"{key}validation_accuracy"] = record["validation_accuracy"]
            value = selection.value_of(record)
            if value is not None:
                metrics[f"{key}validation_{selection.metric_of(record)}"] = value
        features = result.get("features", {}).get("seconds", 0.0)
        metrics["seconds"] = directory.trained_seconds() + features
        metrics |= _test_accuracies(directory, history, result, left_out)
        last, best = history[-1].get("step"), best_step(history)
        of_last = ("validation_", "last_")
        at = {
            key: last if key.startswith(of_last) else best
            for key in metrics
            if "validation_" in key or key.endswith(("accuracy", "auc"))
        }
        steps = {key: step for key, step in at.items() if step is not None}
    for key, source in (("flops", "flops"), ("peak_memory", "peak_memory_bytes")):
        if source in training:
            metrics[key] = training[source]
    data = directory.read("data", {})
    status = directory.status() or "unknown"
    counts = collapse.validation_counts(data)
    if status == "finished" and collapse.has_collapsed(history, counts):
        status = collapse.COLLAPSED
    return RunSummary(
        path=directory.path,
        settings=experiment.flatten(directory.config()),
        status=status,
        epochs=len(history),
        metrics=metrics,
        steps=steps,
        validation_images=data.get("sizes", {}).get("validation", 1),
        largest_share=collapse.largest_share(counts),
    )


def _test_accuracies(
    directory: RunDirectory,
    history: Sequence[dict[str, Any]],
    result: dict[str, Any],
    left_out: Callable[[str], None],
) -> dict[str, float]:
    """Returns what is known of test: accuracy of the best and last checkpoint, AUC of the best.

    The AUC is that of the positive one of two classes, or the mean over all classes.
    """
    test = result.get("evaluation", {}).get("test")
    if test is not None and "checkpoint_step" not in test:
        return {"test_accuracy": test["accuracy"]}
    best = best_step(history)
    steps = {"test_accuracy": best, "last_test_accuracy": history[-1].get("step")}
    found = {key: evaluations.of_step(result, "test", step) for key, step in steps.items()}
    known = {key: record["accuracy"] for key, record in found.items() if record is not None}
    measured = evaluations.of_step(result, "test", best) or {}
    if is_number(measured.get("auc")):
        known["test_auc"] = measured["auc"]
    others = evaluations.steps(result, "test")
    if others and not known:
        left_out(
            f"the test accuracy of {text.shown(directory.path)}, which is of step {others[-1]}, "
            "neither its best nor its last checkpoint; to have that of the best: "
            f"{code.command_line('evaluate', directory.path, directory.read('code', {}))}"
        )
    return known
