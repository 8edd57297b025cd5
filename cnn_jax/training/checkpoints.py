"""The door to Orbax: states saved in the background, checked by a sha256 when they are read.

A checkpoint is a folder `checkpoints/STEP` with two items: `state`, a TrainState, and `meta`, JSON
with the state's sha256, the epoch, the history and the configuration. A folder that cannot be read,
or whose state has another sha256, is named, moved to `checkpoints/damaged/`, and the one before it
is used.
"""

import contextlib
import hashlib
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.sharding import NamedSharding

from cnn_jax.errors import RunError, UsageError

METRIC = "validation_accuracy"


def digest(tree: Any) -> str:
    """Returns the sha256 of a tree's paths, dtypes, shapes and bytes, as hex.

    Arrays are replicated over processes, so that each of them can read them whole.
    """
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.ascontiguousarray(leaf)
        name = jax.tree_util.keystr(path)
        sha.update(f"{name} {array.dtype} {array.shape}".encode())
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


def _abstract(state: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state
    )


def _restore(folder: pathlib.Path, abstract: Any) -> tuple[Any, dict[str, Any]]:
    """Returns (state, meta) of one folder.

    Raises:
        Exception: whatever Orbax raises for a folder that is damaged; ValueError for a state whose
            sha256 is not the one that was saved.
    """
    items = {"state", "meta"} - {x.name for x in folder.iterdir()}
    if items:
        raise ValueError(f"it has no {' and no '.join(sorted(items))}")
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        restored = reader.restore(
            folder,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore()
            ),
        )
    if digest(restored.state) != restored.meta["sha256"]:
        raise ValueError("the sha256 of its state is not the one that was saved")
    return restored.state, restored.meta


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
            self._manager.close()

    def restore_latest(self, state: Any, sharding: NamedSharding) -> tuple[Any, dict] | None:
        """Returns (state, meta) of the newest checkpoint that is whole, or None.

        Args:
            state: a state, or its shapes, like the one that was saved.
            sharding: where the restored arrays go; the number of devices may differ from that of
                the save.

        Raises:
            RunError: every checkpoint there is was damaged.
        """
        folders = _step_folders(self._directory)
        for folder in reversed(folders):
            try:
                return _restore(folder, _abstract(state, sharding))
            except Exception as error:
                _set_aside(folder, _first_line(error))
        if folders:
            raise RunError(
                f"no checkpoint in {self._directory} could be read; "
                "they are kept in its folder 'damaged'. Train anew with another --workdir"
            )
        return None

    def _open(self) -> ocp.CheckpointManager:
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
        """
        # A copy: the next step writes over the buffers that it is given.
        state = jax.tree.map(jnp.copy, state)
        self._open().save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                meta=ocp.args.JsonSave({**meta, "sha256": digest(state)}),
            ),
            force=True,
        )

    def wait(self) -> None:
        """Returns when everything saved is on disk."""
        if self._manager is not None:
            self._manager.wait_until_finished()


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
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            accuracy = json.loads((folder / "meta" / "metadata").read_text())[METRIC]
            if accuracy is not None:
                scored.append((accuracy, -int(folder.name)))
    return -max(scored)[1] if scored else None


def load_variables(
    directory: pathlib.Path, which: str, abstract: Any, sharding: NamedSharding
) -> tuple[dict[str, Any], int]:
    """Returns (variables to evaluate with, step) of one checkpoint.

    Args:
        directory: `checkpoints/` of a run.
        which: best, last, or a step number.
        abstract: shapes of the TrainState that was saved.
        sharding: where the arrays go.

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
            state, _ = _restore(folder, _abstract(abstract, sharding))
            return state.variables(), int(folder.name)
        except Exception as error:
            logging.warning("checkpoint %s is damaged (%s)", folder, _first_line(error))
    raise RunError(f"no checkpoint in {directory} could be read")
