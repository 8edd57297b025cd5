"""The folder of an export: made beside its place, and moved there when it is whole."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from cnn_jax import files
from cnn_jax.errors import RunError, UsageError
from cnn_jax.text import shown

RECORD = "export.json"
CARD = "README.md"


def check_free(place: Path) -> None:
    """Refuses a place where an export would destroy what is somebody else's.

    An earlier export is replaced, unless there are other files in its folder, or a card that was
    edited since.

    Raises:
        UsageError: the place is a file, or a folder with other files.
    """
    if not place.exists():
        return
    if not place.is_dir():
        raise UsageError(f"{shown(place)} is a file; an export is a folder: give a new one")
    there = {path.name for path in place.iterdir()}
    if not there:
        return
    known = _of_export(place)
    others = sorted(there - known.keys() - {RECORD})
    if others or RECORD not in there:
        some = ", ".join(others[:3] or sorted(there)[:3])
        raise UsageError(
            f"{shown(place)} holds other files ({some}) than an export's; give a new folder"
        )
    if CARD in there and files.sha256(place / CARD) != known.get(CARD):
        raise UsageError(
            f"{shown(place / CARD)} was edited since it was exported, and would be replaced; move "
            "it away, or give a new folder"
        )


def _of_export(place: Path) -> dict[str, str]:
    """Returns {name: sha256} of the files of an earlier export; {} where there is none."""
    try:
        known = files.read_json(place / RECORD)["files"]
        return {str(each["name"]): str(each["sha256"]) for each in known}
    except (RunError, KeyError, TypeError):
        return {}


@contextlib.contextmanager
def whole(place: Path) -> Iterator[Path]:
    """Gives an empty folder to fill, which gets its name when the `with` ends without an error.

    An earlier export has its name until then.

    Raises:
        UsageError: as `check_free`.
        RunError: the folder cannot be written.
    """
    check_free(place)
    part = place.with_name(f".{place.name}.{os.getpid()}")
    old = place.with_name(f".{place.name}.{os.getpid()}.old")
    try:
        part.mkdir(parents=True)
        yield part
        if place.exists():
            place.rename(old)
        part.rename(place)
    except OSError as error:
        raise RunError(f"{shown(place)} cannot be written: {error.strerror}") from error
    finally:
        if old.exists() and not place.exists():
            old.rename(place)
        for rest in (part, old):
            shutil.rmtree(rest, ignore_errors=True)
