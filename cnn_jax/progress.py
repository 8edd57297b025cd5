"""Shows the person who waits how training goes on."""

import collections
import contextlib
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TextIO

from tqdm import tqdm

from cnn_jax import text

_WINDOW = 30.0  # seconds
_LEAST_BAR = 6  # columns


class Progress:
    """Shows steps, loss and accuracy: a bar, or one plain line every few seconds, or nothing.

    The training loop asks `due` after each step, and fetches loss and accuracy from the device only
    where the answer is True:

        if progress.due():
            progress.update(step, float(loss), float(accuracy))

    Images per second are those of the last half minute. They are counted from the first update on,
    which leaves compilation out; the first line has none.

    Args:
        total_steps: steps of the whole run.
        steps_per_epoch: steps of one epoch.
        start_step: steps made before this start: 0 unless the run is resumed.
        batch_size: examples in a step, over all devices.
        quiet: whether to show nothing, messages included.
        stream: where to show it; None: stdout in a Jupyter notebook or where `bar` is True, else
            stderr.
        bar: whether to show a bar; None: on a terminal, and in a notebook if no stream is given.
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
        bar: bool | None = None,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total_steps = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        self._quiet = quiet
        self._clock = clock
        self._points: collections.deque[tuple[float, int]] = collections.deque()
        self._next = -math.inf
        self._stream, self._bar = _open(
            stream,
            bar,
            quiet,
            total=total_steps,
            initial=start_step,
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
        """Shows the state of the training.

        Args:
            step: steps made since the run began, those before a resume included.
            loss: the training loss to show, of this step or the mean of the epoch so far.
            accuracy: the training accuracy in 0..1, likewise.
        """
        now = self._clock()
        self._next = now + self._interval
        self._points.append((now, step))
        # Two points always stay: without them a step slower than the window would show no rate.
        while len(self._points) > 2 and self._points[0][0] < now - _WINDOW:
            self._points.popleft()
        if self._quiet:
            return
        line = self._line(step, loss, accuracy)
        if self._bar is None:
            print(line, file=self._stream, flush=True)
        else:
            self._bar.n = step
            self._bar.set_description_str(self._narrow(line))

    def end_epoch(self, step: int, loss: float, accuracy: float) -> None:
        """Brings a bar to the end of the epoch, so that a finished run's bar is full.

        Takes what `update` takes. Lines say nothing here: the epoch has a line of its own.
        """
        if self._bar is not None:
            self.update(step, loss, accuracy)

    def _narrow(self, line: str) -> str:
        """Returns the line, shortened until the terminal has room for a bar beside it."""
        measure: Any = self._bar and self._bar.dynamic_ncols  # None where tqdm cannot tell
        width = measure(self._stream)[0] if measure else None
        narrow = line.replace("  ", " ").replace("images/s", "img/s")
        shorter = [(" accuracy ", " acc "), (" img/s", "/s"), (" left", "")]
        shorter += [("epoch ", ""), (" step ", " "), (r" acc \S+", ""), (r" loss \S+", "")]
        for long, short in shorter:
            if not width or len(narrow) <= width - _LEAST_BAR:
                break
            narrow = re.sub(long, short, narrow)
        return narrow

    def message(self, line: str) -> None:
        """Shows a line of its own, above the bar where there is one."""
        if self._quiet:
            return
        if self._bar is None:
            print(line, file=self._stream, flush=True)
        else:
            self._bar.write(line, file=self._stream)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves the time within, of a validation or a checkpoint, out of images per second."""
        start = self._clock()
        try:
            yield
        finally:
            gone = self._clock() - start
            self._points = collections.deque((when + gone, step) for when, step in self._points)

    def close(self) -> None:
        """Ends the bar; its last state stays visible."""
        if self._bar is not None:
            self._bar.close()

    def _line(self, step: int, loss: float, accuracy: float) -> str:
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
            left = (self._total_steps - step) * self._batch_size / rate
            parts += [f"{rate:,.0f} images/s", f"{text.duration(left)} left"]
        return "  ".join(parts)


class Counter:
    """Counts the images that are done: a bar, or one plain line every few seconds, or nothing.

    Args:
        total: the number of images.
        label: what is done to them, the beginning of each line.
        initial: images that were done before this start.
        quiet: whether to show nothing.
        stream: where to show it; None: as in `Progress`.
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
        self._total, self._label, self._done, self._initial = total, label, initial, initial
        self._quiet, self._interval, self._clock = quiet, interval, clock
        self._start = self._last = clock()
        nothing_to_do = initial >= total
        self._stream, self._bar = _open(
            stream,
            None,
            quiet or nothing_to_do,
            total=total,
            initial=initial,
            desc=label,
            unit=" images",
        )

    def __enter__(self) -> "Counter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, images: int) -> None:
        """Counts this number of images as done."""
        self._done += images
        if self._bar is not None:
            self._bar.update(images)
            return
        now = self._clock()
        if self._quiet or now < self._last + self._interval:
            return
        self._last = now
        rate = (self._done - self._initial) / (now - self._start)
        left = text.duration((self._total - self._done) / rate)
        print(
            f"{self._label}  {self._done:,} of {self._total:,}  {rate:,.1f} images/s  {left} left",
            file=self._stream,
            flush=True,
        )


def _open(
    stream: TextIO | None, bar: bool | None, quiet: bool, **options: Any
) -> tuple[TextIO, tqdm | None]:
    """Returns the stream to write to, and a bar on it; no bar where lines or nothing are shown."""
    if stream is None and bar is None and _in_notebook():
        bar = True
    output: TextIO = stream if stream is not None else sys.stdout if bar else sys.stderr
    if bar is None:
        bar = _is_terminal(output)
    return output, tqdm(file=output, **options) if bar and not quiet else None


def _in_notebook() -> bool:
    """Returns whether a Jupyter kernel runs this; IPython is not imported to find out."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)


def _is_terminal(stream: TextIO) -> bool:
    """Returns whether a terminal shows a bar; tqdm hides the bar if a terminal has no rows."""
    try:
        return stream.isatty() and os.get_terminal_size(stream.fileno()).lines > 0
    except OSError:
        return stream.isatty()
