"""Checkpoints as they lie on disk: folders, their metadata, their sha256, their arrays.

A checkpoint is a folder `checkpoints/STEP` with two items: `state`, a TrainState without the
parameters that the run never trains (see `frozen`), and `meta`, JSON with the state's sha256, the
epoch, the history, the configuration, and what data.json, weights.json and code.json say.
"""

import contextlib
import json
import logging as python_logging
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import logging
from flax import traverse_util

from cnn_jax.errors import RunError, UsageError
from cnn_jax.evaluation import selection
from cnn_jax.experiment import Experiment
from cnn_jax.runs import belonging, frozen
from cnn_jax.runs.damage import DamageError, damage, machine_reason
from cnn_jax.runs.leaves import Leaves, digest_leaves, leaves_of
from cnn_jax.text import shown


def step_folders(directory: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders of finished saves, oldest first."""
    if not directory.is_dir():
        return []
    return sorted((x for x in directory.iterdir() if _is_step(x)), key=lambda x: int(x.name))


def _is_step(path: pathlib.Path) -> bool:
    """Returns whether a save has this name: "007" and digits of other scripts are nobody's."""
    name = path.name
    return name.isdecimal() and len(name) < 19 and str(int(name)) == name and path.is_dir()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences what Orbax and tensorstore print and log beside the error that they raise."""
    hook = sys.unraisablehook

    def show(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    def of_others(record: python_logging.LogRecord) -> bool:
        return not ("OCDBT" in record.getMessage() or "RESOURCE_EXHAUSTED" in record.getMessage())

    def of_us(record: python_logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname

    filters = [(python_logging.getLogger("asyncio"), of_others), (logging.get_absl_logger(), of_us)]
    sys.unraisablehook = show
    for logger, kept in filters:
        logger.addFilter(kept)
    yield
    sys.unraisablehook = hook  # not after an error: they come whenever they come
    for logger, kept in filters:
        logger.removeFilter(kept)


def read_meta(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the metadata of a checkpoint folder.

    Raises:
        DamageError: they cannot be read.
        OSError: the machine does not let this process read them.
    """
    try:
        meta = json.loads((folder / "meta" / "metadata").read_text())
    except (OSError, ValueError, RecursionError) as error:
        if machine_reason(error):
            raise
        raise DamageError("a file in it is damaged: meta/metadata") from error
    if not isinstance(meta, dict):
        raise DamageError("a file in it is damaged: meta/metadata")
    return meta


def metas(directory: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yields the metadata of the checkpoints in which they can be read, newest first."""
    for folder in reversed(step_folders(directory)):
        with contextlib.suppress(OSError, DamageError):
            yield read_meta(folder)


def read(folder: pathlib.Path, config: Experiment | None = None) -> tuple[Leaves, dict[str, Any]]:
    """Returns (leaves, meta) of one folder.

    Args:
        folder: the checkpoint.
        config: that of the run; None: any run's checkpoint is taken.

    Raises:
        DamageError: it is not whole, or is of another run.
        RunError: it may be whole, and the machine does not let this process read it.
    """
    try:
        missing = {"state", "meta"} - {x.name for x in folder.iterdir()}
        if missing:
            raise DamageError(f"it has no {' and no '.join(sorted(missing))}")
        meta = read_meta(folder)
        if config is not None and (reason := belonging.reason_against(config, meta)):
            raise DamageError(f"it is of another run: {reason}")
        untrained = frozen.read(folder.parent, meta["frozen"]) if meta.get("frozen") else {}
        leaves = _read_state(folder)
    except DamageError:
        raise
    except Exception as error:  # of every kind: Orbax, tensorstore, zipfile, the system
        if reason := machine_reason(error):
            raise RunError(f"checkpoint {shown(folder)} cannot be read: {reason}") from error
        raise DamageError(damage(folder, error)) from error
    if digest_leaves(leaves) != meta.get("sha256"):
        raise DamageError("the sha256 of its state is not the one that was saved")
    if str(leaves.get(("step",), folder.name)) != folder.name:
        raise DamageError(f"it holds the state of step {leaves['step',]}")
    return {**leaves, **untrained}, meta


def _read_state(folder: pathlib.Path) -> Leaves:
    """Returns the leaves in the item `state`."""
    import orbax.checkpoint as ocp
    from etils import epath

    path = epath.Path(folder / "state")
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler, quiet():
        stored = handler.metadata(path)
        to_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored.tree)
        return leaves_of(handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=to_host)))


def rank_of(meta: dict[str, Any], step: int) -> tuple[float, float, int] | None:
    """Returns the `selection.rank` of what was saved at a step; None: it was not validated."""
    accuracy = meta.get("validation_accuracy")
    if not isinstance(accuracy, int | float):
        return None
    last = (meta.get("history") or [{}])[-1]
    known = last if last.get("step") == step else {}
    return selection.rank({**known, "validation_accuracy": accuracy}, step)


def best_step(directory: pathlib.Path, config: Experiment | None = None) -> int | None:
    """Returns the step of the best checkpoint of a run, by `rank_of`; None: none was validated."""
    ranks = []
    for folder in step_folders(directory):
        with contextlib.suppress(OSError, LookupError, TypeError, AttributeError, DamageError):
            meta = read_meta(folder)
            if config is None or belonging.reason_against(config, meta) is None:
                ranks.append(rank_of(meta, int(folder.name)))
    known = [found for found in ranks if found is not None]
    return max(known)[2] if known else None


def candidates(
    directory: pathlib.Path, which: str = "best", config: Experiment | None = None
) -> list[pathlib.Path]:
    """Returns the folders that may serve as a checkpoint, the one that was asked for last.

    Args:
        directory: `checkpoints/` of a run.
        which: best, last, or a step number, which nothing else stands in for.
        config: that of the run, so that another's is not taken for the best.

    Raises:
        UsageError: there is no such checkpoint.
    """
    folders = step_folders(directory)
    if not folders:
        raise UsageError(f"there is no checkpoint in {directory}; has the run saved one yet?")
    steps = [int(folder.name) for folder in folders]
    if which not in ("best", "last"):
        folders = [folder for folder in folders if folder.name == which]
        if not folders:
            raise UsageError(
                f"checkpoint {which!r} is not among best, last and the steps kept: "
                f"{', '.join(map(str, steps))}"
            )
    elif which == "best":
        best = best_step(directory, config)
        folders.sort(key=lambda folder: (int(folder.name) == best, int(folder.name)))
    return folders


def load_variables(
    directory: pathlib.Path, which: str = "best", config: Experiment | None = None
) -> tuple[dict[str, Any], int]:
    """Returns (variables to evaluate with, on the host, step) of one checkpoint.

    They are `params` and `batch_stats`, of both the moving average where the run kept one, and the
    other collections of a user's own module.

    Args:
        directory: `checkpoints/` of a run.
        which: best, last, or a step number. Where the best or the last is damaged, a
            warning says so and the newest of the others is used.
        config: that of the run; a checkpoint of another counts as damaged.

    Raises:
        UsageError: there is no such checkpoint.
        RunError: none of those that may stand in can be read.
    """
    reason: object = ""
    for folder in reversed(candidates(directory, which, config)):
        try:
            leaves, _ = read(folder, config)
        except DamageError as error:
            logging.warning("checkpoint %s is damaged (%s)", folder, reason := error)
            continue
        parts: dict[str, dict[tuple[str, ...], Any]] = {"params": {}, "batch_stats": {}}
        for names, leaf in leaves.items():
            if names[0] in parts:
                parts[names[0]][names[1:]] = leaf
            elif names[0] == "collections":  # of a user's own module
                parts.setdefault(names[1], {})[names[2:]] = leaf
        for names, leaf in leaves.items():
            if names[0] == "ema_params":  # flat by path, and of the trainable parameters alone
                parts["params"][tuple(names[1].split("/"))] = leaf
            elif names[0] == "ema_batch_stats":
                parts["batch_stats"][names[1:]] = leaf
        variables = {name: traverse_util.unflatten_dict(flat) for name, flat in parts.items()}
        return variables, int(folder.name)
    raise RunError(f"no checkpoint in {shown(directory)} could be read; of the last tried {reason}")
