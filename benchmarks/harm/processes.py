"""Commands in processes of their own.

A command runs in a fork of this process, which has imported the package and has computed nothing:
it starts at once, and in everything else is as `python launch.py` (its signals, limits and files
are its own). `fresh=True` starts a real Python.
"""

import contextlib
import ctypes
import dataclasses
import faulthandler
import gc
import importlib
import os
import pathlib
import pkgutil
import resource
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.harm.ends import Ended
from cnn_jax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
_MODULES = (
    *("orbax.checkpoint", "h5py", "safetensors.numpy", "matplotlib.figure", "tensorboardX"),
    *("matplotlib.backends.backend_agg", "tensorflow_datasets", "optuna"),
    *("scipy.stats", "PIL.PngImagePlugin", "PIL.JpegImagePlugin", "PIL.WebPImagePlugin"),
)
_MEMORY = 8 << 30  # what a process may take, so that a fault does not stop the machine


def prepare() -> None:
    """Imports everything that commands import, so that forks start at once."""
    from absl import logging

    import cnn_jax

    logging.use_absl_handler()  # as the command line does, before anything is logged
    for module in pkgutil.walk_packages(cnn_jax.__path__, "cnn_jax."):
        if "presets" not in module.name and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.freeze()


def cli(arguments: Sequence[str]) -> Callable[[], int]:
    """Returns a call of the command line in the process that it is called in."""

    def call() -> int:
        from cnn_jax.cli.main import main

        return main(list(arguments))

    return call


class Patience:
    """A limit of time that counts less of it where other programs keep the machine busy.

    Args:
        seconds: how long to wait on a machine that does nothing else.
    """

    def __init__(self, seconds: float):
        self._left, self._last = seconds, time.monotonic()

    def left(self) -> bool:
        """Returns whether to go on waiting."""
        now = time.monotonic()
        share = min(1.0, (os.cpu_count() or 1) / max(os.getloadavg()[0], 1e-3))
        self._left -= share * (now - self._last)
        self._last = now
        return self._left > 0


@dataclasses.dataclass
class Process:
    """A command under way, and the group of processes that it leads."""

    arguments: tuple[str, ...]
    pid: int
    out: pathlib.Path
    sent: list[int] = dataclasses.field(default_factory=list)
    code: int | None = None

    def poll(self) -> bool:
        """Returns whether it has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def send(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if not self.poll():
            os.kill(self.pid, number)
            self.sent.append(number)

    def wait(self, limit: float) -> Ended:
        """Waits, at most this many seconds, then ends the whole group."""
        patience = Patience(limit)
        while not self.poll() and patience.left():
            time.sleep(0.02)
        if late := not self.poll():
            os.kill(self.pid, signal.SIGABRT)  # prints where it is
            time.sleep(2)
            self.end_group()
        while not self.poll():
            time.sleep(0.02)
        code: Any = self.code
        out, err = (
            self.out.with_suffix(end).read_text(errors="replace") for end in (".out", ".err")
        )
        return Ended(self.arguments, code, out, err, tuple(self.sent), late)

    def end_group(self) -> None:
        """Ends the command and the processes of its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def adopt_orphans() -> None:
    """Makes this process the parent of what a killed command leaves behind."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def end_orphans() -> None:
    """Ends every process below this one, such as the runs of a killed sweep."""
    while below := _descendants(os.getpid()):
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        time.sleep(0.02)


def _descendants(pid: int) -> list[int]:
    """Returns the processes below one, which may lead sessions of their own."""
    parents: dict[int, list[int]] = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found[1:]


def start(
    arguments: Sequence[str],
    out: pathlib.Path,
    cwd: pathlib.Path,
    environment: dict[str, str],
    *,
    call: Callable[[], int] | None = None,
    before: Callable[[], None] | None = None,
    fresh: bool = False,
) -> Process:
    """Starts a command.

    Args:
        arguments: the command line without the program.
        out: where its output goes, with the endings .out and .err.
        cwd: its working directory.
        environment: variables beside those of this process.
        call: what is called instead of the command line; the arguments only name it then.
        before: called in the new process first.
        fresh: starts a Python of its own, in which nothing is imported yet.
    """
    with open(out.with_suffix(".out"), "wb") as stdout, open(out.with_suffix(".err"), "wb") as err:
        flush()
        if pid := os.fork():
            return Process(tuple(arguments), pid, out)
        program = [sys.executable, str(ROOT / "launch.py"), *arguments] if fresh else None
        _child(call or cli(arguments), stdout, err, cwd, environment, before, program)
    raise AssertionError("a fork does not come here")


def _child(
    call: Callable[[], int],
    stdout: Any,
    stderr: Any,
    cwd: pathlib.Path,
    environment: dict[str, str],
    before: Callable[[], None] | None,
    program: list[str] | None,
) -> None:
    """Runs a call as a process of its own would, and ends it."""
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(
                number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            )
        nowhere = os.open(os.devnull, os.O_RDONLY)
        for target, source in enumerate((nowhere, stdout.fileno(), stderr.fileno())):
            os.dup2(source, target)
        os.chdir(cwd)
        os.environ.update(environment)
        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if program is not None:
            os.environ["PYTHONFAULTHANDLER"] = "1"
            os.execv(program[0], program)
        sys.argv = [str(ROOT / "launch.py")]
        faulthandler.enable(open(os.dup(2), "wb"))  # noqa: SIM115 (open until the end)
        cache = os.environ.get("JAX_COMPILATION_CACHE_DIR")
        if cache:
            import jax

            jax.config.update("jax_compilation_cache_dir", cache)
        if before is not None:
            before()
        code = called(call)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as cnn_jax.__main__ does
        _shut_down()
    finally:
        flush()
        os._exit(code)


def flush() -> None:
    """Writes what is still in the buffers of the standard streams."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _shut_down() -> None:
    """Ends the threads that Python waits for at the end of a process."""
    import threading

    with contextlib.suppress(AttributeError):
        threading._shutdown()  # pyright: ignore


def called(call: Callable[[], int]) -> int:
    """Returns the exit code of a call that ends as a program would."""
    try:
        return call()
    except KeyboardInterrupt:  # a second one, while the first was answered
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except UserError as error:  # of a function below the command line
        print(f"error: {error.for_command_line}", file=sys.stderr)
        return error.exit_code
    except BaseException:
        traceback.print_exc()
        return 1


def shown(arguments: Sequence[str], cwd: pathlib.Path, environment: dict[str, str]) -> str:
    """Returns the command line that does the same in a shell."""
    variables = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    words = shlex.join(["python", str(ROOT / "launch.py"), *arguments])
    return f"(cd {shlex.quote(str(cwd))} && {' '.join([*variables, words])})"
