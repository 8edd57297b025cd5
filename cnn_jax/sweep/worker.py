"""A worker: takes a setting, trains it in processes of their own, says what it came to."""

import pathlib
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from cnn_jax import experiment, run
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.sweep import study as studies
from cnn_jax.sweep.study import Study, Trial

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch.py"
_POLL_SECONDS = 0.2


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """Somebody asked this worker to stop; its setting was given back."""


def work(
    study: Study,
    base: Experiment,
    seeds: int,
    say: Callable[[str], None],
    stop: Callable[[], bool],
    machine: Sequence[str] = (),
) -> None:
    """Tries settings until none is left, waiting for those that other workers may yet lose.

    Args:
        study: what to take settings from.
        base: what all settings vary.
        seeds: runs of each setting.
        say: shows a line.
        stop: whether to give back and leave.
        machine: flags for every run that say where and how to compute.

    Raises:
        Stopped: `stop` said so.
    """
    while True:
        trial = study.take()
        if trial is None:
            if not study.running():
                return
            _pause(studies.HEARTBEAT_SECONDS, stop)
            continue
        shown = ", ".join(f"{path}={value}" for path, value in trial.setting.items())
        say(f"trial {trial.place}  {shown}")
        try:
            outcome = _try(trial, base, seeds, stop, machine)
        except BaseException:
            trial.release()
            raise
        say(f"           {outcome}")


def _pause(seconds: float, stop: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if stop():
            raise Stopped
        time.sleep(_POLL_SECONDS)


def _try(
    trial: Trial,
    base: Experiment,
    seeds: int,
    stop: Callable[[], bool],
    machine: Sequence[str],
) -> str:
    """Trains a setting with every seed and records the outcome; returns it in a few words."""
    values: list[float] = []
    seconds = 0.0
    for seed in range(base.seed, base.seed + seeds):
        changes: dict[str, Any] = {**trial.setting, "seed": seed}
        try:
            config = experiment.replace(base, {**changes, "name": f"{base.name}-{trial.place}"})
        except UsageError as error:  # with tpe, which combines values as it goes
            trial.refuse(str(error))
            return f"left out: {error}"
        directory = run.RunDirectory(trial.directory / f"seed{seed}")
        # One seed decides whether the setting is worth the others.
        pruned = _train(trial, directory, config, seed == base.seed, stop, machine)
        history = directory.read("history", [])
        seconds += history[-1]["seconds"] if history else 0.0
        status = directory.status()
        if pruned:
            trial.prune(seconds)
            return f"stopped after epoch {len(history)}: others did better by then"
        if status == "diverged":
            trial.diverge(seconds)
            return "diverged"
        if status != "finished":
            reason = directory.read("status", {}).get("error", f"status {status}")
            again = trial.fail(str(reason))
            tip = "will be tried again" if again else "given up, after the last attempt"
            return f"crashed, {tip}: see {run.shown(trial.directory / 'log.txt')}"
        values.append(history[-1]["validation_accuracy"])
    std = statistics.stdev(values) if len(values) > 1 else None
    trial.finish(values, std, seconds)
    spread = "" if std is None else f" ± {std:.4f}"
    return f"validation accuracy {statistics.mean(values):.4f}{spread}, {seconds:.0f} s"


def _train(
    trial: Trial,
    directory: run.RunDirectory,
    config: Experiment,
    report: bool,
    stop: Callable[[], bool],
    machine: Sequence[str],
) -> bool:
    """Trains one run to its end in a process of its own; returns whether it was pruned.

    Raises:
        Stopped: `stop` said so; the run has saved its state.
    """
    told = 0

    def epochs() -> bool:
        """Reports new epochs; returns whether to stop here."""
        nonlocal told
        history = directory.read("history", []) if report else []
        for record in history[told:]:
            told += 1
            last = told == config.train.epochs
            if trial.report(record["epoch"], record["validation_accuracy"]) and not last:
                return True
        return False

    finished = ("finished", "diverged")
    if directory.exists() and directory.status() in finished:
        epochs()
        return False
    path = trial.directory / f"{directory.path.name}.json"
    path.write_text(experiment.to_json(config))
    command = [sys.executable, str(LAUNCH), "train", f"--config={path}", "--quiet"]
    command += [f"--workdir={directory.path}", *machine]
    # A session of its own: a Ctrl-C at the terminal reaches the worker, which passes it on once.
    with open(trial.directory / "log.txt", "ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    beaten = time.monotonic()
    try:
        while process.poll() is None:
            if time.monotonic() - beaten > studies.HEARTBEAT_SECONDS:
                trial.beat()
                beaten = time.monotonic()
            if epochs():
                _end(process)
                return True
            if stop():
                raise Stopped
            time.sleep(_POLL_SECONDS)
    finally:
        if process.poll() is None:
            _end(process)
    return epochs()


def _end(process: subprocess.Popen) -> None:
    """Asks a run to save its state and end, and waits for it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
