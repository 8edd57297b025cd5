"""The command `sweep`: plans, starts workers, and says what came of it.

The directory holds `plan.json` (the experiment and the sweep), `study.journal` (the trials, unless
another storage has them), `study.json` (their name in the storage), `trials/NNNN/seedN` (run
directories), `sweep.json` (what they came to so far), and at the end `best.json` (the best setting
as an experiment) and `figures/sweep.png`. Started again, on this machine or on another that sees
the directory, the same command joins in or goes on.
"""

import dataclasses
import shlex
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

from cnn_jax import compare, experiment, flags, run
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Experiment, Sweep
from cnn_jax.flags import Invocation
from cnn_jax.reporting import figures, progress, tables, tensorboard
from cnn_jax.sweep import launchers, space, together, worker
from cnn_jax.sweep.study import OPEN, OWN_FILES, Study


def run_command(invocation: Invocation) -> int:
    """Runs `sweep` to its end, or goes on with one; returns the exit code.

    Raises:
        UsageError: the space or a setting is not legal; nothing was started.
        RunError: a worker failed, or no setting came to a result.
    """
    directory, base, options = _open(invocation)
    if options.space is None:
        raise UsageError(
            "sweep needs --sweep.space, such as --sweep.space='optimizer.learning_rate="
            "log(1e-4,1e-1)'"
        )
    if options.method == "grid" and "trials" in invocation.sweep:
        raise UsageError(
            "--sweep.method=grid tries every combination; leave --sweep.trials out, or give "
            "--sweep.method=random"
        )
    dimensions = space.parse(options.space, base)
    varied = [dimension.path for dimension in dimensions]
    if options.vectorize > 1:
        together.check(base)
        if options.seeds == 1 and not set(varied) & set(together.ARRAYS):
            raise UsageError(
                f"--sweep.vectorize={options.vectorize} trains together what differs in "
                f"{', '.join(together.ARRAYS)} alone, and --sweep.space varies none of them; leave "
                "it out"
            )
    # Before anything is written: single values may be legal, and their combinations not.
    settings = space.planned(options, dimensions, base)
    directory.path.mkdir(parents=True, exist_ok=True)
    study = Study(directory.path, options, dimensions, base, settings)
    with study.locked():
        plan = directory.read("plan")
        kept = {k: v for k, v in dataclasses.asdict(options).items() if k not in worker.OF_A_START}
        if plan is None:
            plan = {
                "experiment": experiment.to_dict(base),
                "question": flags.question(invocation),
                "command": shlex.join(["python", "launch.py", *sys.argv[1:]]),
            }
            tensorboard.write_sweep(directory.path, experiment.flatten(base), varied)
        directory.write("plan", {**plan, "sweep": kept, "settings": study.wanted})

    say = progress.speaker(invocation.quiet)
    seeds = f"{options.seeds} seed{'s'[: options.seeds > 1]} each"
    say(f"sweep      {base.name}: {options.method}, {study.wanted} settings, {seeds}")
    say(f"results    {run.shown(directory.path)}")
    if data := set(varied) & set(compare.DATA):
        shown = " and ".join(sorted(data))
        say(f"note       settings that differ in {shown} are validated on different images")
    done = sum(record["state"] not in OPEN for record in study.records())
    if done:
        say(f"           {done} of {study.wanted} settings are there already")
    code = _work(study, base, options, directory, say, invocation.machine_flags)
    some = _report(study, base, directory)
    if code == 0 and not some:
        raise RunError(
            f"no setting came to its end; {run.shown(directory.path / 'sweep.json')} and the "
            "log.txt of every trial say why"
        )
    return code


def _open(invocation: Invocation) -> tuple[run.RunDirectory, Experiment, Sweep]:
    """Returns (directory, experiment, options); a plan that exists gives way to nothing but speed.

    Raises:
        UsageError: a flag would change the plan of a sweep that was started.
    """
    if invocation.workdir is None:
        base = flags.resolve(invocation)
        return run.new_directory(f"{base.name}-sweep"), base, flags.resolve_sweep(invocation)
    directory = run.RunDirectory(invocation.workdir)
    if directory.exists():
        raise UsageError(
            f"--workdir={run.shown(directory.path)} is the directory of a training run; give "
            "sweep another one"
        )
    plan = directory.read("plan")
    if plan is None or "sweep" not in plan:
        # Another worker may be about to write the plan, or one was killed then.
        if directory.path.exists() and {x.name for x in directory.path.iterdir()} - OWN_FILES:
            raise UsageError(
                f"--workdir={run.shown(directory.path)} holds other files; give a new directory"
            )
        return directory, flags.resolve(invocation), flags.resolve_sweep(invocation)
    base, options = experiment.from_dict(plan["experiment"]), Sweep(**plan["sweep"])
    asked = flags.resolve_sweep(invocation, otherwise=options)
    if asked.trials < options.trials:
        raise UsageError(
            f"the sweep in {run.shown(directory.path)} has --sweep.trials={options.trials}, which "
            f"can become more and not {asked.trials}; leave the flag out to go on"
        )
    for field in dataclasses.fields(Sweep):
        old, new = getattr(options, field.name), getattr(asked, field.name)
        if not field.metadata["resumable"] and old != new:
            raise UsageError(
                f"the sweep in {run.shown(directory.path)} was started with --sweep.{field.name}="
                f"{old}, not {new}; leave the flag out to go on, or give another --workdir"
            )
    if invocation.config is not None or invocation.overrides:
        now = (
            flags.resolve(invocation)
            if invocation.config is not None
            else experiment.replace(base, invocation.overrides)
        )
        changed = [path for path in experiment.difference(base, now) if path != "name"]
        if changed:
            raise UsageError(
                f"the sweep in {run.shown(directory.path)} was started with another "
                f"--{changed[0]}; leave the flag out to go on, or give another --workdir"
            )
    return directory, base, asked


def _work(
    study: Study,
    base: Experiment,
    options: Sweep,
    directory: run.RunDirectory,
    say: Any,
    machine: list[str],
) -> int:
    """Works here, and in as many more processes as were asked for; returns the exit code."""
    stopping = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stopping.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    command = [sys.executable, str(worker.LAUNCH), "sweep", f"--workdir={directory.path}"]
    command += ["--quiet", *machine]
    here = options.launcher == "local"
    try:
        others = launchers.start(
            options.launcher,
            command,
            options.parallel - here,
            options.resources,
            directory.path / "workers",
        )
        try:
            if here:
                worker.work(study, base, options.seeds, say, stopping.is_set, machine)
            else:
                say(f"workers    {options.parallel}, by {options.launcher}")
                worker.wait(study, others.alive, stopping.is_set)
            if not here:
                others.stop()  # those that wait for a machine; the rest is about to end
            while others.alive():  # nothing is left for them, so they end by themselves
                if stopping.is_set():
                    others.stop()
                time.sleep(0.1)
        except BaseException:
            others.stop()
            raise
    except worker.Stopped:
        print("stopped; what was being trained is saved")
        print(f"go on with: {worker.go_on(study)}")
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _report(study: Study, base: Experiment, directory: run.RunDirectory) -> bool:
    """Writes what was found and prints it, the best first; returns whether there is anything."""
    records = study.write_records()
    complete = sorted((r for r in records if r["state"] == "complete"), key=lambda r: -r["value"])
    counts = {state: sum(r["state"] == state for r in records) for state in _states(records)}
    print(", ".join(f"{count} {state}" for state, count in counts.items()) or "no settings")
    if not records:
        return False
    paths = list(records[0]["setting"])
    rows = [
        [
            record["place"],
            *(tables.shown(record["setting"][path]) for path in paths),
            f"{record['value']:.4f}",
            "" if record["std"] is None else f"{record['std']:.4f}",
            f"{record['seconds']:.0f}",
        ]
        for record in complete[:10]
    ]
    headers = ["trial", *paths, "validation accuracy", "± std", "seconds"]
    if complete:
        print(tables.table(rows, headers))
    if len(complete) > 10:
        print(f"and {len(complete) - 10} more")
    figures.save(figures.sweep(records, paths), directory.figures / "sweep.png")
    print(f"figure     {run.shown(directory.figures / 'sweep.png')}")
    print(f"all        {run.shown(directory.path / 'sweep.json')}")
    if complete:
        best = experiment.replace(base, complete[0]["setting"])
        directory.write("best", experiment.to_dict(best))
        path = run.shown(directory.path / "best.json")
        line = run.command_line("train", directory.path / "best", f"--config={path}")
        print(f"train best {line}")
    return any(record["state"] in ("complete", "diverged") for record in records)


def _states(records: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(record["state"] for record in records))
