"""The main module of a process that decodes images: no JAX, and signals are left to its parent.

A new process runs the main module of its parent, which may be a user's script that trains. This one
stands in for it.
"""

import logging
import os
import signal
import sys
import threading

_SECONDS = 60  # after which a process that was told to end does so

if __name__ == "__mp_main__":
    # Grain imports JAX where there is one, and each process would take its share of a GPU's memory.
    sys.modules["jax"] = None  # type: ignore[assignment]
    logging.disable(logging.WARNING)  # that there is no JAX
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal and Slurm send them to all processes

    def _later(*_: object) -> None:
        timer = threading.Timer(_SECONDS, os._exit, (0,))
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, _later)
