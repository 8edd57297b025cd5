"""How the command line speaks: lines for the person who waits, commands to paste, errors."""

import contextlib
import importlib.util
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from cnn_jax import text
from cnn_jax.cli.invocation import Invocation


def speaker(quiet: bool) -> Callable[[str], None]:
    """Returns a function that prints a line at once, unless quiet."""

    def say(line: str) -> None:
        if not quiet:
            print(text.one_line(line), flush=True)

    return say


def command(*words: str) -> str:
    """Returns a command line to paste or to fill in, with the program as it was started."""
    return " ".join([shlex.join(text.program()), *words])


def command_line(invocation: Invocation, name: str, directory: Path, *more: str) -> str:
    """Returns the command that goes on with the run in a directory, with the code it needs.

    Args:
        invocation: the command line of now, which has that code.
        name: the command.
        directory: the run directory.
        *more: further arguments.
    """
    needs_code = (directory / "code.json").exists()
    code = invocation.code_flags if needs_code else []
    return text.command_line(name, directory, *more, *code)


def go_on(invocation: Invocation, directory: Path, *more: str) -> str:
    """Returns the command that trains on, with all code that was given: it may have CALLBACKS."""
    return text.command_line("train", directory, *more, *invocation.code_flags)


def tensorboard(directory: Path) -> str:
    """Returns the command that shows the curves of a run, and gets TensorBoard where it lacks."""
    logdir = ["--logdir", text.shown(directory)]
    if shutil.which("tensorboard"):
        return shlex.join(["tensorboard", *logdir])
    shows = shlex.join([text.python(), "-m", "tensorboard.main", *logdir])
    with contextlib.suppress(ImportError):  # of an import hook that hides it
        if importlib.util.find_spec("tensorboard"):  # the environment of this Python is not active
            return shows
    return f"{shlex.join([text.python(), '-m', 'pip', 'install', 'tensorboard'])} && {shows}"


def one_line(error: BaseException | str) -> str:
    """Returns an error's message in one line, or its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
