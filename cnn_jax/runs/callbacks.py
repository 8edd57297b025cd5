"""Callbacks: objects of a user's own that are told the numbers of a run while it trains."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from cnn_jax import experiment, processes
from cnn_jax.errors import UsageError
from cnn_jax.evaluation import selection
from cnn_jax.experiment import Experiment


@dataclasses.dataclass(frozen=True)
class Point:
    """What a callback is told at one moment of a run.

    Attributes:
        step: training steps made so far.
        epoch: the number of the epoch, from 1, that this step belongs to; 0 before the first step.
        metrics: {name: number}, under the names of the curves in TensorBoard, such as "train/loss"
            and "validation/accuracy". The last point of a run has "result/..." alone: "epochs",
            "steps", "seconds", "flops", "best_validation_accuracy" and "best_epoch".
        settings: {dotted name: value} of every setting of the run, for a tracker's table of runs.
        workdir: the run directory, or None.
    """

    step: int
    epoch: int
    metrics: Mapping[str, float]
    settings: Mapping[str, Any]
    workdir: str | None


class Callback(Protocol):
    """Keeps the numbers of a run elsewhere, for example in a tracking service.

    class Print:
        def log(self, point):
            print(point.step, point.metrics)

    cnn_jax.train(data, model="resnet20", callbacks=[Print()])
    """

    def log(self, point: Point) -> None:
        """Takes the numbers of one moment.

        It is called some twenty times in an epoch (`logging.every_steps` changes it), after the
        validation of each epoch, and once at the end of a run that was not interrupted. What it
        does has no effect on the run. An error that it raises ends the run as an error of your own
        code, with its traceback, but for the command line's one line where a file or a connection
        failed (OSError); with a workdir the same call goes on from the last checkpoint.
        A run that goes on repeats the points after its checkpoint. Of several processes only the
        first calls it.
        """
        ...


class Callbacks:
    """Tells callbacks the numbers of a run.

    Args:
        told: the callbacks.
        config: the experiment.
        steps_per_epoch: steps of an epoch.
        workdir: the run directory, or None.
    """

    def __init__(
        self,
        told: Sequence[Callback] = (),
        config: Experiment | None = None,
        steps_per_epoch: int = 1,
        workdir: Path | None = None,
    ):
        self._told = tuple(told) if processes.team().is_first else ()
        self._settings = experiment.flatten(config or Experiment())
        self._steps_per_epoch = steps_per_epoch
        self._workdir = None if workdir is None else str(workdir)

    def __bool__(self) -> bool:
        return bool(self._told)

    def point(self, step: int, values: Mapping[str, float | None]) -> None:
        """Tells one point of some curves; values of None are left out, and no point is empty."""
        metrics = {name: float(value) for name, value in values.items() if value is not None}
        if not metrics:
            return
        epoch = -(-step // self._steps_per_epoch)
        for callback in self._told:
            point = Point(step, epoch, dict(metrics), dict(self._settings), self._workdir)
            try:
                callback.log(point)
            except Exception as error:
                name = type(callback).__name__
                error.add_note(f"(in {name}.log, a callback of the run, at step {step})")
                raise

    def finish(self, result: Mapping[str, float]) -> None:
        """Tells how the run ended, `result_of` it."""
        self.point(int(result["steps"]), {f"result/{name}": x for name, x in result.items()})


def result_of(history: list[dict[str, Any]], flops: int) -> dict[str, float]:
    """Returns what result.json says of the training: its length, its costs, its best epoch."""
    last, best = history[-1], selection.best_of(history)
    return {
        "epochs": len(history),
        "steps": last["step"],
        "seconds": last["seconds"],
        "last_validation_accuracy": last["validation_accuracy"],
        "best_validation_accuracy": best["validation_accuracy"],
        "best_epoch": best["epoch"],
        "flops": flops,
    }


def check(callbacks: Any) -> None:
    """Refuses what are not callbacks.

    Raises:
        UsageError: it is no list of objects with a method `log`.
    """
    if not isinstance(callbacks, list | tuple):
        raise UsageError(f"callbacks is a list of objects with a method log, not {callbacks!r:.60}")
    for callback in callbacks:
        if isinstance(callback, type) or not callable(getattr(callback, "log", None)):
            hint = ", made: MyCallback()" if isinstance(callback, type) else ""
            raise UsageError(
                f"a callback is an object with a method log(point){hint}; not {callback!r:.60}"
            )
