"""Downloads weights once into a cache: resumed, verified, and safe beside other processes."""

import os
import threading
from pathlib import Path
from typing import Any, cast

import pooch
import requests
import tqdm
from absl import logging

from cnn_jax import files, locks, runtime
from cnn_jax.errors import RunError
from cnn_jax.pretrained.catalogue import Entry

_CONNECT_SECONDS = 5
_READ_SECONDS = 30
_CHUNK = 1 << 20


def fetch(entry: Entry) -> Path:
    """Returns the file of an entry with the right checksum, and downloads it if it is missing.

    The file is kept in the folder `weights` of `runtime.cache_dir()`. A download writes to
    `NAME.part` beside its destination, continues it after a break, and moves it to its destination
    only after the checksum was right. One process downloads, others wait for it. A file in the
    cache whose checksum is wrong is named in the log and downloaded again.

    Raises:
        RunError: the server cannot be reached, or sends another file than the catalogue's.
    """
    folder = runtime.cache_dir() / "weights"
    path = folder / entry.name
    if _verified(path, entry):
        return path
    try:
        runtime.make_cache_folder("weights")
        waiting = f"waiting for another process that downloads {entry.name}"
        with locks.FileLock(f"{path}.lock", waiting):
            if not _verified(path, entry):
                _download(path, entry)
    except OSError as error:  # requests' errors are OSErrors too
        raise RunError(
            f"{entry.name} is not in {folder} and could not be downloaded from {entry.url} "
            f"({_reason(error)}); {_by_hand(path, entry)}"
        ) from error
    return path


def _verified(path: Path, entry: Entry) -> bool:
    if not path.exists():
        return False
    if entry.size in (None, path.stat().st_size) and _checksum_holds(path, entry):
        return True
    algorithm = entry.checksum.partition(":")[0]
    logging.warning("%s is damaged: its size or %s is another; fetching it again", path, algorithm)
    return False


def _checksum_holds(path: Path, entry: Entry) -> bool:
    algorithm, _, expected = entry.checksum.partition(":")
    return files.checksum(path, algorithm) == expected


def _download(path: Path, entry: Entry) -> None:
    """Downloads an entry to `path`; the caller holds the lock.

    Raises:
        RunError: the server sends another file than the catalogue's.
        OSError: the server cannot be reached, the connection broke, or the disk is full.
    """
    preflight(entry.url)
    part = path.with_name(f"{path.name}.part")
    pooch.get_logger().setLevel("WARNING")  # its lines would repeat ours
    if part.exists():
        try:
            return _retrieve(path, part, entry)
        except ValueError:  # the part may be of another file
            logging.warning("%s was resumed and its checksum fails; starting over", entry.name)
    try:
        _retrieve(path, part, entry)
    except ValueError:
        raise _wrong(path, entry, "its checksum is another") from None


def _retrieve(path: Path, part: Path, entry: Entry) -> None:
    """Downloads to `path` through `part`; raises ValueError if the checksum is wrong."""

    def downloader(url: str, output_file: str, _: object) -> None:
        _stream(url, part, entry, path)
        os.replace(part, output_file)  # pooch verifies its checksum, then moves it to `path`

    path.unlink(missing_ok=True)
    pooch.retrieve(
        entry.url,
        entry.checksum,
        fname=path.name,
        path=path.parent,
        downloader=cast(Any, downloader),
    )


def _stream(url: str, part: Path, entry: Entry, path: Path) -> None:
    """Completes `part` from its end on, to the entry's size, or the server's if that is unknown."""
    offset = part.stat().st_size if part.exists() else 0
    size = entry.size
    if size is None and offset and _checksum_holds(part, entry):
        return
    if size is not None and offset > size:
        offset = 0
    if offset == size:
        return
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    timeout = (_CONNECT_SECONDS, _READ_SECONDS)
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
        if response.status_code == 416 and size is None:
            part.unlink()
            raise ValueError("the part does not end within the server's file")
        response.raise_for_status()
        if response.status_code != 206:
            offset = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            raise _wrong(path, entry, "the server sent another part than asked for")
        length = response.headers.get("Content-Length")
        if length is not None and size is None:
            size = offset + int(length)
        elif length is not None and offset + int(length) != size:
            raise _wrong(path, entry, f"the server's file has {offset + int(length)} bytes")
        with (
            part.open("ab" if offset else "wb") as file,
            tqdm.tqdm(
                desc=entry.name,
                total=size,
                initial=offset,
                unit="B",
                unit_scale=True,
                disable=None,
            ) as bar,
        ):
            for chunk in response.iter_content(_CHUNK):
                offset += len(chunk)
                if size is not None and offset > size:  # before it fills the disk
                    raise _wrong(path, entry, f"the server sends more than {size} bytes")
                file.write(chunk)
                bar.update(len(chunk))
    if size is not None and offset != size:
        raise ConnectionError(f"the connection broke after {offset} of {size} bytes")


def preflight(url: str) -> None:
    """Raises OSError if nothing answers within 5 seconds.

    It asks in a thread, because looking up a name has no timeout of its own.
    """
    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            requests.head(url, timeout=_CONNECT_SECONDS, allow_redirects=True).close()
            outcome.append(None)
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS)
    if not outcome:
        raise TimeoutError(f"no answer within {_CONNECT_SECONDS} seconds")
    if outcome[0] is not None:
        raise outcome[0]


def _by_hand(path: Path, entry: Entry) -> str:
    size = "" if entry.size is None else f"{entry.size} bytes, "
    return (
        f"download it elsewhere ({size}{entry.checksum}) and put it at {path}, "
        "or name a file with --transfer.weights=PATH"
    )


def _wrong(path: Path, entry: Entry, reason: str) -> RunError:
    return RunError(
        f"{entry.url} is not the file of the catalogue: {reason}; {_by_hand(path, entry)}"
    )


def _reason(error: BaseException) -> str:
    """Returns the innermost cause in a few words, which requests wraps in several layers."""
    if isinstance(error, requests.HTTPError):
        return str(error).partition(" for url")[0]
    while True:
        inner = error.__context__ or getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 160 else f"{text[:157]}..."
