"""What the system lets a process have."""

import resource

import pytest

from cnn_jax import system
from cnn_jax.cli import limits
from cnn_jax.errors import RunError


@pytest.fixture
def given(monkeypatch):
    """The limits of this process, (soft, hard) by kind, which a test changes."""
    values = {
        resource.RLIMIT_NOFILE: (1024, 4096),
        resource.RLIMIT_AS: (resource.RLIM_INFINITY, resource.RLIM_INFINITY),
    }
    monkeypatch.setattr(system.resource, "getrlimit", values.__getitem__)
    monkeypatch.setattr(system.resource, "setrlimit", values.__setitem__)
    return values


def test_enough_is_left_alone(given):
    before = dict(given)
    limits.check()
    assert given == before


def test_what_may_be_raised_is_raised(given):
    given[resource.RLIMIT_NOFILE] = (20, 4096)
    given[resource.RLIMIT_AS] = (1 << 30, resource.RLIM_INFINITY)
    limits.check()
    assert given == {
        resource.RLIMIT_NOFILE: (64, 4096),
        resource.RLIMIT_AS: (3 << 30, resource.RLIM_INFINITY),
    }


@pytest.mark.parametrize(
    ("kind", "limit", "message"),
    [
        (resource.RLIMIT_NOFILE, 20, "may open 20 files only, and needs 64; .*ulimit -n 1024"),
        (resource.RLIMIT_AS, 2_048_000_000, "may have 1.9 GiB .*ulimit -v unlimited"),
    ],
)
def test_too_little_is_one_line(given, kind, limit, message):
    given[kind] = (limit, limit)
    with pytest.raises(RunError, match=message) as caught:
        limits.check()
    assert caught.value.exit_code == 1
