"""Decoded images on disk: written once, verified whenever they are opened (`sums`).

In the folder `arrays` of `runtime.cache_dir()`, each split of each data set at each size has a
directory: images.npy, labels.npy, examples.json (ids, and what was skipped) and meta.json (the key,
and the sha256 of the other three).
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import logging

from cnn_jax import locks, progress, runtime
from cnn_jax.data import array_file, images, sums
from cnn_jax.data.encoded import Encoded
from cnn_jax.data.images import DECODER, ImageError
from cnn_jax.data.splits import Split
from cnn_jax.errors import RunError, plain_reason

_TASK = 32  # images a thread takes at a time: small ones decode faster than they are handed over
_FORMAT = 2  # raise it by one whenever the same encoded images give other arrays
_MAKING, _LOCK = ".making-", ".lock"
_ABANDONED_SECONDS = 24 * 3600


def cores() -> int:
    """Returns the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def open_or_decode(
    encoded: Encoded,
    how: images.Decoding,
    on_error: str,
    quiet: bool = False,
    notes: list[str] | None = None,
    verify: str = "full",
) -> tuple[Split, list[str]]:
    """Returns a split's arrays from the cache, and decodes them into it first if it has none.

    Args:
        encoded: the split to decode.
        how: how; its channels are those of `encoded`.
        on_error: `refuse` or `skip` images that cannot be read.
        quiet: whether to show no progress.
        notes: receives a note on images whose EXIF data or texts cannot be read.
        verify: `full` reads all that is in the cache; `quick` a sample of it.

    Returns:
        The split, its images a read-only memory map, and "path: reason" of each image skipped.

    Raises:
        RunError: an image cannot be read and on_error is `refuse`; no image can be read; the images
            are of various sizes and `how` has none; the cache cannot be written.
    """
    how = dataclasses.replace(how, channels=encoded.channels)
    path, text = _place(encoded, how, on_error)
    decode = functools.partial(images.decode, how=how)
    problem: Exception | None = None
    try:
        for _ in range(3):  # again if the cache is damaged, or another process interferes
            if path.exists():
                try:
                    split, skipped, unsound = _open(path, text, verify)
                    if unsound and notes is not None:
                        notes.append(_note(encoded.split, unsound))
                    return split, skipped
                except PermissionError:  # of another user, and sound for all that is known
                    raise
                except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
                    problem, why = error, plain_reason(error)
                    logging.warning("the cache %s is damaged (%s); making it again", path, why)
                    _discard(path)
            if _make(path, text, encoded, decode, on_error, quiet):
                verify = "made"
    except OSError as error:
        problem = error
    raise RunError(
        f"cannot keep decoded images in {path}: {array_file.reason(problem)}; "
        "free some space, or set CNN_JAX_CACHE to a directory that can be written"
    ) from problem


def note_skipped(name: str, skipped: list[str], notes: list[str]) -> None:
    """Adds to the notes what was skipped of a split, the second result of `open_or_decode`."""
    if skipped:
        notes.append(f"{name}: skipped {len(skipped)} images that cannot be read")
        notes += [f"skipped {line}" for line in skipped]


def has(encoded: Encoded, how: images.Decoding, on_error: str) -> bool:
    """Returns whether the cache has the arrays of a split; the arguments are as above."""
    how = dataclasses.replace(how, channels=encoded.channels)
    return _place(encoded, how, on_error)[0].exists()


def _place(encoded: Encoded, how: images.Decoding, on_error: str) -> tuple[Path, str]:
    """Returns (the directory of a split's arrays, what they depend on)."""
    key = {
        "format": _FORMAT,
        "decoder": DECODER,
        "name": encoded.name,
        "version": encoded.version,
        "split": encoded.split,
        "on_error": on_error,
        "content": encoded.content,
        **how.key(),
    }
    text = json.dumps(key, sort_keys=True)
    names = [encoded.name, encoded.version, encoded.split, str(how.size or "stored")]
    names.append(hashlib.sha256(text.encode()).hexdigest()[:16])
    label = "-".join(name.replace("/", "_") for name in names if name)
    return runtime.cache_dir() / "arrays" / label, text


def _make(
    path: Path,
    key: str,
    encoded: Encoded,
    decode: Callable[..., images.Decoded],
    on_error: str,
    quiet: bool,
) -> bool:
    """Fills a cache beside its place and moves it there whole, unless another process does.

    Returns whether it was this one.
    """
    runtime.make_cache_folder("arrays")
    _remove_abandoned(path.parent)
    lock = locks.FileLock(
        runtime.make_cache_folder("locks") / f"{path.name}.lock",
        waiting=f"waiting for another process, which decodes {encoded.name}",
    )
    with lock, _workplace(path.parent) as making:
        if path.exists():  # it was made while this process waited
            return False
        _decode(encoded, decode, on_error, making, quiet)
        sums.write(making, key)
        (making / _LOCK).unlink()
        try:
            making.rename(path)
        except OSError:
            if not path.exists():
                raise
            return False  # another process has written the same cache in the meantime
        return True


@contextlib.contextmanager
def _workplace(parent: Path) -> Iterator[Path]:
    """A new folder that is removed at the end, or by the next process where this one is killed."""
    folder = parent / f"{_MAKING}{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        with (folder / ".new").open("w") as lock:
            locks.take(lock)
            (folder / ".new").rename(folder / _LOCK)  # nobody sees it before it is held
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _discard(path: Path) -> None:
    """Removes a directory; it is renamed first, so that nobody finds half of it."""
    another = contextlib.suppress(FileNotFoundError)  # another process was faster
    with _workplace(path.parent) as rubbish, another:
        path.rename(rubbish / path.name)


def _remove_abandoned(parent: Path) -> None:
    """Removes the unfinished caches of killed processes."""
    for folder in parent.glob(f"{_MAKING}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    """Returns whether nobody holds a folder's lock; without a lock, whether it is a day old."""
    with contextlib.suppress(OSError), (folder / _LOCK).open() as lock:
        free = locks.take(lock, shared=True)
        if free is not None:
            return free
    try:
        return time.time() - folder.stat().st_mtime > _ABANDONED_SECONDS
    except FileNotFoundError:
        return False


def _open(path: Path, key: str, verify: str) -> tuple[Split, list[str], list[str]]:
    """Opens a cache and raises ValueError (or KeyError, TypeError, OSError) if it is damaged."""
    identity = sums.check(path, key, verify)
    examples = json.loads((path / "examples.json").read_text())
    pixels = np.load(path / "images.npy", mmap_mode="r", allow_pickle=False)
    labels = np.load(path / "labels.npy", allow_pickle=False)
    split = Split(pixels, labels, examples["ids"], identity=identity)
    return split, examples["skipped"], examples.get("unsound", [])


def _note(split: str, unsound: list[str]) -> str:
    some = ", ".join(unsound[:3]) + ("" if len(unsound) <= 3 else ", ...")
    return (
        f"{split}: EXIF data or texts of {len(unsound)} images cannot be read ({some}); their "
        "pixels are read as they are stored"
    )


def _decode(
    encoded: Encoded,
    decode: Callable[..., images.Decoded],
    on_error: str,
    folder: Path,
    quiet: bool,
) -> None:
    """Writes images.npy, labels.npy and examples.json."""
    where = f"{encoded.name} {encoded.split}"

    def read(name: str, source: bytes | Path) -> images.Decoded | ImageError:
        try:
            is_file = isinstance(source, Path)
            return decode(source, name=str(source) if is_file else f"{where} {name}")
        except ImageError as error:
            return error

    def read_some(some: list[tuple[str, bytes | Path]]) -> list[images.Decoded | ImageError]:
        return [read(*one) for one in some]

    array: array_file.ArrayFile | None = None
    shape: tuple[int, ...] = ()
    labels: list[int] = []
    ids: list[str] = []
    bad: list[ImageError] = []
    unsound: list[str] = []
    bar = progress.Counter(encoded.num_examples, f"decoding {where}", quiet=quiet)
    with bar, ThreadPoolExecutor(cores()) as pool, contextlib.ExitStack() as stack:
        for block_ids, block_labels, sources in encoded.blocks():
            tasks = list(zip(block_ids, sources, strict=True))
            parts = [tasks[i : i + _TASK] for i in range(0, len(tasks), _TASK)]
            results = itertools.chain.from_iterable(pool.map(read_some, parts))
            for name, label, result in zip(block_ids, block_labels, results, strict=True):
                if isinstance(result, ImageError):
                    bad.append(result)
                    continue
                if array is None:
                    shape = result.pixels.shape
                    whole = (encoded.num_examples, *shape)
                    made = array_file.ArrayFile(folder / "images.npy", whole, np.uint8)
                    array = stack.enter_context(made)
                elif result.pixels.shape != shape:
                    raise various_sizes(where, shape, result.pixels.shape)
                array.write(len(ids), result.pixels)
                if not result.sound:
                    unsound.append(name)
                ids.append(name)
                labels.append(label)
            bar.update(len(block_ids))
        if array is not None and bad:
            array.shorten(len(ids))
    skipped = [error.for_command_line for error in bad]
    if bad and on_error == "refuse":
        more = f" (and {len(bad) - 1} more that cannot be read)" if len(bad) > 1 else ""
        raise RunError(f"{skipped[0]}{more}; mend or remove, or go on with --dataset.on_error=skip")
    if array is None:
        count = encoded.num_examples
        raise RunError(f"{where}: none of its {count} images can be read: {skipped[0]}")
    np.save(folder / "labels.npy", np.array(labels, np.int32))
    examples = {"ids": ids, "skipped": skipped, "unsound": unsound}
    (folder / "examples.json").write_text(json.dumps(examples))


def various_sizes(where: str, one: tuple[int, ...], other: tuple[int, ...]) -> RunError:
    """Returns the error for images that do not fit into one array."""
    return RunError(
        f"{where} has images of various sizes, {one[0]}x{one[1]} and {other[0]}x{other[1]} among "
        "them: give one size to all, such as --dataset.image_size=64"
    )
