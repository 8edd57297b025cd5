"""The parameters that a run never trains: written once, beside the checkpoints that name them.

A frozen VGG16 has 59 MB, which would else stand in every checkpoint. The file is an .npz with
"params/PATH" for each array; a checkpoint holds its name and the sha256 of its arrays.
"""

import pathlib
from collections.abc import Collection
from typing import Any

import numpy as np

from cnn_jax import files, text
from cnn_jax.runs import damage, leaves
from cnn_jax.runs.damage import DamageError
from cnn_jax.runs.leaves import Leaves
from cnn_jax.trees import flatten, unflatten


def split(params: Any, paths: Collection[str]) -> tuple[Any, Leaves]:
    """Returns (the parameters without those at the paths, those as leaves of a state), not copied.

    Arrays of a dtype that NumPy has no name for, such as bfloat16, stay where they are.
    """
    flat = flatten(params)
    taken = [path for path in paths if flat[path].dtype.isbuiltin == 1]
    found = {("params", *path.split("/")): flat.pop(path) for path in taken}
    return unflatten(flat), found


def write(directory: pathlib.Path, arrays: Leaves, writes: bool = True) -> dict[str, str]:
    """Writes the file where it is not there and whole; returns {"file", "sha256"} of it.

    Args:
        directory: `checkpoints/` of a run.
        arrays: the frozen leaves.
        writes: whether this process is the one that writes.

    Raises:
        OSError: it cannot be written.
    """
    arrays = {names: np.asarray(array) for names, array in arrays.items()}
    sha256 = leaves.digest_leaves(arrays)
    entry = {"file": f"frozen-{sha256[:16]}.npz", "sha256": sha256}
    if not writes:
        return entry
    try:
        read(directory, entry)
    except DamageError:
        named = {"/".join(names): array for names, array in arrays.items()}
        directory.mkdir(parents=True, exist_ok=True)
        files.write_whole(directory / entry["file"], lambda file: np.savez(file, **named))
    return entry


def read(directory: pathlib.Path, entry: Any) -> Leaves:
    """Returns the frozen leaves of a checkpoint.

    Args:
        directory: `checkpoints/` of a run.
        entry: what the checkpoint says of them: {"file", "sha256"}.

    Raises:
        DamageError: the file is not there, or is not the one that was saved.
        OSError: it cannot be read.
    """
    try:
        path, sha256 = directory / pathlib.PurePath(entry["file"]).name, entry["sha256"]
    except (TypeError, LookupError):
        raise DamageError("its file meta/metadata is damaged") from None
    if not path.is_file():
        raise DamageError(f"the frozen parameters of the run, {text.shown(path)}, are not there")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = {tuple(name.split("/")): file[name] for name in file.files}
        if leaves.digest_leaves(found) == sha256:
            return found
    except Exception as error:  # zipfile's and NumPy's own, of every kind
        if damage.machine_reason(error):
            raise
    raise DamageError(f"the sha256 of the frozen parameters, {text.shown(path)}, is another")
