"""The recorder: the one writer of a run directory, and the only place that asks who may write."""

import contextlib
import datetime
import os
import sys
from collections.abc import Callable, Collection
from typing import Any, Literal

import numpy as np
from jax.sharding import NamedSharding

from cnn_jax import experiment, extras, processes, runtime, text
from cnn_jax.data import Data, DataInfo, Split
from cnn_jax.errors import RunError
from cnn_jax.evaluation import selection
from cnn_jax.evaluation.evaluator import Evaluation
from cnn_jax.experiment import Experiment
from cnn_jax.reporting import projector, tensorboard
from cnn_jax.runs import callbacks, code, drawing, environment, evaluations, figures, stored
from cnn_jax.runs.checkpoints import Checkpoints
from cnn_jax.runs.directory import RunDirectory, Status
from cnn_jax.runs.evaluations import best_step

# (meta of a checkpoint) -> the shapes of the state that was saved with it.
AbstractState = Callable[[dict[str, Any]], Any]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def set_status(directory: RunDirectory, status: Status, **details: Any) -> None:
    """Writes status.json."""
    values = {"status": status, "time": _now(), "pid": os.getpid(), **details}
    directory.write("status", values)


def mark_pruned(directory: RunDirectory, epochs: int) -> None:
    """Records that a sweep stopped the run early, after this number of epochs."""
    set_status(directory, "pruned", epochs=epochs)


def update_result(directory: RunDirectory, key: str, value: Any) -> None:
    """Replaces one part of result.json and keeps the others."""
    directory.write("result", {**directory.read("result", {}), key: value})


def add_evaluation(directory: RunDirectory, split: str, record: dict[str, Any]) -> None:
    """Writes the evaluation of a split to result.json, beside those of other checkpoints."""
    result, best = directory.read("result", {}), best_step(directory.read("history", []))
    directory.write("result", evaluations.placed(result, split, record, best))


class Recorder:
    """Writes the directory of one run, from its begin to its end.

    Use it in a `with`: it holds the directory's lock, and records how the run ended.

    Args:
        directory: the run directory; it is made where it is not there.
        config: the experiment.
        info: what is known of the data.
        untrained: the paths of the parameters that no phase trains.
        told: callbacks, which are told the points of the curves.

    Attributes:
        directory: the run directory.
        path: its path.
        writes: whether this process writes; another one of the same run only takes part in saving
            checkpoints.
    """

    def __init__(
        self,
        directory: RunDirectory,
        config: Experiment,
        info: DataInfo,
        untrained: Collection[str] = (),
        told: callbacks.Callbacks | None = None,
    ):
        self.directory, self.path = directory, directory.path
        self.writes = processes.team().is_first
        self._config, self._info = config, info
        self._told = told or callbacks.Callbacks()
        self._sides: dict[str, Any] = {"data": info.to_dict(), "data_digest": info.digest}
        self._stack = contextlib.ExitStack()
        self._saved = Checkpoints(
            directory.checkpoints, config.checkpoint.keep, config, untrained, self.writes
        )
        self._events: tensorboard.EventWriter | None = None
        self._drawing = drawing.Drawing()

    def __enter__(self) -> "Recorder":
        if self.writes:
            self.directory.create()
            self._stack.enter_context(self.directory.locked())
        self._stack.enter_context(self._drawing)
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            processes.team().expect_end(error)
        with self._stack:
            try:
                if error is None:
                    self._saved.close()
                    self._end_curves("finished")
                else:  # what went wrong first is what is said
                    with contextlib.suppress(OSError, RunError):
                        self._saved.close()
                    with contextlib.suppress(Exception):
                        self._end_curves("interrupted")
            finally:
                if error is not None:
                    self._fail(error)

    def begin(self, about_weights: dict[str, Any] | None, code: dict[str, Any]) -> None:
        """Writes what is trained, on what data, from which weights, where and how.

        Args:
            about_weights: what weights.json is to say, where the run starts from weights.
            code: what code.json is to say of a user's own code; {}: there is none.
        """
        self._sides |= {"config": experiment.to_dict(self._config), "code": code}
        if about_weights is not None:
            self._sides["weights"] = about_weights
        if not self.writes:
            return
        self.directory.write("config", experiment.to_dict(self._config))
        self.directory.write("data", self._info.to_dict())
        if about_weights is not None:
            self.directory.write("weights", about_weights)
        if code:
            self.directory.write("code", code)
        starts = self.directory.read("environment", [])
        self.directory.write(
            "environment", [*starts, {"time": _now(), **environment.environment()}]
        )
        set_status(self.directory, "running")

    def restore(
        self, abstract_state: AbstractState, sharding: NamedSharding
    ) -> tuple[Any, dict[str, Any]] | None:
        """Returns (state, meta) of the newest whole checkpoint, or None.

        Raises:
            RunError: there are checkpoints, and every one is damaged.
        """
        restored = self._saved.restore_latest(abstract_state, sharding)
        if restored is not None and self.writes:
            # A kill leaves the file ahead of the state or behind it.
            self.directory.write("history", restored[1]["history"])
        return restored

    def start(self, data: Data, step: int, resumed: bool) -> None:
        """Opens the curves, and writes texts; at a run's first start the figures of its data.

        Args:
            data: the images of the run.
            step: the step that the run goes on from.
            resumed: whether it goes on from a checkpoint.
        """
        if not self.writes:
            return
        extras.can_draw()  # says so where not
        # A run that was killed before its first checkpoint starts again: its points are void.
        void_after = step if resumed else -1 if any(self.path.glob("events.out.*")) else None
        self._events = tensorboard.EventWriter(
            self.directory.path,
            experiment.flatten(self._config),
            void_after,
            experiment.setting_name(self._config),
            experiment.difference(Experiment(), self._config).keys() - {"name"},
        )
        starts = self.directory.read("environment", [])
        command = starts[-1]["command"] if starts else None
        figures.write_texts(step, self._config, command, self._events)
        folder = self.directory.figures
        if not resumed or not (folder / "data_classes.png").exists():  # the last one
            drawn = figures.of_data(data)
            self._drawing.draw(figures.write_figures, 0, drawn, self._events, folder)

    def point(self, step: int, values: dict[str, float | None]) -> None:
        """Writes one point of some curves, and tells it the callbacks."""
        if self._events is not None:
            self._events.scalars(step, values)
            self._told.point(step, values)

    def epoch_figures(
        self, step: int, epoch: int, last: bool, params: Any, found: Evaluation, split: Split
    ) -> None:
        """Writes AUC, and has the figures of an epoch drawn where the settings ask for them."""
        if self._events is None:
            return
        every, positive = self._config.logging.figures_every, self._config.dataset.positive
        self.point(step, figures.areas(found, split, self._info, positive))
        if every is not None and (epoch % every == 0 or last):
            figures.write_curves(step, found, split, self._info, positive, self._events)
            drawn = figures.of_epoch(params, found, split, self._info)
            self._drawing.draw(figures.write_figures, step, drawn, self._events)

    def add_result(self, key: str, value: Any) -> None:
        """Replaces one part of result.json."""
        if self.writes:
            update_result(self.directory, key, value)

    def add_feature_seconds(self, stages: int, seconds: float) -> None:
        """Adds the seconds that caching the features of frozen stages took at this start."""
        before = self.directory.read("result", {}).get("features", {"seconds": 0.0})["seconds"]
        self.add_result("features", {"stages": stages, "seconds": before + seconds})

    def save(self, step: int, state: Any, meta: dict[str, Any], total_steps: int) -> None:
        """Saves a state in the background, and with it history and status.

        Raises:
            RunError: this or the save before it did not reach the disk.
        """
        if step >= total_steps:  # a run that goes on from there draws no more
            self._drawing.wait()
        if self._events is not None:
            self._events.flush()
        self._saved.save(step, state, {**meta, **self._sides})
        if self.writes:
            self.directory.write("history", meta["history"])
            set_status(self.directory, "running", step=step, steps=total_steps)

    def projector_examples(self, available: int) -> int:
        """Returns the number of validation images whose features `projector` wants."""
        return min(self._config.logging.projector_images, available)

    def projector(self, features: np.ndarray, probabilities: np.ndarray, split: Split) -> None:
        """Writes the features of some images for TensorBoard's projector."""
        if self.writes:
            columns = figures.projector_columns(probabilities, split, self._info)
            projector.write(self.path, features, figures.as_pixels(split.images), columns)

    def finish(self, history: list[dict[str, Any]], flops: int) -> None:
        """Writes result.json, the curves as a figure, and the status, with why it stopped early."""
        self._saved.wait()
        self._end_curves("finished")
        if not self.writes:
            return
        result = callbacks.result_of(history, flops)
        self.add_result("training", {**result, "peak_memory_bytes": runtime.peak_memory()})
        figures.save_training_curves(history, self.directory.figures)
        reason = selection.Rule.of(self._config).reason(history)
        details = {"step": result["steps"], "steps": result["steps"]}
        self._told.finish(result)  # before the status: a run whose callback failed tells it again
        set_status(self.directory, "finished", **details, **({"reason": reason} if reason else {}))

    def interrupted(self, step: int, total_steps: int) -> None:
        """Records that the run was asked to stop; its state is on disk when this returns."""
        self._saved.wait()
        self._end_curves("interrupted")
        if self.writes:
            set_status(self.directory, "interrupted", step=step, steps=total_steps)

    def diverged(self, step: int, last_good: int) -> None:
        """Records that the run is lost since a step."""
        self._end_curves("diverged")
        if self.writes:
            set_status(self.directory, "diverged", step=step, last_checkpoint=last_good)

    def _end_curves(self, status: Literal["finished", "interrupted", "diverged"]) -> None:
        """Closes the event file when all figures are in it; calls after the first do nothing."""
        try:
            self._drawing.wait()
        finally:
            if self._events is not None:
                self._events.close(status)

    def last_good_state(self, step: int) -> str:
        """Returns where the last finite state is, in words."""
        kept = f"checkpoint of step {step}" if step else "no checkpoint"
        return f"{kept} in {text.shown(self.directory.checkpoints)}"

    def _fail(self, error: BaseException) -> None:
        """Records that the run ended early, unless whoever ended it has said more."""
        # The disk may be full, which must not hide the first error.
        with contextlib.suppress(OSError, RunError):
            if not self.writes or self.directory.status() != "running":
                return
            if isinstance(error, KeyboardInterrupt):
                set_status(self.directory, "interrupted")
                own = self.directory.read("code", {})
                go_on = code.command_line("train", self.path, own)
                print(f"go on with: {go_on}", file=sys.stderr)
            else:
                reason = getattr(error, "for_command_line", str(error))
                set_status(self.directory, "failed", error=f"{type(error).__name__}: {reason}")

    def best_variables(self, checkpoint: str = "best") -> tuple[dict[str, Any], int]:
        """Returns (variables on the host, step) of the best checkpoint, or of another."""
        return stored.load_variables(self.directory.checkpoints, checkpoint, self._config)
