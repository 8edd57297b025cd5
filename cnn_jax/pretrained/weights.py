"""Weights from files: read without running any code that is in them, and fitted to a model."""

import contextlib
import dataclasses
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cnn_jax import extras, files, places, text, trees
from cnn_jax.data.fitting import Resize
from cnn_jax.errors import RunError, UsageError, plain_reason
from cnn_jax.patterns import matches
from cnn_jax.pretrained import catalogue, exported, keras_archive, layouts, statistics, timm_config

_LAST_BIAS = r"head/(logits|predictions)/bias"
_CATALOGUED = "the catalogue's for "
_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib")


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights of a model, as a file or a run holds them.

    Attributes:
        arrays: float32 arrays by path in the model, such as "backbone/block1/conv1/kernel":
            convolution kernels [height, width, in, out], dense ones [in, out]. Layers that the
            model does not have keep their own names, dense ones below "head/", others below
            "backbone/". Batch normalisations have "scale" and "bias", and the statistics "mean" and
            "var", which are adapted to our epsilon and to convolutions without a bias, so that in
            evaluation they compute the same function.
        source: the file or directory, for messages.
        sha256: the sha256 of the file, hexadecimal; for a run directory that of the parameters.
        preprocessing: the scaling of the pixels in training, a value of `--dataset.normalize`, or
            None if nobody knows.
        preprocessing_reason: how that is known, for the log.
        classes: the outputs of the head, or None if the file has no head of the model's.
        options: the options that the model needs; with others the weights compute another function.
        evaluated: see `catalogue.Entry.evaluated`; None: nobody knows.
        input_size: (height, width) in pixels that the network was evaluated at; None: likewise.
        interpolation: how its images were resized then, such as "bicubic"; None: likewise.
        resembles: the model whose layers the file seems to hold, where they are not this one's.
    """

    arrays: dict[str, np.ndarray]
    source: str
    sha256: str
    preprocessing: str | None
    preprocessing_reason: str
    classes: int | None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evaluated: tuple[Resize, float] | None = None
    input_size: tuple[int, int] | None = None
    interpolation: str | None = None
    resembles: str | None = None


def load(source: str, model: str, include: str | None = None) -> Weights:
    """Reads the weights of a model from the catalogue or from a file.

    Args:
        source: "imagenet" for the catalogue's weights, which are downloaded once; `hf://OWNER/NAME`
            for a repository of the Hugging Face hub; else the path of a Keras HDF5 file (its old
            layout or Keras 3's `.weights.h5`), of a safetensors file with torchvision's or timm's
            names, or of a folder with one and its config.json.
        model: the registered model to read them for.
        include: the pattern that `merge` is going to select with; if it matches a layer of the
            head, "imagenet" is the file with the classifier of the original classes.

    Raises:
        UsageError: the path does not exist, or the format is not one of these.
        RunError: the file is damaged, or could not be downloaded.
    """
    if source.startswith(places.HUB):
        from cnn_jax.pretrained import hub

        return load_file(hub.fetch(source), model)
    if source != "imagenet":
        path = places.place(source, "--transfer.weights")
        return load_file(path / timm_config.WEIGHTS if path.is_dir() else path, model)
    include_top = include is not None and any(
        layer.path.startswith("head/") and matches(include, layer.path)
        for layer in layouts.find(model).layers
    )
    entry = catalogue.find(model, include_top)
    extras.need("pooch", f"--transfer.weights={source}", "weights")
    from cnn_jax.pretrained import download  # imports requests, which a file does not need

    return load_file(download.fetch(entry), model, entry)


def load_file(path: Path, model: str, entry: catalogue.Entry | None = None) -> Weights:
    """Reads the weights of a model from a file, whose content tells its format.

    Args:
        path: the file.
        model: the registered model to read them for.
        entry: the catalogue's entry of the file. None: the file is compared with the entries.

    Raises:
        UsageError: the path does not exist, or the format is unknown.
        RunError: the file is damaged.
    """
    if not path.is_file():
        raise UsageError(f"--transfer.weights: there is no file or run directory {path}")
    layout = layouts.find(model)
    library = _format(path)
    if not layout.conventions.keys() & {library, "timm" if library == "torch" else library}:
        written = {"keras": "Keras' HDF5", "torch": "torchvision's safetensors"}
        known = " or ".join(written[one] for one in layout.conventions if one in written)
        raise UsageError(
            f"--transfer.weights: {path} is in {written[library]} layout, which is not known for "
            f"{model}; take {known}"
        )
    sha256 = files.sha256(path)
    own = _own(path) if library == "torch" else exported.beside(path, sha256)
    layout = layouts.with_head(layout, own.get("head", "default"))
    config = timm_config.beside(path) if library == "torch" and not own else None
    if config is not None:
        config.check(model)
    sums = (f"sha256:{sha256}", f"md5:{files.checksum(path, 'md5')}")
    published = [known for known in catalogue.ENTRIES if known.checksum in sums]
    entry = next((known for known in published if known.model == model), entry)
    scaling = None
    try:
        if library == "keras":
            extras.need("h5py", f"--transfer.weights: {path}", "weights")
            from cnn_jax.pretrained import hdf5, keras_files

            convention = layout.conventions["keras"]
            whole = zipfile.is_zipfile(path)
            with keras_archive.unpacked(path) if whole else contextlib.nullcontext(path) as inner:
                if not published:
                    hdf5.check(inner)
                arrays, names, scaling = keras_files.read(inner, layout.layers, convention)
            resembles = layouts.guess(names, "keras", model)
        else:
            from cnn_jax.pretrained import torch_files

            source, arrays, names = torch_files.read(path, layout)
            resembles = layouts.guess(names, source, model)
            source = own.get("source", source)
            if config is not None and config.tensorflow:
                source = "timm_tf"
            convention = layout.conventions[source]
        statistics.adapt(arrays, layout.layers, convention)
    except (OSError, KeyError, IndexError, ValueError, TypeError, RuntimeError) as error:
        raise RunError(
            f"{path} is damaged or not a file of weights: {plain_reason(error)}"
        ) from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise RunError(f"{path} holds values that are not finite in {name}")
    preprocessing, evaluated, size = scaling or convention.preprocessing, None, None
    if config is not None:
        assert config.preprocessing is not None  # else `check` refused it
        preprocessing, reason = config.preprocessing, f"says {config.path.name} beside the file"
        evaluated, size = config.evaluated, config.input_size
    elif own:
        preprocessing, reason = own["preprocessing"], "the file's own"
    elif entry is not None:
        reason = f"{_CATALOGUED}{entry.name}"
        evaluated, size = entry.evaluated, entry.input_size
    elif scaling is not None:
        reason = "the file's own"
    else:
        who = "Keras Applications'" if library == "keras" else "torchvision's"
        reason = f"assumed: {who} for {model}"
    return Weights(
        arrays=arrays,
        source=str(path),
        sha256=sha256,
        preprocessing=preprocessing,
        preprocessing_reason=reason,
        classes=head_outputs(arrays),
        options=dict(convention.options),
        evaluated=evaluated,
        input_size=size,
        interpolation=None if config is None else config.interpolation,
        resembles=resembles,
    )


def catalogued(reason: str) -> catalogue.Entry | None:
    """Returns the catalogue's entry of weights, by their `preprocessing_reason`; None: not its."""
    name = reason.removeprefix(_CATALOGUED)
    return next((e for e in catalogue.ENTRIES if e.name == name and name != reason), None)


def head_outputs(arrays: Mapping[str, np.ndarray]) -> int | None:
    """Returns the number of outputs of the head among a model's arrays, or None without a head."""
    return next(
        (array.size for name, array in arrays.items() if re.fullmatch(_LAST_BIAS, name)), None
    )


def merge(
    variables: Mapping[str, Any], weights: Weights, include: str | None = None
) -> dict[str, Any]:
    """Returns a model's variables, with those that a pattern selects replaced by the weights.

    The pattern must select the same paths, of the same shapes, in the model and in the weights;
    otherwise nothing is replaced.

    Args:
        variables: `{"params": ..., "batch_stats": ...}`, nested, of arrays (those to be replaced
            may be anything with shape and dtype); without "batch_stats" for a model that has none.
            A pattern selects from both.
        weights: what `load` returns.
        include: a pattern of `matches`; None: the backbone, so that the head stays as it is. ".*"
            takes the head of the file too.

    Raises:
        RunError: they do not fit; nothing was loaded.
        UsageError: the pattern selects nothing of the model.
    """
    flat: dict[str, Any] = trees.flatten(variables)
    full = {name.partition("/")[2]: name for name in flat}  # no path is in two collections
    in_parts = any(matches("backbone", path) for path in full)
    pattern = ("backbone" if in_parts else ".*") if include is None else include
    ours = {path: flat[name] for path, name in full.items() if matches(pattern, path)}
    theirs = {name: leaf for name, leaf in weights.arrays.items() if matches(pattern, name)}
    if not ours:
        raise UsageError(
            f"--transfer.include={pattern} selects no parameters; there are {_some(full)}"
        )
    problems, seems = [], weights.resembles
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
        if seems is not None:
            problems.insert(0, f"by its names the file is of {seems} (--model.name={seems})")
        raise RunError(
            f"the weights of {weights.source} do not fit, and none were loaded: "
            f"{'; '.join(problems)}. The model has {_some(full)}; the file has "
            f"{_some(weights.arrays)}. --transfer.include=PATTERN loads the part whose paths match "
            f"(none given: {pattern}); --model.name and --model.head choose another network"
        )
    taken = {full[path]: np.asarray(theirs[path], leaf.dtype) for path, leaf in ours.items()}
    return trees.unflatten(flat | taken)


def _some(names: Any) -> str:
    """Returns up to four names, and how many there are."""
    names = sorted(names)
    shown = names if len(names) <= 4 else [*names[:3], "...", names[-1]]
    return f"{text.plural(len(names), 'array')} ({', '.join(shown) or 'none'})"


def _own(path: Path) -> dict[str, Any]:
    """Returns what a safetensors file that `export` wrote says of itself; {} of another."""
    from cnn_jax.pretrained import torch_files

    try:
        return torch_files.said(path)
    except ValueError as error:
        raise RunError(
            f"{path} is damaged or not a file of weights: {plain_reason(error)}"
        ) from error


def _format(path: Path) -> Literal["keras", "torch"]:
    """Returns "keras" or "torch" (safetensors); raises UsageError for everything else."""
    with path.open("rb") as file:
        start = file.read(16)
    size = path.stat().st_size
    if keras_archive.is_hdf5(path):
        return "keras"
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8:
        return "torch"
    accepted = "take a Keras file, a safetensors file or a run directory"
    if not start:
        raise UsageError(f"--transfer.weights: {path} is empty; {accepted}")
    members = keras_archive.members(path)
    if keras_archive.WEIGHTS in members or path.suffix == ".keras":
        return "keras"
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
