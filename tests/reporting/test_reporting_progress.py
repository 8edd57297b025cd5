import io
import math
import os
import pty
import sys
import types
from typing import Any

import pytest

from cnn_jax.progress import Counter, Progress


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make(stream: io.StringIO | None, **changes: Any) -> tuple[Progress, Clock]:
    clock = Clock()
    settings: dict[str, Any] = {"total_steps": 5000, "steps_per_epoch": 1000, "batch_size": 50}
    return Progress(**(settings | changes), stream=stream, clock=clock), clock


def run(progress: Progress, clock: Clock, steps: range, seconds: float) -> list[int]:
    """Takes the steps as a training loop does; returns the steps after which something showed."""
    shown = []
    for step in steps:
        clock.now += seconds
        if progress.due():
            progress.update(step, 1.23456, 0.5614)
            shown.append(step)
    return shown


def test_one_plain_line_every_interval_and_the_first_at_once():
    stream = io.StringIO()
    progress, clock = make(stream)
    assert run(progress, clock, range(1, 1122), 0.0625) == [1, *range(81, 1122, 80)]
    lines = stream.getvalue().splitlines()
    assert lines[0] == "epoch 1/5  step 1/5000  loss 1.2346  accuracy 0.561"
    assert lines[-1] == (
        "epoch 2/5  step 1121/5000  loss 1.2346  accuracy 0.561  800 images/s  0:04:02 left"
    )
    assert len(lines) == 15
    progress.close()


def on_a_terminal(columns: int, monkeypatch) -> tuple[Progress, Clock, Terminal]:
    """A bar on a terminal of so many columns."""
    stream = Terminal()
    progress, clock = make(stream, bar=True)
    assert progress._bar is not None
    monkeypatch.setattr(progress._bar, "dynamic_ncols", lambda _: (columns, 24))
    return progress, clock, stream


@pytest.mark.parametrize("columns", [30, 40, 60, 80, 200])
def test_a_narrow_terminal_keeps_the_rate_the_time_and_the_bar(columns, monkeypatch):
    progress, clock, stream = on_a_terminal(columns, monkeypatch)
    run(progress, clock, range(1, 2001), 0.0625)
    progress.close()
    last = stream.getvalue().rstrip().split("\r")[-1]
    assert len(last) <= columns
    assert "800" in last
    assert "0:03:" in last
    assert last.count("|") == 2
    assert ("accuracy 0.561" in last) == (columns >= 80)


def test_the_bar_of_a_finished_run_is_full(monkeypatch):
    progress, clock, stream = on_a_terminal(120, monkeypatch)
    run(progress, clock, range(1, 4990), 0.0625)
    progress.end_epoch(5000, 1.0, 0.6)
    progress.message("epoch 5/5  validated")
    progress.close()
    last = stream.getvalue().rstrip().split("\r")[-1]
    assert "step 5000/5000" in last
    assert "| " not in last.partition("|")[2].rpartition("|")[0]


def test_lines_say_nothing_more_at_the_end_of_an_epoch():
    stream = io.StringIO()
    progress, _ = make(stream)
    progress.end_epoch(1000, 1.0, 0.6)
    assert stream.getvalue() == ""


def test_compilation_does_not_count():
    progress, clock = make(io.StringIO())
    clock.now += 60  # The first step compiles.
    progress.update(1, 1.0, 0.5)
    assert progress.images_per_second is None
    clock.now += 2
    progress.update(5, 1.0, 0.5)
    assert progress.images_per_second == pytest.approx(4 * 50 / 2)


def test_the_rate_is_recent():
    progress, clock = make(io.StringIO())
    run(progress, clock, range(1, 1001), 0.1)
    assert progress.images_per_second == pytest.approx(500)
    run(progress, clock, range(1001, 1201), 1.0)
    assert progress.images_per_second == pytest.approx(50)


def test_steps_slower_than_the_window_have_a_rate():
    progress, clock = make(io.StringIO())
    run(progress, clock, range(1, 6), 100.0)
    assert progress.images_per_second == pytest.approx(0.5)


def test_a_pause_does_not_count():
    progress, clock = make(io.StringIO())
    run(progress, clock, range(1, 102), 0.1)
    with progress.paused():
        clock.now += 20
    run(progress, clock, range(102, 302), 0.1)
    assert progress.images_per_second == pytest.approx(500)


def test_a_resumed_run_counts_its_own_steps():
    stream = io.StringIO()
    progress, clock = make(stream, start_step=4000)
    run(progress, clock, range(4001, 4082), 0.0625)
    last = stream.getvalue().splitlines()[-1]
    assert last.startswith("epoch 5/5  step 4081/5000")
    assert last.endswith("800 images/s  0:00:57 left")


@pytest.mark.parametrize(
    ("step", "epoch"), [(1, "1/3"), (10, "1/3"), (11, "2/3"), (20, "2/3"), (25, "3/3"), (0, "1/3")]
)
def test_the_epoch_of_a_step(step, epoch):
    stream = io.StringIO()
    progress, _ = make(stream, total_steps=25, steps_per_epoch=10)
    progress.update(step, 1.0, 0.5)
    assert stream.getvalue().startswith(f"epoch {epoch} ")


def test_hours_and_numbers_that_are_not_finite():
    stream = io.StringIO()
    progress, clock = make(stream, total_steps=100_000)
    progress.update(0, 1.0, 0.5)
    clock.now += 1
    progress.update(1, math.nan, 0.0)
    assert stream.getvalue().endswith("loss nan  accuracy 0.000  50 images/s  27:46:39 left\n")


def test_two_updates_at_one_moment():
    progress, _ = make(io.StringIO())
    progress.update(1, 1.0, 0.5)
    progress.update(2, 1.0, 0.5)
    assert progress.images_per_second is None


def test_quiet_shows_nothing():
    for stream in (io.StringIO(), Terminal()):
        progress, clock = make(stream, quiet=True)
        assert run(progress, clock, range(1, 100), 1.0) == []
        progress.update(100, 1.0, 0.5)
        progress.message("saved")
        progress.close()
        assert stream.getvalue() == ""


def test_messages_between_plain_lines():
    stream = io.StringIO()
    progress, _ = make(stream)
    progress.message("epoch 1: accuracy 0.5")
    progress.update(1, 1.0, 0.5)
    assert stream.getvalue().splitlines()[0] == "epoch 1: accuracy 0.5"


def test_a_terminal_without_a_size_gets_plain_lines():
    theirs, ours = pty.openpty()
    with open(ours, "w", closefd=True) as stream:
        progress = Progress(10, 10, stream=stream)
        progress.update(1, 1.0, 0.5)
        progress.close()
        shown = os.read(theirs, 1000)
    os.close(theirs)
    assert shown.split() == b"epoch 1/1 step 1/10 loss 1.0000 accuracy 0.500".split()


def test_a_bar_on_a_terminal():
    stream = Terminal()
    progress, clock = make(stream)
    assert run(progress, clock, range(1, 42), 0.0625) == [1, 9, 17, 25, 33, 41]
    progress.message("a line of its own")
    run(progress, clock, range(42, 5001), 0.03125)
    progress.update(5000, 0.25, 0.9)
    progress.close()
    lines = stream.getvalue().split("\n")
    assert "\ra line of its own" in [line[line.rfind("\r") :] for line in lines]
    last = stream.getvalue().rstrip("\n").split("\r")[-1]
    assert "epoch 5/5 step 5000/5000 loss 0.2500 accuracy 0.900 1,600 img/s 0:00:00 left|" in last
    assert stream.getvalue().endswith("\n")


class ZMQInteractiveShell:
    """The shell of a Jupyter kernel, by its name."""


class ColabShell(ZMQInteractiveShell):
    """One that is derived from it."""


class TerminalInteractiveShell:
    """The shell of IPython on a terminal."""


@pytest.fixture
def shell(request, monkeypatch):
    """Pretends that IPython runs, with this shell."""
    ipython = types.SimpleNamespace(get_ipython=lambda: request.param)
    monkeypatch.setitem(sys.modules, "IPython", ipython)


@pytest.mark.parametrize("shell", [ZMQInteractiveShell(), ColabShell()], indirect=True)
@pytest.mark.usefixtures("shell")
def test_a_notebook_shows_a_bar_on_stdout(capsys):
    progress, clock = make(None)
    assert run(progress, clock, range(1, 42), 0.0625) == [1, 9, 17, 25, 33, 41]
    progress.message("a line of its own")
    progress.close()
    with Counter(10, "features") as counter:
        counter.update(10)
    shown, errors = capsys.readouterr()
    assert "\repoch 1/5 step 41/5000 loss 1.2346 accuracy 0.561 800 img/s 0:05:10 left|" in shown
    assert "\ra line of its own\n" in shown
    assert "features: 100%" in shown
    assert errors == ""


@pytest.mark.parametrize("shell", [TerminalInteractiveShell(), None], indirect=True)
@pytest.mark.usefixtures("shell")
def test_ipython_without_a_notebook_shows_plain_lines(capsys):
    progress, _ = make(None)
    progress.update(1, 1.0, 0.5)
    progress.close()
    assert capsys.readouterr() == ("", "epoch 1/5  step 1/5000  loss 1.0000  accuracy 0.500\n")


@pytest.mark.parametrize("shell", [ZMQInteractiveShell()], indirect=True)
@pytest.mark.usefixtures("shell")
def test_a_notebook_that_is_to_show_lines_or_nothing(capsys):
    for settings in ({"bar": False}, {"quiet": True}, {"quiet": True, "bar": True}):
        progress, _ = make(None, **settings)
        progress.update(1, 1.0, 0.5)
        progress.close()
    assert capsys.readouterr() == ("", "epoch 1/5  step 1/5000  loss 1.0000  accuracy 0.500\n")


def test_a_bar_where_it_is_asked_for(capsys):
    progress, _ = make(None, bar=True)
    progress.update(1, 1.0, 0.5)
    progress.close()
    shown, errors = capsys.readouterr()
    assert "\repoch 1/5 step 1/5000 loss 1.0000 accuracy 0.500|" in shown
    assert errors == ""


def test_a_counter_prints_plain_lines_now_and_then():
    stream, now = io.StringIO(), [0.0]
    with Counter(
        100, "features", initial=10, stream=stream, interval=5, clock=lambda: now[0]
    ) as counter:
        for _ in range(4):
            now[0] += 2.0
            counter.update(10)
    assert stream.getvalue() == "features  40 of 100  5.0 images/s  0:00:12 left\n"


def test_a_quiet_counter_prints_nothing():
    stream, now = io.StringIO(), [0.0]
    with Counter(10, "x", quiet=True, stream=stream, clock=lambda: now[0]) as counter:
        now[0] += 60
        counter.update(5)
    assert not stream.getvalue()
