"""Whole Keras models (`.keras`, zip files): their weights alone, so that nothing in them is run."""

import contextlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from cnn_jax.errors import RunError, UsageError, UserError

WEIGHTS, CONFIG = "model.weights.h5", "config.json"
_MOST_BYTES = {WEIGHTS: 4 << 30, CONFIG: 64 << 20}
# Weights hardly get smaller by compression, and Keras does not try; a configuration does somewhat.
_MOST_RATIO = 100


def members(path: Path) -> list[str]:
    """Returns the names in a zip file; none where it is damaged or another kind of file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):  # the last: of a later version
        return []


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Gives a copy of the weights in a Keras model, an HDF5 file that lasts as long as the context.

    Args:
        path: the `.keras` file.

    Raises:
        UsageError: the model has a layer of its maker's code.
        RunError: the file is damaged, or made to do harm.
    """
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, WEIGHTS)
        try:
            _unpack(path, weights)
        except UserError:
            raise
        except Exception as error:  # a damaged archive makes Python raise nearly anything
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the disk's, such as a full one
            raise RunError(f"{path} is damaged, or no Keras model") from error
        yield weights


def _unpack(path: Path, weights: Path) -> None:
    """Copies the weights out of a model that has been looked at."""
    with zipfile.ZipFile(path) as archive:
        _check(path, archive)
        if code := _layers_of_code(json.loads(archive.read(CONFIG))):
            raise UsageError(
                f"--transfer.weights: {path} has a layer of its maker's code, which is not run: "
                f"Lambda {code[0]!r}; save the weights of a model without it"
            )
        with archive.open(WEIGHTS) as source, weights.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)


def _check(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuses an archive that leads out of its folder, or declares more than weights can be."""
    members = {member.filename: member for member in archive.infolist()}
    for name in members:
        place = PurePosixPath(name.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or ":" in place.parts[0]:
            raise RunError(f"{path} holds a file whose path leads out of its folder: {name!r}")
    for name, most in _MOST_BYTES.items():
        if name not in members:
            raise RunError(f"{path} is no Keras model: it has no {name}")
        size, packed = members[name].file_size, members[name].compress_size
        if size > most or size > _MOST_RATIO * packed + (1 << 20):
            raise RunError(
                f"{path} is not read: {name} would grow from {packed:,} to {size:,} bytes"
            )


def _layers_of_code(value: Any) -> list[str]:
    """Returns the names of the Lambda layers in a configuration, however deep."""
    if isinstance(value, list):
        return [name for each in value for name in _layers_of_code(each)]
    if not isinstance(value, dict):
        return []
    config = value.get("config")
    named = str(config.get("name", "")) if isinstance(config, dict) else ""
    own = [named] if value.get("class_name") == "Lambda" else []
    return own + [name for each in value.values() for name in _layers_of_code(each)]


def is_hdf5(path: Path) -> bool:
    """Returns whether a file has HDF5's mark, at its begin or at 512, 1024, 2048, ... bytes."""
    size, place = path.stat().st_size, 0
    with path.open("rb") as file:
        while place < size:
            file.seek(place)
            if file.read(8) == b"\x89HDF\r\n\x1a\n":
                return True
            place = max(512, 2 * place)
    return False
