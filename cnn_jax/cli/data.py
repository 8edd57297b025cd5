"""The command `data`: what is in a data set, before training."""

import dataclasses
import re
from pathlib import Path

from cnn_jax import data as data_sets
from cnn_jax import places, text
from cnn_jax.cli import console
from cnn_jax.cli.invocation import Invocation
from cnn_jax.cli.train import the_experiment
from cnn_jax.experiment import Experiment
from cnn_jax.inspection import report
from cnn_jax.reporting import counts, tables

_MOST_CLASSES = 30


def run_command(invocation: Invocation) -> int:
    """Prints and writes the report on a data set, and returns the exit code.

    Raises:
        UsageError: there is no such preset or data set.
        RunError: the data cannot be read, or the report cannot be written.
    """
    config = the_experiment(invocation)
    folder = _folder(invocation, config)
    several = config.train.loss == "multilabel"
    data = data_sets.load(config.dataset, quiet=invocation.quiet, multilabel=several)
    data = dataclasses.replace(data, section=config.dataset)
    if invocation.augmented:
        return _augmented(config, data, folder)
    found = report.inspect(data, console.speaker(invocation.quiet))
    for line in found.lines():
        print(line)
    info = data.info
    shown = counts.rows(info.class_counts, info.class_names, _MOST_CLASSES)
    print(tables.table(shown, ["class", *info.class_counts]))
    for path in found.save(folder):
        print(f"written    {text.shown(path)}")
    return 0


def _folder(invocation: Invocation, config: Experiment) -> Path:
    """Returns the directory of --output, or one with the name of the data."""
    if invocation.output is not None:
        return places.place(invocation.output, "--output")
    name = config.dataset.name
    if config.dataset.path is not None:
        name = Path(config.dataset.path).stem
    return Path("data_report") / (re.sub(r"[^\w-]+", "_", name) or "data")


def _augmented(config: Experiment, data: data_sets.Data, folder: Path) -> int:
    """Draws training images before and after augmentation."""
    from cnn_jax.inspection import pictures  # imports Matplotlib
    from cnn_jax.reporting import figures

    if not config.dataset.augments:
        print("augment    no augmentation is on: give --dataset.flip, for one")
    path = folder / "augmented.png"
    figures.save(pictures.augmented(config, data), path)
    print(f"written    {text.shown(path)}")
    return 0
