"""Checkpoints as they lie on disk: folders, their metadata, their sha256, their arrays.

A checkpoint is a folder `checkpoints/STEP` with two items: `state`, a TrainState, and `meta`, JSON
with the state's sha256, the epoch, the history and the configuration.
"""

import contextlib
import hashlib
import json
import logging as python_logging
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import traverse_util
from jax.sharding import NamedSharding

from cnn_jax import distributed
from cnn_jax.errors import RunError, UsageError

METRIC = "validation_accuracy"

# Leaves by the names on the way to them, the same for a TrainState and for what Orbax reads back.
Leaves = dict[tuple[str, ...], Any]


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct) and jnp.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    )


def _names(path: jax.tree_util.KeyPath) -> tuple[str, ...]:
    def name(entry: Any) -> str:
        for attribute in ("name", "key", "idx"):
            if hasattr(entry, attribute):
                return str(getattr(entry, attribute))
        return str(entry)

    return tuple(map(name, path))


def _leaves(tree: Any) -> Leaves:
    """Returns host arrays by their names; random keys as their numbers."""
    return {
        _names(path): np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def digest(tree: Any) -> str:
    """Returns the sha256 of a tree's names, dtypes, shapes and bytes, as hex.

    Arrays are replicated over processes, so that each of them can read them whole.
    """
    return _digest(_leaves(tree))


def _digest(leaves: Leaves) -> str:
    sha = hashlib.sha256()
    for names in sorted(leaves):
        array = np.ascontiguousarray(leaves[names])
        sha.update(f"{names} {array.dtype} {array.shape}".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def step_folders(directory: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders of finished saves, oldest first."""
    if not directory.is_dir():
        return []
    return sorted(
        (x for x in directory.iterdir() if x.is_dir() and x.name.isdecimal()),
        key=lambda x: int(x.name),
    )


def set_aside(folder: pathlib.Path, reason: str) -> None:
    """Warns of a damaged checkpoint and moves it where Orbax does not look; deletes nothing."""
    aside = folder.parent / "damaged" / folder.name
    number = 1
    while aside.exists():
        number += 1
        aside = aside.with_name(f"{folder.name}-{number}")
    aside.parent.mkdir(exist_ok=True)
    os.replace(folder, aside)
    logging.warning("checkpoint %s is damaged (%s); moved to %s", folder, reason, aside)


def first_line(error: Exception) -> str:
    """Returns the kind and the first line of an error."""
    text = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {text[0][:200]}"


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
    """Returns the metadata of a checkpoint folder."""
    return json.loads((folder / "meta" / "metadata").read_text())


def metas(directory: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yields the metadata of the checkpoints in which they can be read, newest first."""
    for folder in reversed(step_folders(directory)):
        with contextlib.suppress(OSError, ValueError, RecursionError):
            meta = read_meta(folder)
            if isinstance(meta, dict):
                yield meta


def read(folder: pathlib.Path) -> tuple[Leaves, dict[str, Any]]:
    """Returns (leaves, meta) of one folder.

    Raises:
        Exception: whatever Orbax raises for a folder that is damaged; ValueError for a state whose
            sha256 is not the one that was saved.
    """
    import orbax.checkpoint as ocp
    from etils import epath

    missing = {"state", "meta"} - {x.name for x in folder.iterdir()}
    if missing:
        raise ValueError(f"it has no {' and no '.join(sorted(missing))}")
    meta = read_meta(folder)
    path = epath.Path(folder / "state")
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler, quiet():
        stored = handler.metadata(path)
        to_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored.tree)
        tree = handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=to_host))
    leaves = _leaves(tree)
    if _digest(leaves) != meta["sha256"]:
        raise ValueError("the sha256 of its state is not the one that was saved")
    return leaves, meta


def assemble_tree(leaves: Leaves, like: Any, sharding: NamedSharding) -> Any:
    """Returns a tree like another, of shapes, with these leaves on the devices.

    Raises:
        UsageError: the leaves, which are whole, are those of another model or optimizer.
    """
    wanted = {_names(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(like)}
    arrays = {names: leaf for names, leaf in wanted.items() if not _is_key(leaf)}
    check_same_shapes(
        {names: leaf for names, leaf in leaves.items() if not _is_key(wanted.get(names))}, arrays
    )

    def take(path: jax.tree_util.KeyPath, shape: Any) -> Any:
        array = distributed.put(leaves[_names(path)], sharding)
        return jax.random.wrap_key_data(array) if _is_key(shape) else array

    return jax.tree_util.tree_map_with_path(take, like)


def check_same_shapes(stored: Mapping[tuple[str, ...], Any], wanted: Mapping[Any, Any]) -> None:
    """Refuses leaves of a checkpoint that are not those of the model and optimizer at hand.

    Args:
        stored: what the checkpoint holds, by the names on the way to it.
        wanted: arrays or their shapes, likewise.

    Raises:
        UsageError: a name is in one of them alone, or a shape or dtype differs.
    """
    different = [
        names
        for names in sorted(stored.keys() | wanted.keys())
        if _kind(stored.get(names)) != _kind(wanted.get(names))
    ]
    if not different:
        return
    # An optimizer's state follows the parameters: where those differ, the model is the cause.
    names = min(different, key=lambda names: names[0] == "opt_state")
    what = "optimizer" if names[0] == "opt_state" else "model"
    raise UsageError(
        f"the run was trained with another {what}: {'/'.join(names)} is "
        f"{_kind(stored.get(names))} in its checkpoint and {_kind(wanted.get(names))} in the "
        f"{what} that is given now; give the run's own {what}"
    )


def _kind(leaf: Any) -> str:
    return "not there" if leaf is None else f"{leaf.dtype} {tuple(leaf.shape)}"


def best_step(directory: pathlib.Path) -> int | None:
    """Returns the step of the highest validation accuracy (of equals the first), or None."""
    scored = []
    for folder in step_folders(directory):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            accuracy = read_meta(folder)[METRIC]
            if accuracy is not None:
                scored.append((accuracy, -int(folder.name)))
    return -max(scored)[1] if scored else None


def candidates(directory: pathlib.Path, which: str = "best") -> list[pathlib.Path]:
    """Returns the folders that may serve as a checkpoint, the one that was asked for last.

    Args:
        directory: `checkpoints/` of a run.
        which: best, last, or a step number, which nothing else stands in for.

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
        best = best_step(directory)
        folders.sort(key=lambda folder: (int(folder.name) == best, int(folder.name)))
    return folders


def load_variables(directory: pathlib.Path, which: str = "best") -> tuple[dict[str, Any], int]:
    """Returns (variables to evaluate with, on the host, step) of one checkpoint.

    They are `params` and `batch_stats`, of both the moving average where the run kept one, and the
    other collections of a user's own module.

    Args:
        directory: `checkpoints/` of a run.
        which: best, last, or a step number. Where the best or the last is damaged, a
            warning says so and the newest of the others is used.

    Raises:
        UsageError: there is no such checkpoint.
        RunError: none of those that may stand in can be read.
    """
    for folder in reversed(candidates(directory, which)):
        try:
            leaves, _ = read(folder)
        except Exception as error:
            logging.warning("checkpoint %s is damaged (%s)", folder, first_line(error))
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
    raise RunError(f"no checkpoint in {directory} could be read")
