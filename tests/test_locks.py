"""Locks of files, also where a file system has none."""

import errno
import os
import threading

import pytest
from absl import logging

from cnn_jax import locks


def refuse_with(number):
    def refuse(file, operation):
        raise OSError(number, "no locks")

    return refuse


def test_a_thread_waits_for_another_and_may_enter_again(tmp_path):
    order = []
    inside = threading.Event()

    def other():
        with locks.FileLock(tmp_path / "lock"):
            order.append("other")

    thread = threading.Thread(target=other)
    lock = locks.FileLock(tmp_path / "lock")
    with lock, lock:
        thread.start()
        inside.wait(0.05)
        order.append("first")
    thread.join(10)
    assert order == ["first", "other"]


def test_take_tells_who_holds_it(tmp_path):
    path = tmp_path / "lock"
    with path.open("w") as one, path.open() as other:
        assert locks.take(one)
        assert locks.take(other) is False
        assert locks.take(other, shared=True) is False
    with path.open() as one, path.open() as other:
        assert locks.take(one, shared=True)
        assert locks.take(other, shared=True)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524])
def test_without_locks_a_file_stands_in(tmp_path, monkeypatch, number):
    monkeypatch.setattr(locks.fcntl, "flock", refuse_with(number))
    monkeypatch.setattr(locks, "_SILENT_SECONDS", 0.01)
    warned = []
    monkeypatch.setattr(logging, "warning", lambda *args: warned.append(args[0] % args[1:]))
    with (tmp_path / "lock").open("w") as file:
        assert locks.take(file) is None
    soft = tmp_path / "lock.soft"
    taken = threading.Event()

    def other():
        with locks.FileLock(tmp_path / "lock"):
            taken.set()

    thread = threading.Thread(target=other)
    lock = locks.FileLock(tmp_path / "lock")
    with lock, lock:
        assert soft.exists()
        thread.start()
        assert not taken.wait(0.1)
    thread.join(10)
    assert taken.is_set()
    assert not soft.exists()
    assert len(warned) == 1
    assert str(soft) in warned[0]


def test_a_lock_file_of_another_user_is_enough(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    path.touch()
    opened = os.open

    def refuse_to_write(path, flags, mode=0o777, **kwargs):
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, flags, mode, **kwargs)

    monkeypatch.setattr(locks.os, "open", refuse_to_write)
    with locks.FileLock(path), path.open() as file:
        assert locks.take(file) is False


def test_other_errors_are_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(locks.fcntl, "flock", refuse_with(errno.EIO))
    with pytest.raises(OSError, match="no locks"), locks.FileLock(tmp_path / "lock"):
        pass
    with pytest.raises(FileNotFoundError), locks.FileLock(tmp_path / "none" / "lock"):
        pass
