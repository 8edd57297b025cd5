"""The processes of one run: what they agree on, and a watch over each other."""

import contextlib
import os
import selectors
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from cnn_jax import text
from cnn_jax.errors import RunError
from cnn_jax.processes.clusters import Place
from cnn_jax.processes.failing import Failing, in_words
from cnn_jax.processes.star import Link, Message
from cnn_jax.processes.stopping import Stop

_LOOK_SECONDS, _BEAT_SECONDS = 0.1, 2.0
# A process that says nothing for so long is lost: its machine, or the road to it.
_SILENT_SECONDS = 40.0
# What the others may take to end by themselves where one has failed: mostly all fail alike.
_GRACE_SECONDS = 3.0
# What a process that has said that it fails may take to end.
_LAST_SECONDS = 10.0
# What one process may take for what the others wait for, such as decoding a data set.
LONGEST_WORK = 24 * 3600.0
_LONGEST_TALK = 1800.0


class Team:
    """The processes that train together, as one of them sees them.

    All of them call `agree`, `gather` and `first` in the same order. A thread listens to the
    others: where one is lost it ends this process with one line, wherever the program is.

    Args:
        place: of this process.
        links: to the others.
        nodes: the machine of each process.

    Attributes:
        count: the number of processes.
        index: of this one.
        is_first: whether it is process 0, which prints and writes.
        stop: the step at which all of them stop.
        machines: what each process has, once their devices have met.
    """

    def __init__(self, place: Place, links: list[Link], nodes: list[str]):
        self.count, self.index, self.is_first = place.count, place.index, place.index == 0
        self._nodes, self._links = nodes, links
        self._changed = threading.Condition()
        self._number = 0
        self._values: dict[str, dict[int, Any]] = {}  # on process 0: what the others say
        self._told: dict[str, Any] = {}  # on the others: what process 0 says
        self._decided: dict[str, Any] = {}
        self.machines: list[dict[str, int]] = []
        self.stop = Stop(self.count, self.is_first, self._send_up, self._tell)
        self._gone: set[int] = set()
        self._ending = self._leaving = False
        self._failing = Failing(self.count, self._send_up, self._tell, self._give_up)
        self._heard = dict.fromkeys(range(place.count), time.monotonic())
        self._listener = threading.Thread(target=self._listen, daemon=True, name="processes")
        self._listener.start()

    def name_of(self, index: int) -> str:
        """Returns a process in words."""
        return f"process {index} of {self.count} ({self._nodes[index]})"

    def agree(self, make: Callable[[], Any], limit: float = _LONGEST_TALK) -> Any:
        """Returns what `make` returns on process 0, of what JSON has; the others do not call it.

        Raises:
            RunError: process 0 did not say it in `limit` seconds.
        """
        name = self._next()
        if not self.is_first:
            return self._wait_for(name, limit)
        value = make()
        self._tell({"value": [name, value]})
        return value

    def gather(self, value: Any, limit: float = _LONGEST_TALK) -> list[Any]:
        """Returns the values of all processes, of what JSON has, by their indices.

        Raises:
            RunError: one of them did not say it in `limit` seconds.
        """
        name = self._next()
        if not self.is_first:
            self._links[0].send({"value": [name, value]})
            return self._wait_for(name, limit)
        with self._changed:
            found = self._values.setdefault(name, {})
            found[0] = value
            if not self._changed.wait_for(lambda: len(found) == self.count, limit):
                missing = min(set(range(self.count)) - found.keys())
                raise self._late(missing, limit)
            del self._values[name]
        values = [found[i] for i in range(self.count)]
        self._tell({"value": [name, values]})
        return values

    @contextlib.contextmanager
    def first(self) -> Iterator[None]:
        """Within, process 0 works alone; the others come in when it is through.

        They hear what it has decided there.

        Raises:
            RunError: it takes longer than a day.
        """
        if self.is_first:
            yield
            self.agree(lambda: self._decided)
        else:
            self._decided = self.agree(lambda: None, LONGEST_WORK)
            yield
        self._decided = {}

    def decide(self, what: str, make: Callable[[], Any]) -> Any:
        """Returns what `make` returned on process 0, where it has decided this within `first`.

        Args:
            what: the name of the question.
            make: returns the answer, of what JSON has; process 0 calls it, and who has no answer.
        """
        if self.is_first or what not in self._decided:
            self._decided[what] = make()
        return self._decided[what]

    def fail(self, code: int, reason: str) -> None:
        """Tells the others that this process ends with an error; they end as well.

        Args:
            code: the exit code.
            reason: the error in one line.
        """
        self._ending = True
        end = threading.Timer(_LAST_SECONDS, os._exit, (code,))  # if something waits for the others
        end.daemon = True
        end.start()
        lost = {"lost": [self.index, code, reason]}
        if self.is_first:
            self._tell(lost)
            self._wait_for_others()
        else:
            self._links[0].send(lost)

    def expect_end(self, error: BaseException) -> None:
        """Is told of an error that ends this process, or else ends it within a minute.

        What comes first, such as the end of a save, may wait for the others, and they for this one.
        It has seconds where they have no error, and longer where all have failed alike. A process
        that caught the error, and agrees on something with the others or leaves, goes on.
        """
        self._failing.expect(error)

    def failed_first(self, error: BaseException) -> RunError | None:
        """Returns the error of another process that has brought this one, as far as is known."""
        index, reason = self._failing.earliest or (self.index, "")
        if index == self.index or reason == in_words(error):
            return None
        return RunError(f"{self.name_of(index)}: {reason}")

    def _give_up(self, reason: str) -> None:
        if not (self._ending or self._leaving):
            if self.is_first:
                self._say(f"error: {reason}")
            self.fail(1, reason)
            os._exit(1)

    def wait_for_word(self) -> None:
        """Gives a watch that has noticed a lost process the time to end this one."""
        time.sleep(2 * _BEAT_SECONDS)

    def leave(self) -> None:
        """Ends the watch; all processes have come to their end."""
        self._failing.go_on()
        self._tell({"bye": True})
        self._leaving = True
        self._listener.join(_BEAT_SECONDS)
        for link in self._links:
            link.close()

    # What the thread that listens does.

    def _listen(self) -> None:
        beat, now = 0.0, time.monotonic()
        with selectors.DefaultSelector() as ready:
            for link in self._links:
                ready.register(link.socket, selectors.EVENT_READ, link)
            while not self._leaving:
                for key, _ in ready.select(_LOOK_SECONDS):
                    messages = key.data.receive()
                    for message in messages or ():
                        self._hear(key.data.index, message)
                    if messages is None:
                        ready.unregister(key.fileobj)
                        self._lose(key.data.index)
                self.stop.look()
                before, now = now, time.monotonic()
                if now > before + _SILENT_SECONDS / 4:  # all of them were suspended, or this one
                    self._heard = dict.fromkeys(self._heard, now)
                if now > beat + _BEAT_SECONDS:
                    beat = now
                    self._tell({"beat": True})
                    for link in self._links:
                        if now > self._heard[link.index or 0] + _SILENT_SECONDS:
                            self._lose(link.index or 0)

    def _hear(self, index: int, message: Message) -> None:
        self._heard[index] = time.monotonic()
        if "value" in message:
            name, value = message["value"]
            with self._changed:
                if self.is_first:
                    self._values.setdefault(name, {})[index] = value
                else:
                    self._told[name] = value
                self._changed.notify_all()
        if "lost" in message:
            self._lost(*message["lost"])
        if "bye" in message:
            self._gone.add(index)
        self.stop.hear(index, message)
        self._failing.hear(index, message)

    def _lose(self, index: int) -> None:
        """Takes notice that a process is not there any more."""
        if index not in self._gone:
            self._gone.add(index)
            self._lost(index, 1, None)

    def _lost(self, index: int, code: int, reason: str | None) -> None:
        """Passes on that a process has ended, and ends this one.

        Args:
            index: of the process that has ended.
            code: the exit code of all.
            reason: the error that it ended with; None: it ended without a word.
        """
        if self._ending or self._leaving:
            return
        self._ending = True
        if self.is_first:
            self._tell({"lost": [index, code, reason]})
        threading.Thread(target=self._end, args=(index, code, reason), daemon=True).start()

    def _end(self, index: int, code: int, reason: str | None) -> None:
        if reason is not None:
            time.sleep(_GRACE_SECONDS)
        if self.is_first or (index == 0 and reason is None):  # else process 0 says it itself
            what = reason or (
                "was killed, or its machine has failed; the same command goes on from the last "
                "checkpoint"
            )
            self._say(f"error: {self.name_of(index)}{':' if reason else ''} {what}")
        self._wait_for_others()
        os._exit(code)

    def _say(self, line: str) -> None:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        start = "\n" if os.isatty(2) else ""  # below a progress bar
        os.write(2, f"{start}{text.one_line(line)}\n".encode())

    def _wait_for_others(self) -> None:
        """On process 0, which JAX's service runs in, waits until the others have ended."""
        until = time.monotonic() + 2 * _GRACE_SECONDS
        while self.is_first and len(self._gone) < self.count - 1 and time.monotonic() < until:
            time.sleep(0.05)

    def _next(self) -> str:
        self._failing.go_on()
        self._number += 1
        return str(self._number)

    def _wait_for(self, name: str, limit: float) -> Any:
        """Returns what process 0 tells under this name."""
        with self._changed:
            if not self._changed.wait_for(lambda: name in self._told, limit):
                raise self._late(0, limit)
            return self._told.pop(name)

    def _late(self, index: int, limit: float) -> RunError:
        return RunError(f"{self.name_of(index)} has not come this far within {limit:.0f} s")

    def _tell(self, message: Message) -> None:
        for link in self._links:
            link.send(message)

    def _send_up(self, message: Message) -> None:
        """Gives process 0 a message; on process 0 itself it is heard at once."""
        if self.is_first:
            self._hear(0, message)
        else:
            self._links[0].send(message)
