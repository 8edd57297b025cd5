"""What happens to files: bytes that change, files that go, JSON of another shape."""

import contextlib
import json
import os
import pathlib
import random
import shutil
from collections.abc import Callable
from typing import Any

Draw = random.Random


def _cut(draw: Draw, data: bytes, other: bytes) -> bytes:
    return data[: draw.randrange(len(data))] if data else b""


def _flip(draw: Draw, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(draw.choice((1, 1, 3, 30))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _start(draw: Draw, data: bytes, other: bytes) -> bytes:
    """Flips a bit where formats say what follows."""
    changed = bytearray(data or b"\0")
    changed[draw.randrange(min(len(changed), 64))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _block(draw: Draw, data: bytes, new: Callable[[int], bytes]) -> bytes:
    start = draw.randrange(len(data) + 1)
    size = draw.randrange(1, max(2, min(len(data) - start, 4096) + 1))
    return data[:start] + new(size) + data[start + size :]


def _zeros(draw: Draw, data: bytes, other: bytes) -> bytes:
    return _block(draw, data, bytes)


def _noise(draw: Draw, data: bytes, other: bytes) -> bytes:
    return _block(draw, data, draw.randbytes)


def _doubled(draw: Draw, data: bytes, other: bytes) -> bytes:
    start = draw.randrange(len(data) + 1)
    return data[:start] + data[start // 2 :]


def _longer(draw: Draw, data: bytes, other: bytes) -> bytes:
    return data + draw.choice((b"\0", b"\n", draw.randbytes(100), data))


def _crossed(draw: Draw, data: bytes, other: bytes) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + other[at:]


BYTES: dict[str, Callable[[Draw, bytes, bytes], bytes]] = {
    "torn": _cut,
    "with flipped bits": _flip,
    "with a flipped bit at its start": _start,
    "with a block of zeros": _zeros,
    "with a block of noise": _noise,
    "with a part twice": _doubled,
    "with more behind it": _longer,
    "empty": lambda *_: b"",
    "all zeros": lambda _, data, __: bytes(len(data)),
    "crossed with another": _crossed,
    "another one": lambda _, __, other: other,
}
# Damages that leave no file of bytes behind.
_PLACES = ("missing", "a folder", "a link to nothing", "a link to itself")


def harm_bytes(draw: Draw, data: bytes, other: bytes = b"") -> tuple[str, bytes]:
    """Returns (what was done, the bytes afterwards)."""
    name = draw.choice(list(BYTES))
    return name, BYTES[name](draw, data, other)


def harm_file(draw: Draw, path: pathlib.Path, other: pathlib.Path | None = None) -> str:
    """Damages a file and says how.

    Args:
        draw: chooses.
        path: the file.
        other: a file of the same kind, for what may be swapped with it.
    """
    if draw.random() < 0.3:
        return replace_file(draw, path)
    theirs = other.read_bytes() if other is not None and other.is_file() else b"\0" * 100
    name, data = harm_bytes(draw, path.read_bytes(), theirs)
    path.write_bytes(data)
    return f"{path.name} {name}"


def replace_file(draw: Draw, path: pathlib.Path) -> str:
    """Puts something else in the place of a file, or nothing, and says what."""
    name = draw.choice(_PLACES)
    remove(path)
    if name == "a folder":
        path.mkdir()
    elif name.startswith("a link"):
        path.symlink_to(path.name if "itself" in name else "nowhere")
    return f"{path.name} {name}"


def remove(path: pathlib.Path) -> None:
    """Removes whatever is at a path."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def put_back(saved: pathlib.Path, path: pathlib.Path) -> None:
    """Makes a file or folder what its copy is, with the same times."""
    remove(path)
    if saved.is_dir():
        shutil.copytree(saved, path, symlinks=True)
    elif saved.exists():
        shutil.copy2(saved, path)


# Values that no setting and no record expects; JSON writes the ones that are not JSON as Python.
VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        2**63,
        2**64,
        -(2**63),
        10**400,
        0.5,
        -0.0,
        1e308,
        1e-320,
    ),
    *(float("nan"), float("inf"), "", " ", "none", "nan", "é", "\0", "\x1b[2J", "a" * 5000),
    *("../..", "/dev/null", "~nosuch", "gs://bucket/x", "1,2", "[", "{}", "\ud800", "ⅷ", "1_000"),
    *([], [1], {}, {"a": 1}, [[[]]], [None], ["a", 1]),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in items:
            found += _places(part, (*path, key))
    return found


def harm_json(draw: Draw, value: Any) -> tuple[str, str]:
    """Returns (what was done, JSON text): a value, key or list that is not what it was."""
    value = json.loads(json.dumps(value))
    path = draw.choice(_places(value))
    new = draw.choice(VALUES)
    where = ".".join(map(str, path)) or "all of it"
    if not path:
        if draw.random() < 0.3:
            return "nested without end", "[" * 100_000 + "]" * 100_000
        return f"{where} is {_short(new)}", json.dumps(new)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    how = draw.choice(("value", "value", "value", "gone", "more", "twin"))
    if how == "value":
        holder[path[-1]] = new
        done = f"{where} is {_short(new)}"
    elif how == "gone":
        del holder[path[-1]]
        done = f"{where} gone"
    elif how == "more" and isinstance(holder, dict):
        holder["more"] = new
        done = f"{where} beside 'more', {_short(new)}"
    else:
        holder[path[-1]] = [holder[path[-1]]] if draw.random() < 0.5 else {"": holder[path[-1]]}
        done = f"{where} inside another"
    return done, json.dumps(value)


def _short(value: Any) -> str:
    words = ascii(value)
    return words if len(words) < 40 else words[:37] + "..."


def files_below(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files below a folder, sorted, without locks."""
    found = (pathlib.Path(base) / name for base, _, names in os.walk(folder) for name in names)
    return sorted(path for path in found if ".lock" not in path.name and not path.is_symlink())
