"""The lock of a run directory."""

import errno

import pytest

from cnn_jax import locks
from cnn_jax.errors import UsageError
from cnn_jax.runs import directory
from cnn_jax.runs.directory import RunDirectory


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524])
def test_a_file_system_without_locks_is_one_warning(number, tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(number, "no locks")

    warned = []
    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    monkeypatch.setattr(
        directory.logging, "warning", lambda form, *rest: warned.append(form % rest)
    )
    run, entered = RunDirectory(tmp_path), False
    with run.locked():
        entered = not run.is_locked()
    assert entered
    assert len(warned) == 1
    assert "without locks" in warned[0]


def test_a_lock_is_seen_and_refuses(tmp_path):
    run = RunDirectory(tmp_path)
    with run.locked():
        assert run.is_locked()
        with pytest.raises(UsageError, match="another process is training"), run.locked():
            pass
    assert not run.is_locked()
