"""Pretrained weights from anywhere: the catalogue, a file, or the directory of a run."""

from pathlib import Path

import numpy as np

from cnn_jax import files, models, places, text, trees
from cnn_jax.data import scaling
from cnn_jax.errors import RunError, UsageError
from cnn_jax.pretrained import exported, timm_config, weights
from cnn_jax.pretrained.weights import Weights
from cnn_jax.runs import stored
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.leaves import digest


def load(source: str, model: str, include: str | None = None) -> Weights:
    """Reads the weights of a model.

    Args:
        source: the value of `--transfer.weights`: what `pretrained.weights.load` takes, or the path
            of a run directory.
        model: the registered model to read them for.
        include: the pattern that `pretrained.weights.merge` is going to select with.

    Raises:
        UsageError: the path does not exist, or holds no weights of this model.
        RunError: the file or the run is damaged, or could not be downloaded.
    """
    if source != "imagenet" and not source.startswith(places.HUB):
        path = places.place(source, "--transfer.weights")
        if path.is_dir() and (file := exported.file_of(path)):
            return weights.load(str(file), model, include)
        if path.is_dir() and not _is_timms(path):
            return from_run(path, model)
    return weights.load(source, model, include)


def _is_timms(path: Path) -> bool:
    """Returns whether a folder is in timm's form: weights, perhaps with a config.json beside."""
    return (path / timm_config.WEIGHTS).is_file() and not RunDirectory(path).checkpoints.exists()


def channels(source: str) -> int | None:
    """Returns how many channels the images have that weights were trained on; None: not known.

    Args:
        source: the value of `--transfer.weights`.
    """
    if source == "imagenet" or source.startswith(places.HUB):
        return 3
    path = places.place(source, "--transfer.weights")
    if not path.is_dir():
        return None
    if exported.file_of(path) or _is_timms(path):
        return 3
    described = RunDirectory(path).read("data")
    return None if described is None else described["image_shape"][-1]


def from_run(path: Path, model: str) -> Weights:
    """Reads the best parameters and batch statistics of a run directory.

    The scaling is the run's `dataset.normalize` if it is fixed, that is, has no numbers that come
    from the run's data. For "auto" it is the scaling of the weights that the run started from, or
    "unit" if it started from none; nobody knows the scaling of float images, which was done before
    they were given. The options are those of the run's model.

    Raises:
        UsageError: the directory is no run, or a run of another model.
        RunError: its configuration or checkpoint cannot be read.
    """
    directory = RunDirectory(path)
    if foreign := _foreign(path / "config.json"):
        raise UsageError(
            f"--transfer.weights={path} is a model of {foreign}, not a run directory; give its "
            "weights, a .safetensors file with torchvision's or timm's names"
        )
    if not directory.exists():
        raise UsageError(f"--transfer.weights: {path} is not a run directory (no config.json)")
    trained = directory.config()
    if trained.model.name != model:
        raise UsageError(
            f"{path} is a run of {trained.model.name}; transfer from it with "
            f"--model.name={trained.model.name}, not {model}"
        )

    variables, _ = stored.load_variables(directory.checkpoints, "best", trained)
    arrays = {
        name.partition("/")[2]: np.asarray(array)
        for name, array in trees.flatten(variables).items()
    }
    about = directory.about_weights(trained) or {}
    described = directory.read("data")
    if described is None:
        raise RunError(
            f"{text.shown(directory.path / 'data.json')}, which says what images the weights in "
            f"{text.shown(path)} take, is damaged or not there; put the file back"
        )
    images = described.get("dtype", "uint8")
    normalize, reason = trained.dataset.normalize, "the run's"
    if normalize == "auto" and about.get("preprocessing"):
        normalize, reason = about["preprocessing"], "by the weights that the run started from,"
    elif normalize == "auto" and trained.transfer.weights is None and images == "uint8":
        normalize = "unit"
    known = scaling.is_fixed(normalize) and images == "uint8"
    # The options that change the function itself; None in the settings means the weights' or the
    # model's own.
    entry = models.REGISTRY.get(model)
    options = {
        name: value
        for name, value in (entry.options if entry else {}).items()
        if name in ("bottleneck_stride", "padding", "local_response_norm")
    }
    given = trained.model.options()
    for name in options:
        if given[name] is not None:
            options[name] = given[name]
        options[name] = about.get("options", {}).get(name, options[name])
    return Weights(
        arrays=arrays,
        source=str(path),
        sha256=digest(arrays),
        preprocessing=normalize if known else None,
        preprocessing_reason=f"{reason} --dataset.normalize={normalize}",
        classes=weights.head_outputs(arrays),
        options=options,
    )


def _foreign(config: Path) -> str | None:
    """Returns which library wrote a config.json that is not of a run; None where it is not known.

    timm writes "architecture"; Hugging Face "architectures" or "model_type".
    """
    try:
        values = files.read_json(config)
    except RunError:
        return None
    if not isinstance(values, dict):
        return None
    if "architecture" in values:
        return "timm"
    return "Hugging Face" if {"architectures", "model_type"} & values.keys() else None
