"""File locks, also on file systems that have none.

Lustre and some network file systems answer `flock` with an error. There a file that only one
process can make stands in for the lock.
"""

import errno
import os
import pathlib
import threading
from typing import Any

import filelock
from absl import logging

from cnn_jax.system import fcntl, lock_byte

# What flock says where there are no locks; 524 is the kernel's ENOTSUPP.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524)
_SILENT_SECONDS = 10.0
_CLOSES = getattr(os, "O_CLOEXEC", 0)  # where a program is started; Windows does so anyway


def take(file: Any, *, shared: bool = False, wait: bool = False) -> bool | None:
    """Takes the lock of an open file; it is let go when the file is closed.

    Args:
        file: the file, or its descriptor.
        shared: whether others may hold it too, if they share it. Windows has no such locks.
        wait: whether to wait for it.

    Returns:
        Whether it is held now: False where another process holds it, None where the file system has
        no locks.
    """
    if fcntl is None:
        return lock_byte(file if isinstance(file, int) else file.fileno(), wait)
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


class FileLock:
    """A lock that one thread of one process holds at a time, and may enter again; use it in `with`.

    The lock file stays. One that another user made is opened for reading, which is enough.

    Args:
        path: the lock file; its folder exists.
        waiting: what to log, once, where another process holds the lock.
    """

    def __init__(self, path: str | os.PathLike[str], waiting: str = ""):
        self._path, self._waiting = pathlib.Path(path), waiting
        self._mutex, self._depth = threading.RLock(), 0
        self._file = -1
        self._soft: Any = None

    def __enter__(self) -> "FileLock":
        self._mutex.acquire()
        try:
            if not self._depth:
                self._take()
        except BaseException:
            self._mutex.release()
            raise
        self._depth += 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._depth -= 1
        try:
            if not self._depth:
                os.close(self._file)
                if self._soft is not None:
                    self._soft.release()
                    self._soft = None
        finally:
            self._mutex.release()

    def _take(self) -> None:
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | _CLOSES, 0o666)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            self._file = os.open(self._path, os.O_RDONLY | _CLOSES)
        try:
            held = take(self._file)
            if held is False:
                if self._waiting:
                    logging.info("%s", self._waiting)
                take(self._file, wait=True)
            elif held is None:
                self._take_soft()
        except BaseException:
            os.close(self._file)
            raise

    def _take_soft(self) -> None:
        path = f"{self._path}.soft"
        self._soft = filelock.SoftFileLock(path)
        try:
            self._soft.acquire(timeout=_SILENT_SECONDS)
        except filelock.Timeout:
            logging.warning("waiting for the process that made %s; if it is gone, remove it", path)
            self._soft.acquire()
