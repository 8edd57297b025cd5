"""A folder for every try, the commands in it, and what an undisturbed run ends with."""

import contextlib
import json
import os
import pathlib
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.harm import damages, ends, processes
from benchmarks.harm.ends import Ended, Fault
from benchmarks.harm.processes import Process

LIMIT = 120.0  # seconds; the longest command takes a tenth of that on two idle cores


class Bench:
    """One try: its folder, its random numbers, and the commands that it has started.

    Args:
        folder: the folder of this try, which is made.
        draw: its random numbers.
        places: the variables that say where caches and prepared data are.

    Attributes:
        about: what was done, for the line of this try.
        outcomes: how its commands ended.
        commands: what to type to do the same.
    """

    def __init__(self, folder: pathlib.Path, draw: random.Random, places: dict[str, str]):
        self.folder, self.draw, self.places = folder, draw, dict(places)
        self.about = ""
        self.outcomes: list[str] = []
        self.commands: list[str] = []
        self._started: list[Process] = []
        self._mounts: list[pathlib.Path] = []
        damages.remove(folder)  # of an earlier call
        folder.mkdir(parents=True)

    def start(self, arguments: Sequence[str], **how: Any) -> Process:
        """Starts a command; see `processes.start`."""
        out = self.folder / f"command-{len(self._started)}"
        environment = {**self.places, **how.pop("environment", {})}
        self.commands.append(processes.shown(arguments, self.folder, environment))
        process = processes.start(arguments, out, self.folder, environment, **how)
        self._started.append(process)
        return process

    def finish(self, process: Process, limit: float = LIMIT) -> Ended:
        """Waits for a command and checks how it ended.

        Raises:
            Fault: it ended as none may.
        """
        ended = process.wait(limit)
        self.outcomes.append(ended.outcome())
        return ended

    def run(self, arguments: Sequence[str], limit: float = LIMIT, **how: Any) -> Ended:
        """Runs a command to its end; see `start` and `finish`."""
        return self.finish(self.start(arguments, **how), limit)

    def succeed(self, arguments: Sequence[str], **how: Any) -> Ended:
        """Runs a command that must end well."""
        ended = self.run(arguments, **how)
        if ended.code != 0:
            raise Fault(f"{arguments[0]} should end well: {ended.stderr.strip()[-600:]}")
        return ended

    def many(
        self, calls: Mapping[str, Callable[[], int] | list[str]], limit: float = LIMIT
    ) -> dict[str, Ended]:
        """Runs commands one after the other in one process, each with its own output.

        Args:
            calls: {what it is about: a command line, or a call that returns an exit code}.
            limit: seconds for each of them.

        Raises:
            Fault: one ended as none may, or took the process with it.
        """
        done = self.folder / "done"
        done.mkdir()
        names = list(calls)

        def all_of_them() -> int:
            for number, call in enumerate(calls.values()):
                for descriptor, end in ((1, "out"), (2, "err")):
                    file = os.open(done / f"{number}.{end}", os.O_WRONLY | os.O_CREAT)
                    os.dup2(file, descriptor)
                    os.close(file)
                code = processes.called(processes.cli(call) if isinstance(call, list) else call)
                processes.flush()
                (done / f"{number}.new").write_text(str(code))
                (done / f"{number}.new").rename(done / f"{number}.code")
            return 0

        process = self.start(names, call=all_of_them)
        self.commands.clear()
        found: dict[str, Ended] = {}
        while len(found) < len(names):
            number, patience = len(found), processes.Patience(limit)
            path = done / f"{number}.code"
            while not path.exists() and not process.poll() and patience.left():
                time.sleep(0.02)
            texts = [
                file.read_text(errors="replace") if file.exists() else ""
                for file in (done / f"{number}.out", done / f"{number}.err")
            ]
            if not path.exists():
                late = process.wait(0)
                text = texts[1] + late.stderr
                ended = Ended((names[number],), late.code, texts[0], text, late=late.late)
                path.write_text(str(late.code))
            else:
                ended = Ended((names[number],), int(path.read_text()), texts[0], texts[1])
            try:
                self.outcomes.append(ended.outcome())
            except Fault as fault:
                process.end_group()
                call = calls[names[number]]
                if isinstance(call, list):
                    self.commands.append(processes.shown(call, self.folder, self.places))
                raise Fault(f"{names[number]}: {fault}") from None
            found[names[number]] = ended
        process.wait(limit)
        return found

    def mount(self, name: str, size: str) -> pathlib.Path:
        """Returns a folder of this try that is a small disk of its own."""
        path = self.folder / name
        path.mkdir()
        self.shell("mount", "-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs", str(path))
        self._mounts.append(path)
        return path

    def remount(self, path: pathlib.Path, options: str) -> None:
        """Changes the options of a small disk, such as size=100m or ro."""
        self.shell("mount", "-o", f"remount,{options}", str(path))

    def shell(self, *words: str) -> None:
        """Runs a program of the system."""
        import subprocess

        self.commands.append(" ".join(words))
        subprocess.run(words, check=True, capture_output=True)

    def close(self, keep: bool) -> None:
        """Ends what is left over and removes the folder, unless it is to be kept."""
        for process in self._started:
            process.end_group()
            while not process.poll():
                time.sleep(0.02)
        processes.end_orphans()
        if keep:
            (self.folder / "commands.txt").write_text("\n".join(self.commands) + "\n")
            for path in self._mounts:  # what is on a small disk goes with it
                copy = path.with_name(f"{path.name}-copy")
                shutil.copytree(path, copy, symlinks=True, dirs_exist_ok=True)
        for path in self._mounts:
            with contextlib.suppress(Exception):
                self.shell("umount", "-l", str(path))
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)


def figures(run: pathlib.Path) -> dict[str, Any]:
    """Returns what must be the same: last state, history without times, evaluations.

    Raises:
        Fault: there is no finished run.
    """
    try:
        folders = [x for x in (run / "checkpoints").glob("*/meta") if x.parent.name.isdecimal()]
        last = max(folders, key=lambda path: int(path.parent.name))
        meta = json.loads((last / "metadata").read_text())
        status = json.loads((run / "status.json").read_text())["status"]
        result = json.loads((run / "result.json").read_text())
        history = json.loads((run / "history.json").read_text())
    except (OSError, ValueError, KeyError) as error:  # max() of no folder too
        raise Fault(f"{run.name} is not a finished run afterwards: {error}") from None
    timeless = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
    training = result["training"]
    return {
        "state": meta["sha256"],
        "status": status,
        "history": timeless,
        "evaluation": result.get("evaluation", {}),
        "training": {k: training[k] for k in ("epochs", "steps", "best_validation_accuracy")},
    }


def all_figures(folder: pathlib.Path) -> dict[str, Any]:
    """Returns {what a finished run below a folder varies: its history without times}.

    A run that a kill stopped may have been made anew in another folder, so its settings name it;
    not every study keeps states.
    """
    found = {}
    for path in sorted(folder.rglob("status.json")):
        if json.loads(path.read_text())["status"] != "finished":
            continue
        config = json.loads((path.parent / "config.json").read_text())
        history = json.loads((path.parent / "history.json").read_text())
        parts = ("seed", "dataset", "model", "transfer", "optimizer", "train")
        varied = {name: config[name] for name in parts}
        varied["transfer"]["weights"] = None  # its path, which is another one in every try
        key = json.dumps(varied, sort_keys=True)
        found[key] = [{k: v for k, v in row.items() if k != "seconds"} for row in history]
    return found


def check_same(found: Any, wanted: Any, what: str) -> None:
    """Raises Fault where figures are not those of the undisturbed run."""
    if found == wanted:
        return
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = [n for n in {*found, *wanted} if found.get(n) != wanted.get(n)]
        parts = "; ".join(f"{n[:60]}: {found.get(n)} not {wanted.get(n)}" for n in sorted(names))
        raise Fault(f"{what}: {parts[:600]}")
    raise Fault(f"{what}: {found} not {wanted}")


def check_logs(folder: pathlib.Path) -> None:
    """Raises Fault where a log below a folder has what nobody should see."""
    for path in folder.rglob("log.txt"):
        text = path.read_text(errors="replace")
        if found := ends.broken(text):
            raise Fault(f"{path.relative_to(folder)} has {found!r}")


def copy(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """Returns the target, a copy of a file or folder."""
    damages.put_back(source, target)
    return target
