"""A worker: takes a setting, trains it in processes of their own, says what it came to."""

import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from cnn_jax import experiment, run
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Experiment, Sweep
from cnn_jax.reporting import tables
from cnn_jax.sweep import study as studies
from cnn_jax.sweep import together
from cnn_jax.sweep.study import Study, Trial

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch.py"
TOGETHER = ("-m", together.__name__)
# Of Sweep: how a start works, and not what the sweep tries.
OF_A_START = ("parallel", "launcher", "resources")
_OVER = ("finished", "diverged")  # runs that need no more training
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
        trials = _take(study)
        if not trials:
            if not study.running():
                return
            _pause(studies.HEARTBEAT_SECONDS, stop)
            continue
        for trial in trials:
            say(f"trial {trial.place}  {tables.settings(trial.setting)}")
        try:
            for trial, outcome in _try(study, trials, base, seeds, say, stop, machine):
                study.write_records()
                say(
                    f"           {outcome}"
                    if len(trials) == 1
                    else f"      {trial.place} {outcome}"
                )
        except BaseException:
            for trial in trials:
                trial.release()
            raise


def _take(study: Study) -> list[Trial]:
    """Takes as many settings as are trained at once, or what is left."""
    taken: list[Trial] = []
    while len(taken) < study.options.vectorize and (trial := study.take()) is not None:
        taken.append(trial)
    return taken


def go_on(study: Study) -> str:
    """Returns the command that goes on with a sweep as it was started this time."""
    asked = {name: getattr(study.options, name) for name in OF_A_START}
    default = Sweep()
    given = [f"--sweep.{k}={v}" for k, v in asked.items() if v != getattr(default, k)]
    return run.command_line("sweep", study.directory, *given)


def wait(study: Study, alive: Callable[[], int], stop: Callable[[], bool]) -> None:
    """Waits until others have come to the end of all settings.

    Args:
        study: what they take settings from.
        alive: returns how many of them there are.
        stop: whether to leave.

    Raises:
        Stopped: `stop` said so.
        RunError: all have ended, and settings are left.
    """
    while left := study.left():
        if not alive():
            raise RunError(
                f"all workers have ended, and {left} settings are left; their logs say why. "
                f"Go on with: {go_on(study)}"
            )
        _pause(1.0, stop)


def _pause(seconds: float, stop: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    _hold([], lambda: time.monotonic() >= end, stop)


def _try(
    study: Study,
    trials: Sequence[Trial],
    base: Experiment,
    seeds: int,
    say: Callable[[str], None],
    stop: Callable[[], bool],
    machine: Sequence[str],
) -> Iterator[tuple[Trial, str]]:
    """Trains settings with every seed and records what they come to.

    Yields:
        (setting, its outcome in a few words)
    """
    legal: list[tuple[Trial, dict[run.RunDirectory, Experiment]]] = []
    for trial in trials:
        try:
            legal.append((trial, _runs(study, trial, base, seeds)))
        except UsageError as error:  # with tpe, which combines values as it goes
            trial.refuse(str(error))
            yield trial, f"left out: {error}"
    if study.options.vectorize > 1:
        _train_together(legal, say, stop, machine)
    held = [trial for trial, _ in legal]
    for trial, runs in legal:
        try:
            pruned = False
            for directory, config in runs.items():
                # One seed decides whether the setting is worth the others.
                first = config.seed == base.seed
                pruned = _train(trial, held, directory, config, first, stop, machine)
                if pruned or directory.status() != "finished":
                    break
            outcome = _conclude(trial, list(runs), pruned)
        except UsageError as error:  # of the run itself, which nothing but the data could tell
            trial.refuse(str(error))
            outcome = f"left out: {error}"
        except studies.LostError:
            outcome = "this worker was silent for too long; another has taken it over"
        held.remove(trial)
        yield trial, outcome


def _runs(
    study: Study, trial: Trial, base: Experiment, seeds: int
) -> dict[run.RunDirectory, Experiment]:
    """Returns the experiment of every seed of a setting, by its directory.

    Raises:
        UsageError: the setting is not legal.
        RunError: a directory holds a run of another setting.
    """
    # TensorBoard's tables cut names off at their ends, and know a group by its runs' name.
    name = f"{trial.place}-{study.directory.name}"
    runs = {
        run.RunDirectory(trial.directory / f"seed{seed}"): experiment.replace(
            base, {**trial.setting, "seed": seed, "name": name}
        )
        for seed in range(base.seed, base.seed + seeds)
    }
    for directory, config in runs.items():
        if not directory.exists():
            continue
        if experiment.difference(directory.config(), config).keys() - {"name"}:
            raise RunError(
                f"{run.shown(directory.path)} holds a run of another setting: the sweep's storage "
                "is not the one it was started with; give that one, or another --workdir"
            )
    return runs


def _conclude(trial: Trial, directories: Sequence[run.RunDirectory], pruned: bool) -> str:
    """Records what the runs of a setting came to, and returns it in a few words."""
    values: list[float] = []
    seconds = sum(directory.trained_seconds() for directory in directories)
    for directory in directories:
        history = directory.read("history", [])
        status = directory.status()
        if pruned:
            directory.set_status("pruned", epochs=len(history))
            trial.prune(seconds)
            return f"stopped after epoch {len(history)}: others did better by then"
        if status == "diverged":
            trial.diverge(seconds)
            return "diverged"
        if status != "finished":
            reason = directory.read("status", {}).get("error", f"status {status}")
            again = trial.fail(str(reason))
            tip = "will be tried again" if again else "given up, after the last attempt"
            return f"crashed, {tip}: see {run.shown(_log(trial))}"
        values.append(history[-1]["validation_accuracy"])
    std = statistics.stdev(values) if len(values) > 1 else None
    trial.finish(values, std, seconds)
    spread = "" if std is None else f" ± {std:.4f}"
    return f"validation accuracy {statistics.mean(values):.4f}{spread}, {seconds:.0f} s"


def _train_together(
    trials: Sequence[tuple[Trial, dict[run.RunDirectory, Experiment]]],
    say: Callable[[str], None],
    stop: Callable[[], bool],
    machine: Sequence[str],
) -> None:
    """Trains the runs of several settings, those in one process that can be; what is left is left.

    Raises:
        Stopped: `stop` said so; the runs have saved their states.
    """
    groups: dict[str, list[str]] = {}
    for trial, runs in trials:
        for directory, config in runs.items():
            if directory.status() not in _OVER and not directory.is_locked():
                path = _write_config(trial, directory, config)
                groups.setdefault(together.alike(config), []).append(str(path))
    held = [trial for trial, _ in trials]
    for paths in groups.values():
        if len(paths) > 1:
            command = [sys.executable, *TOGETHER, *machine, *paths]
            log = _log(held[0])
            if _watch(command, log, held, lambda: False, stop):
                say(f"           not trained together, so one by one: {_last_error(log)}")


def _train(
    trial: Trial,
    held: Sequence[Trial],
    directory: run.RunDirectory,
    config: Experiment,
    report: bool,
    stop: Callable[[], bool],
    machine: Sequence[str],
) -> bool:
    """Trains one run to its end in a process of its own; returns whether it was pruned.

    Args:
        trial: of the run.
        held: it and the others that this worker says it is alive for.
        directory: of the run.
        config: of the run.
        report: whether its epochs decide on pruning.
        stop: whether to give back and leave.
        machine: flags that say where and how to compute.

    Raises:
        Stopped: `stop` said so; the run has saved its state.
        UsageError: the run was refused.
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

    # Locked by a run that goes on although its worker was killed.
    _hold(held, lambda: not directory.is_locked(), stop)
    if directory.status() in _OVER:
        epochs()
        return False
    path = _write_config(trial, directory, config)
    command = [sys.executable, str(LAUNCH), "train", f"--config={path}", "--quiet"]
    command += [f"--workdir={directory.path}", *machine]
    code = _watch(command, _log(trial), held, epochs, stop)
    if code == UsageError.exit_code:
        raise UsageError(_last_error(_log(trial)))
    return code is None or epochs()


def _write_config(trial: Trial, directory: run.RunDirectory, config: Experiment) -> pathlib.Path:
    path = trial.directory / f"{directory.path.name}.json"
    path.write_text(experiment.to_json(config))
    return path


def _log(trial: Trial) -> pathlib.Path:
    """Returns the file that takes what a setting's programs print."""
    return trial.directory / "log.txt"


def _last_error(log: pathlib.Path) -> str:
    """Returns what the last of a setting's programs said was wrong, or where to look."""
    lines = log.read_text(errors="replace").splitlines()
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return said[-1] if said else f"see {run.shown(log)}"


def _watch(
    command: Sequence[str],
    log_to: pathlib.Path,
    trials: Sequence[Trial],
    ended: Callable[[], bool],
    stop: Callable[[], bool],
) -> int | None:
    """Runs a program to its end, or until `ended` says that it is enough.

    Args:
        command: of the program.
        log_to: the file that takes what it prints.
        trials: that this worker says it is alive for.
        ended: whether it is enough.
        stop: whether to leave.

    Returns:
        Its exit code, or None where it was enough.

    Raises:
        Stopped: `stop` said so; the program was asked to save its state, and has ended.
    """
    # The program has to find this package wherever it is started from.
    paths = [str(LAUNCH.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    # A session of its own: a Ctrl-C at the terminal reaches the worker, which passes it on once.
    with open(log_to, "ab") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
        )
    enough = False

    def over() -> bool:
        nonlocal enough
        if process.poll() is None:
            enough = ended()
        return enough or process.poll() is not None

    try:
        _hold(trials, over, stop)
    finally:
        if process.poll() is None:
            _end(process)
    return None if enough else process.returncode


def _hold(trials: Sequence[Trial], over: Callable[[], bool], stop: Callable[[], bool]) -> None:
    """Waits until something is over, and says all the while that this worker is alive.

    Raises:
        Stopped: `stop` said so.
    """
    beaten = time.monotonic()
    while not over():
        if time.monotonic() - beaten > studies.HEARTBEAT_SECONDS:
            for trial in trials:
                trial.beat()
            beaten = time.monotonic()
        if stop():
            raise Stopped
        time.sleep(_POLL_SECONDS)


def _end(process: subprocess.Popen) -> None:
    """Asks a run to save its state and end, and waits for it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
