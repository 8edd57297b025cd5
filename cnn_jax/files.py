"""Files: written whole, read with clear errors, their checksums, and the code they define."""

import contextlib
import functools
import hashlib
import inspect
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any, BinaryIO

from cnn_jax.errors import RunError, UsageError

_NO_NUMBERS = (dict, list, tuple, str)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes JSON as `write_whole` does."""
    content = f"{json_text(value)}\n".encode()
    write_whole(path, lambda file: file.write(content))


def json_sha256(value: Any) -> str:
    """Returns the sha256 (hexadecimal) of what JSON can hold; the order of keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_whole(path: pathlib.Path, write: Callable[[BinaryIO], Any]) -> None:
    """Writes a file so that a reader finds the old one or the new one, never a part.

    It is on the disk before it has its name, so that this holds after a power cut too.

    Args:
        path: where it goes.
        write: writes the content to an open file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error  # it names no file
    with contextlib.suppress(OSError):  # some file systems cannot flush a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def json_text(value: Any, indent: str = "") -> str:
    """Returns JSON with an entry a line, but for lists of numbers, which are a line each.

    Args:
        value: of what JSON has.
        indent: the white space before an entry of what the value is in.
    """
    more = f"{indent}  "
    if isinstance(value, dict) and value:
        entries = [f"{json.dumps(str(k))}: {json_text(v, more)}" for k, v in value.items()]
    elif isinstance(value, list | tuple) and any(isinstance(v, _NO_NUMBERS) for v in value):
        entries = [json_text(v, more) for v in value]
    else:
        return json.dumps(value)
    begin, end = "{}" if isinstance(value, dict) else "[]"
    lines = f",\n{more}".join(entries)
    return f"{begin}\n{more}{lines}\n{indent}{end}"


def read_json(path: pathlib.Path) -> Any:
    """Returns the value in a JSON file.

    Raises:
        RunError: the file is not there or does not hold JSON.
    """
    try:
        return json.loads(path.read_text())
    except OSError as e:
        raise RunError(f"cannot read {path}: {e.strerror}") from e
    except (ValueError, RecursionError) as e:  # torn, not UTF-8, or nested without end
        raise RunError(f"{path} does not hold JSON") from e


def checksum(path: pathlib.Path, algorithm: str) -> str:
    """Returns a checksum of a file, hexadecimal; the algorithm is a name of hashlib's, as "md5"."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def sha256(path: pathlib.Path) -> str:
    """Returns the sha256 of a file, hexadecimal."""
    return checksum(path, "sha256")


def check_free(noun: str, name: Any, new: Any, known: Any, where: str | None) -> None:
    """Refuses to register something under a name that something else has.

    Args:
        noun: what it is, such as "loss".
        name: the name.
        new: the function or class to register.
        known: what the name stands for now, or None.
        where: the file that defines what it stands for; None: it is the package's own.

    Raises:
        UsageError: the name is taken, or is no name, or `new` cannot be called. The same function,
            by its file and its name there, may come again, as when a file is run twice.
    """
    if not isinstance(name, str) or not name:
        raise UsageError(f"the name of a {noun} is a text, not {name!r}")
    if not callable(new):
        raise UsageError(f"register a function as the {noun} {name!r}, not {new!r}")
    if known is not None and (where is None or source_of(known) != source_of(new)):
        owner = "of cnn_jax" if where is None else f"in {where or 'Python'}"
        raise UsageError(f"there is already a {noun} {name!r} ({owner}); choose another name")


def source_of(thing: Any) -> tuple[str, str]:
    """Returns (file, qualified name) of a function, a class, or a callable object's class.

    The file is that of its code, also if the module was never imported; "" if it has none.
    """
    while isinstance(thing, functools.partial):
        thing = thing.func
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    functions = vars(thing).values() if isinstance(thing, type) else [thing]
    codes = [getattr(inspect.unwrap(f), "__code__", None) for f in functions if callable(f)]
    # Dataclasses, and so Linen modules, have generated methods, whose file is called <string>.
    found = [code.co_filename for code in codes if code and code.co_filename != "<string>"]
    return found[0] if found else "", thing.__qualname__
