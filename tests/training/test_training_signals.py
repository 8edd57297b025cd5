"""Which signals ask a run to stop."""

import os
import signal

import pytest

from cnn_jax.training.signals import stop_signals

NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2")


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_asks_and_is_the_callers_again_after(name):
    number = signal.Signals[name]
    outside = signal.signal(number, signal.SIG_DFL)  # ignored where the tests run detached
    try:
        with stop_signals() as asked:
            assert asked() is None
            os.kill(os.getpid(), number)
            assert asked() == number
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, outside)


@pytest.mark.parametrize("name", NAMES[2:])
def test_a_signal_that_arrives_ignored_stays_ignored(name):
    number = signal.Signals[name]
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_signals() as asked:
            os.kill(os.getpid(), number)
            assert asked() is None
    finally:
        signal.signal(number, before)
