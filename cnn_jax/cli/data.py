"""The command `data`: what is in a data set, and after training which labels are doubtful."""

import dataclasses
from pathlib import Path

from cnn_jax import data as data_sets
from cnn_jax import extras, places, text
from cnn_jax.cli import console
from cnn_jax.cli.given import load_run
from cnn_jax.cli.invocation import Invocation
from cnn_jax.cli.train import the_experiment
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.inspection import label_errors, report
from cnn_jax.options import Labels
from cnn_jax.reporting import counts, tables

_MOST_CLASSES = 30
_LABELS = 20


def run_command(invocation: Invocation) -> int:
    """Prints and writes the report on a data set, and returns the exit code.

    With the directory of a run it lists the run's training labels, the least likely first.

    Raises:
        UsageError: there is no such preset, data set or run.
        RunError: the data cannot be read, or the report cannot be written.
    """
    options = Labels(**invocation.data)
    if invocation.workdir is not None and not invocation.augmented:
        return _labels(invocation, options)
    if invocation.data:
        raise UsageError(f"--data.{next(iter(invocation.data))} needs --workdir=RUN")
    if invocation.augmented:
        extras.need_to_draw()
    config = the_experiment(invocation)
    folder = _folder(invocation, config)
    several = config.train.loss == "multilabel"
    data = data_sets.load(config.dataset, quiet=invocation.quiet, multilabel=several)
    data = dataclasses.replace(data, section=config.dataset)
    if invocation.augmented:
        return _augmented(config, data, folder)
    say = console.speaker(invocation.quiet)
    found = report.inspect(data, say, progress=not invocation.quiet)
    for line in found.lines():
        print(line)
    info = data.info
    shown = counts.rows(info.class_counts, info.class_names, _MOST_CLASSES)
    print(tables.table(shown, ["class", *info.class_counts]))
    for path in found.save(folder):
        print(f"written    {text.shown(path)}")
    return 0


def _labels(invocation: Invocation, options: Labels) -> int:
    """Lists the training labels that networks doubt which were not trained on them."""
    directory, run = load_run(invocation)
    found = label_errors.find(
        run,
        folds=options.folds,
        method=options.method,
        epochs=options.epochs,
        say=console.speaker(invocation.quiet),
        progress=not invocation.quiet,
        setting="--data.folds",
    )
    count = int(found.doubted.sum())
    print(
        f"labels     {count:,} of {len(found.split):,} training labels are doubted; about "
        f"{found.share:.1%} are wrong, as confident learning estimates it"
    )
    rows = [
        [text.printable(id_), label, suggested, f"{p:.3f}", f"{q:.3f}"]
        for id_, label, suggested, p, q, _ in found.rows(_LABELS)
    ]
    print(tables.table(rows, ["id", "label", "suggested", "p(label)", "p(suggested)"]))
    folder = directory.path / "label_errors"
    if invocation.output is not None:
        folder = places.place(invocation.output, "--output")
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
    return Path("data_report") / text.file_name(name.replace(".", "_"), "data")


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
