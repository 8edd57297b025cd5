"""Works on a sweep in this process, and in as many others as were asked for."""

import time
from collections.abc import Callable, Sequence

from cnn_jax.experiment import Experiment
from cnn_jax.studies.sweep import launchers, processes, worker
from cnn_jax.studies.sweep.study import Study


def work(
    study: Study,
    base: Experiment,
    say: Callable[[str], None],
    stop: Callable[[], int | None],
    machine_flags: Sequence[str] = (),
    program: Sequence[str] | None = None,
) -> int:
    """Works until all settings have been tried; returns how many are left where that fails.

    Args:
        study: the study; its options say who starts how many workers.
        base: the experiment that all settings vary.
        say: shows a line.
        stop: returns the signal that asked to give back what is being trained, and leave, or None.
        machine_flags: flags for every process: where and how to compute, and which code to load.
        program: the words that start the command line; None: those of `processes.program`.

    Raises:
        UsageError: the launcher is not installed, or does not know a resource.
        RunError: there is no such cluster, or it takes no jobs.
        Stopped: `stop` said so; what was being trained is saved.
    """
    options = study.options
    program = processes.program() if program is None else program
    command = [*program, "sweep", f"--workdir={study.directory}", "--quiet", *machine_flags]
    here = options.launcher == "local"
    others = launchers.start(
        options.launcher,
        command,
        options.parallel - here,
        options.resources,
        study.directory / "workers",
    )
    try:
        if here:
            worker.Worker(study, base, say, stop, program, machine_flags).work()
            left = 0
        else:
            say(f"workers    {options.parallel}, by {options.launcher}")
            left = worker.wait(study, others.alive, stop)
            others.stop()  # those that wait for a machine; the others are about to end
        while others.alive():  # nothing is left for them, so they end by themselves
            if stop():
                others.stop(stop())
            time.sleep(0.1)
    except BaseException:
        others.stop(stop())
        raise
    return left
