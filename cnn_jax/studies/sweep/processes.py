"""Starts programs of this package in processes of their own, and waits for them."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

_POLL_SECONDS = 0.2
# How long a run may take to save its state when it is asked to end.
_PATIENCE_SECONDS = 60


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """Somebody asked this worker to stop."""


def program() -> list[str]:
    """Returns the words that start this package's command line, here or on another machine.

    The process finds modules where this one does, in any working directory, so it runs the same
    package, installed or not.
    """
    return ["env", module_path(), sys.executable, "-P", "-m", "cnn_jax"]


def module_path() -> str:
    """Returns PYTHONPATH=... with the folders in which this process finds modules."""
    paths = dict.fromkeys(os.path.abspath(path) for path in sys.path)
    return f"PYTHONPATH={os.pathsep.join(paths)}"


def start(command: Sequence[str], log: pathlib.Path | None = None) -> subprocess.Popen:
    """Starts a program without a terminal.

    It is in a session of its own, so a Ctrl-C at the terminal reaches only this process, which
    passes it on once.

    Args:
        command: the program and its arguments.
        log: the file that its output is added to; None: standard output is dropped, and errors
            go where those of this process go.
    """
    if log is None:
        return _popen(command, stdout=subprocess.DEVNULL)
    with log.open("ab") as file:
        return _popen(command, stdout=file, stderr=file)


def _popen(command: Sequence[str], **streams: Any) -> subprocess.Popen:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **streams)


def run(
    command: Sequence[str],
    log: pathlib.Path,
    enough: Callable[[], bool],
    stop: Callable[[], int | None],
    beat: Callable[[], None],
) -> int | None:
    """Runs a program until it ends, or until its work so far is enough.

    Args:
        command: the program and its arguments.
        log: the file that its output is added to.
        enough: returns whether to end the program now.
        stop: returns the signal that asked this worker to leave, or None.
        beat: called again and again, to say that this worker is alive.

    Returns:
        The program's exit code, or None where it was enough.

    Raises:
        Stopped: `stop` said so; the program was asked to save its state, and has ended.
    """
    process = start(command, log)
    was_enough = False

    def over() -> bool:
        nonlocal was_enough
        if process.poll() is None:
            was_enough = enough()
        return was_enough or process.poll() is not None

    try:
        wait_until(over, stop, beat)
    finally:
        if process.poll() is None:
            _end(process, stop())
    return None if was_enough else process.returncode


def wait_until(
    over: Callable[[], bool],
    stop: Callable[[], int | None],
    beat: Callable[[], None] = lambda: None,
) -> None:
    """Waits until something is over.

    Args:
        over: returns whether it is.
        stop: returns the signal that asked to wait no longer, or None.
        beat: called before every pause.

    Raises:
        Stopped: `stop` said so.
    """
    while not over():
        beat()
        if stop():
            raise Stopped
        time.sleep(_POLL_SECONDS)


def pause(seconds: float, stop: Callable[[], int | None]) -> None:
    """Waits for some seconds.

    Raises:
        Stopped: `stop` said so.
    """
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, stop)


def ask_to_stop(process: subprocess.Popen, asked_by: int | None) -> None:
    """Asks a program to save its state and end.

    A scheduler may have sent the signal that asked this process to all others of a job as well,
    and the same a second time ends them at once; so they are sent another one.

    Args:
        process: the program.
        asked_by: the signal that asked this process, or None.
    """
    process.send_signal(signal.SIGINT if asked_by == signal.SIGTERM else signal.SIGTERM)


def _end(process: subprocess.Popen, asked_by: int | None) -> None:
    """Asks a program to save its state and end, and waits for it."""
    ask_to_stop(process, asked_by)
    try:
        process.wait(timeout=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
