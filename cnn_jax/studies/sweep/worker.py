"""A worker: takes a setting, trains it with every seed (and fold) in a process each, records it."""

import dataclasses
import errno
import math
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

from cnn_jax import experiment, files, text
from cnn_jax.errors import RunError, UsageError
from cnn_jax.evaluation import selection
from cnn_jax.experiment import Experiment
from cnn_jax.options import Sweep
from cnn_jax.reporting import tables
from cnn_jax.runs import recorder
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import collapse, seeds
from cnn_jax.studies.sweep import processes
from cnn_jax.studies.sweep.study import Study
from cnn_jax.studies.sweep.trial import LostError, Trial

HEARTBEAT_SECONDS = 5.0
_LITTLE_SPACE = 1 << 16  # bytes; of a disk with less nobody can say what went wrong
_OVER = ("finished", "diverged")  # runs that need no more training


@dataclasses.dataclass(frozen=True)
class Worker:
    """How one process works on a sweep.

    Attributes:
        study: the study that settings are taken from.
        base: the experiment that all settings vary.
        say: takes each line to show.
        stop: returns the signal that asked to give the setting back and leave, or None.
        program: the words that start the command line; see `processes.program`.
        machine_flags: flags for every run: where and how to compute, and which code to load.
    """

    study: Study
    base: Experiment
    say: Callable[[str], None]
    stop: Callable[[], int | None]
    program: Sequence[str]
    machine_flags: Sequence[str] = ()

    def work(self) -> None:
        """Tries settings until none is left, and waits for those that other workers may yet lose.

        Raises:
            Stopped: `stop` said so; the setting was given back.
        """
        while True:
            trial = self.study.take()
            if trial is None:
                if not self.study.running():
                    return
                processes.pause(HEARTBEAT_SECONDS, self.stop)
                continue
            self.say(f"trial {trial.place}  {tables.settings(trial.setting)}")
            try:
                outcome = self._try(trial)
            except BaseException:
                trial.release()
                raise
            self.study.write_records()
            self.say(f"           {outcome}")

    def _try(self, trial: Trial) -> str:
        """Trains every run of a setting, records the result, and returns it in a few words."""
        try:
            runs = self._runs(trial)
            pruned = False
            for directory, config in runs.items():
                pruned = self._train(trial, directory, config)
                if pruned or directory.status() != "finished":
                    break
            rule = selection.Rule.of(next(iter(runs.values())))
            return _record(trial, list(runs), pruned, rule)
        except UsageError as error:  # a combination, or a value that only the data could refuse
            trial.refuse(error.for_command_line)
            return f"left out: {error.for_command_line}"
        except LostError:
            return "this worker was silent for too long; another has taken over its setting"

    def _runs(self, trial: Trial) -> dict[RunDirectory, Experiment]:
        """Returns the experiment of every seed and fold of a setting, by its directory.

        Raises:
            UsageError: the setting is not legal.
            RunError: a directory holds a run of another setting.
        """
        # TensorBoard's tables cut names off at their ends, and know a group by its runs' name.
        name = f"{trial.place}-{self.study.directory.name}"
        runs = {
            RunDirectory(trial.directory / run): experiment.replace(
                self.base, {**trial.setting, **changes, "name": name}
            )
            for run, changes in repetitions(self.study.options, self.base).items()
        }
        for directory, config in runs.items():
            if not directory.exists():
                continue
            absolute = map(experiment.with_absolute_paths, (directory.config(), config))
            if experiment.difference(*absolute).keys() - {"name"}:
                raise RunError(
                    f"{text.shown(directory.path)} holds a run of another setting: the sweep's "
                    "storage is not the one it was started with; give that one, or another "
                    "--workdir"
                )
        return runs

    def _train(self, trial: Trial, directory: RunDirectory, config: Experiment) -> bool:
        """Trains one run to its end in a process of its own; returns whether it was pruned.

        Raises:
            Stopped: `stop` said so; the run has saved its state.
            UsageError: the run was refused.
            RunError: the disk is full, which is no fault of the setting.
        """
        reported = 0
        # The first run decides whether the setting is worth the others.
        decides = directory.path.name == next(iter(repetitions(self.study.options, self.base)))
        rule = selection.Rule.of(config)

        def report() -> bool:
            """Reports the epochs that are new; returns whether to stop here."""
            nonlocal reported
            history = directory.read("history", []) if decides else []
            for record in history[reported:]:
                reported += 1
                last = reported == config.train.epochs or rule.is_over(history[:reported])
                value = selection.value_of(record)
                if trial.report(record["epoch"], math.nan if value is None else value) and not last:
                    return True
            return False

        beat = _every(HEARTBEAT_SECONDS, trial.beat)
        # A run whose worker was killed may go on, and holds its directory.
        processes.wait_until(lambda: not directory.is_locked(), self.stop, beat)
        if directory.status() in _OVER:
            report()
            return False
        path = trial.directory / f"{directory.path.name}.json"
        files.write_whole(path, lambda file: file.write(experiment.to_json(config).encode()))
        command = [*self.program, "train", f"--config={path}", "--quiet", "--distributed=off"]
        command += [f"--workdir={directory.path}", *self.machine_flags]
        code = processes.run(command, _log(trial), report, self.stop, beat)
        if code and _disk_is_full(_log(trial)):
            raise RunError(
                f"{text.shown(directory.path)}: {os.strerror(errno.ENOSPC)}; free some space, and "
                "the same command goes on"
            )
        if code == UsageError.exit_code:
            raise UsageError(_last_error(_log(trial)))
        return code is None or report()


def repetitions(options: Sweep, base: Experiment) -> dict[str, dict[str, Any]]:
    """Returns {name of its directory: settings} of the runs of each setting, the first first.

    Args:
        options: the sweep.
        base: the experiment that all settings vary.
    """
    seeds = range(base.seed, base.seed + options.seeds)
    if options.folds is None:
        return {f"seed{seed}": {"seed": seed} for seed in seeds}
    return {
        f"seed{seed}_fold{fold}": {"seed": seed, "dataset.fold": f"{fold}/{options.folds}"}
        for seed in seeds
        for fold in range(1, options.folds + 1)
    }


def wait(study: Study, alive: Callable[[], int], stop: Callable[[], int | None]) -> int:
    """Waits until other workers have tried all settings, or have all ended.

    Args:
        study: the study that they take settings from.
        alive: returns how many of them there are.
        stop: returns the signal that asked to wait no longer, or None.

    Returns:
        The number of settings that are left.

    Raises:
        Stopped: `stop` said so.
    """
    while (left := study.left()) and alive():
        processes.pause(1.0, stop)
    return left


def _record(
    trial: Trial, directories: Sequence[RunDirectory], pruned: bool, rule: selection.Rule
) -> str:
    """Records the result of a setting, read from its runs; returns it in a few words."""
    seconds = sum(directory.trained_seconds() for directory in directories)
    values: list[float] = []
    collapsed = 0
    if pruned:
        epochs = len(directories[0].read("history", []))
        recorder.mark_pruned(directories[0], epochs)
        trial.prune(seconds)
        return f"stopped after {text.plural(epochs, 'epoch')}: others did better by then"
    for directory in directories:
        status = directory.status()
        if status == "diverged":
            trial.diverge(seconds)
            return "diverged"
        history = directory.read("history", [])
        if status != "finished" or not history:
            reason = directory.read("status", {}).get("error", f"status {status}")
            again = trial.fail(str(reason))
            tip = "will be tried again" if again else "given up, after the last attempt"
            return f"crashed, {tip}: see {text.shown(_log(trial))}"
        value = selection.value_of(rule.outcome(history))
        values.append(selection.METRICS[rule.metric].worst if value is None else value)
        counts = collapse.validation_counts(directory.read("data", {}))
        collapsed += collapse.has_collapsed(history, counts)
    trial.finish(values, seconds, collapsed)
    note = f", {collapsed} of {len(values)} collapsed: says one class only" if collapsed else ""
    title = selection.METRICS[rule.metric].title
    return f"validation {title} {seeds.fold(values)}, {seconds:.0f} s{note}"


def _log(trial: Trial) -> pathlib.Path:
    """Returns the file for the output of a setting's programs."""
    return trial.directory / "log.txt"


def _last_error(log: pathlib.Path) -> str:
    """Returns the error message of the last of a setting's programs, or where to look."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return errors[-1] if errors else f"see {text.shown(log)}"


def _disk_is_full(log: pathlib.Path) -> bool:
    """Returns whether a setting's program may have ended because its disk is full."""
    said = _last_error(log) if log.exists() else ""
    return os.strerror(errno.ENOSPC) in said or shutil.disk_usage(log.parent).free < _LITTLE_SPACE


def _every(seconds: float, action: Callable[[], None]) -> Callable[[], None]:
    """Returns a function that runs an action, but not more often than once in some seconds."""
    last = time.monotonic()

    def maybe() -> None:
        nonlocal last
        if time.monotonic() - last > seconds:
            action()
            last = time.monotonic()

    return maybe
