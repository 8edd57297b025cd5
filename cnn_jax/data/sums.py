"""Checksums of what the cache of decoded images holds: all of it, or a sample of it.

meta.json has the key, the sha256 of each file, and of images.npy its size, its time and the sha256
of a sample. Reading all of 200 GB takes minutes of every start; the sample takes none, and sees a
file that was cut off, overwritten or replaced, but not a flipped bit between its pieces.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from cnn_jax import files
from cnn_jax.errors import ContentError

FILES = ("images.npy", "labels.npy", "examples.json")
_PIECES, _PIECE = 64, 1 << 16  # of the sample, and the bytes of each


def write(folder: Path, key: str) -> None:
    """Writes meta.json."""
    sums = {name: files.sha256(folder / name) for name in FILES}
    meta = {"key": key, "sha256": sums, "quick": _quick(folder / FILES[0])}
    (folder / "meta.json").write_text(json.dumps({**meta, "sum": files.json_sha256(meta)}))


def check(folder: Path, key: str, verify: str) -> str:
    """Returns the identity of the images, after a look whether the files are those that were made.

    Args:
        folder: of the cache.
        key: of what the images depend on.
        verify: "full" reads all; "quick" of images.npy the sample alone, unless its size or time
            is another; "made" nothing, for files that this process has just written.

    Raises:
        ContentError: they are damaged. KeyError, TypeError, ValueError or OSError, likewise.
    """
    meta = json.loads((folder / "meta.json").read_text())
    if meta["key"] != key:
        raise ContentError("meta.json is of another data set")
    if meta.pop("sum", None) not in (None, files.json_sha256(meta)):  # none: of an earlier version
        raise ContentError("meta.json does not have its checksum")
    trusted = FILES if verify == "made" else ()
    if verify == "quick" and "quick" in meta and meta["quick"] == _quick(folder / FILES[0]):
        trusted = FILES[:1]
    for name in FILES:
        if name not in trusted and files.sha256(folder / name) != meta["sha256"][name]:
            raise ContentError(f"{name} does not have its checksum")
    return str(meta["sha256"][FILES[0]])


def _quick(path: Path) -> dict[str, Any]:
    """Returns the size, the time and the sha256 of a sample of a file."""
    stat = path.stat()
    sha = hashlib.sha256()
    with path.open("rb") as file:
        for piece in range(_PIECES):
            file.seek(max(0, stat.st_size - _PIECE) * piece // (_PIECES - 1))
            sha.update(file.read(_PIECE))
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": sha.hexdigest()}
