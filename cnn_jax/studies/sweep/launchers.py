"""Starts the workers of a sweep: on this machine, by Slurm through submitit, or by Ray.

Whatever starts them, workers are processes of the command `sweep --workdir=DIR` that share DIR,
which therefore has to be a directory that all machines see.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

from cnn_jax import settings
from cnn_jax.errors import UsageError
from cnn_jax.studies.sweep import engines, processes


class Workers(Protocol):
    """Workers that were started."""

    def alive(self) -> int:
        """Returns how many have not ended; those that wait for a machine count."""
        ...

    def stop(self, asked_by: int | None = None) -> None:
        """Asks all of them to save and give back what they are training, and waits for that.

        Args:
            asked_by: the signal that asked this process to stop, or None.
        """
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
        return engines.Slurm(command, count, parsed, folder)
    return engines.Ray(command, count, parsed)


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

    def stop(self, asked_by: int | None = None) -> None:
        for process in self._processes:
            processes.ask_to_stop(process, asked_by)
        for process in self._processes:
            process.wait()
