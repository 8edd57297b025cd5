"""What the study takes from Optuna: storage, sampler, pruners and distributions."""

import contextlib
import importlib
import os
import pathlib
from typing import Any

from cnn_jax import extras, locks
from cnn_jax.studies.sweep.dimension import Dimension


def optuna() -> Any:
    """Returns the module, which tells only warnings.

    Raises:
        UsageError: Optuna is not installed.
    """
    optuna = extras.need("optuna", "sweep", "sweep")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def storage(address: str | None, journal: pathlib.Path) -> Any:
    """Returns the storage at an address, or in a journal file where there is no address."""
    if address is not None and address.startswith("sqlite"):
        # A file's connection costs nothing to open; one that is kept is never closed.
        sqlalchemy = importlib.import_module("sqlalchemy")
        settings = {"poolclass": sqlalchemy.pool.NullPool}
        return optuna().storages.RDBStorage(address, engine_kwargs=settings)
    if address is not None:
        return address
    return optuna().storages.JournalStorage(_journal(journal))


def journal_lock(journal: pathlib.Path) -> pathlib.Path:
    """Returns the lock file of a journal."""
    return journal.with_name(f".{journal.name}.lock")


def _journal(path: pathlib.Path) -> Any:
    """Returns Optuna's journal in a file, with another lock, and mended after a power cut.

    Optuna's own lock is a symbolic link to the journal. A worker that is killed leaves it behind,
    and where its target is gone, as in a directory that was moved, Optuna waits for it without end.
    """
    module = optuna().storages.journal
    lock = locks.FileLock(journal_lock(path), f"waiting for another worker to write {path}")

    class Lock:
        def acquire(self) -> bool:
            lock.__enter__()
            return True

        def release(self) -> None:
            lock.__exit__()

    class Journal(module.JournalFileBackend):
        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            with lock:
                _cut_torn_line(path)
                super().append_logs(logs)

    return Journal(str(path), Lock())


def _cut_torn_line(path: pathlib.Path) -> None:
    """Removes a last line that a power cut left without its end: the next would continue it."""
    with contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 4096)
            file.seek(start)
            if (place := file.read(end - start).rfind(b"\n")) >= 0:
                end = start + place + 1
                break
            end = start
        if end < size:
            file.truncate(end)


def distribution(dimension: Dimension) -> Any:
    """Returns the distribution that Optuna draws a dimension's values from."""
    distributions = optuna().distributions
    if dimension.kind == "choice":
        return distributions.CategoricalDistribution(dimension.choices)
    if dimension.kind == "int":
        return distributions.IntDistribution(int(dimension.low), int(dimension.high))
    return distributions.FloatDistribution(
        dimension.low, dimension.high, log=dimension.kind == "log"
    )


def pruner(name: str) -> Any:
    """Returns the rule, a value of `Sweep.prune`, that stops settings early."""
    pruners = optuna().pruners
    if name == "asha":
        return _best_third()
    if name == "median":
        return pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=0)
    return pruners.NopPruner()


def _best_third() -> Any:
    """Returns ASHA (arXiv:1810.05934): after 1, 3, 9, ... epochs the best third goes on.

    Optuna's own pruner compares a setting that was taken over with its own earlier attempt.
    """
    module = optuna()

    class BestThird(module.pruners.BasePruner):
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
                if epoch in each.intermediate_values and each.state != module.trial.TrialState.FAIL
            )
            return trial.intermediate_values[epoch] < reached[-max(1, len(reached) // 3)]

    return BestThird()
