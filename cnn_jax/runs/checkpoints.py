"""Saves the states of a run in the background through Orbax, and restores the newest whole one.

A folder that cannot be read, or whose state has another sha256 than was saved, is named in a
warning and the one before it is used; a run that goes on from there moves the damaged one to
`checkpoints/damaged/`. States are read into host memory and put on whatever devices there are, so a
checkpoint of N devices restores on M. Orbax is imported by the first call that reads or saves: it
takes a third of a second.
"""

import contextlib
import pathlib
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from cnn_jax import processes
from cnn_jax.errors import RunError
from cnn_jax.experiment import Experiment
from cnn_jax.runs import frozen
from cnn_jax.runs.damage import DamageError, machine_reason, set_aside
from cnn_jax.runs.leaves import assemble_tree, digest
from cnn_jax.runs.stored import best_step, quiet, read, step_folders
from cnn_jax.text import shown

if TYPE_CHECKING:
    import orbax.checkpoint as ocp


class Checkpoints:
    """The checkpoints of one run; use it in a `with`, which waits for the last save.

    Args:
        directory: `checkpoints/` of the run.
        keep: how many of the newest are kept, besides the best by validation.
        config: that of the run; a checkpoint of another run counts as damaged. None: none does.
        untrained: the paths of the parameters that no phase of the run trains: they are written
            once, for all checkpoints.
        writes: whether this process writes what all processes of a run have in common.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        keep: int,
        config: Experiment | None = None,
        untrained: Collection[str] = (),
        writes: bool = True,
    ):
        self._directory = directory
        self._keep = keep
        self._config = config
        self._untrained, self._writes = untrained, writes
        self._frozen: dict[str, str] | None = None
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
        team = processes.team()
        if not team.is_first:  # process 0 reads first, and sets aside what is damaged
            name = team.agree(lambda: None)
            if name is None:
                return None
            leaves, meta = read(self._directory / name, self._config)
            return assemble_tree(leaves, _abstract(abstract_state, meta), sharding), meta
        restored = self._restore(abstract_state, sharding)
        team.agree(lambda: None if restored is None else restored[2])
        return None if restored is None else restored[:2]

    def _restore(
        self, abstract_state: Callable[[dict[str, Any]], Any], sharding: NamedSharding
    ) -> tuple[Any, dict[str, Any], str] | None:
        """Returns (state, meta, name of the folder) of the newest checkpoint that is whole."""
        damaged: dict[pathlib.Path, str] = {}  # newest first
        for folder in reversed(step_folders(self._directory)):
            try:
                leaves, meta = read(folder, self._config)
                like = _abstract(abstract_state, meta)
            except DamageError as error:
                damaged[folder] = str(error)
                continue
            state = assemble_tree(leaves, like, sharding)
            for other, reason in damaged.items():
                set_aside(other, reason)
            return state, meta, folder.name
        if damaged:  # all of them stay: the next start must not take the run for a new one
            newest, reason = next(iter(damaged.items()))
            raise RunError(
                f"no checkpoint in {shown(self._directory)} can be used, the newest, "
                f"{newest.name}, because {reason}; mend them, or train again in another directory"
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
                preservation_policy=_NewestAndBest(self._directory, self._keep, self._config),
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
            meta: JSON values to go with it. "best" is judged by the last record of `history`;
                `validation_accuracy` is None or missing where the state was not validated.

        Raises:
            RunError: this or the save before it did not reach the disk.
        """
        import orbax.checkpoint as ocp

        with self._saving():
            state, meta = self._without_untrained(state, meta)
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

    def _without_untrained(self, state: Any, meta: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Returns (the state, meta) to save, after the first call has written what is frozen."""
        if not self._untrained:
            return state, meta
        trained, arrays = frozen.split(state.params, self._untrained)
        if self._frozen is None:
            self._frozen = frozen.write(self._directory, arrays, self._writes)
        return state.replace(params=trained), {**meta, "frozen": self._frozen}

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
            # --debug shows what Orbax says where the system says nothing.
            reason = machine_reason(error) or f"Orbax fails with a {type(error).__name__}"
            raise RunError(
                f"a checkpoint cannot be saved in {shown(self._directory)}: {reason}; "
                "the same command goes on from the last one saved"
            ) from error


def _abstract(abstract_state: Callable[[dict[str, Any]], Any], meta: dict[str, Any]) -> Any:
    """Returns the shapes of the state that was saved with `meta`."""
    try:
        return abstract_state(meta)
    except (LookupError, TypeError):  # its phase is missing, or one that the run has not
        raise DamageError("a file in it is damaged: meta/metadata") from None


class _NewestAndBest:
    """Orbax's policy of what to keep: the newest `keep`, and the best by validation."""

    def __init__(self, directory: pathlib.Path, keep: int, config: Experiment | None):
        self._directory, self._keep, self._config = directory, keep, config

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        best = best_step(self._directory, self._config)
        newest = len(checkpoints) - self._keep
        return [i >= newest or info.step == best for i, info in enumerate(checkpoints)]
