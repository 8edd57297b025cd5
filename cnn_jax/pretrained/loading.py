"""Weights from files: read without running anything that is in them, and fitted to a model."""

import dataclasses
import hashlib
import json
import math
import re
import zipfile
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import safetensors
from flax import traverse_util

from cnn_jax import experiment, models, run
from cnn_jax.errors import RunError, UsageError
from cnn_jax.patterns import matches
from cnn_jax.pretrained import catalogue, layouts
from cnn_jax.pretrained.preprocessing import Preprocessing
from cnn_jax.training import checkpoints

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
            "backbone/". Batch normalisations have "scale" and "bias", and the statistics "mean" and
            "var", which are the source's carried over to our epsilon and to convolutions without a
            bias: in evaluation they are the same function.
        source: the file, for messages.
        sha256: of the file, hexadecimal; of the parameters for a run directory.
        preprocessing: what was done to the pixels in training, a value of --dataset.normalize, or
            None where nobody knows.
        preprocessing_reason: how that is known, for the log.
        classes: outputs of the head, or None where the file has no head of the model's.
        options: of the model, without which these weights are another function.
    """

    arrays: dict[str, np.ndarray]
    source: str
    sha256: str
    preprocessing: str | None
    preprocessing_reason: str
    classes: int | None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


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
            for layer in layouts.find(model).layers
        )
        from cnn_jax.pretrained import download  # loads requests, which a file does not need

        entry = catalogue.find(model, include_top)
        path = download.fetch(entry)
    else:
        entry, path = None, Path(source).expanduser()
    if path.is_dir():
        return from_run(path, model)
    if not path.is_file():
        raise UsageError(f"--transfer.weights: there is no file or run directory {source}")
    layout = layouts.find(model)
    project = _format(path)
    if project not in layout.conventions:
        names = {"keras": "Keras' HDF5", "torch": "torchvision's safetensors"}
        raise UsageError(
            f"--transfer.weights: {path} is in {names[project]} layout, which is not known for "
            f"{model}; take {' or '.join(names[known] for known in layout.conventions)}"
        )
    convention = layout.conventions[project]
    try:
        if project == "keras":
            arrays = _from_keras(path, layout.layers, convention)
        else:
            arrays = _from_torch(path, layout.layers)
        _adapt(arrays, layout.layers, convention)
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
    preprocessing = convention.preprocessing
    if entry is not None:
        reason = f"the catalogue's for {entry.name}"
    elif project == "keras":
        reason = f"assumed: Keras Applications' for {model}"
    else:
        reason = f"assumed: torchvision's for {model}"
    last = next((arrays[name] for name in arrays if re.fullmatch(_LAST_BIAS, name)), None)
    return Weights(
        arrays=arrays,
        source=str(path),
        sha256=sums["sha256"],
        preprocessing=preprocessing,
        preprocessing_reason=reason,
        classes=None if last is None else int(last.size),
        options=dict(convention.options),
    )


def from_run(path: Path, model: str) -> Weights:
    """Reads the best parameters and batch statistics of a run directory of ours.

    The preprocessing is the run's own `dataset.normalize`, where that is one which does not depend
    on the run's data; with "auto", that of the weights it started from, or "unit" where it started
    from none. The options are those of
    the run's model.

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

    variables, _ = checkpoints.load_variables(path.resolve() / "checkpoints")
    arrays = {
        name.partition("/")[2]: np.asarray(array)
        for name, array in traverse_util.flatten_dict(variables, sep="/").items()
    }
    about = run.RunDirectory(path).read("weights") or {}
    normalize, reason = trained.dataset.normalize, "the run's"
    if normalize == "auto" and about.get("preprocessing"):
        normalize, reason = about["preprocessing"], "by the weights that the run started from,"
    elif normalize == "auto" and trained.transfer.weights is None:
        normalize = "unit"
    known = normalize in (*get_args(Preprocessing), "unit")
    # What decides about the function itself; None in the flags is the weights' or the model's own.
    options = {
        name: value
        for name, value in models.REGISTRY[model].options.items()
        if name in ("bottleneck_stride", "local_response_norm")
    }
    given = trained.model.options()
    for name in options:
        if given[name] is not None:
            options[name] = given[name]
        options[name] = about.get("options", {}).get(name, options[name])
    last = next((arrays[name] for name in arrays if re.fullmatch(_LAST_BIAS, name)), None)
    return Weights(
        arrays=arrays,
        source=str(path),
        sha256=checkpoints.digest(arrays),
        preprocessing=normalize if known else None,
        preprocessing_reason=f"{reason} --dataset.normalize={normalize}",
        classes=None if last is None else int(last.size),
        options=options,
    )


def merge(
    variables: Mapping[str, Any], weights: Weights, include: str | None = None
) -> dict[str, Any]:
    """Returns a model's variables with those that a pattern selects replaced by a file's.

    All or nothing: what the pattern selects in the model and in the file must be the same paths and
    the same shapes.

    Args:
        variables: `{"params": ..., "batch_stats": ...}`, nested, of arrays (or, where they are
            replaced, of anything with shape and dtype); without "batch_stats" for a model that has
            none. The paths of both begin with "backbone" or "head", and a pattern selects of both.
        weights: of `load`.
        include: a pattern of `matches`; None: the backbone, so that the head stays as it is. ".*"
            takes the head of the file too.

    Raises:
        RunError: they do not fit; nothing was loaded.
        UsageError: the pattern selects nothing of the model.
    """
    pattern = "backbone" if include is None else include
    flat: dict[str, Any] = dict(traverse_util.flatten_dict(variables, sep="/"))
    full = {name.partition("/")[2]: name for name in flat}  # a path is in one collection alone
    ours = {path: flat[name] for path, name in full.items() if matches(pattern, path)}
    theirs = {name: leaf for name, leaf in weights.arrays.items() if matches(pattern, name)}
    if not ours:
        raise UsageError(
            f"--transfer.include={pattern} selects no parameters; there are {_some(full)}"
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
            f"{'; '.join(problems)}. The model has {_some(full)}; the file has "
            f"{_some(weights.arrays)}. --transfer.include=PATTERN loads the part whose paths match "
            "(none given: backbone); --model.name and --model.head choose another network"
        )
    taken = {full[path]: np.asarray(theirs[path], leaf.dtype) for path, leaf in ours.items()}
    return traverse_util.unflatten_dict(flat | taken, sep="/")


def _some(names: Any) -> str:
    """Returns up to four names, and how many there are."""
    names = sorted(names)
    shown = names if len(names) <= 4 else [*names[:3], "...", names[-1]]
    return f"{len(names)} array{'s' * (len(names) != 1)} ({', '.join(shown) or 'none'})"


def _file_hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _format(path: Path) -> layouts.Source:
    """Returns "keras" for HDF5, "torch" for safetensors; raises UsageError for everything else."""
    with path.open("rb") as file:
        start = file.read(16)
    size = path.stat().st_size
    if h5py.is_hdf5(path):
        return "keras"
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:
        return "torch"
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


def _adapt(
    arrays: dict[str, np.ndarray],
    layers: tuple[layouts.Layer, ...],
    convention: layouts.Convention,
) -> None:
    """Makes weights of another project's network those of ours, in place."""
    for layer in layers:
        bias, mean, var = f"{layer.path}/bias", f"{layer.norm}/mean", f"{layer.path}/var"
        if layer.norm and bias in arrays and mean in arrays:
            arrays[mean] = arrays[mean] - arrays.pop(bias)
        if layer.kind == "batch_norm" and convention.epsilon and var in arrays:
            arrays[var] = arrays[var] + np.float32(convention.epsilon)


# The arrays of a layer, in its order: (name in the file or "", array).
_Arrays = list[tuple[str, np.ndarray]]
_NORM_LEAVES = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}


def _from_keras(
    path: Path, layers: tuple[layouts.Layer, ...], convention: layouts.Convention
) -> dict[str, np.ndarray]:
    ours = {layer.keras: layer for layer in layers if layer.keras}
    with h5py.File(path, "r") as file:
        root = _child(file, "model_weights") if "model_weights" in file else file
        legacy = _strings(root, "layer_names")
        triples = _legacy_layers(root, ours) if legacy else _keras3_layers(file)
        found: dict[str, _Arrays] = {}
        named = True
        for name, weights, certain in triples:
            name = name.replace("/", "_")  # the DenseNet of 2018 has conv1/conv, not conv1_conv
            if weights and name in found:
                raise ValueError(f"two layers are called {name}")
            if weights:
                found[name] = weights
                named = named and certain
    if not named and (convention.automatic or not ours.keys() & found.keys()):
        if not convention.sequential:
            raise RunError(
                f"{path} was written by an early Keras 3, which kept no names of layers, and in a "
                "network with branches their order does not tell which is which; load it there and "
                "save its weights with a newer Keras"
            )
        ours = dict(zip(layouts.numbered(layers), layers, strict=True))
    elif convention.automatic:
        found = _renumbered(path, found, ours)
    for name in _OLD_TOPS & found.keys():
        if "predictions" in ours and "predictions" not in found:
            found["predictions"] = found.pop(name)
    arrays = {}
    for name, weights in found.items():
        layer = ours.get(name)
        first = weights[0][1]
        place = layer.path if layer else f"{'head' if first.ndim == 2 else 'backbone'}/{name}"
        norm = layer.kind == "batch_norm" if layer else first.ndim == 1
        arrays |= {f"{place}/{leaf}": array for leaf, array in _keras_leaves(weights, norm)}
    return arrays


# What the last layer was called before it was "predictions"; published files keep these names.
_OLD_TOPS = {"fc1000", "probs"}


def _renumbered(
    path: Path, found: dict[str, _Arrays], ours: Mapping[str, layouts.Layer]
) -> dict[str, _Arrays]:
    """Returns layers that Keras numbered, conv2d_95, ..., numbered from 0 as in `ours`."""
    result = dict(found)
    for prefix in ("conv2d", "batch_normalization"):
        automatic = re.compile(rf"{prefix}(?:_(\d+))?")
        names = {name: int(match[1] or 0) for name in found if (match := automatic.fullmatch(name))}
        wanted = [name for name in ours if automatic.fullmatch(name)]
        if names and len(names) != len(wanted):
            raise RunError(
                f"{path} has {len(names)} layers called {prefix} with numbers, and the network "
                f"{len(wanted)}, so that nobody can tell which is which"
            )
        for name in names:
            del result[name]
        for new, old in zip(wanted, sorted(names, key=lambda name: names[name]), strict=False):
            result[new] = found[old]
    return result


def _keras_leaves(weights: _Arrays, norm: bool) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (our name, array); arrays beyond those that a layer has are numbered."""
    names = ["kernel", "bias"]
    if norm:
        inside = [re.search("|".join(_NORM_LEAVES), name) for name, _ in weights]
        names = [_NORM_LEAVES[match[0]] for match in inside if match]
        if len(names) != len(weights):
            names = list(_NORM_LEAVES.values())[-len(weights) :]  # the scale may be missing
    for number, (_, array) in enumerate(weights):
        yield (names[number] if number < len(names) else str(number)), array


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


def _legacy_layers(root: h5py.Group, known: Container[str]) -> Iterator[tuple[str, _Arrays, bool]]:
    """Yields (layer, its arrays, True) of the old layout: a group a layer, the order in attributes.

    A model within a model is one layer, and the parts of its weights' names are the layers.
    """
    reader = _Reader()
    for layer in _strings(root, "layer_names"):
        group = _child(root, layer)
        inner: dict[str, _Arrays] = {}
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


def _keras3_layers(file: h5py.Group) -> Iterator[tuple[str, _Arrays, bool]]:
    """Yields (layer, its arrays, whether the file says its name) of Keras 3.

    These are groups `.../LAYER/vars` with arrays 0, 1, ...
    """
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
                [("", array) for part in parts for array in part],
                "name" in member.attrs,
            )


_TORCH_LEAVES = {"weight": "kernel", "bias": "bias"}
_TORCH_NORM_LEAVES = {
    "weight": "scale",
    "bias": "bias",
    "running_mean": "mean",
    "running_var": "var",
}


def _from_torch(path: Path, layers: tuple[layouts.Layer, ...]) -> dict[str, np.ndarray]:
    with safetensors.safe_open(path, framework="numpy") as file:
        # The DenseNets of 2017 have norm.1 where torchvision now has norm1.
        names = {
            re.sub(r"(denselayer\d+\.(?:norm|conv))\.(?=\d\.)", r"\1", name): name
            for name in file.keys()  # noqa: SIM118 (it is no mapping)
            if not name.endswith("num_batches_tracked")  # of use only without a momentum
        }
        tensors = {new: file.get_tensor(old).astype(np.float32) for new, old in names.items()}
    ours = {layer.torch: layer for layer in layers}
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
        layer = ours.get(owner)
        norm = layer is not None and layer.kind == "batch_norm"
        leaf = (_TORCH_NORM_LEAVES if norm else _TORCH_LEAVES).get(leaf)
        if layer and leaf:
            place = f"{layer.path}/{leaf}"
        else:
            weight = tensors.get(f"{owner}.weight", tensor)
            place = f"{'head' if weight.ndim == 2 else 'backbone'}/{name}"
        if tensor.ndim == 4:
            tensor = tensor.transpose(2, 3, 1, 0)
        elif tensor.ndim == 2:
            tensor = tensor.T
        arrays[place] = tensor
    return arrays
