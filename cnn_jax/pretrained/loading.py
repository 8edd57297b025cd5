"""Weights from files: read without running anything that is in them, and fitted to a model."""

import dataclasses
import hashlib
import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import safetensors
from flax import traverse_util

from cnn_jax import experiment
from cnn_jax.errors import RunError, UsageError
from cnn_jax.patterns import matches
from cnn_jax.pretrained import catalogue, download, layouts
from cnn_jax.pretrained.preprocessing import Preprocessing

# A damaged or hostile HDF5 file can declare more than it holds; VGG19 has 0.6 GB.
_MAX_BYTES = 4 << 30
_MAX_GROUPS = 10_000
_LAST_BIAS = r"head/(logits|predictions)/bias"
_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")


@dataclasses.dataclass(frozen=True)
class Weights:
    """What a file of weights holds.

    Attributes:
        arrays: float32 arrays by path in the model, such as "backbone/block1/conv1/kernel":
            convolution kernels [height, width, in, out], dense ones [in, out]. Layers that the
            model does not have stand under their own names: dense ones in "head/", others in
            "backbone/".
        source: the file, for messages.
        sha256: of the file, hexadecimal; of the parameters for a run directory.
        preprocessing: what was done to the pixels in training, or None where nobody knows.
        preprocessing_reason: how that is known, for the log.
        classes: outputs of the head, or None where the file has no head of the model's.
    """

    arrays: dict[str, np.ndarray]
    source: str
    sha256: str
    preprocessing: Preprocessing | None
    preprocessing_reason: str
    classes: int | None


def load(source: str, model: str, include: str | None = None) -> Weights:
    """Reads the weights of a model.

    Args:
        source: "imagenet" for the catalogue's, which are downloaded once; else the path of a Keras
            HDF5 file (its old layout or Keras 3's `.weights.h5`), of a safetensors file with
            torchvision's names, or of a run directory. What a file is, is judged by its content.
        model: the registered model to read them for.
        include: the pattern that `merge` is going to select with; where it matches a layer of the
            head, "imagenet" is the file with the classifier of the original classes.

    Raises:
        UsageError: the path does not exist, or the format is not one of these.
        RunError: the file is damaged, or could not be downloaded.
    """
    if source == "imagenet":
        include_top = include is not None and any(
            layer.path.startswith("head/") and matches(include, layer.path)
            for layer in layouts.find(model)
        )
        entry = catalogue.find(model, include_top)
        path = download.fetch(entry)
    else:
        entry, path = None, Path(source).expanduser()
    if path.is_dir():
        return from_run(path, model)
    if not path.is_file():
        raise UsageError(f"--transfer.weights: there is no file or run directory {source}")
    layers = layouts.find(model)
    kind = _format(path)
    try:
        arrays = _from_keras(path, layers) if kind == "hdf5" else _from_torch(path, layers)
    except (OSError, KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{path} is damaged or not a file of weights: {reason}") from error
    except safetensors.SafetensorError as error:
        raise RunError(f"{path} is damaged: {error}") from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise RunError(f"{path} holds values that are not finite in {name}")
    sums = {name: _file_hash(path, name) for name in ("sha256", "md5")}
    for known in catalogue.ENTRIES:
        if known.md5 == sums["md5"] and known.model == model:
            entry = known
    preprocessing: Preprocessing
    if entry is not None:
        preprocessing, reason = entry.preprocessing, f"the catalogue's for {entry.name}"
    elif kind == "hdf5":
        preprocessing, reason = "caffe", f"assumed: Keras Applications' for {model}"
    else:
        preprocessing, reason = "torch", "assumed: torchvision's"
    last = next((arrays[name] for name in arrays if re.fullmatch(_LAST_BIAS, name)), None)
    return Weights(
        arrays=arrays,
        source=str(path),
        sha256=sums["sha256"],
        preprocessing=preprocessing,
        preprocessing_reason=reason,
        classes=None if last is None else int(last.size),
    )


def from_run(path: Path, model: str) -> Weights:
    """Reads the best parameters of a run directory of ours.

    The preprocessing is the run's own `dataset.normalize`, where that is one which does not depend
    on the run's data.

    Raises:
        UsageError: the directory is no run, or one of another model.
        RunError: its configuration or checkpoint cannot be read.
    """
    config = path / "config.json"
    if not config.is_file():
        raise UsageError(f"--transfer.weights: {path} is not a run directory (no config.json)")
    try:
        trained = experiment.from_dict(json.loads(config.read_text()))
    except (OSError, ValueError) as error:
        raise RunError(f"{config} cannot be read: {error}") from error
    if trained.model.name != model:
        raise UsageError(
            f"{path} is a run of {trained.model.name}; transfer from it with "
            f"--model.name={trained.model.name}, not {model}"
        )
    from cnn_jax.training import checkpoints  # loads Orbax, which the other roads do not need

    params = checkpoints.load_parameters(path)  # pyright: ignore[reportAttributeAccessIssue]
    flat = traverse_util.flatten_dict(params, sep="/")
    arrays = {name: np.asarray(array) for name, array in flat.items()}
    normalize = trained.dataset.normalize
    known = normalize in get_args(Preprocessing)
    last = next((arrays[name] for name in arrays if re.fullmatch(_LAST_BIAS, name)), None)
    return Weights(
        arrays=arrays,
        source=str(path),
        sha256=checkpoints.digest(arrays),
        preprocessing=normalize if known else None,  # pyright: ignore[reportArgumentType]
        preprocessing_reason=f"the run's --dataset.normalize={normalize}",
        classes=None if last is None else int(last.size),
    )


def merge(params: dict[str, Any], weights: Weights, include: str | None = None) -> dict[str, Any]:
    """Returns the parameters with those that a pattern selects replaced by a file's.

    All or nothing: what the pattern selects in the model and in the file must be the same paths and
    the same shapes.

    Args:
        params: nested dict `{"backbone": ..., "head": ...}` of arrays (or, where they are replaced,
            of anything with shape and dtype).
        weights: of `load`.
        include: a pattern of `matches`; None: the backbone, so that the head stays as it is. ".*"
            takes the head of the file too.

    Raises:
        RunError: they do not fit; nothing was loaded.
        UsageError: the pattern selects nothing of the model.
    """
    pattern = "backbone" if include is None else include
    flat: dict[str, Any] = dict(traverse_util.flatten_dict(params, sep="/"))
    ours = {name: leaf for name, leaf in flat.items() if matches(pattern, name)}
    theirs = {name: leaf for name, leaf in weights.arrays.items() if matches(pattern, name)}
    if not ours:
        raise UsageError(
            f"--transfer.include={pattern} selects no parameters; there are {_some(flat)}"
        )
    problems = []
    if missing := [name for name in ours if name not in theirs]:
        problems.append(f"the file lacks {_some(missing)}")
    if surplus := [name for name in theirs if name not in ours]:
        problems.append(f"the model lacks {_some(surplus)}")
    for name in ours:
        if name in theirs and ours[name].shape != theirs[name].shape:
            problems.append(
                f"{name} has shape {tuple(theirs[name].shape)} in the file and "
                f"{tuple(ours[name].shape)} in the model"
            )
            break
    if problems:
        raise RunError(
            f"the weights of {weights.source} do not fit, and none were loaded: "
            f"{'; '.join(problems)}. The model has {_some(flat)}; the file has "
            f"{_some(weights.arrays)}. --transfer.include=PATTERN loads the part whose paths match "
            "(none given: backbone); --model.name and --model.head choose another network"
        )
    taken = {name: np.asarray(theirs[name], leaf.dtype) for name, leaf in ours.items()}
    return traverse_util.unflatten_dict(flat | taken, sep="/")


def _some(names: Any) -> str:
    """Returns up to four names, and how many there are."""
    names = sorted(names)
    shown = names if len(names) <= 4 else [*names[:3], "...", names[-1]]
    return f"{len(names)} array{'s' * (len(names) != 1)} ({', '.join(shown) or 'none'})"


def _file_hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _format(path: Path) -> str:
    """Returns "hdf5" or "safetensors"; raises UsageError for everything else."""
    with path.open("rb") as file:
        start = file.read(16)
    size = path.stat().st_size
    if h5py.is_hdf5(path):
        return "hdf5"
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:
        return "safetensors"
    accepted = "take a Keras HDF5 file, a safetensors file or a run directory"
    if not start:
        raise UsageError(f"--transfer.weights: {path} is empty; {accepted}")
    members = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    if "model.weights.h5" in members:
        raise UsageError(
            f"--transfer.weights: {path} is a whole Keras model; save its weights with "
            "model.save_weights('NAME.weights.h5') and give that file"
        )
    # Protocol 2 and later start with 0x80 and the protocol; torch.save wraps one in a zip file.
    pickled = (start[0] == 0x80 and start[1:2] <= b"\x05") or any(
        member.endswith(".pkl") for member in members
    )
    if pickled or path.suffix.lower() in _PICKLES:
        raise UsageError(
            f"--transfer.weights: {path} is a pickle, which runs its maker's code when it is read, "
            "so it is not read; convert it to safetensors (safetensors.torch.save_file) on a "
            "machine that trusts it"
        )
    raise UsageError(f"--transfer.weights: {path} is in no known format; {accepted}")


def _from_keras(path: Path, layers: tuple[layouts.Layer, ...]) -> dict[str, np.ndarray]:
    with h5py.File(path, "r") as file:
        root = _child(file, "model_weights") if "model_weights" in file else file
        pairs = _legacy_layers(root) if _strings(root, "layer_names") else _keras3_layers(file)
        found: dict[str, list[np.ndarray]] = {}
        for name, weights in pairs:
            if weights and name in found:
                raise ValueError(f"two layers are called {name}")
            if weights:
                found[name] = weights
    ours = {layer.keras: layer.path for layer in layers}
    if not ours.keys() & found.keys():
        ours = {layer.keras_unnamed: layer.path for layer in layers}
    arrays = {}
    for name, weights in found.items():
        place = ours.get(name) or _unknown(name, weights[0])
        if len(weights) > 2:
            arrays |= {f"{place}/{number}": array for number, array in enumerate(weights)}
        else:
            arrays |= {
                f"{place}/{leaf}": w for leaf, w in zip(("kernel", "bias"), weights, strict=False)
            }
    return arrays


def _unknown(name: str, kernel: np.ndarray) -> str:
    return f"{'head' if kernel.ndim == 2 else 'backbone'}/{name}"


def _child(group: h5py.Group, name: str) -> Any:
    """Returns a member of a group or of its subgroups, following nothing out of the file."""
    member: Any = group
    for part in name.split("/"):
        if not isinstance(member, h5py.Group):
            raise ValueError(f"{name} is not in a group")
        if not isinstance(member.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link, perhaps to another file")
        member = member[part]
    return member


class _Reader:
    """Reads datasets until their sizes, as declared, exceed `_MAX_BYTES`."""

    def __init__(self) -> None:
        self.total = 0

    def read(self, dataset: Any) -> list[np.ndarray]:
        """Returns the array in a list, or [] for integers: counters and the state of dropout."""
        if not isinstance(dataset, h5py.Dataset):
            raise ValueError("a group stands where an array should")
        if dataset.external or dataset.is_virtual:
            raise ValueError(f"{dataset.name} is stored in another file")
        if dataset.dtype.kind in "iu":
            return []
        if dataset.dtype.kind != "f":
            raise ValueError(f"{dataset.name} holds {dataset.dtype}, not floats")
        self.total += dataset.nbytes
        if self.total > _MAX_BYTES:
            raise ValueError(f"it declares arrays of more than {_MAX_BYTES} bytes")
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


def _legacy_layers(root: h5py.Group) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yields (layer, its arrays) of the old layout: a group a layer, the order in attributes.

    A model within a model is one layer, and the parts of its weights' names are the layers.
    """
    reader = _Reader()
    for layer in _strings(root, "layer_names"):
        group = _child(root, layer)
        names = _strings(group, "weight_names")
        inner: dict[str, list[np.ndarray]] = {}
        for name in names:
            owner = name.rpartition("/")[0].rpartition("/")[2]
            inner.setdefault(owner, []).extend(reader.read(_child(group, name)))
        if len(inner) == 1:
            inner = {layer: next(iter(inner.values()))}
        yield from inner.items()


def _keras3_layers(file: h5py.Group) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yields (layer, its arrays) of Keras 3: groups `.../LAYER/vars` with arrays 0, 1, ..."""
    reader = _Reader()
    todo: list[tuple[str, h5py.Group]] = [("", file)]
    seen = 0
    while todo:
        name, group = todo.pop()
        seen += 1
        if seen > _MAX_GROUPS:  # links can make endless circles
            raise ValueError(f"it has more than {_MAX_GROUPS} groups")
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
                [array for part in parts for array in part],
            )


def _from_torch(path: Path, layers: tuple[layouts.Layer, ...]) -> dict[str, np.ndarray]:
    with safetensors.safe_open(path, framework="numpy") as file:
        names = file.keys()
        tensors = {name: file.get_tensor(name).astype(np.float32) for name in names}
    ours = {layer.torch: layer for layer in layers}
    leaves = {"weight": "kernel", "bias": "bias"}
    channels = 0
    arrays: dict[str, np.ndarray] = {}
    for layer in layers:  # in order, for the channels of the feature map
        weight = tensors.get(f"{layer.torch}.weight")
        if weight is not None and weight.ndim == 4:
            channels = weight.shape[0]
        if weight is not None and layer.flattened and weight.ndim == 2 and channels:
            side = math.isqrt(weight.shape[1] // channels)
            if side * side * channels != weight.shape[1]:
                raise ValueError(
                    f"{layer.torch}.weight has {weight.shape[1]} columns, which is no square "
                    f"feature map of {channels} channels"
                )
            maps = weight.reshape(weight.shape[0], channels, side, side)
            tensors[f"{layer.torch}.weight"] = maps.transpose(0, 2, 3, 1).reshape(weight.shape)
    for name, tensor in tensors.items():
        owner, _, leaf = name.rpartition(".")
        if tensor.ndim == 4:
            tensor = tensor.transpose(2, 3, 1, 0)
        elif tensor.ndim == 2:
            tensor = tensor.T
        if owner in ours and leaf in leaves:
            place = f"{ours[owner].path}/{leaves[leaf]}"
        else:
            place = f"{'backbone' if owner.startswith('features') else 'head'}/{name}"
        arrays[place] = tensor
    return arrays
