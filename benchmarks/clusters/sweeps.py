"""Sweeps in processes of their own, and what became of their settings."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RATES = ("1e-3", "2e-3", "4e-3")
FLAGS = [
    *("--config=digits_lenet", "--model.name=mlp", "--dataset.batch_size=256", "--nocpu_tuning"),
    *("--sweep.method=grid", f"--sweep.space=optimizer.learning_rate=[{','.join(RATES)}]"),
]
_PATIENCE = 900.0  # seconds; a machine that others use is slow


class Fault(Exception):  # noqa: N818 (what is looked for)
    """Something did not end as it should."""


class Sweep:
    """One sweep, whose processes are watched.

    Attributes:
        path: its directory.
        seen: {directory of a run: {process: (first, last time that it was seen)}}.

    Args:
        path: its directory, which is not there yet.
        epochs: the epochs of each of its runs.
    """

    def __init__(self, path: pathlib.Path, epochs: int):
        self.path, self._epochs = path, epochs
        self.seen: dict[str, dict[int, tuple[float, float]]] = {}
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._started: list[subprocess.Popen] = []
        self._watcher.start()

    def start(
        self, *flags: str, before: Sequence[str] = (), plan: bool = True, log: str = "log.txt"
    ) -> subprocess.Popen:
        """Starts the command `sweep`.

        Args:
            flags: more of its flags.
            before: words before the command, such as srun's.
            plan: whether to say what the sweep tries; else it joins one that was started.
            log: the file beside the directory that its output is added to.
        """
        words = [*before, sys.executable, str(ROOT / "launch.py"), "sweep"]
        words += [f"--workdir={self.path}", *flags]
        if plan:
            words += [*FLAGS, f"--train.epochs={self._epochs}"]
        with open(f"{self.path}.{log}", "ab") as file:
            self._started.append(
                subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=self.path.parent
                )
            )
        return self._started[-1]

    def wait_for(self, what: str, holds: Callable[[], Any]) -> Any:
        """Waits until a function returns something true, and returns that.

        Raises:
            Fault: it does not.
        """
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            if found := holds():
                return found
            time.sleep(0.2)
        raise Fault(f"waited in vain for {what}")

    def running(self, number: int = 1, epochs: int = 2) -> list[str]:
        """Waits until some settings are in the midst of training; returns their places."""

        def midst() -> list[str]:
            places = []
            for place in self.places():
                with contextlib.suppress(OSError, ValueError):
                    run = self.path / "trials" / place / "seed0"
                    done = len(json.loads((run / "history.json").read_text()))
                    if epochs <= done < self._epochs - 5 and self.worker(place) is not None:
                        places.append(place)
            return places if len(places) >= number else []

        return self.wait_for(f"{number} settings in training", midst)

    def places(self) -> list[str]:
        """Returns the names of the settings' directories so far."""
        folder = self.path / "trials"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def worker(self, place: str) -> dict[str, Any] | None:
        """Returns {host, pid} of the worker that holds a setting."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads((self.path / "trials" / place / "worker.json").read_text())
        return None

    def ends(self, process: subprocess.Popen, code: int = 0) -> None:
        """Waits for a process that was started.

        Raises:
            Fault: it does not end, or with another exit code.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
        if process.returncode != code:
            raise Fault(f"exit code {process.returncode}, and not {code}; see {self.path}.log.txt")

    def is_stopped_and_goes_on(self, *flags: str) -> str:
        """Starts the sweep, stops what started it by SIGTERM, and gives the command again.

        Returns:
            What was seen.

        Raises:
            Fault: a setting was not given back, or the sweep does not end.
        """
        process = self.start(*flags)
        held = self.running(2)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        self.ends(process, 128 + signal.SIGTERM)
        seconds = time.monotonic() - began
        if lost := [place for place in held if self.worker(place) is not None]:
            raise Fault(f"settings {lost} were not given back")
        self.ends(self.start(*flags, plan=False))
        return f"it ended after {seconds:.0f} s, with {len(held)} settings given back"

    def result(self) -> dict[str, Any]:
        """Returns what became of the settings.

        Returns:
            {states, values by learning rate, attempts, starts and hosts of the runs, the most
            processes that trained one setting at a time, trainings after a setting was complete}.
        """
        records = json.loads((self.path / "sweep.json").read_text())
        starts, hosts, again = {}, set(), 0
        for record in records:
            run = self.path / "trials" / record["place"] / "seed0"
            log = json.loads((run / "environment.json").read_text())
            starts[record["place"]] = len(log)
            hosts |= {entry["hostname"] for entry in log}
            ended = json.loads((run / "status.json").read_text())["time"]
            again += sum(entry["time"] > ended for entry in log)
        return {
            "states": [record["state"] for record in records],
            "values": {
                str(record["setting"]["optimizer.learning_rate"]): record["value"]
                for record in records
            },
            "attempts": {record["place"]: record["attempts"] for record in records},
            "starts": starts,
            "hosts": sorted(hosts),
            "at_once": max(map(_most_at_once, self.seen.values()), default=0),
            "again": again,
        }

    def close(self) -> None:
        """Ends what was started and has not ended, and the watch."""
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(120)
            if process.poll() is None:
                process.kill()
                process.wait()
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(0.25):
            for pid, words in commands():
                target = next((w for w in words if w.startswith(f"--workdir={self.path}/tr")), None)
                if target is not None and "train" in words:
                    now = time.monotonic()
                    of_run = self.seen.setdefault(target, {})
                    of_run[pid] = (of_run.get(pid, (now, now))[0], now)


def _most_at_once(processes: dict[int, tuple[float, float]]) -> int:
    """Returns the most processes that were seen at one time."""
    times = processes.values()
    return max(sum(first <= at <= last for first, last in times) for at, _ in times)


def commands() -> list[tuple[int, list[str]]]:
    """Returns (process, words of its command) of every process of this machine."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                words = pathlib.Path(entry.path, "cmdline").read_bytes().split(b"\0")
                found.append((int(entry.name), [word.decode(errors="replace") for word in words]))
    return found


def check(result: dict[str, Any], values: dict[str, float]) -> str:
    """Returns what is wrong with the result of a sweep, or nothing.

    Args:
        result: what `Sweep.result` returned.
        values: those of a sweep that nobody disturbed.
    """
    if set(result["states"]) != {"complete"} or len(result["states"]) != len(RATES):
        return f"states {result['states']}"
    if result["values"] != values:
        return f"accuracies {result['values']}, and undisturbed {values}"
    if result["at_once"] > 1:
        return f"{result['at_once']} processes trained one setting at once"
    return f"{result['again']} trainings after the end" if result["again"] else ""
