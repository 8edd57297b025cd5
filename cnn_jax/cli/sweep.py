"""The command `sweep`: plans, works on the settings, and prints the best.

Started again, on this machine or on another that sees the directory, the same command joins in or
goes on.
"""

import dataclasses
import shlex
import signal
import sys

from cnn_jax import experiment, extras, text
from cnn_jax.cli import console, presets
from cnn_jax.cli.invocation import Invocation
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.options import Sweep
from cnn_jax.runs.directory import RunDirectory, new_directory
from cnn_jax.studies.sweep import plan, results, team
from cnn_jax.studies.sweep.plan import Plan
from cnn_jax.studies.sweep.processes import Stopped
from cnn_jax.studies.sweep.results import Results
from cnn_jax.studies.sweep.study import OPEN, Study
from cnn_jax.training.signals import stop_signals


def run_command(invocation: Invocation) -> int:
    """Runs `sweep` to its end, or goes on with one; returns the exit code.

    Raises:
        UsageError: the space or a setting is not legal; nothing was started.
        RunError: the workers failed, or no setting has a result.
    """
    directory, base, options = _open(invocation)
    if options.method == "grid" and "trials" in invocation.sweep:
        raise UsageError(
            "--sweep.method=grid tries every combination; leave --sweep.trials out, or give "
            "--sweep.method=random"
        )
    command = shlex.join([*text.program(), *sys.argv[1:]])
    study = plan.start(directory, base, options, presets.question(invocation), command)
    say = console.speaker(invocation.quiet)
    settings, seeds = text.plural(study.wanted, "setting"), text.plural(options.seeds, "seed")
    folds = "" if options.folds is None else f" on each of {options.folds} folds"
    say(f"sweep      {base.name}: {options.method}, {settings}, {seeds} each{folds}")
    say(f"results    {text.shown(directory.path)}")
    if paths := plan.paths_that_change_images(options, base):
        names = " and ".join(paths)
        say(f"note       settings that differ in {names} are validated on different images")
    if done := sum(record["state"] not in OPEN for record in study.records()):
        say(f"           {done} of {settings} done already")
    stopped_by, left, code = None, 0, invocation.code_flags
    with stop_signals() as received:
        try:
            machine = invocation.machine_flags
            left = team.work(study, base, say, received, machine)
        except Stopped:
            stopped_by = received() or signal.SIGINT
            print("stopped; what was being trained is saved")
            print(f"go on with: {_go_on(study, code)}")
    if left:
        raise RunError(
            f"all workers have ended, and {text.plural(left, 'setting')} "
            f"{'is' if left == 1 else 'are'} left; their logs say why. "
            f"Go on with: {_go_on(study, code)}"
        )
    found = results.write(study, base)
    _print(found, directory, code)
    if stopped_by is not None:
        return 128 + stopped_by
    if not found.any:
        raise RunError(
            f"no setting has a result; {text.shown(directory.path / 'sweep.json')} and the "
            "log.txt of every trial say why"
        )
    return 0


def _open(invocation: Invocation) -> tuple[RunDirectory, Experiment, Sweep]:
    """Returns directory, experiment and options; a started sweep keeps its own.

    Raises:
        UsageError: a flag would change the plan of a sweep that was started.
    """
    if invocation.workdir is None:
        base = presets.resolve(invocation)
        options = plan.with_absolute_paths(presets.resolve_sweep(invocation))
        return new_directory(f"{base.name}-sweep"), base, options
    directory = RunDirectory(invocation.workdir)
    # A preset may register the code that the plan needs.
    preset = None if invocation.config is None else presets.resolve(invocation)
    started = plan.read(directory, is_given="space" in invocation.sweep)
    if started is None:
        options = plan.with_absolute_paths(presets.resolve_sweep(invocation))
        return directory, preset or presets.resolve(invocation), options
    base = preset or experiment.replace(started.base, invocation.overrides)
    options = presets.resolve_sweep(invocation, otherwise=started.options)
    plan.check_unchanged(directory, started, Plan(base, options))
    # The settings that were tried already have their values as the plan has them.
    return directory, started.base, dataclasses.replace(options, space=started.options.space)


def _go_on(study: Study, code_flags: list[str]) -> str:
    """Returns the command that goes on with a sweep as it was started this time."""
    default = Sweep()
    changed = [
        f"--sweep.{name}={value}"
        for name in plan.START_FIELDS
        if (value := getattr(study.options, name)) != getattr(default, name)
    ]
    return text.command_line("sweep", study.directory, *changed, *code_flags)


def _print(found: Results, directory: RunDirectory, code_flags: list[str]) -> None:
    """Prints the best settings, the files, and the command that trains the best one."""
    counts = ", ".join(f"{count} {state}" for state, count in found.states.items())
    print(counts or "no settings")
    if not found.records:
        return
    if found.complete or found.collapsed:
        print(results.table(found))
    if extras.has("matplotlib"):
        print(f"figure     {text.shown(directory.figures / 'sweep.png')}")
    print(f"all        {text.shown(directory.path / 'sweep.json')}")
    if found.complete:
        config = f"--config={text.shown(directory.path / 'best.json')}"
        line = text.command_line("train", directory.path / "best", config, *code_flags)
        print(f"train best {line}")
