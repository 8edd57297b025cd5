"""Going on with a run: which settings may change, and whether its data are the same."""

import contextlib
import dataclasses
from typing import Any

from absl import logging

from cnn_jax import data, experiment, text
from cnn_jax.data import Data, DataInfo
from cnn_jax.errors import RunError, UsageError
from cnn_jax.evaluation import selection
from cnn_jax.experiment import Dataset, Experiment
from cnn_jax.runs import stored
from cnn_jax.runs import weights as run_weights
from cnn_jax.runs.belonging import differences, shown
from cnn_jax.runs.directory import RunDirectory


def check_unchanged(directory: RunDirectory, new: Experiment, *, trains: bool = True) -> Experiment:
    """Returns the experiment to go on with.

    Settings that do not change what is computed may differ, and epochs may become more.

    Args:
        directory: the run's.
        new: with the settings that are asked for now.
        trains: whether the run goes on, and is judged further by --train.select.

    Raises:
        UsageError: another setting differs from the one that the run was started with.
    """
    old = directory.config()
    new = _with_older_values(directory, old, new)
    absolute = experiment.with_absolute_paths(old), experiment.with_absolute_paths(new)
    changed = differences(*absolute)
    epochs = changed.pop("train.epochs", None)
    if epochs is not None and epochs[1] < epochs[0]:
        changed["train.epochs"] = epochs
    grades = [each.dataset.ordered for each in (old, new)]
    if trains and new.train.select == "kappa" and grades[0] != grades[1]:  # two kinds of kappa
        changed["dataset.ordered"] = grades[0], grades[1]
    if changed:
        lines = "; ".join(
            f"--{path} was {shown(a)} and is now {shown(b)}" for path, (a, b) in changed.items()
        )
        raise UsageError(
            f"the run in {text.shown(directory.path)} was started with another configuration: "
            f"{lines}. Leave these out to go on with it, or give another directory"
        )
    if epochs is not None and new.optimizer.schedule != "constant":
        logging.warning(
            "train.epochs goes from %d to %d: the %s schedule depends on it, so the learning "
            "rate jumps at the resumed step and the run is not the one of %d epochs from the start",
            *epochs,
            new.optimizer.schedule,
            epochs[1],
        )
    return experiment.replace(new, {"name": old.name})


def _with_older_values(directory: RunDirectory, old: Experiment, new: Experiment) -> Experiment:
    """Returns `new` with the old value of each setting that the run is older than.

    So its original command, which leaves such a setting at its default, goes on with it.
    """
    stored = directory.read("config", {})
    values = {}
    for path, field in experiment.fields():
        section, _, name = path.rpartition(".")
        is_known = name in (stored.get(section, {}) if section else stored)
        if not is_known and experiment.get(new, path) == field.default:
            values[path] = experiment.get(old, path)
    return experiment.replace(new, values)


def load_data(
    directory: RunDirectory | None,
    section: Dataset,
    *,
    weights: str | None = None,
    test: bool = True,
    quiet: bool = False,
    multilabel: bool = False,
) -> Data:
    """Loads the data of a run, held out as when it was started, and with as many channels.

    Args:
        directory: the run's, which need not exist; None: it has none.
        section: which data.
        weights: the value of `--transfer.weights`.
        test: as in `data.load`.
        quiet: likewise.
        multilabel: likewise.

    Raises:
        RunError: they are not those that the run was started on, or as in `data.load`.
    """
    begun = directory is not None and directory.exists()
    described = directory.read("data") if directory is not None and begun else None
    asked, section = section, _with_channels(section, described, weights)
    found = data.load(section, test=test, quiet=quiet, multilabel=multilabel)
    if directory is None or not begun or _are_same(directory, found.info):
        return found
    # Once a rare class could get no example in validation or test; such a run stays as it is.
    older = data.load(section, test=test, quiet=quiet, every_class=False, multilabel=multilabel)
    if not _are_same(directory, older.info):
        if described is None and asked.channels == "auto" and section.channels != "3":
            # data.json is lost, and the run may be from when grey images had three channels.
            colour = dataclasses.replace(section, channels="3")
            return load_data(directory, colour, test=test, quiet=quiet, multilabel=multilabel)
        check_same_data(directory, found.info)
    for note in older.info.notes:
        if " has no example of " in note:
            logging.warning("%s, as when the run was started; in a new one it has", note)
    return older


def data_of(
    config: Experiment,
    directory: RunDirectory | None = None,
    *,
    test: bool = True,
    quiet: bool = False,
) -> Data:
    """Loads the data of an experiment; the arguments and errors are those of `load_data`."""
    return load_data(
        directory,
        config.dataset,
        weights=config.transfer.weights,
        test=test,
        quiet=quiet,
        multilabel=config.train.loss == "multilabel",
    )


def with_channels_of(section: Dataset, info: DataInfo) -> Dataset:
    """Returns which data are to be loaded, with channels and streaming as they were described."""
    if section.streaming == "auto":
        section = dataclasses.replace(section, streaming="true" if info.streamed else "false")
    if section.channels != "auto" or info.image_shape[-1] not in (1, 3):
        return section
    return dataclasses.replace(section, channels="1" if info.image_shape[-1] == 1 else "3")


def _with_channels(
    section: Dataset, described: dict[str, Any] | None, weights: str | None
) -> Dataset:
    """Returns which data are to be loaded, with the channels of data.json or of the weights."""
    if described is not None:
        return with_channels_of(section, DataInfo.from_dict(described))
    if section.channels != "auto" or weights is None:
        return section
    known = run_weights.channels(weights)
    if known is None and section.name in ("folder", "table"):
        known = 3  # as nearly all files of weights are
    return dataclasses.replace(section, channels="auto" if known is None else str(known))


def _are_same(directory: RunDirectory, info: DataInfo) -> bool:
    before = directory.read("data")
    digests = [before["digest"]] if before is not None else []
    digests += [meta.get("data_digest") for meta in stored.metas(directory.checkpoints)][:1]
    return all(digest in (None, info.digest) for digest in digests)


def check_same_data(directory: RunDirectory, info: DataInfo) -> None:
    """Raises RunError where the data are not those that the run was started on."""
    if not _are_same(directory, info):
        named = f"{info.name} {info.version}".rstrip()  # a folder has no version
        raise RunError(
            f"the data are not those that the run in {text.shown(directory.path)} was started on "
            f"({named}); give it the same data, or another directory"
        )


def is_finished(directory: RunDirectory, config: Experiment) -> bool:
    """Returns whether a run is through, all epochs or stopped early, and its end is not damaged.

    Where the checkpoint of the last epoch is damaged, what comes after the one before it is to be
    trained again, to the same bits.
    """
    history = directory.read("history", [])
    enough = len(history) >= config.train.epochs or selection.Rule.of(config).is_over(history)
    if directory.status() != "finished" or not enough:
        return False
    last = directory.checkpoints / str(history[-1].get("step"))
    with contextlib.suppress(RunError, OSError):  # it may be whole, and not be read here
        if last in stored.step_folders(directory.checkpoints):
            try:
                stored.read(last, directory.config())
            except stored.DamageError:
                return False
    return True
