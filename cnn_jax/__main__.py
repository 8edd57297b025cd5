"""The command line as `python -m cnn_jax`, and the function that each of its doors calls."""

import signal


def entry() -> None:
    """Runs the command line of this process and ends it.

    Until the command itself runs, Ctrl-C ends the process at once: an import that it breaks off
    prints a traceback, or swallows it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cnn_jax.cli.main import entry

    entry()


if __name__ == "__main__":
    entry()
