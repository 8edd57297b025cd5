"""The end that an error brings, where what the process still waits for may not come."""

import threading
from collections.abc import Callable

from cnn_jax.errors import UserError
from cnn_jax.processes.star import Message

# What a process that fails may take to leave what it does: alone, since the others may wait for it,
# or where all have failed alike, so that a save comes to its end.
_ALONE_SECONDS, _ALIKE_SECONDS = 8.0, 45.0


def in_words(error: BaseException) -> str:
    """Returns an error in one line."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    said = error.for_command_line if isinstance(error, UserError) else str(error)
    if not isinstance(error, UserError | OSError):
        said = f"{type(error).__name__}: {said}".removesuffix(": ")
    return " ".join(said.split())


class Failing:
    """Ends a process that an error ends, should it not end by itself.

    Each tells process 0 that it fails, which says whether all do.

    Args:
        count: the number of processes.
        send_up: gives process 0 a message.
        tell: gives all others a message; for process 0.
        end: ends this process and all others with a reason.

    Attributes:
        earliest: on process 0, (process, reason) of the one that failed first.
    """

    def __init__(
        self,
        count: int,
        send_up: Callable[[Message], None],
        tell: Callable[[Message], None],
        end: Callable[[str], None],
    ):
        self._count, self._send_up, self._tell, self._end = count, send_up, tell, end
        self._lock = threading.RLock()
        self._timer: threading.Timer | None = None
        self._reason = ""
        self._failing: set[int] = set()  # on process 0
        self.earliest: tuple[int, str] | None = None

    def expect(self, error: BaseException) -> None:
        """Is told of an error that ends this process, or else ends it within a minute."""
        with self._lock:
            self.go_on()
            self._reason = in_words(error)
            self._wait_at_most(_ALONE_SECONDS)
        self._send_up({"failing": self._reason or "it failed"})

    def go_on(self) -> None:
        """Takes back the end that an error would have brought."""
        with self._lock:
            if self._timer is None:
                return
            self._timer.cancel()
            self._timer = None
        self._send_up({"failing": None})

    def hear(self, index: int, message: Message) -> None:
        """Takes a message of the process with this index."""
        if "failing" in message:
            with self._lock:
                if message["failing"] is None:
                    self._failing.discard(index)
                else:
                    self._failing.add(index)
                    self.earliest = self.earliest or (index, message["failing"])
                if not self._failing:
                    self.earliest = None
                alike = len(self._failing) == self._count
            if alike:
                self._tell({"alike": True})
                self.hear(index, {"alike": True})
        if "alike" in message:
            with self._lock:
                if self._timer is not None:
                    self._timer.cancel()
                    self._wait_at_most(_ALIKE_SECONDS)

    def _wait_at_most(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._end, (self._reason,))
        self._timer.daemon = True
        self._timer.start()
