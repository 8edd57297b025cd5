"""What starts workers of a sweep on a cluster: jobs of Slurm, through submitit, and tasks of Ray.

Both are processes of the command `sweep --workdir=DIR`, as `launchers` says.
"""

import contextlib
import os
import pathlib
import shlex
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from cnn_jax.errors import RunError, UsageError
from cnn_jax.studies.sweep import processes

# submitit would use this machine where there is no Slurm, and end jobs after five minutes.
_CLUSTER = "slurm"
_SLURM_DEFAULTS = {"timeout_min": 24 * 60}
# How often a job that reached its time limit is queued again. A setting that was given back goes
# on from its last checkpoint, so a sweep may take many times the limit.
_MOST_REQUEUES = 100
# The part of a GPU's memory that JAX takes at its start, unless it is told.
_GPU_MEMORY = 0.75
# How often Ray starts a worker again whose machine it has lost.
_MOST_RESTARTS = 3
# How often the controller of a cluster is asked which jobs there are.
_ASK_SECONDS = 10.0
# How long workers that were asked to stop may take; Slurm kills a job 30 s after it cancels it.
_STOP_SECONDS = 90.0


class Slurm:
    """Workers that are jobs of Slurm.

    submitit asks Slurm's accounting for their states, which small clusters do not have, and
    elsewhere every ten minutes; so `squeue` is asked, which lists the jobs that have not ended.

    Args:
        command: the command of a worker.
        count: the number of workers.
        resources: the parameters that submitit is given.
        folder: the folder for the jobs and their logs.

    Raises:
        UsageError: submitit is not installed, or does not know a parameter.
        RunError: there is no Slurm here, or it takes no jobs.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        resources: dict[str, Any],
        folder: pathlib.Path,
    ):
        try:
            import submitit  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UsageError(
                "--sweep.launcher=slurm needs submitit: pip install 'cnn-jax[slurm]'"
            ) from None
        try:
            executor = submitit.AutoExecutor(
                folder=str(folder), cluster=_CLUSTER, slurm_max_num_timeout=_MOST_REQUEUES
            )
        except RuntimeError as error:
            raise RunError(f"there is no Slurm here: {error}") from error
        # A job imports this module, in any directory and installed or not.
        setup = {"slurm_setup": [f"export {shlex.quote(processes.module_path())}"]}
        try:
            executor.update_parameters(**_SLURM_DEFAULTS | setup | resources)
        except (NameError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"--sweep.resources: submitit says {reason}") from error
        try:
            with executor.batch():
                self._jobs = [executor.submit(SlurmWorker(command)) for _ in range(count)]
        except (RuntimeError, OSError, submitit.core.utils.FailedJobError) as error:
            raise RunError(f"Slurm takes no jobs here: {' '.join(str(error).split())}") from error
        self._listed, self._asked = count, time.monotonic()

    def alive(self) -> int:
        """Returns how many have not ended; those that wait for a machine count."""
        if time.monotonic() - self._asked > _ASK_SECONDS:
            self._ask()
        return self._listed

    def stop(self, asked_by: int | None = None) -> None:
        """Asks all of them to save and give back what they are training, and waits for that."""
        del asked_by
        self._ask()
        if not self._listed:
            return
        _slurm("scancel", "--quiet", *self._ids())
        end = time.monotonic() + _STOP_SECONDS
        while self._listed and time.monotonic() < end:
            time.sleep(1.0)
            self._ask()

    def _ids(self) -> list[str]:
        return [job.job_id for job in self._jobs]

    def _ask(self) -> None:
        """Counts the jobs that have not ended; where nobody answers they are as before."""
        listed = _slurm(
            "squeue", "--noheader", "--array", "--format=%i", f"--jobs={','.join(self._ids())}"
        )
        if listed.returncode == 0:
            self._listed = len(listed.stdout.split())
        elif "Invalid job id" in listed.stderr:  # the controller has forgotten them
            self._listed = 0
        self._asked = time.monotonic()


def _slurm(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)


class SlurmWorker:
    """What a job of Slurm does: runs a worker; near the time limit it asks to be queued again.

    Args:
        command: the command of the worker.
    """

    def __init__(self, command: Sequence[str]):
        self._command = list(command)
        self._process: subprocess.Popen | None = None

    def __call__(self) -> int:
        """Runs the worker and returns its exit code."""
        self._process = subprocess.Popen(self._command)
        _exit_code(self._process)
        return self._process.wait()

    def checkpoint(self) -> Any:
        """Has the worker give back its setting; returns what the job does when it runs again.

        submitit calls this in a signal handler, when Slurm announces the time limit. Slurm tells
        the worker as well, which takes another signal for the same request.

        Returns:
            A submission; None where the worker has ended by itself, so that there is none.
        """
        import submitit  # pyright: ignore[reportMissingImports]

        again = submitit.helpers.DelayedSubmission(SlurmWorker(self._command))
        if self._process is None:
            return again
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            if not 0 <= _exit_code(self._process) <= 128:
                return again
        return None


def _exit_code(process: subprocess.Popen) -> int:
    """Waits for a process; unlike its `wait`, also in a handler that interrupts another wait."""
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


class Ray:
    """Workers that are tasks of Ray; one whose machine is lost starts again on another.

    Args:
        command: the command of a worker.
        count: the number of workers.
        resources: the options that Ray is given, such as num_gpus.

    Raises:
        UsageError: Ray is not installed, or does not know an option.
        RunError: no Ray could be reached.
    """

    def __init__(self, command: Sequence[str], count: int, resources: dict[str, Any]):
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UsageError("--sweep.launcher=ray needs Ray: pip install 'cnn-jax[ray]'") from None
        self._ray = ray
        try:
            with warnings.catch_warnings(), _own_signals():
                # JAX warns of forks, and Ray's forked processes only start others.
                warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
                ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
        except (RuntimeError, OSError, ray.exceptions.RayError) as error:
            reason = " ".join(str(error).split())
            raise RunError(f"no Ray cluster could be reached: {reason}") from error
        try:
            task = ray.remote(run_under_ray).options(max_retries=_MOST_RESTARTS, **resources)
        except (TypeError, ValueError) as error:
            raise UsageError(f"--sweep.resources: Ray says {error}") from error
        share = resources.get("num_gpus", 1)
        self._tasks = [task.remote(list(command), share) for _ in range(count)]

    def alive(self) -> int:
        """Returns how many have not ended; those that wait for a machine count."""
        return self._wait(0)

    def stop(self, asked_by: int | None = None) -> None:
        """Asks all of them to save and give back what they are training, and waits for that."""
        del asked_by
        for task in self._tasks:
            self._ray.cancel(task)
        self._wait(_STOP_SECONDS)

    def _wait(self, seconds: float) -> int:
        """Returns how many have not ended after some seconds, or as soon as all have."""
        count = len(self._tasks)
        return len(self._ray.wait(self._tasks, num_returns=count, timeout=seconds)[1])


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Puts back what this process does on signals after a library has taken them over.

    Ray does so in C++, where Python does not see it: SIGTERM would end this process at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_under_ray(command: list[str], gpus: float = 1) -> int:
    """Runs a worker to its end; where the task is cancelled, asks the worker to stop.

    A cancelled task gets a KeyboardInterrupt, which does not end a wait for a process.

    Args:
        command: the command of the worker.
        gpus: how many it has; of one that several share, JAX takes no more than its part.
    """
    env = dict(os.environ)
    if 0 < gpus < 1:
        env.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{_GPU_MEMORY * gpus:.3f}")
    process = subprocess.Popen(command, env=env)
    try:
        while process.poll() is None:
            time.sleep(0.2)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait()
    return process.returncode
