"""A trace of some steps of a run, as TensorBoard's profile plugin and Perfetto read it."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from cnn_jax import text
from cnn_jax.errors import UsageError


def check(steps: tuple[int, int] | None, total: int) -> None:
    """Raises UsageError where the run has not all of the steps to be traced."""
    if steps is not None and steps[1] > total:
        raise UsageError(
            f"steps {steps[0]} to {steps[1]} cannot be traced: the run has {total} steps; name a "
            "part of them"
        )


class Trace:
    """Traces steps as they are made.

    Args:
        directory: the run directory; the trace goes to `plugins/profile/TIME` there. None: there is
            none, and no step is traced.
        steps: the first and the last step, counted from 1; None: no step is traced.
        start: the steps done before.
        say: shows a line.
    """

    def __init__(
        self,
        directory: pathlib.Path | None,
        steps: tuple[int, int] | None,
        start: int,
        say: Callable[[str], None],
    ):
        self._directory, self._say_line = directory, say
        self._steps = steps if directory is not None else None
        self._running = False
        if steps is not None and start >= steps[1]:
            past = f"the steps to trace, {steps[0]} to {steps[1]}"
            self._say(f"no trace: the run goes on at step {start + 1}, after {past}")
            self._steps = None

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Makes a step part of the trace, where it belongs to it."""
        if self._steps is None or not self._steps[0] <= number <= self._steps[1]:
            yield
            return
        if not self._running and self._directory is not None:
            self._running, self._first = True, number
            jax.profiler.start_trace(self._directory, create_perfetto_trace=True)
        self._last = number
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield

    def after(self, number: int, current: Any) -> None:
        """Ends the trace after its last step, once the devices have done it."""
        if self._running and self._steps is not None and number == self._steps[1]:
            jax.block_until_ready(current)
            self.close()

    def close(self) -> None:
        """Writes what was traced, also of a run that stops before the last step."""
        if not self._running or self._directory is None:
            return
        self._running = False
        jax.profiler.stop_trace()
        folder = max((self._directory / "plugins" / "profile").iterdir())
        self._say(
            f"steps {self._first} to {self._last} in {text.shown(folder)}: open perfetto_trace."
            "json.gz at https://ui.perfetto.dev, or TensorBoard with its plugin (pip install xprof)"
        )

    def _say(self, message: str) -> None:
        self._say_line(f"profile    {message}")
