"""What is done to a sweep on a real Slurm. Its settings end complete, or `Fault` says what failed.

The Slurm that SLURM_CONF names has two nodes or more, idle, on this machine or beside it, and the
right to cancel jobs and to take nodes down is that of whoever runs this.
"""

import contextlib
import os
import re
import subprocess
import time

from benchmarks.clusters.sweeps import Fault, Sweep


def _ask(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def _cpus() -> str:
    """Returns how many processors fill a node, so that a job has a node for itself."""
    return "cpus_per_task=" + _ask("sinfo", "--noheader", "--format=%c").splitlines()[0].strip("+")


def _jobs(state: str = "RUNNING") -> list[str]:
    return _ask(
        "squeue", "--noheader", "--array", f"--states={state}", "--name=submitit", "--format=%i"
    ).split()


def _flags(workers: int, resources: str) -> list[str]:
    return [
        "--sweep.launcher=slurm",
        f"--sweep.parallel={workers}",
        f"--sweep.resources={resources}",
    ]


def queued(sweep: Sweep) -> str:
    """Three workers on two nodes: one job waits until the settings are tried, and is cancelled."""
    process = sweep.start(*_flags(3, _cpus()))
    sweep.running()
    waiting = len(_jobs("PENDING"))
    sweep.ends(process)
    left = sweep.wait_for("the end of the jobs", lambda: not _jobs("PENDING,RUNNING"))
    return f"{waiting} job waited, none was left" if left else ""


def cancelled(sweep: Sweep) -> str:
    """One of two jobs is cancelled by scancel in the midst of training."""
    process = sweep.start(*_flags(2, _cpus()))
    held = sweep.running(2)
    job, began = _jobs()[0], time.monotonic()
    _ask("scancel", job)
    sweep.wait_for("its end", lambda: job not in _jobs("RUNNING,COMPLETING"))
    seconds = time.monotonic() - began
    free = [place for place in held if sweep.worker(place) is None]
    sweep.ends(process)
    return f"the job ended {seconds:.0f} s later, {len(free)} setting was given back"


def killed(sweep: Sweep) -> str:
    """All processes of one of two jobs are killed by SIGKILL in the midst of training."""
    process = sweep.start(*_flags(2, _cpus()))
    sweep.running(2)
    _ask("scancel", "--full", "--signal=KILL", _jobs()[0])
    sweep.ends(process)
    return "the other worker took over what was left"


def time_limit(sweep: Sweep) -> str:
    """Both jobs reach their time limit in the midst of the sweep, and are queued again."""
    limit = 3  # minutes; Slurm announces it one before
    process = sweep.start(*_flags(2, f"{_cpus()},timeout_min={limit},slurm_signal_delay_s=60"))
    queued_again = set()

    def ended() -> bool:
        lines = _ask("squeue", "--noheader", "--array", "--name=submitit", "--format=%i %r")
        queued_again.update(x.split()[0] for x in lines.splitlines() if x.endswith("BeginTime"))
        return process.poll() is not None

    sweep.wait_for("the end of the sweep", ended)
    sweep.ends(process)
    if not queued_again:
        raise Fault("no job reached its limit; the runs have to be longer")
    return f"{len(queued_again)} jobs were queued again"


def node_down(sweep: Sweep) -> str:
    """A node is taken down in the midst of training; Slurm queues its job again."""
    process = sweep.start(*_flags(2, _cpus()))
    sweep.running(2)
    node = _ask("squeue", "--noheader", "--states=RUNNING", "--name=submitit", "--format=%N")
    node = node.splitlines()[0]
    _ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    time.sleep(5)
    with contextlib.suppress(subprocess.CalledProcessError):  # it may have come back by itself
        _ask("scontrol", "update", f"nodename={node}", "state=resume")
    sweep.ends(process)
    return f"node {node} was down"


def stopped(sweep: Sweep) -> str:
    """The process that started the jobs gets SIGTERM; the same command goes on."""
    return sweep.is_stopped_and_goes_on(*_flags(2, _cpus()))


def joined(sweep: Sweep) -> str:
    """`srun -n 4` starts four workers of one sweep, which go separate ways."""
    tasks = ["srun", "--ntasks=4", "--overcommit", "--nodes=2", "--label"]
    process = sweep.start(before=tasks)
    sweep.ends(process)
    said = (sweep.path.parent / f"{sweep.path.name}.log.txt").read_text()
    trained = set(re.findall(r"^(\d+): trial \d", said, re.MULTILINE))
    if len(trained) < 2:
        raise Fault(f"only the tasks {trained} have trained")
    return f"{len(trained)} of 4 tasks have trained"


def version() -> str:
    """Returns the version of Slurm."""
    return _ask("sinfo", "--version")


def is_there() -> bool:
    """Returns whether there is a Slurm to try."""
    try:
        return bool(os.environ.get("SLURM_CONF")) and len(_ask("sinfo", "-hN").splitlines()) > 1
    except (OSError, subprocess.CalledProcessError):
        return False


SCENARIOS = {
    "queued": queued,
    "cancelled": cancelled,
    "killed": killed,
    "time_limit": time_limit,
    "node_down": node_down,
    "stopped": stopped,
    "joined": joined,
}
