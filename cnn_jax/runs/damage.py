"""What is wrong with a checkpoint, in words of our own, and where a damaged one goes."""

import errno
import os
import pathlib

from absl import logging

# What keeps a process from reading or writing a file that may be whole.
_OF_THE_MACHINE = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EIO,
    errno.ESTALE,
)


class DamageError(Exception):
    """A checkpoint that cannot be used; the message goes on from its name: "it has no state"."""


def machine_reason(error: BaseException) -> str | None:
    """Returns what the operating system says, where an error stems from it and not from damage.

    Orbax and tensorstore raise errors of their own around it.
    """
    if isinstance(error, MemoryError):
        return os.strerror(errno.ENOMEM)
    number = error.errno if isinstance(error, OSError) else None
    if number in _OF_THE_MACHINE:
        return os.strerror(number)
    text = str(error)
    if "RESOURCE_EXHAUSTED" in text and "Too many open files" not in text:
        return os.strerror(errno.ENOSPC)
    return next((os.strerror(n) for n in _OF_THE_MACHINE if os.strerror(n) in text), None)


def damage(folder: pathlib.Path, error: Exception) -> str:
    """Returns which part of a checkpoint an error of reading it names."""
    text = str(error)
    named = [path for path in folder.rglob("*") if path.is_file() and path.name in text]
    if not named:
        return "a file in its state is damaged or missing"
    longest = max(named, key=lambda path: len(path.relative_to(folder).as_posix()))
    return f"a file in it is damaged: {longest.relative_to(folder)}"


def set_aside(folder: pathlib.Path, reason: str) -> None:
    """Warns of a damaged checkpoint and moves it where Orbax does not look; deletes nothing."""
    aside = folder.parent / "damaged" / folder.name
    number = 1
    while aside.exists():
        number += 1
        aside = aside.with_name(f"{folder.name}-{number}")
    aside.parent.mkdir(exist_ok=True)
    os.replace(folder, aside)
    logging.warning("checkpoint %s is damaged (%s); moved to %s", folder, reason, aside)
