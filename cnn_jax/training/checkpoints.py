"""The door to Orbax: states saved in the background, checked by a sha256 when they are read.

A checkpoint is a folder `checkpoints/STEP` with two items: `state`, a TrainState, and `meta`, JSON
with the state's sha256, the epoch, the history and the configuration. A folder that cannot be read,
or whose state has another sha256, is named, and the one before it is used; a run that goes on from
there moves the damaged one to `checkpoints/damaged/`. States are read into host memory and put on
whatever devices there are, so a checkpoint of N devices restores on M. Orbax is imported by the
first that reads or saves, for it takes a third of a second.
"""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import traverse_util
from jax.sharding import NamedSharding

from cnn_jax import distributed
from cnn_jax.errors import RunError, UsageError

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

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


def _step_folders(directory: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folders of finished saves, oldest first."""
    if not directory.is_dir():
        return []
    return sorted(
        (x for x in directory.iterdir() if x.is_dir() and x.name.isdecimal()),
        key=lambda x: int(x.name),
    )


def _set_aside(folder: pathlib.Path, reason: str) -> None:
    """Names a damaged checkpoint and moves it where Orbax does not look; nothing is deleted."""
    aside = folder.parent / "damaged" / folder.name
    number = 1
    while aside.exists():
        number += 1
        aside = aside.with_name(f"{folder.name}-{number}")
    aside.parent.mkdir(exist_ok=True)
    os.replace(folder, aside)
    logging.warning("checkpoint %s is damaged (%s); moved to %s", folder, reason, aside)


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {text[0][:200]}"


@contextlib.contextmanager
def _no_late_noise() -> Iterator[None]:
    """Keeps off stderr what tensorstore's reads under way say after another one has failed."""
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
    yield
    sys.unraisablehook = before  # not after an error: they come whenever they come


def _read_meta(folder: pathlib.Path) -> dict[str, Any]:
    return json.loads((folder / "meta" / "metadata").read_text())


def _read(folder: pathlib.Path) -> tuple[Leaves, dict[str, Any]]:
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
    meta = _read_meta(folder)
    path = epath.Path(folder / "state")
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler, _no_late_noise():
        stored = handler.metadata(path)
        to_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), stored.tree)
        tree = handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=to_host))
    leaves = _leaves(tree)
    if _digest(leaves) != meta["sha256"]:
        raise ValueError("the sha256 of its state is not the one that was saved")
    return leaves, meta


def _assemble(leaves: Leaves, like: Any, sharding: NamedSharding) -> Any:
    """Returns a tree like another, of shapes, with these leaves on the devices."""

    def take(path: jax.tree_util.KeyPath, shape: Any) -> Any:
        array = leaves[_names(path)]
        if _is_key(shape):
            return jax.random.wrap_key_data(distributed.put(array, sharding))
        if array.shape != shape.shape or array.dtype != shape.dtype:
            raise ValueError(f"{'/'.join(_names(path))} is {array.dtype} {array.shape}")
        return distributed.put(array, sharding)

    return jax.tree_util.tree_map_with_path(take, like)


class Checkpoints:
    """The checkpoints of one run; use it in a `with`, which waits for the last save.

    Args:
        directory: `checkpoints/` of the run.
        keep: the newest so many are kept, and the best by validation accuracy.
    """

    def __init__(self, directory: pathlib.Path, keep: int):
        self._directory = directory
        self._keep = keep
        self._manager: ocp.CheckpointManager | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._manager is not None:
            with self._saving():
                self._manager.close()

    def restore_latest(
        self, abstract_state: Callable[[dict[str, Any]], Any], sharding: NamedSharding
    ) -> tuple[Any, dict[str, Any]] | None:
        """Returns (state, meta) of the newest checkpoint that is whole, or None.

        Args:
            abstract_state: meta to the shapes of the state that was saved with it.
            sharding: where the restored arrays go.

        Raises:
            RunError: there are checkpoints, and every one is damaged.
        """
        damaged: dict[pathlib.Path, str] = {}
        for folder in reversed(_step_folders(self._directory)):
            try:
                leaves, meta = _read(folder)
                state = _assemble(leaves, abstract_state(meta), sharding)
            except Exception as error:
                damaged[folder] = _first_line(error)
                continue
            for other, reason in damaged.items():
                _set_aside(other, reason)
            return state, meta
        if damaged:  # all of them stay: the next start must not take the run for a new one
            newest, reason = next(iter(damaged.items()))
            raise RunError(
                f"no checkpoint in {self._directory} can be read, the newest, {newest.name}, "
                f"because of {reason}; mend them, or train anew with another --workdir"
            )
        return None

    def _open(self) -> "ocp.CheckpointManager":
        import orbax.checkpoint as ocp

        # Opened at the first save, when damaged folders, which it would stumble over, are gone.
        if self._manager is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            for folder in _step_folders(self._directory):
                if not (folder / "meta").exists():
                    _set_aside(folder, "it has no meta")
            options = ocp.CheckpointManagerOptions(
                preservation_policy=_NewestAndBest(self._directory, self._keep),
                enable_async_checkpointing=True,
                cleanup_tmp_directories=True,
            )
            self._manager = ocp.CheckpointManager(self._directory, options=options)
        return self._manager

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Saves in the background; the state may be donated to the next step at once.

        Args:
            step: the state's step, the checkpoint's name.
            state: a TrainState.
            meta: JSON values to go with it. `validation_accuracy` is what "best" is judged by;
                None or no value where the state was not validated.

        Raises:
            RunError: this or the save before it did not reach the disk.
        """
        import orbax.checkpoint as ocp

        # A copy: the next step writes over the buffers that it is given.
        state = jax.tree.map(jnp.copy, state)
        with self._saving():
            self._open().save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    meta=ocp.args.JsonSave({**meta, "sha256": digest(state)}),
                ),
                force=True,
            )

    def wait(self) -> None:
        """Returns when everything saved is on disk.

        Raises:
            RunError: it is not, and will not be.
        """
        if self._manager is not None:
            with self._saving():
                self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _saving(self) -> Iterator[None]:
        """Makes one line of what Orbax says where the disk is full or may not be written."""
        try:
            yield
        except Exception as error:
            text = str(error)
            reason = os.strerror(errno.ENOSPC) if "RESOURCE_EXHAUSTED" in text else None
            raise RunError(
                f"a checkpoint cannot be saved in {self._directory}: "
                f"{reason or _first_line(error)}; the same command goes on from the last one saved"
            ) from error


class _NewestAndBest:
    """Orbax's policy of what to keep: the newest `keep`, and the best by validation accuracy."""

    def __init__(self, directory: pathlib.Path, keep: int):
        self._directory = directory
        self._keep = keep

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        best = best_step(self._directory)
        newest = len(checkpoints) - self._keep
        return [i >= newest or info.step == best for i, info in enumerate(checkpoints)]


def best_step(directory: pathlib.Path) -> int | None:
    """Returns the step of the highest validation accuracy (of equals the first), or None."""
    scored = []
    for folder in _step_folders(directory):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            accuracy = _read_meta(folder)[METRIC]
            if accuracy is not None:
                scored.append((accuracy, -int(folder.name)))
    return -max(scored)[1] if scored else None


def load_variables(directory: pathlib.Path, which: str = "best") -> tuple[dict[str, Any], int]:
    """Returns (variables to evaluate with, on the host, step) of one checkpoint.

    They are `params`, the moving average where the run kept one, and `batch_stats`.

    Args:
        directory: `checkpoints/` of a run.
        which: best, last, or a step number. Where the best or the last is damaged, it is named
            and the newest of the others is used.

    Raises:
        UsageError: there is no such checkpoint.
        RunError: none of those that would do can be read.
    """
    folders = _step_folders(directory)
    if not folders:
        raise UsageError(f"there is no checkpoint in {directory}; has the run saved one yet?")
    steps = [int(folder.name) for folder in folders]
    if which not in ("best", "last"):
        folders = [folder for folder in folders if folder.name == which]
        if not folders:
            raise UsageError(
                f"--checkpoint={which} is not among best, last and the steps kept: "
                f"{', '.join(map(str, steps))}"
            )
    elif which == "best":
        best = best_step(directory)
        folders.sort(key=lambda folder: (int(folder.name) == best, int(folder.name)))
    for folder in reversed(folders):
        try:
            leaves, _ = _read(folder)
        except Exception as error:
            logging.warning("checkpoint %s is damaged (%s)", folder, _first_line(error))
            continue
        parts: dict[str, dict[tuple[str, ...], Any]] = {"params": {}, "batch_stats": {}}
        for names, leaf in leaves.items():
            if names[0] in parts:
                parts[names[0]][names[1:]] = leaf
        for names, leaf in leaves.items():
            if names[0] == "ema_params":  # flat by path, and of the trainable parameters alone
                parts["params"][tuple(names[1].split("/"))] = leaf
        variables = {name: traverse_util.unflatten_dict(flat) for name, flat in parts.items()}
        return variables, int(folder.name)
    raise RunError(f"no checkpoint in {directory} could be read")
