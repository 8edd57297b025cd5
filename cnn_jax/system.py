"""What Unix has and Windows does not: None there, with what stands in for it.

Windows itself is untested; tests hide the modules from Python here.
"""

import importlib
import os
import sys
from typing import Any


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


fcntl = _module("fcntl")
resource = _module("resource")
# Windows locks bytes, which others then cannot read: one beyond the end of any file.
_BYTE = 1 << 30


def lock_byte(descriptor: int, wait: bool) -> bool:
    """Takes the lock of an open file as Windows does; returns whether it is held now.

    It is never shared.
    """
    msvcrt: Any = importlib.import_module("msvcrt")
    before = os.lseek(descriptor, 0, os.SEEK_CUR)
    try:
        os.lseek(descriptor, _BYTE, os.SEEK_SET)
        while True:
            try:
                msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
                return True
            except OSError:  # LK_LOCK gives up after ten seconds
                if not wait:
                    return False
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)


def raise_limit(name: str, least: int) -> float:
    """Raises a limit of this process as far as it may, where it is lower than `least`.

    Args:
        name: the limit's, such as "RLIMIT_NOFILE".
        least: how much it should be.

    Returns:
        The limit then; infinity where there is none.
    """
    if resource is None:
        return float("inf")
    kind, unlimited = getattr(resource, name), resource.RLIM_INFINITY
    soft, hard = resource.getrlimit(kind)
    if soft == unlimited or soft >= least:
        return float("inf") if soft == unlimited else soft
    wanted = least if hard == unlimited else min(least, hard)
    resource.setrlimit(kind, (wanted, hard))
    return wanted


def memory_bytes() -> int:
    """Returns the bytes of memory that the machine has."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return _psutil().virtual_memory().total


def peak_memory_bytes() -> int:
    """Returns the most bytes of memory that this process has had."""
    if resource is None:
        return _psutil().Process().memory_info().peak_wset
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def is_alive(pid: int) -> bool:
    """Returns whether there is a process with this number."""
    if resource is None:  # there, signal 0 would be Ctrl-C
        return _psutil().pid_exists(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _psutil() -> Any:
    return importlib.import_module("psutil")
