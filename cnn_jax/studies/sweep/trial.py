"""A trial: one setting in the hands of one worker."""

import os
import pathlib
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from cnn_jax import files
from cnn_jax.evaluation import selection
from cnn_jax.studies import seeds
from cnn_jax.studies.sweep import search


class LostError(Exception):
    """Another worker has taken this one for dead, and taken over its setting."""


class Trial:
    """One setting, in the hands of this worker.

    Its methods that record something raise LostError where another worker has taken it over.

    Attributes:
        place: the name of its directory.
        setting: {path of the field: value}.
        directory: where its runs are.

    Args:
        study: Optuna's study.
        asked: Optuna's trial, whose attribute "place" is set.
        sweep: the sweep's directory.
        lock: the lock under which settings are taken and given back.
        end_attempt: marks an attempt as failed; returns whether its setting is tried again.
        metric: what settings are judged by, a key of `selection.METRICS`. The study has its scores,
            of which it seeks the largest.
    """

    def __init__(
        self,
        study: Any,
        asked: Any,
        sweep: pathlib.Path,
        lock: AbstractContextManager[Any],
        end_attempt: Callable[[Any], bool],
        metric: str = "accuracy",
    ):
        self._study, self._asked, self._lock = study, asked, lock
        self._end_attempt, self._metric = end_attempt, metric
        self.place: str = asked.user_attrs["place"]
        self.setting: dict[str, Any] = dict(asked.params)
        self._worker_file = worker_file(sweep, self.place)
        self.directory = self._worker_file.parent

    def beat(self) -> None:
        """Writes down that this worker is alive."""
        files.write_json(self._worker_file, {"host": socket.gethostname(), "pid": os.getpid()})

    def report(self, epoch: int, value: float) -> bool:
        """Records the value of the metric after an epoch; returns whether to stop here."""
        with self._held():
            self._asked.report(selection.score(self._metric, value), epoch)
        return bool(self._asked.should_prune())

    def finish(self, values: Sequence[float], seconds: float, collapsed: int = 0) -> None:
        """Records the values of the metric of all seeds, and their seconds of training.

        Where the networks of some seeds say one class only, `collapsed` is their number.
        """
        spread = seeds.fold(values)
        self._set(std=spread.std, seeds=len(values), seconds=seconds)
        if collapsed:
            self._set(collapsed=collapsed)
        self._tell(selection.score(self._metric, spread.mean))

    def diverge(self, seconds: float) -> None:
        """Records that training diverged, which is a result: the lowest there is."""
        self._set(diverged=True, seconds=seconds)
        self._tell(selection.score(self._metric, selection.METRICS[self._metric].worst))

    def prune(self, seconds: float) -> None:
        """Records that the setting was stopped early."""
        self._set(seconds=seconds)
        self._tell(None, "PRUNED")

    def fail(self, reason: str) -> bool:
        """Records a crash; returns whether the setting is tried again."""
        self._set(error=reason[:500])
        with self._lock:
            return self._end_attempt(self._stored())

    def refuse(self, reason: str) -> None:
        """Records that the setting is not legal, which no further attempt would change."""
        self._set(error=reason[:500], given_up=True)
        self._tell(None, "FAIL")

    def release(self) -> None:
        """Gives the setting back: the next worker that looks for one goes on with it."""
        with self._lock:
            if not self._over():
                self._worker_file.unlink(missing_ok=True)

    def _stored(self) -> Any:
        return self._asked.storage.get_trial(self._asked._trial_id)

    def _over(self) -> bool:
        """Returns whether this attempt has ended: a worker that took it over has ended it."""
        return self._stored().state.is_finished()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Raises LostError in place of Optuna's error about an attempt that has ended."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            if self._over():
                raise LostError from error
            raise

    def _set(self, **attributes: Any) -> None:
        with self._held():
            for name, value in attributes.items():
                self._asked.set_user_attr(name, value)

    def _tell(self, value: float | None, state: str | None = None) -> None:
        states = search.optuna().trial.TrialState
        with self._held():
            self._study.tell(self._asked, value, state=None if state is None else states[state])


def worker_file(sweep: pathlib.Path, place: str) -> pathlib.Path:
    """Returns the file that names the worker that holds a setting."""
    return sweep / "trials" / place / "worker.json"
