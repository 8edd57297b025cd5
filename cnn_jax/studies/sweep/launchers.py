"""Starts the workers of a sweep: on this machine, by Slurm through submitit, or by Ray.

Whatever starts them, workers are processes of the command `sweep --workdir=DIR` that share DIR,
which therefore has to be a directory that all machines see.
"""

import pathlib
import signal
import subprocess
import warnings
from collections.abc import Sequence
from typing import Any, Protocol

from cnn_jax import settings
from cnn_jax.errors import RunError, UsageError
from cnn_jax.studies.sweep import processes

# submitit would use this machine where there is no Slurm, and end jobs after five minutes.
_CLUSTER = "slurm"
_SLURM_DEFAULTS = {"timeout_min": 24 * 60}


class Workers(Protocol):
    """Workers that were started."""

    def alive(self) -> int:
        """Returns how many have not ended; those that wait for a machine count."""
        ...

    def stop(self) -> None:
        """Asks all of them to save and give back what they are training, and to end."""
        ...


def start(
    launcher: str, command: Sequence[str], count: int, resources: str | None, folder: pathlib.Path
) -> Workers:
    """Starts workers.

    Args:
        launcher: "local", "slurm" or "ray".
        command: the command of a worker.
        count: the number of workers.
        resources: the resources of each, as in `Sweep.resources`.
        folder: the folder for their logs, which Ray keeps elsewhere.

    Raises:
        UsageError: the package is not installed, or it does not know a resource.
        RunError: there is no such cluster here, or it takes no jobs.
    """
    parsed = parse_resources(resources)
    if launcher == "local":
        return _Local(command, count, folder)
    if launcher == "slurm":
        return _Slurm(command, count, parsed, folder)
    return _Ray(command, count, parsed)


def parse_resources(text: str | None) -> dict[str, Any]:
    """Returns {name: value} of "NAME=VALUE,..."; values that read as numbers are numbers.

    Raises:
        UsageError: the text is not of this form.
    """
    values: dict[str, Any] = {}
    for part in filter(None, (text or "").split(",")):
        name, equals, value = (x.strip() for x in part.partition("="))
        if not name.isidentifier() or not equals or not value:
            raise UsageError(
                f"--sweep.resources={text}: {part!r} is not NAME=VALUE; write, for example, "
                "slurm_partition=gpu,gpus_per_node=1,timeout_min=240"
            )
        whole = settings.convert(int, value)
        values[name] = whole if isinstance(whole, int) else settings.convert(float, value)
    return values


class _Local:
    def __init__(self, command: Sequence[str], count: int, folder: pathlib.Path):
        # What stops them all is said once, by the process that started them.
        if count:
            folder.mkdir(parents=True, exist_ok=True)
        logs = [folder / f"{number}.txt" for number in range(1, count + 1)]
        self._processes = [processes.start(command, log) for log in logs]

    def alive(self) -> int:
        return sum(process.poll() is None for process in self._processes)

    def stop(self) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            process.wait()


class _Slurm:
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
                "--sweep.launcher=slurm needs submitit: pip install 'cnn_jax[slurm]'"
            ) from None
        try:
            executor = submitit.AutoExecutor(folder=str(folder), cluster=_CLUSTER)
        except RuntimeError as error:
            raise RunError(f"there is no Slurm here: {error}") from error
        try:
            executor.update_parameters(**_SLURM_DEFAULTS | resources)
        except (NameError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"--sweep.resources: submitit says {reason}") from error
        try:
            with executor.batch():
                self._jobs = [
                    executor.submit(subprocess.run, list(command), check=False)
                    for _ in range(count)
                ]
        except (RuntimeError, OSError, submitit.core.utils.FailedJobError) as error:
            raise RunError(f"Slurm takes no jobs here: {' '.join(str(error).split())}") from error

    def alive(self) -> int:
        return sum(not job.done() for job in self._jobs)

    def stop(self) -> None:
        for job in self._jobs:
            job.cancel()


class _Ray:
    def __init__(self, command: Sequence[str], count: int, resources: dict[str, Any]):
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise UsageError("--sweep.launcher=ray needs Ray: pip install 'cnn_jax[ray]'") from None
        self._ray = ray
        try:
            with warnings.catch_warnings():
                # JAX warns of forks, and Ray's forked processes only start others.
                warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
                ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
        except (RuntimeError, ConnectionError, OSError) as error:
            raise RunError(f"no Ray cluster could be reached: {error}") from error
        try:
            task = ray.remote(_call).options(max_retries=0, **resources)
        except (TypeError, ValueError) as error:
            raise UsageError(f"--sweep.resources: Ray says {error}") from error
        self._tasks = [task.remote(list(command)) for _ in range(count)]

    def alive(self) -> int:
        _, waiting = self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0)
        return len(waiting)

    def stop(self) -> None:
        for task in self._tasks:
            self._ray.cancel(task)


def _call(command: list[str]) -> int:
    """Runs a worker to its end; where the task is cancelled, asks the worker to stop."""
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
