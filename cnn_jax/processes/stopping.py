"""A stop that all processes agree on: which step is the last one, whoever was asked to stop."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from cnn_jax.processes.star import Message

_LONGEST_SECONDS = 60.0


class Stop:
    """Decides at which step all processes stop.

    Every process asks `at` after each step. When a signal came to one of them, each names the last
    step that it asked about, and waits at its next question; all stop at the step after the highest
    that was named, which nobody has asked about.

    Args:
        count: the number of processes.
        is_first: whether this is process 0, which counts.
        send_up: gives process 0 a message.
        tell: gives all others a message.
    """

    def __init__(
        self,
        count: int,
        is_first: bool,
        send_up: Callable[[Message], None],
        tell: Callable[[Message], None],
    ):
        self._count, self._is_first, self._send_up, self._tell = count, is_first, send_up, tell
        self._changed = threading.Condition()
        self._asked: Callable[[], int | None] = lambda: None
        self._said = False
        self._signal = 0
        self._step = -1  # the last one that was asked about here
        self._deciding = False
        self._steps: dict[int, int] = {}  # on process 0: those that were named
        self._decision: tuple[int, int] | None = None  # (step, signal)

    @contextlib.contextmanager
    def listening(self, asked: Callable[[], int | None]) -> Iterator[None]:
        """Within, a signal that `asked` returns, on any thread, stops all processes."""
        self._step, self._asked = -1, asked
        yield

    def at(self, step: int) -> int | None:
        """Returns the signal where all processes stop at this step, else None."""
        with self._changed:
            self._changed.wait_for(lambda: not self._deciding, _LONGEST_SECONDS)
            self._step = step
            if self._decision is not None and step >= self._decision[0]:
                return self._decision[1]
        return None

    def look(self) -> None:
        """Passes on the signal that has come to this process."""
        if not self._said and (number := self._asked()) is not None:
            self._said = True
            self._send_up({"stop": number})

    def hear(self, index: int, message: Message) -> None:
        """Takes a message of the process with this index."""
        if "stop" in message:
            self._name_step(int(message["stop"]))
        elif "at" in message:
            self._steps[index] = int(message["at"])
            if len(self._steps) == self._count:
                decision = [max(self._steps.values()) + 1, self._signal]
                self._tell({"sync": decision})
                self._decide(*decision)
        elif "sync" in message:
            self._decide(*message["sync"])

    def _name_step(self, number: int) -> None:
        with self._changed:
            if self._deciding or self._decision is not None:
                return
            self._deciding, self._signal, step = True, number, self._step
        if self._is_first:
            self._tell({"stop": number})
        self._send_up({"at": step})

    def _decide(self, step: int, number: int) -> None:
        with self._changed:
            self._decision, self._deciding = (step, number), False
            self._changed.notify_all()
