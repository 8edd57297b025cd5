"""A cache of features: one folder with an array, filled piece by piece.

`features.npy` is read through a memory map, and `pieces.json` has the sha256 of each piece that is
done. An extraction that was killed goes on with the first missing piece; a damaged piece is named
in a warning and computed again. Several processes that see the folder share the pieces out; until
all are through, each but the first keeps a `pieces.json` of its own.
"""

import contextlib
import hashlib
import json
import math
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import logging

from cnn_jax import files, locks, processes, progress, runtime
from cnn_jax.data import array_file
from cnn_jax.errors import ContentError, RunError, plain_reason
from cnn_jax.processes.team import LONGEST_WORK


def opened(
    folder: pathlib.Path,
    pieces: list[tuple[int, int]],
    compute: Callable[[int, int], tuple[int, np.ndarray]],
    shape: tuple[int, ...],
    label: str,
    quiet: bool,
) -> np.ndarray:
    """Returns the features in a folder of the cache as a map, after computing what is missing.

    Args:
        folder: it is made where it is not there.
        pieces: (view, first image) of each.
        compute: returns the place of a piece's first row, and its rows.
        shape: of all features.
        label: what to call them on the progress bar.
        quiet: whether to show no progress.

    Raises:
        OSError: the folder cannot be written.
        RunError: the disk has no room.
    """
    runtime.make_cache_folder("features", folder.name)
    team = processes.team()
    if not all(processes.who_sees(folder)):
        team = processes.Alone()  # with a lock, since others of this machine may see it
    with contextlib.ExitStack() as stack:
        done: dict[str, dict[str, Any]] = {}
        with team.first():
            if team.is_first:
                stack.enter_context(locks.FileLock(folder / ".lock"))
                done = _undamaged(folder, _open(folder, shape))
                if len(done) < len(pieces):
                    _writable(folder, shape).close()  # others find it
        there = team.agree(lambda: {name: piece["place"] for name, piece in done.items()})
        missing = [piece for piece in pieces if _name(*piece) not in there]
        before = sum(stop - start for start, stop in there.values())
        counter = stack.enter_context(progress.Counter(shape[0], label, before, quiet))
        own = missing[team.index :: team.count]
        if own:
            path = folder / ("pieces.json" if team.is_first else f"pieces.{team.index}.json")
            array = stack.enter_context(_writable(folder, shape))
            for view, start in own:
                first, rows = compute(view, start)
                array.write(first, rows)
                array.sync()
                place = [first, first + len(rows)]
                done[_name(view, start)] = {"place": place, "sha256": _sha256(rows)}
                files.write_json(path, done)
                step = min(len(rows) * team.count, shape[0] - before)  # others are as far
                counter.update(step)
                before += step
        if missing:
            every = team.gather(done, LONGEST_WORK)
            if team.is_first:
                all_done = {name: piece for each in every for name, piece in each.items()}
                files.write_json(folder / "pieces.json", all_done)
                for share in _lists(folder)[1:]:
                    share.unlink(missing_ok=True)
    return np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)


def _lists(folder: pathlib.Path) -> list[pathlib.Path]:
    return [folder / "pieces.json", *folder.glob("pieces.*.json")]


def _name(view: int, start: int) -> str:
    return f"{view}-{start}"


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def _undamaged(folder: pathlib.Path, done: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the pieces whose sha256 is still the one that was written, and names the others."""
    if not done:
        return {}
    array = np.load(folder / "features.npy", mmap_mode="r", allow_pickle=False)
    whole = {}
    for name, piece in done.items():
        if _sha256(array[slice(*piece["place"])]) == piece["sha256"]:
            whole[name] = piece
        else:
            logging.warning(
                "piece %s of the feature cache %s is damaged; making it again", name, folder
            )
    return whole


def _open(folder: pathlib.Path, shape: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """Returns the pieces that are listed as done; without any there is no features.npy."""
    path, done = folder / "features.npy", {}
    try:
        for each in _lists(folder):
            if each.exists():
                found = json.loads(each.read_text())
                if not isinstance(found, dict):
                    raise ContentError(f"{each.name} lists something else")
                done |= found
        if not done:
            raise FileNotFoundError
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if array.shape != shape or array.dtype != np.float32:
            raise ContentError(f"its shape is {array.shape}, not {shape}")
        if not all(_is_piece(piece) for piece in done.values()):
            raise ContentError("pieces.json lists something else")
        return done
    except FileNotFoundError:
        pass
    except PermissionError:  # of another user, and sound for all that is known
        raise
    except (OSError, EOFError, ValueError, AttributeError, RecursionError) as error:
        logging.warning(
            "the feature cache %s is damaged (%s); making it again", folder, plain_reason(error)
        )
    for each in (*_lists(folder), path):
        each.unlink(missing_ok=True)
    return {}


def _is_piece(piece: Any) -> bool:
    return (
        isinstance(piece, dict)
        and isinstance(piece.get("sha256"), str)
        and isinstance(place := piece.get("place"), list)
        and len(place) == 2
        and all(isinstance(end, int) for end in place)
    )


def _writable(folder: pathlib.Path, shape: tuple[int, ...]) -> array_file.ArrayFile:
    """Returns features.npy for writing; a new one has its space on the disk."""
    path = folder / "features.npy"
    new = not path.exists()
    size = 4 * math.prod(shape)
    free = shutil.disk_usage(folder).free
    if new and size > free:
        raise RunError(
            f"the feature cache needs {size / 2**30:.1f} GiB and {folder} has {free / 2**30:.1f} "
            "free; set $CNN_JAX_CACHE to another disk, or --transfer.cache_features=false"
        )
    array = array_file.ArrayFile(path, shape, np.float32)
    if new:  # whoever may write the folder may go on with the file
        path.chmod(path.stat().st_mode | folder.stat().st_mode & 0o066)
    return array
