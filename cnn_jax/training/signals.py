"""Stopping a run: signals, and the exception that says that its state is saved."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from cnn_jax import processes


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop, has saved its state and can be resumed.

    Attributes:
        signal_number: the signal that asked.
        step: the step that was saved.
        total_steps: the steps of the whole run.
        is_agreed: True: where several processes train, all of them have stopped here.
    """

    is_agreed = True

    def __init__(self, signal_number: int, step: int, total_steps: int):
        super().__init__(f"stopped at step {step} of {total_steps}; the state is saved")
        self.signal_number = signal_number
        self.step = step
        self.total_steps = total_steps


@contextlib.contextmanager
def agreed_stop(listens: bool = True) -> Iterator[Callable[[int], int | None]]:
    """Yields a function of the step that was made: the signal that asked to stop here, or None.

    Of several processes that train together all stop at the same step, whichever got the signal.

    Args:
        listens: whether signals are listened to; else they are left alone.
    """
    if not listens:
        yield lambda step: None
        return
    team = processes.team()
    with stop_signals() as asked:
        if isinstance(team, processes.Team):
            with team.stop.listening(asked):
                yield team.stop.at
        else:
            yield lambda step: asked()


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], int | None]]:
    """Yields a function that returns the signal which asked to stop, or None.

    They are those of a user, of a terminal that closes, and of schedulers before their limit. The
    same signal a second time ends the process at once; one that was ignored on arrival, as nohup
    ignores SIGHUP, stays ignored. Only the main thread can receive signals.
    """
    received: list[int] = []

    def handle(number: int, frame: Any) -> None:
        del frame
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    with _handled([signal.SIGTERM, signal.SIGINT], handle):
        yield lambda: received[0] if received else None


@contextlib.contextmanager
def raised_signals() -> Iterator[None]:
    """Raises Interrupted wherever the program is when one of `stop_signals` comes.

    It is for what has nothing to save; Ctrl-C stays Python's own KeyboardInterrupt.
    """

    def handle(number: int, frame: Any) -> None:
        del frame
        raise Interrupted(number, 0, 0)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _handled([signal.SIGTERM], handle):
        yield


@contextlib.contextmanager
def _handled(numbers: list[int], handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Handles these signals, and of SIGHUP, SIGUSR1 and SIGUSR2 those that are not ignored."""
    names = ("SIGHUP", "SIGUSR1", "SIGUSR2")  # Windows has none of them
    others = [getattr(signal, name) for name in names if hasattr(signal, name)]
    numbers = [*numbers, *(n for n in others if signal.getsignal(n) != signal.SIG_IGN)]
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
