"""The study: which settings were tried, by which worker, and with which result.

Any number of workers share one storage: a journal file in the sweep's directory, or any address
that Optuna takes. What must not happen twice, taking a setting and taking over one whose worker was
lost, happens under a file lock in that directory.
"""

import pathlib
import secrets
import socket
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from absl import logging

from cnn_jax import files, locks, system, text
from cnn_jax.errors import RunError
from cnn_jax.evaluation import selection
from cnn_jax.experiment import Experiment
from cnn_jax.options import Sweep
from cnn_jax.studies import sides
from cnn_jax.studies.collapse import COLLAPSED
from cnn_jax.studies.sweep import search
from cnn_jax.studies.sweep.dimension import Dimension
from cnn_jax.studies.sweep.trial import Trial, worker_file

# What a study keeps in the sweep's directory.
_LOCK, _JOURNAL, _NAME = ".sweep.lock", "study.journal", "study.json"
_LOCKS = (_LOCK, search.journal_lock(pathlib.Path(_JOURNAL)).name)
# The last is the lock that Optuna makes itself, in a sweep of an older version.
OWN_FILES = {*_LOCKS, *(f"{lock}.soft" for lock in _LOCKS), _JOURNAL, _NAME, f"{_JOURNAL}.lock"}
# States of settings that have not ended.
OPEN = ("waiting", "running", "interrupted")
# A worker that has been silent for this long is taken for dead.
LOST_SECONDS = 60.0
MOST_ATTEMPTS = 3


class Study:
    """The trials of one sweep.

    Attributes:
        directory: the sweep's directory.
        options: what the sweep was asked for.
        wanted: the number of settings to try.

    Args:
        directory: the sweep's directory, which exists.
        options: what the sweep was asked for.
        dimensions: the dimensions of its space.
        base: the experiment that all settings vary.
        settings: the settings that `space.planned` returned.

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
        self.directory, self.options, self._metric = directory, options, base.train.select
        self.wanted = len(settings) or options.trials  # "tpe" plans no settings
        self._states = search.optuna().trial.TrialState
        self._distributions = {d.path: search.distribution(d) for d in dimensions}
        # Threads of one process share a lock; machines share a file.
        self._lock = locks.FileLock(directory / _LOCK)
        with self._lock:
            self._study = self._open(base.seed)
            # A sweep that is given more trials than before adds those that it does not have yet.
            trials = self._study.get_trials(deepcopy=False)
            planned = sum("attempts" not in trial.user_attrs for trial in trials)
            for setting in settings[planned:]:
                self._study.enqueue_trial(setting)

    def _open(self, seed: int) -> Any:
        module = search.optuna()
        try:
            storage = search.storage(self.options.storage, self.directory / _JOURNAL)
            study = module.create_study(
                storage=storage,
                study_name=self._name(storage),
                pruner=search.pruner(self.options.prune),
                direction="maximize",
                load_if_exists=True,
            )
            # Workers must not draw the same settings; those of the first repeat with the seed.
            worker = study.user_attrs.get("workers", 0)
            study.set_user_attr("workers", worker + 1)
            study.sampler = module.samplers.TPESampler(seed=seed + worker, constant_liar=True)
            return study
        except RunError:
            raise
        except OSError as error:
            where = f"{text.shown(pathlib.Path(error.filename))}: " if error.filename else ""
            raise RunError(
                f"the sweep's storage cannot be opened: {where}{error.strerror or error}"
            ) from error
        except Exception as error:
            if self.options.storage is None and isinstance(error, ValueError | LookupError):
                raise RunError(
                    f"{text.shown(self.directory / _JOURNAL)} is damaged; move it away, and the "
                    "same command begins the search again and keeps the runs that it needs once "
                    "more"
                ) from error
            reason = " ".join(str(error).split())[:200]
            raise RunError(f"the sweep's storage cannot be opened: {reason}") from error

    def _name(self, storage: Any) -> str:
        """Returns the study's name, which no other sweep in the same storage has.

        Where the file with it is lost or damaged, the sweep's own journal knows it.

        Raises:
            RunError: the file is damaged, and a shared storage has studies that it may have named.
        """
        path = self.directory / _NAME
        named = sides.value_in(path, "study")
        if named is not None:
            return named["name"]
        known = search.optuna().get_all_study_names(storage)
        if self.options.storage is None and known:
            logging.warning("%s is lost or damaged: the journal's is used", text.shown(path))
            name = known[-1]
        elif path.exists() and known:
            raise RunError(
                f"{text.shown(path)} is damaged, and the storage has the studies "
                f"{', '.join(known[:5])}{', ...' if len(known) > 5 else ''}; write the one of this "
                'sweep into it, as {"name": "NAME"}, or give another --workdir'
            )
        else:
            name = f"{self.directory.name}-{secrets.token_hex(4)}"
        files.write_json(path, {"name": name})
        return name

    def locked(self) -> AbstractContextManager[Any]:
        """Returns a context in which no other worker plans, takes or gives back."""
        return self._lock

    def take(self) -> Trial | None:
        """Returns the next setting to try, or one that was lost; None where none is free."""
        with self._lock:
            for trial in self._study.get_trials(deepcopy=False, states=(self._states.RUNNING,)):
                if self._lost(trial):
                    self._end_attempt(trial)
            trials = self._study.get_trials(deepcopy=False)
            waiting = any(trial.state == self._states.WAITING for trial in trials)
            if not waiting:
                begun = [t for t in trials if t.state == self._states.RUNNING or self._ended(t)]
                if len(begun) >= self.wanted or self.options.method != "tpe":
                    return None
            asked = self._study.ask(self._distributions)
            place = asked.user_attrs.get("place", f"{asked.number:04d}")
            asked.set_user_attr("place", place)
            trial = Trial(
                self._study, asked, self.directory, self._lock, self._end_attempt, self._metric
            )
            trial.directory.mkdir(parents=True, exist_ok=True)
            trial.beat()
            return trial

    def left(self) -> int:
        """Returns how many settings have not ended."""
        ended = sum(self._ended(trial) for trial in self._study.get_trials(deepcopy=False))
        return max(0, self.wanted - ended)

    def running(self) -> int:
        """Returns how many settings are being tried now."""
        return len(self._study.get_trials(deepcopy=False, states=(self._states.RUNNING,)))

    def records(self) -> list[dict[str, Any]]:
        """Returns {place, setting, state, value, ...} of every setting, by its last attempt."""
        records: dict[str, dict[str, Any]] = {}
        sign = selection.METRICS[self._metric].sign  # what is told are scores
        for trial in self._study.get_trials(deepcopy=False):
            place = trial.user_attrs.get("place")
            if place is None:
                continue
            diverged = trial.user_attrs.get("diverged")
            state = "diverged" if diverged else self._state(trial)
            if state == "complete" and trial.user_attrs.get("collapsed"):
                state = COLLAPSED
            records[place] = {
                "place": place,
                "setting": trial.params or dict(trial.system_attrs["fixed_params"]),
                "state": state,
                "value": None if diverged or trial.value is None else sign * trial.value,
                "std": trial.user_attrs.get("std"),
                "seeds": trial.user_attrs.get("seeds", 0),
                "epochs": len(trial.intermediate_values),
                "seconds": trial.user_attrs.get("seconds", 0.0),
                "attempts": trial.user_attrs.get("attempts", 1),
                "error": trial.user_attrs.get("error"),
            }
        return sorted(records.values(), key=lambda record: record["place"])

    def write_records(self) -> list[dict[str, Any]]:
        """Writes the records to sweep.json, and returns them."""
        with self._lock:
            records = self.records()
            files.write_json(self.directory / "sweep.json", records)
        return records

    def _ended(self, trial: Any) -> bool:
        """Returns whether a setting needs no further attempt."""
        done = trial.state in (self._states.COMPLETE, self._states.PRUNED)
        failed = trial.state == self._states.FAIL
        return done or (failed and bool(trial.user_attrs.get("given_up")))

    def _state(self, trial: Any) -> str:
        held = worker_file(self.directory, trial.user_attrs["place"]).exists()
        if trial.state == self._states.RUNNING and not held:
            return "interrupted"
        return trial.state.name.lower()

    def _lost(self, trial: Any) -> bool:
        """Returns whether the worker of a running attempt is gone."""
        place = trial.user_attrs.get("place")
        if place is None:  # killed between taking the setting and writing its place down
            started = trial.datetime_start
            return started is None or time.time() - started.timestamp() > LOST_SECONDS
        path = worker_file(self.directory, place)
        worker = sides.value_in(path, "worker")
        try:
            age = time.time() - path.stat().st_mtime
        except OSError:
            return True
        if worker is None:
            return True
        if worker["host"] == socket.gethostname() and not system.is_alive(worker["pid"]):
            return True
        return age > LOST_SECONDS

    def _end_attempt(self, trial: Any) -> bool:
        """Marks an attempt as failed; queues its setting, unless that failed too often.

        The next attempt goes on in the same directory. A setting that its worker handed back
        (worker.json is gone) does not count as a failure. Returns whether it is tried again.
        """
        attributes = {k: v for k, v in trial.user_attrs.items() if k != "error"}
        failures = attributes.get("failures", 0)
        place = attributes.get("place")
        if place is not None and worker_file(self.directory, place).exists():
            failures += 1
        if failures >= MOST_ATTEMPTS:
            self._study._storage.set_trial_user_attr(trial._trial_id, "given_up", True)
        else:
            attributes |= {"attempts": attributes.get("attempts", 1) + 1, "failures": failures}
            self._study.enqueue_trial(dict(trial.params), user_attrs=attributes)
        self._study.tell(trial.number, state=self._states.FAIL)
        return failures < MOST_ATTEMPTS
