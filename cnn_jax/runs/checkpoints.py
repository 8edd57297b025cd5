"""Saves the states of a run in the background through Orbax, and restores the newest whole one.

A folder that cannot be read, or whose state has another sha256 than was saved, is named in a
warning and the one before it is used; a run that goes on from there moves the damaged one to
`checkpoints/damaged/`. States are read into host memory and put on whatever devices there are, so a
checkpoint of N devices restores on M. Orbax is imported by the first call that reads or saves: it
takes a third of a second.
"""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from cnn_jax.errors import RunError
from cnn_jax.runs.stored import (
    assemble_tree,
    best_step,
    digest,
    first_line,
    quiet,
    read,
    set_aside,
    step_folders,
)

if TYPE_CHECKING:
    import orbax.checkpoint as ocp


class Checkpoints:
    """The checkpoints of one run; use it in a `with`, which waits for the last save.

    Args:
        directory: `checkpoints/` of the run.
        keep: how many of the newest are kept, besides the best by validation accuracy.
    """

    def __init__(self, directory: pathlib.Path, keep: int):
        self._directory = directory
        self._keep = keep
        self._manager: ocp.CheckpointManager | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the last save, and lets go of the folder.

        Raises:
            RunError: the last save did not reach the disk.
        """
        if self._manager is not None:
            with self._saving():
                self._manager.close()
                self._stack.close()

    def restore_latest(
        self, abstract_state: Callable[[dict[str, Any]], Any], sharding: NamedSharding
    ) -> tuple[Any, dict[str, Any]] | None:
        """Returns (state, meta) of the newest checkpoint that is whole, or None.

        Args:
            abstract_state: meta to the shapes of the state that was saved with it.
            sharding: where the restored arrays go.

        Raises:
            RunError: there are checkpoints, and every one is damaged.
            UsageError: it is the state of another model or optimizer.
        """
        damaged: dict[pathlib.Path, str] = {}
        for folder in reversed(step_folders(self._directory)):
            try:
                leaves, meta = read(folder)
                like = abstract_state(meta)
            except Exception as error:
                damaged[folder] = first_line(error)
                continue
            state = assemble_tree(leaves, like, sharding)
            for other, reason in damaged.items():
                set_aside(other, reason)
            return state, meta
        if damaged:  # all of them stay: the next start must not take the run for a new one
            newest, reason = next(iter(damaged.items()))
            raise RunError(
                f"no checkpoint in {self._directory} can be read, the newest, {newest.name}, "
                f"because of {reason}; mend them, or train again in another directory"
            )
        return None

    def _open(self) -> "ocp.CheckpointManager":
        import orbax.checkpoint as ocp

        # Opened at the first save, when damaged folders, which it would stumble over, are gone.
        if self._manager is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            for folder in step_folders(self._directory):
                if not (folder / "meta").exists():
                    set_aside(folder, "it has no meta")
            options = ocp.CheckpointManagerOptions(
                preservation_policy=_NewestAndBest(self._directory, self._keep),
                enable_async_checkpointing=True,
                # In the background Orbax waits for minutes for a folder that cannot be made.
                async_options=ocp.options.AsyncOptions(create_directories_asynchronously=False),
                cleanup_tmp_directories=True,
            )
            self._stack.enter_context(quiet())
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
            for unfinished in self._directory.glob("*.orbax-checkpoint-tmp"):
                shutil.rmtree(unfinished, ignore_errors=True)  # the disk may be full
            text = str(error)
            reason = os.strerror(errno.ENOSPC) if "RESOURCE_EXHAUSTED" in text else None
            reason = reason or getattr(error, "strerror", None) or first_line(error)
            raise RunError(
                f"a checkpoint cannot be saved in {self._directory}: {reason}; "
                "the same command goes on from the last one saved"
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
