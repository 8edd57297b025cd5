"""The layers of an HDF5 file that Keras wrote, and whether the file can be read to its end.

HDF5's own code loops for ever on some damaged files, or crashes, where neither an exception nor
Ctrl-C ends it. So `check` reads a file in a process of its own, which must start quickly: this
module imports no JAX.
"""

import subprocess
import sys
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnn_jax.errors import ContentError, RunError
from cnn_jax.system import resource

# A damaged or hostile HDF5 file can declare more than it holds; VGG19 has 0.6 GB.
_MAX_BYTES = 4 << 30
_MAX_GROUPS = 10_000
# The process that checks: seconds of computing (a slow disk does not count), and its address space.
_BASE_SECONDS = 5
_BYTES_PER_SECOND = 20_000_000
_MAX_MEMORY = 3 * _MAX_BYTES
_NO_MEMORY = 3  # its exit code

# The arrays of a layer, in the file's order: (name in the file or "", array).
Arrays = list[tuple[str, np.ndarray]]

_CHILD = """
import sys
sys.path[:] = sys.argv[3:]
from cnn_jax.pretrained import hdf5
hdf5.read_within(sys.argv[1], int(sys.argv[2]))
"""


def check(path: Path) -> None:
    """Reads a file in a process with a limit of time and memory.

    A file that h5py refuses passes: reading it here raises the same error.

    Raises:
        RunError: reading it does not end, needs too much memory or crashes.
    """
    seconds = _BASE_SECONDS + path.stat().st_size // _BYTES_PER_SECOND
    command = [sys.executable, "-c", _CHILD, str(path.absolute()), str(seconds), *sys.path]
    try:
        code = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60 * seconds,  # it may wait for a disk, but not for ever
            check=False,
        ).returncode
    except subprocess.TimeoutExpired:
        code = -1
    if code == _NO_MEMORY:
        raise RunError(
            f"{path} is damaged: reading it needs more than {_MAX_MEMORY >> 30} GiB of memory"
        )
    if code:
        raise RunError(
            f"{path} is damaged: reading it crashes, or does not end within {seconds} s of "
            "computing; download or save it again"
        )


def read_within(path: str, seconds: int) -> None:
    """Reads every array of a file, and ends this process where that takes too long."""
    if resource is not None:  # else `check` waits longer, and memory has no limit
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        if most == resource.RLIM_INFINITY or most > _MAX_MEMORY:
            resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, most))
    try:
        for _ in layers(Path(path), ()):
            pass
    except MemoryError:
        sys.exit(_NO_MEMORY)
    except Exception:  # the reader proper meets the same error, and words it
        sys.exit(0)


def layers(path: Path, known: Container[str]) -> Iterator[tuple[str, Arrays, bool]]:
    """Yields the layers of a file.

    Args:
        path: the HDF5 file.
        known: the names of the model's layers, to find those of a model within a model.

    Yields:
        (layer, its arrays as float32, whether the file holds the layer's name).

    Raises:
        OSError, KeyError, ValueError and others of h5py: the file is damaged.
    """
    with h5py.File(path, "r") as file:
        root = _child(file, "model_weights") if "model_weights" in file else file
        if _strings(root, "layer_names"):
            yield from _legacy_layers(root, known)
        else:
            yield from _keras3_layers(file)


def _child(group: h5py.Group, name: str) -> Any:
    """Returns a member of a group or of its subgroups, but follows no link."""
    member: Any = group
    for part in name.split("/"):
        if not isinstance(member, h5py.Group):
            raise ContentError(f"{name} is not in a group")
        if not isinstance(member.get(part, getlink=True), h5py.HardLink):
            raise ContentError(f"{name} is a link, perhaps to another file")
        member = member[part]
    return member


class _Reader:
    """Reads datasets until the sum of their declared sizes exceeds `_MAX_BYTES`."""

    def __init__(self) -> None:
        self.total = 0

    def read(self, dataset: Any) -> list[np.ndarray]:
        """Returns the array in a list, or [] for integers: counters and the state of dropout."""
        if not isinstance(dataset, h5py.Dataset):
            raise ContentError("a group stands where an array should")
        if dataset.external or dataset.is_virtual:
            raise ContentError(f"{dataset.name} is stored in another file")
        if dataset.dtype.kind in "iu":
            return []
        if dataset.dtype.kind != "f":
            raise ContentError(f"{dataset.name} holds {dataset.dtype}, not floats")
        self.total += dataset.nbytes
        if self.total > _MAX_BYTES:
            raise ContentError(f"it declares arrays of more than {_MAX_BYTES} bytes")
        return [np.asarray(dataset[()], np.float32)]


def _strings(group: h5py.Group, name: str) -> list[str]:
    """Returns an attribute of strings; Keras spreads a long one over NAME0, NAME1, ..."""
    if name in group.attrs:
        parts: list[Any] = [group.attrs[name]]
    else:
        parts = []
        while f"{name}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{name}{len(parts)}"])
    values = [value for part in parts for value in np.asarray(part).ravel().tolist()]
    return [v.decode() if isinstance(v, bytes) else str(v) for v in values]


def _legacy_layers(root: h5py.Group, known: Container[str]) -> Iterator[tuple[str, Arrays, bool]]:
    """Yields (layer, its arrays, True) of the old layout.

    There each layer has a group, and attributes hold the order. A model within a model is one such
    layer; the names of its weights hold the names of its layers.
    """
    reader = _Reader()
    for layer in _strings(root, "layer_names"):
        group = _child(root, layer)
        inner: dict[str, Arrays] = {}
        for name in _strings(group, "weight_names"):
            *parts, leaf = name.split("/")
            owners = ["_".join(parts[start:]) for start in range(len(parts))] or [layer]
            owner = next((owner for owner in owners if owner in known), owners[-1])
            inner.setdefault(owner, []).extend(
                (leaf, array) for array in reader.read(_child(group, name))
            )
        if len(inner) == 1:
            inner = {layer: next(iter(inner.values()))}
        for name, arrays in inner.items():
            yield name, arrays, True


def _keras3_layers(file: h5py.Group) -> Iterator[tuple[str, Arrays, bool]]:
    """Yields (layer, its arrays, whether the file holds its name) of Keras 3's layout.

    There each layer has a group `.../LAYER/vars` with arrays 0, 1, ...
    """
    reader = _Reader()
    todo: list[tuple[str, h5py.Group]] = [("", file)]
    seen = 0
    while todo:
        name, group = todo.pop()
        seen += 1
        if seen > _MAX_GROUPS:  # links can make endless circles
            raise ContentError(f"it has more than {_MAX_GROUPS} groups")
        for key in map(str, group):
            member = _child(group, key)
            if key == "optimizer" or not isinstance(member, h5py.Group):
                continue
            if key != "vars":
                todo.append((key, member))
                continue
            label = member.attrs.get("name", name)
            parts = [reader.read(_child(member, str(i))) for i in range(len(member))]
            yield (
                label.decode() if isinstance(label, bytes) else str(label),
                [("", array) for part in parts for array in part],
                "name" in member.attrs,
            )
