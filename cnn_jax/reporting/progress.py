"""How training goes on, for the person who waits."""

import collections
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from tqdm import tqdm

from cnn_jax import distributed

_WINDOW = 30.0  # seconds


class Progress:
    """A bar on a terminal, else one plain line every few seconds, or nothing.

    The training loop asks `due` after each step and fetches loss and accuracy from the device only
    where it answers True:

        if progress.due():
            progress.update(step, float(loss), float(accuracy))

    Images a second are those of the last half minute, counted from the first update on, so that
    compilation is left out; the first line has none.

    Args:
        total_steps: steps of the whole run.
        steps_per_epoch: steps of one epoch.
        start_step: steps done before this start, 0 unless the run is resumed.
        batch_size: examples in a step, over all devices.
        quiet: show nothing at all, messages included.
        stream: where it is shown; a bar where it is a terminal.
        interval: seconds between two lines; a bar is refreshed twice a second.
        clock: returns seconds that never run backwards.
    """

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        start_step: int = 0,
        batch_size: int = 1,
        quiet: bool = False,
        stream: TextIO | None = None,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total_steps = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        self._quiet = quiet
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._points: collections.deque[tuple[float, int]] = collections.deque()
        self._next = -math.inf
        self._bar = None
        if not quiet and _is_terminal(self._stream):
            self._bar = tqdm(
                total=total_steps,
                initial=start_step,
                file=self._stream,
                dynamic_ncols=True,
                bar_format="{desc}|{bar}|",
            )
        self._interval = interval if self._bar is None else min(interval, 0.5)

    @property
    def images_per_second(self) -> float | None:
        """The recent rate; None before the second update."""
        if len(self._points) < 2:
            return None
        (start, first), (end, last) = self._points[0], self._points[-1]
        return (last - first) * self._batch_size / (end - start) if end > start else None

    def due(self) -> bool:
        """Returns whether `update` would show something now: at once, then every interval."""
        return not self._quiet and self._clock() >= self._next

    def update(self, step: int, loss: float, accuracy: float) -> None:
        """Shows how things stand.

        Args:
            step: steps done since the run began, those before a resume included.
            loss: the training loss to show, of this step or the mean of the epoch so far.
            accuracy: the training accuracy in 0..1, likewise.
        """
        now = self._clock()
        self._next = now + self._interval
        self._points.append((now, step))
        # Two points always stay, else a rate slower than the window would never be shown.
        while len(self._points) > 2 and self._points[0][0] < now - _WINDOW:
            self._points.popleft()
        if self._quiet:
            return
        text = self._text(step, loss, accuracy)
        if self._bar is None:
            print(text, file=self._stream, flush=True)
        else:
            self._bar.n = step
            # Narrow, to leave a little room for the bar itself in 80 columns.
            narrow = text.replace("  ", " ").replace("images/s", "img/s")
            self._bar.set_description_str(narrow)

    def message(self, text: str) -> None:
        """Shows a line of its own, above the bar where there is one."""
        if self._quiet:
            return
        if self._bar is None:
            print(text, file=self._stream, flush=True)
        else:
            self._bar.write(text, file=self._stream)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time within, of an evaluation or a checkpoint, out of images a second."""
        start = self._clock()
        try:
            yield
        finally:
            gone = self._clock() - start
            self._points = collections.deque((when + gone, step) for when, step in self._points)

    def close(self) -> None:
        """Ends the bar; what it showed last stays."""
        if self._bar is not None:
            self._bar.close()

    def _text(self, step: int, loss: float, accuracy: float) -> str:
        epochs = math.ceil(self._total_steps / self._steps_per_epoch)
        epoch = max(1, math.ceil(step / self._steps_per_epoch))
        parts = [
            f"epoch {epoch}/{epochs}",
            f"step {step}/{self._total_steps}",
            f"loss {loss:.4f}",
            f"accuracy {accuracy:.3f}",
        ]
        rate = self.images_per_second
        if rate:
            seconds = round((self._total_steps - step) * self._batch_size / rate)
            left = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
            parts += [f"{rate:,.0f} images/s", f"{left} left"]
        return "  ".join(parts)


class Counter:
    """Counts images worked off: a bar on a terminal, else one plain line every few seconds.

    Args:
        total: how many there are.
        label: what is done to them.
        initial: how many were done before this start.
        quiet: show nothing.
        stream: where it is shown.
        interval: seconds between two lines.
        clock: returns seconds that never run backwards.
    """

    def __init__(
        self,
        total: int,
        label: str,
        initial: int = 0,
        quiet: bool = False,
        stream: TextIO | None = None,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._total, self._label, self._done, self._initial = total, label, initial, initial
        self._quiet, self._interval, self._clock = quiet, interval, clock
        self._start = self._last = clock()
        self._bar = None
        if not quiet and initial < total and _is_terminal(self._stream):
            self._bar = tqdm(
                total=total, initial=initial, desc=label, unit=" images", file=self._stream
            )

    def __enter__(self) -> "Counter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, images: int) -> None:
        """Counts so many more as done."""
        self._done += images
        if self._bar is not None:
            self._bar.update(images)
            return
        now = self._clock()
        if self._quiet or now < self._last + self._interval:
            return
        self._last = now
        rate = (self._done - self._initial) / (now - self._start)
        left = round((self._total - self._done) / rate)
        print(
            f"{self._label}  {self._done:,} of {self._total:,}  {rate:,.1f} images/s  "
            f"{left // 3600}:{left // 60 % 60:02}:{left % 60:02} left",
            file=self._stream,
            flush=True,
        )


def speaker(quiet: bool) -> Callable[[str], None]:
    """Returns what prints a line at once, on the first of several processes, unless quiet."""

    def say(line: str) -> None:
        if not quiet and distributed.is_primary():
            print(line, flush=True)

    return say


def _is_terminal(stream: TextIO) -> bool:
    """Returns whether a bar would be seen; tqdm hides it on a terminal that says it has no rows."""
    try:
        return stream.isatty() and os.get_terminal_size(stream.fileno()).lines > 0
    except OSError:
        return stream.isatty()
