"""The program: reads a command line, runs one command, and turns errors into lines and codes."""

import contextlib
import dataclasses
import gc
import importlib
import logging as python_logging
import signal
import sys
import warnings

from absl import logging

from cnn_jax import processes, text
from cnn_jax._version import __version__
from cnn_jax.cli import console, flags, help, limits, presets, streams, warned
from cnn_jax.cli.invocation import Invocation, command_of
from cnn_jax.errors import UsageError, UserError
from cnn_jax.processes import clusters


def main(argv: list[str]) -> int:
    """Runs one command and returns its exit code: 0, 1 for a failure, 2 for wrong usage.

    Args:
        argv: the arguments without the program's name.
    """
    with streams.safe():
        return _main(argv)


def _main(argv: list[str]) -> int:
    debug = "--debug" in argv
    try:
        invocation = flags.parse(argv)
        if invocation.command == "help":
            print(help.text(next(iter(invocation.arguments), None)), end="")
            return _lost("help")
        if invocation.command == "version":
            print(f"cnn-jax {__version__}")
            return _lost("version")
        code = _run(invocation)
        return code or _lost(invocation.command)
    except UserError as error:
        if debug:
            raise
        _say(error.for_command_line)
        return error.exit_code
    except KeyboardInterrupt:
        _end_silently()
        _say("interrupted")
        return 130
    except OSError as error:  # no space left, no permission, ...
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _say(" ".join([f"{where}{error.strerror or error}", *getattr(error, "__notes__", [])]))
        return 1
    except (RuntimeError, MemoryError) as error:  # of JAX and of NumPy
        line = _out_of_memory(error)
        if debug or line is None:
            raise
        _say(line)
        return 1


def _say(message: str) -> None:
    """Prints the line that an error is."""
    print(f"error: {text.one_line(message)}", file=sys.stderr)


def _lost(command: str) -> int:
    """Returns 1 and says so where a command whose result is what it prints could not print it.

    The others have their result on the disk.
    """
    sys.stdout.flush()
    failed = getattr(sys.stdout, "failed", None)
    if failed is None or command in ("train", "advise", "sweep"):
        return 0
    if not isinstance(failed, BrokenPipeError):  # else the reader has all that it wanted
        _say(f"standard output: {getattr(failed, 'strerror', None) or failed}")
    return 1


def _out_of_memory(error: Exception) -> str | None:
    """Returns one line on memory that could not be had; None of another error."""
    if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
        return None
    from cnn_jax.training import memory

    return memory.out_of_memory(error)


def entry() -> None:
    """Runs the command line of this process and ends it."""
    # JAX makes 400,000 objects that live to the end; by its defaults the garbage collector looks
    # through them again and again, a tenth of the time to the first step.
    gc.set_threshold(20_000, 10, 5)
    streams.open_closed()
    try:
        code = main(sys.argv[1:])
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # the end is Python's own
    except KeyboardInterrupt:  # a second one, while the first was answered
        _end_silently()
        code = 130
    sys.exit(code)


def _end_silently() -> None:
    """Keeps objects that an interrupt left half-used from complaining as they are destroyed."""
    sys.unraisablehook = lambda _: None
    warnings.simplefilter("ignore")


def _run(invocation: Invocation) -> int:
    """Starts the process, runs the user's own files, then the command; returns the exit code."""
    limits.check()
    from cnn_jax import cpu, runtime  # after the flags: importing JAX takes a second

    _show_warnings()
    if _is_superfluous(invocation):
        return UsageError.exit_code
    warned.show_in_lines(runtime.cache_dir() / "xla")
    with contextlib.ExitStack() as stack:
        if command_of(invocation.command).together:
            wait, say = invocation.distributed_timeout, console.speaker(invocation.quiet)
            team = stack.enter_context(processes.joined(invocation.distributed, wait, say))
            if not team.is_first:
                invocation = dataclasses.replace(invocation, quiet=True)
                _fall_silent()
        if command_of(invocation.command).computes:
            runtime.start(invocation.platform, invocation.cpu_tuning)
            who, tuning = invocation.cpu_convolutions, invocation.cpu_tuning
            stack.enter_context(cpu.using(who, tuning=tuning))
        else:
            runtime.start("cpu")
        if presets.run_code(invocation) and invocation.command in ("advise", "data"):
            what = invocation.command
            logging.warning("CALLBACKS are told by train and sweep alone, not by %s", what)
        module = importlib.import_module(f"cnn_jax.cli.{invocation.command}")
        if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # see cnn_jax.__main__
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return module.run_command(invocation)


def _is_superfluous(invocation: Invocation) -> bool:
    """Returns whether another process does what this one would; process 0 says so.

    Raises:
        UsageError: this is process 0 of several, and the command is the work of one.
    """
    name = invocation.command
    if command_of(name).together or (name == "sweep" and invocation.distributed == "auto"):
        return False  # each task of srun is a worker of the sweep
    place = clusters.find(invocation.distributed)
    if place is None or place.index:
        return place is not None
    raise UsageError(
        f"{name} is the work of one process, and these are {place.count}: start one, under Slurm "
        "by srun -n1, or give --distributed=off to let each of them work by itself"
    )


def _fall_silent() -> None:
    """Shows nothing more; process 0 speaks for all."""
    from absl import logging

    logging.set_verbosity(logging.FATAL)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, streams.Stream):
            stream.silence()


def _show_warnings() -> None:
    """Shows warnings of the absl log as one line each, and nothing below them."""
    from absl import flags as absl_flags
    from absl import logging

    absl_flags.FLAGS.mark_as_parsed()  # or absl's logging says that flags are not parsed yet
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)  # Orbax reports every step at the level below
    logging.get_absl_handler().setFormatter(_Line())


class _Line(python_logging.Formatter):
    """Formats a message as one printable line; Orbax's have tracebacks, which we leave out."""

    def format(self, record: python_logging.LogRecord) -> str:
        return text.one_line(f"warning: {record.getMessage()}")
