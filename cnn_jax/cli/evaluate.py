"""The command `evaluate`: measures a checkpoint on every example of a split."""

from typing import Any

import numpy as np

from cnn_jax import text
from cnn_jax.cli import console
from cnn_jax.cli.invocation import Invocation
from cnn_jax.data import DataInfo
from cnn_jax.errors import UsageError
from cnn_jax.evaluation import shares, two_classes
from cnn_jax.evaluation.evaluator import Evaluation
from cnn_jax.reporting import order, tables
from cnn_jax.runs import figures, loading, recorder
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.trained import Run


def load_run(invocation: Invocation) -> tuple[RunDirectory, Run]:
    """Returns the run in --workdir, with the flags that may change given on top.

    Raises:
        UsageError: there is no run, or a flag may not change.
    """
    if invocation.workdir is None:
        raise UsageError(f"{invocation.command} needs --workdir=DIR, the directory of a run")
    if invocation.config is not None and not invocation.has_code_as_config:
        raise UsageError(
            f"{invocation.command} takes no --config={invocation.config}: the run in --workdir has "
            "its own settings; only a .py file of your own is read, for what it registers"
        )
    run = loading.load(invocation.workdir, invocation.checkpoint, settings=invocation.overrides)
    return RunDirectory(invocation.workdir), run


def run_command(invocation: Invocation) -> int:
    """Evaluates, writes result.json and figures, prints a table, and returns the exit code."""
    directory, run = load_run(invocation)
    say = console.speaker(invocation.quiet)
    split = run.split(invocation.split)
    name = run.split_name(invocation.split)
    if name != (invocation.split or "test"):
        say(f"{run.data_info.name} has no test split: this is the validation split")
    found = run.evaluate(split, views=invocation.views)
    if invocation.views != "one":
        name += f"_{invocation.views}"
    record = evaluation_record(found, run.data_info, run.step)
    positive = two_classes.positive_class(run.experiment.dataset.positive, run.class_names)
    if positive is not None:
        record["positive"] = run.class_names[positive]
        record |= two_classes.rates(found.confusion, positive)
    recorder.add_evaluation(directory, name, record)
    if not recorder.is_writer():
        return 0
    saved = figures.save_evaluation(name, found, split, run.data_info, run.history, directory)
    print(f"{name} accuracy {found.accuracy:.4f}, loss {found.loss:.4f}", end=" ")
    print(f"on {found.examples:,} examples (checkpoint of step {run.step})")
    never = shares.never_predicted(found.confusion)
    for line in shares.lines(found.confusion.sum(axis=1), never, run.class_names):
        print(text.one_line(line))
    accuracies = ["-" if a is None else f"{a:.4f}" for a in record["per_class_accuracy"]]
    rows = [
        [run.class_names[i], f"{int(found.confusion[i].sum()):,}", accuracies[i]]
        for i in order.shown(run.class_names)
    ]
    print(tables.table(rows, ["class", "examples", "accuracy"]))
    if positive is not None:
        rates = (
            f"{rate} {'-' if record[rate] is None else format(record[rate], '.4f')}"
            for rate in ("sensitivity", "specificity")
        )
        print(f"positive   {record['positive']}: {', '.join(rates)} (--dataset.positive)")
    print(f"written    {text.shown(directory.path / 'result.json')}")
    for path in saved:
        print(f"figure     {text.shown(path)}")
    print(f"predict    {console.command_line(invocation, 'predict', directory.path, 'IMAGE...')}")
    return 0


def evaluation_record(found: Evaluation, info: DataInfo, step: int) -> dict[str, Any]:
    """Returns the record of an evaluation in result.json."""
    counts = found.confusion.sum(axis=1)
    right = np.diag(found.confusion)
    return {
        "accuracy": found.accuracy,
        "loss": found.loss,
        "examples": found.examples,
        "checkpoint_step": step,
        "class_names": list(info.class_names),
        "largest_class_share": shares.largest_class(counts)[1],
        "never_predicted": [info.class_names[i] for i in shares.never_predicted(found.confusion)],
        "per_class_accuracy": [
            float(r / n) if n else None for r, n in zip(right, counts, strict=True)
        ],
        "confusion_matrix": found.confusion.tolist(),
    }
