"""The study: which settings were tried, by whom, and what they came to. The only door to Optuna.

Any number of workers share one storage: a journal file in the sweep's directory, or any address
that Optuna takes. What must not happen twice, taking a setting and taking over one that was lost,
happens under a file lock in that directory.
"""

import json
import os
import pathlib
import secrets
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import filelock

from cnn_jax import run
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Experiment, Sweep
from cnn_jax.sweep.space import Dimension

# What a study keeps in the sweep's directory.
_LOCK, _JOURNAL, _NAME = ".sweep.lock", "study.journal", "study.json"
OWN_FILES = {_LOCK, _JOURNAL, f"{_JOURNAL}.lock", _NAME}
# States of settings that have not come to an end.
OPEN = ("waiting", "running", "interrupted")
HEARTBEAT_SECONDS = 5.0
LOST_SECONDS = 60.0
MOST_ATTEMPTS = 3


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UsageError(
            "sweep needs Optuna, which is not installed: pip install 'cnn_jax[sweep]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class LostError(Exception):
    """Another worker has taken this one for dead, and its setting over."""


class Study:
    """The trials of one sweep.

    Args:
        directory: of the sweep.
        options: of the sweep.
        dimensions: of its space.
        base: what all trials have in common.
        settings: of `space.planned`.

    Raises:
        UsageError: Optuna is not installed.
        RunError: the storage cannot be opened.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        options: Sweep,
        dimensions: Sequence[Dimension],
        base: Experiment,
        settings: Sequence[dict[str, Any]],
    ):
        self.directory, self.options, self._base = directory, options, base
        self.wanted = len(settings) or options.trials  # with "tpe" none is planned
        self._optuna = optuna = _optuna()
        self._distributions = {d.path: _distribution(optuna, d) for d in dimensions}
        # A GIL is no lock between machines; a file is, wherever the directory is shared.
        self._lock = filelock.FileLock(directory / _LOCK)
        with self._lock:
            self._study = self._open()
            # A sweep that is to have more trials than before adds what it has not got yet.
            trials = self._study.get_trials(deepcopy=False)
            there = sum("attempts" not in trial.user_attrs for trial in trials)
            for setting in settings[there:]:
                self._study.enqueue_trial(setting)

    def _open(self) -> Any:
        optuna, options = self._optuna, self.options
        pruner = {
            "none": optuna.pruners.NopPruner(),
            "median": optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=0),
            "asha": _best_third(optuna),
        }[options.prune]
        try:
            if options.storage is None:
                backend = optuna.storages.journal.JournalFileBackend(str(self.directory / _JOURNAL))
                storage: Any = optuna.storages.JournalStorage(backend)
            else:
                storage = options.storage
            study = optuna.create_study(
                storage=storage,
                study_name=self._name(),
                pruner=pruner,
                direction="maximize",
                load_if_exists=True,
            )
            # Workers must not draw the same settings; the first one's repeat with the seed.
            worker = study.user_attrs.get("workers", 0)
            study.set_user_attr("workers", worker + 1)
            study.sampler = optuna.samplers.TPESampler(
                seed=self._base.seed + worker, constant_liar=True
            )
            return study
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise RunError(f"the sweep's storage cannot be opened: {reason}") from error

    def _name(self) -> str:
        """Returns the study's name, which no other sweep in the same storage has."""
        path = self.directory / _NAME
        if not path.exists():
            name = f"{self.directory.name}-{secrets.token_hex(4)}"
            run.write_json(path, {"name": name})
        return run.read_json(path)["name"]

    def locked(self) -> AbstractContextManager[Any]:
        """Returns a context in which no other worker plans, takes or gives back."""
        return self._lock

    def take(self) -> "Trial | None":
        """Returns the next setting to try, or one that was lost; None where none is free."""
        states = self._optuna.trial.TrialState
        with self._lock:
            trials = self._study.get_trials(deepcopy=False)
            for trial in trials:
                if trial.state == states.RUNNING and self._lost(trial):
                    self._again(trial)
            trials = self._study.get_trials(deepcopy=False)
            waiting = any(trial.state == states.WAITING for trial in trials)
            counted = [
                trial
                for trial in trials
                if trial.state in (states.COMPLETE, states.PRUNED, states.RUNNING)
                or (trial.state == states.FAIL and trial.user_attrs.get("given_up"))
            ]
            if not waiting and len(counted) >= self.wanted:
                return None
            if not waiting and self.options.method != "tpe":
                return None  # all that was planned is taken
            asked = self._study.ask(self._distributions)
            place = asked.user_attrs.get("place", f"{asked.number:04d}")
            asked.set_user_attr("place", place)
            found = Trial(self, asked, place, dict(asked.params))
            found.directory.mkdir(parents=True, exist_ok=True)
            found.beat()
            return found

    def left(self) -> int:
        """Returns how many settings have not come to an end."""
        state = self._optuna.trial.TrialState
        ended = self._study.get_trials(
            deepcopy=False, states=(state.COMPLETE, state.PRUNED, state.FAIL)
        )
        counted = [t for t in ended if t.state != state.FAIL or t.user_attrs.get("given_up")]
        return max(0, self.wanted - len(counted))

    def running(self) -> int:
        """Returns how many settings are being tried now."""
        state = self._optuna.trial.TrialState.RUNNING
        return len(self._study.get_trials(deepcopy=False, states=(state,)))

    def records(self) -> list[dict[str, Any]]:
        """Returns {place, setting, state, value, ...} of every setting, by its last attempt."""
        found: dict[str, dict[str, Any]] = {}
        for trial in self._study.get_trials(deepcopy=False):
            place = trial.user_attrs.get("place")
            if place is None:
                continue
            diverged = trial.user_attrs.get("diverged")
            found[place] = {
                "place": place,
                "setting": dict(trial.params),
                "state": "diverged" if diverged else self._state(trial),
                "value": None if diverged else trial.value,
                "std": trial.user_attrs.get("std"),
                "seeds": trial.user_attrs.get("seeds", 0),
                "epochs": len(trial.intermediate_values),
                "seconds": trial.user_attrs.get("seconds", 0.0),
                "attempts": trial.user_attrs.get("attempts", 1),
                "error": trial.user_attrs.get("error"),
            }
        return sorted(found.values(), key=lambda record: record["place"])

    def write_records(self) -> list[dict[str, Any]]:
        """Writes sweep.json, so that it is there whatever comes, and returns what it holds."""
        with self._lock:
            records = self.records()
            run.write_json(self.directory / "sweep.json", records)
        return records

    def _state(self, trial: Any) -> str:
        given_back = not self._worker_file(trial.user_attrs["place"]).exists()
        running = trial.state == self._optuna.trial.TrialState.RUNNING
        return "interrupted" if running and given_back else trial.state.name.lower()

    def _worker_file(self, place: str) -> pathlib.Path:
        return self.directory / "trials" / place / "worker.json"

    def _lost(self, trial: Any) -> bool:
        place = trial.user_attrs.get("place")
        if place is None:  # killed between being taken and being written down
            started = trial.datetime_start
            return started is None or time.time() - started.timestamp() > LOST_SECONDS
        path = self._worker_file(place)
        try:
            worker = json.loads(path.read_text())
            age = time.time() - path.stat().st_mtime
        except (OSError, ValueError):
            return True
        if worker["host"] == socket.gethostname() and not _alive(worker["pid"]):
            return True
        return age > LOST_SECONDS

    def _again(self, trial: Any) -> bool:
        """Marks an attempt as failed; queues its setting, unless that failed too often.

        It goes on in the same directory. What a worker gave back (it took its `worker.json` away)
        is no failure. Returns whether it is tried again.
        """
        attributes = {k: v for k, v in trial.user_attrs.items() if k != "error"}
        failures = attributes.get("failures", 0)
        place = attributes.get("place")
        if place is not None and self._worker_file(place).exists():
            failures += 1
        if failures >= MOST_ATTEMPTS:
            self._study._storage.set_trial_user_attr(trial._trial_id, "given_up", True)
        else:
            attributes |= {"attempts": attributes.get("attempts", 1) + 1, "failures": failures}
            self._study.enqueue_trial(dict(trial.params), user_attrs=attributes)
        self._study.tell(trial.number, state=self._optuna.trial.TrialState.FAIL)
        return failures < MOST_ATTEMPTS


class Trial:
    """One setting, in the hands of this worker.

    Its methods that record something raise LostError where it no longer is.

    Attributes:
        place: the name of its directory.
        setting: {path: value}.
        directory: where its runs are.
    """

    def __init__(self, study: Study, asked: Any, place: str, setting: dict[str, Any]):
        self._study, self._asked = study, asked
        self.place, self.setting = place, setting
        self.directory = study.directory / "trials" / place

    def beat(self) -> None:
        """Says that this worker is alive."""
        run.write_json(
            self.directory / "worker.json", {"host": socket.gethostname(), "pid": os.getpid()}
        )

    def report(self, epoch: int, value: float) -> bool:
        """Records a validation accuracy after an epoch; returns whether to stop here."""
        with self._held():
            self._asked.report(value, epoch)
        return bool(self._asked.should_prune())

    def finish(self, values: Sequence[float], std: float | None, seconds: float) -> None:
        """Records the validation accuracies of all seeds."""
        self._set(std=std, seeds=len(values), seconds=seconds)
        self._tell(sum(values) / len(values))

    def diverge(self, seconds: float) -> None:
        """Records that training diverged, which is a result: the lowest there is."""
        self._set(diverged=True, seconds=seconds)
        self._tell(0.0)

    def prune(self, seconds: float) -> None:
        """Records that the setting was stopped early."""
        self._set(seconds=seconds)
        self._tell(None, self._study._optuna.trial.TrialState.PRUNED)

    def fail(self, reason: str) -> bool:
        """Records a crash; returns whether the setting is tried again."""
        self._set(error=reason[:500])
        with self._study._lock:
            return self._study._again(self._asked.storage.get_trial(self._asked._trial_id))

    def refuse(self, reason: str) -> None:
        """Records that the setting is not legal, which no further attempt would change."""
        self._set(error=reason[:500], given_up=True)
        self._tell(None, self._study._optuna.trial.TrialState.FAIL)

    def release(self) -> None:
        """Gives the setting back: whoever looks next goes on with it."""
        with self._study._lock:
            if not self._over():
                (self.directory / "worker.json").unlink(missing_ok=True)

    def _over(self) -> bool:
        """Whether this attempt has ended: a worker that took it over has ended it, and holds it."""
        stored = self._asked.storage.get_trial(self._asked._trial_id)
        return stored.state.is_finished()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Raises LostError in place of what Optuna says of an attempt that has ended."""
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

    def _tell(self, value: float | None, state: Any = None) -> None:
        with self._held():
            self._study._study.tell(self._asked, value, state=state)


def _best_third(optuna: Any) -> Any:
    """Returns ASHA (arXiv:1810.05934): after 1, 3, 9, ... epochs the best third goes on.

    Optuna's own counts a setting that was taken over against its own attempt before.
    """

    class BestThird(optuna.pruners.BasePruner):
        def prune(self, study: Any, trial: Any) -> bool:
            epoch = trial.last_step
            rung = epoch or 0
            while rung and rung % 3 == 0:
                rung //= 3
            if rung != 1:
                return False
            reached = sorted(
                each.intermediate_values[epoch]
                for each in study.get_trials(deepcopy=False)
                if epoch in each.intermediate_values and each.state != optuna.trial.TrialState.FAIL
            )
            return trial.intermediate_values[epoch] < reached[-max(1, len(reached) // 3)]

    return BestThird()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _distribution(optuna: Any, dimension: Dimension) -> Any:
    if dimension.kind == "choice":
        return optuna.distributions.CategoricalDistribution(dimension.choices)
    if dimension.kind == "int":
        return optuna.distributions.IntDistribution(int(dimension.low), int(dimension.high))
    return optuna.distributions.FloatDistribution(
        dimension.low, dimension.high, log=dimension.kind == "log"
    )
