"""What timm's `config.json` says of the weights beside it: architecture and preprocessing."""

import dataclasses
from pathlib import Path
from typing import Any

from cnn_jax import files
from cnn_jax.data import scaling
from cnn_jax.data.fitting import FILTERS, Resize
from cnn_jax.data.scaling import Scaling
from cnn_jax.errors import ContentError, RunError, UsageError

NAME, WEIGHTS = "config.json", "model.safetensors"

# Our scalings by the mean and standard deviation that timm writes, of pixels of 0 to 1.
_SCALINGS: dict[Any, Scaling] = {numbers: name for name, numbers in scaling.MEAN_AND_STD.items()}
_FITS: dict[str, Resize] = {"center": "crop", "squash": "squash", "border": "pad"}
# timm's architectures that are another name of one of ours.
_SAME = {
    "mobilenetv3_large_100": "mobilenet_v3_large",
    "mobilenetv3_small_100": "mobilenet_v3_small",
}
_OURS = {ours: theirs for theirs, ours in _SAME.items()}


@dataclasses.dataclass(frozen=True)
class Config:
    """What a config.json of timm says.

    Attributes:
        path: the file.
        architecture: timm's name of the network.
        model: our name of it, as far as there is one: another name is left as it is.
        tensorflow: whether the weights came from TensorFlow, so that padding and epsilon are its.
        preprocessing: the scaling of the pixels; None: it is none of ours.
        said: the mean and standard deviation as they stand there, for messages.
        input_size: (height, width) in pixels; None: it does not say.
        evaluated: see `catalogue.Entry.evaluated`; None: it does not say.
        interpolation: the filter of Pillow's by which images were resized; None: it does not say.
    """

    path: Path
    architecture: str
    model: str
    tensorflow: bool
    preprocessing: Scaling | None
    said: str
    input_size: tuple[int, int] | None = None
    evaluated: tuple[Resize, float] | None = None
    interpolation: str | None = None

    def check(self, model: str) -> None:
        """Refuses weights of another architecture.

        Raises:
            UsageError: they are not of this model.
            RunError: nobody here knows how their images are scaled.
        """
        if self.model != model:
            raise UsageError(
                f"--transfer.weights: {self.path} says that its weights are of "
                f"{self.architecture}, not of {model}; choose a file of {model}, or --model.name"
            )
        if self.preprocessing is None:
            raise RunError(f"{self.path} scales images with {self.said}, which is not known here")


def architecture(model: str, tensorflow: bool) -> str:
    """Returns timm's name of one of our networks; see `Config` for `tensorflow`."""
    return f"{'tf_' if tensorflow else ''}{_OURS.get(model, model)}"


def beside(path: Path) -> Config | None:
    """Returns what the config.json beside a file of weights says; None: there is none of timm's.

    Raises:
        RunError: it is damaged.
    """
    config = path.with_name(NAME)
    if not config.is_file():
        return None
    values = files.read_json(config)
    if not isinstance(values, dict) or not isinstance(values.get("architecture"), str):
        return None
    said = values.get("pretrained_cfg")
    try:
        return _read(config, values, said if isinstance(said, dict) else values)
    except (TypeError, ValueError, KeyError, ArithmeticError, RecursionError) as error:
        raise RunError(f"{config} is damaged, or not timm's: {error}") from error


def _read(path: Path, values: dict[str, Any], said: dict[str, Any]) -> Config:
    architecture, built = str(values["architecture"]), values.get("model_args") or {}
    if not isinstance(built, dict):
        raise ContentError(f"model_args are names and values, not {built!r:.60}")
    changed = {
        name: value for name, value in built.items() if name not in ("num_classes", "in_chans")
    }
    if changed:
        raise RunError(
            f"{path} says that {architecture} was built with {changed}, which ours is not"
        )
    plain = architecture.removeprefix("tf_").removeprefix("tv_")
    mean, std = (
        tuple(round(float(each), 3) for each in said.get(name, default))
        for name, default in zip(("mean", "std"), scaling.MEAN_AND_STD["torch"], strict=True)
    )
    size = said.get("input_size")
    if size is not None and not (
        isinstance(size, list)
        and len(size) == 3
        and all(type(each) is int and each > 0 for each in size)
    ):
        raise ContentError(f"input_size is [channels, height, width], not {size!r:.60}")
    share = said.get("crop_pct")
    fit = _FITS[said.get("crop_mode") or "center"]
    return Config(
        path,
        architecture,
        _SAME.get(plain) or plain,
        architecture.startswith("tf_"),
        _SCALINGS.get((mean, std)),
        f"the mean {list(mean)} and the standard deviation {list(std)}",
        None if size is None else (size[1], size[2]),
        None if share is None else (fit, float(share)),
        name if (name := said.get("interpolation")) in FILTERS else None,
    )
