"""Weights under torchvision's names, which timm takes too, as safetensors.

A file of names and numbers says nothing of preprocessing, calibration and what torchvision builds
differently: that is in `export.json`, and in the lines that `loading` returns.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax import files, trees
from cnn_jax.data import scaling
from cnn_jax.errors import ContentError, RunError, UsageError
from cnn_jax.export.checking import Checked
from cnn_jax.pretrained import layouts, torch_files, weights
from cnn_jax.runs.trained import Run

FILE = "model.safetensors"
CONFIG = "config.json"
# Height and width of the map that torchvision's network makes of every map before its dense layers.
_POOLED = {"vgg": 7, "alexnet": 6}
_TIMM = ("vgg", "resnet", "densenet", "inception_v3")
# The models whose files are written. Those of the newer ones are read alone.
_WRITTEN = ("vgg", "resnet", "densenet", "alexnet", "googlenet", "inception_v3")
_CROPS = {"crop": "center", "squash": "squash"}


def write(run: Run, folder: Path) -> tuple[Checked, list[str]]:
    """Writes the file, and timm's config.json where it can say how pixels are scaled.

    Args:
        run: the run.
        folder: where they go.

    Returns:
        How the file was checked, and what was left out, in words.

    Raises:
        UsageError: torchvision has no such network, or one that computes something else.
        RunError: the file, read again, has other weights.
    """
    layout = checked_layout(run, "torch", "torchvision's")
    arrays = flat(run)
    normalize = run.assembly.normalize
    known = normalize if scaling.is_fixed(normalize) else None
    said = {"head": run.experiment.model.head, "preprocessing": known}
    metadata = {"format": "pt", torch_files.METADATA: json.dumps(said)}
    try:
        torch_files.write(folder / FILE, arrays, layout.layers, metadata)
    except ContentError as error:
        raise UsageError(f"format=safetensors: {error}, as torchvision's is") from error
    left_out = []
    config = _config(run, layout)
    if isinstance(config, str):
        left_out.append(f"{CONFIG}, which timm reads, is left out: {config}")
    else:
        files.write_json(folder / CONFIG, config)
    found = weights.load_file(folder / FILE, run.experiment.model.name).arrays
    if found.keys() != arrays.keys() or any(
        not np.array_equal(found[name], arrays[name]) for name in arrays
    ):
        raise RunError("the file, read again, has other weights than the run; nothing was written")
    by = "our own reader, which finds the same weights to the bit"
    return Checked(0, "no images", by, {"weights": 0.0}, 0.0), left_out


def checked_layout(run: Run, source: layouts.Source, whose: str) -> layouts.Layout:
    """Returns the layout of a run in files of another project.

    Raises:
        UsageError: the project has no such network, or one that computes something else.
    """
    model, channels = run.experiment.model, run.data_info.image_shape[-1]
    known = {
        name: each
        for name, each in layouts.LAYOUTS.items()
        if source in each.conventions and name.startswith(_WRITTEN)
    }
    layout = known.get(model.name)
    if layout is None:
        raise UsageError(
            f"{whose} files are written for {', '.join(known)}, not for {model.name}; "
            "format=stablehlo and format=onnx hold every network"
        )
    if channels != 3:
        raise UsageError(f"{whose} networks take images of 3 channels, and this run {channels}")
    backbone = run.assembly.model.backbone
    for name, value in layout.conventions[source].options.items():
        own = getattr(backbone, name)
        if own != value:
            raise UsageError(
                f"{whose} {model.name} is one with {name}={value}, and this run has {name}={own}: "
                "with its weights that would compute something else; format=stablehlo and "
                "format=onnx hold it"
            )
    return layouts.with_head(layout, model.head)


def flat(run: Run) -> dict[str, np.ndarray]:
    """Returns the variables of a run by their paths in the model."""
    return {
        name.partition("/")[2]: np.asarray(array, np.float32)
        for name, array in trees.flatten(run.variables).items()
    }


def _config(run: Run, layout: layouts.Layout) -> dict[str, Any] | str:
    """Returns timm's config.json, or why there is none."""
    model, info = run.experiment.model, run.data_info
    height, width, _ = info.image_shape
    if not model.name.startswith(_TIMM):
        return f"timm has no {model.name}, or calls its layers otherwise"
    if changes(run, layout) or (model.head != "default" and model.name.startswith("vgg")):
        return "timm's network would have to be changed as torchvision's has to"
    numbers = mean_and_std(run)
    if numbers is None:
        return f"mean and standard deviation do not say the scaling {run.assembly.normalize!r}"
    if info.resize not in _CROPS:
        return f"timm does not fit images of another aspect by {info.resize!r}"
    config: dict[str, Any] = {
        "input_size": [3, height, width],
        "mean": numbers[0],
        "std": numbers[1],
        "interpolation": "bilinear",
        "crop_pct": info.crop_share,
        "crop_mode": _CROPS[info.resize],
        "num_classes": outputs(run),
    }
    return {
        "architecture": model.name,
        "num_classes": outputs(run),
        "label_names": list(info.class_names),
        "pretrained_cfg": config,
    }


def mean_and_std(run: Run) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Returns the scaling as mean and deviation of pixels in 0..1, red first; None: it is none."""
    if run.data_info.dtype != "uint8":
        return None
    info = run.data_info
    if run.assembly.normalize == "standardize":
        return info.mean, tuple(s if s > 0 else 1.0 for s in info.std)
    named: dict[str, Any] = {**scaling.MEAN_AND_STD}
    return named.get(run.assembly.normalize)


def outputs(run: Run) -> int:
    """Returns the number of logits of an image."""
    bias = weights.head_outputs(flat(run))
    assert bias is not None
    return bias


def changes(run: Run, layout: layouts.Layout) -> list[str]:
    """Returns the lines that make torchvision's network, called `net`, that of the run."""
    model, arrays = run.experiment.model, flat(run)
    family = next((name for name in _POOLED if model.name.startswith(name)), None)
    kernels = {x.path: arrays[f"{x.path}/kernel"].shape for x in layout.layers if x.kind == "dense"}
    own = [path for path in kernels if path.startswith("head/")]
    rows, lines = kernels[own[0]][0], []
    if model.head != "default" and (family or len(own) > 1):
        if family:
            lines.append("net.avgpool = torch.nn.AdaptiveAvgPool2d(1)")
        parts = [f"torch.nn.Linear{kernels[path]}" for path in own]
        inside = ", torch.nn.ReLU(), ".join(parts)
        first = "" if len(own) > 1 else "torch.nn.Dropout(0.2), "
        container = str(layout.layers[-1].torch).partition(".")[0]
        lines.append(f"net.{container} = torch.nn.Sequential({first}{inside})")
    elif family and rows != _POOLED[family] ** 2 * _channels(layout, arrays):
        number = str(next(x.torch for x in layout.layers if x.path == own[0])).rpartition(".")[2]
        lines.append("net.avgpool = torch.nn.Identity()")
        lines.append(f"net.classifier[{number}] = torch.nn.Linear{kernels[own[0]]}")
    if model.name == "inception_v3":
        lines += [
            "def within(module, given):  # torchvision's means count padded positions",
            "    ones = torch.ones_like(given[0][:1, :1])",
            "    return given[0] / torch.nn.functional.avg_pool2d(ones, 3, 1, 1)",
            "for part in net.modules():",
            '    if hasattr(part, "branch_pool"):',
            "        part.branch_pool.register_forward_pre_hook(within)",
        ]
    return lines


def _channels(layout: layouts.Layout, arrays: dict[str, np.ndarray]) -> int:
    """Returns the channels of the last feature map."""
    last = [layer for layer in layout.layers if layer.kind == "conv"][-1]
    return int(arrays[f"{last.path}/kernel"].shape[-1])


def loading(run: Run, file: str = FILE) -> list[str]:
    """Returns the lines of Python that make torchvision's network with these weights."""
    name = run.experiment.model.name
    layout = layouts.with_head(layouts.LAYOUTS[name], run.experiment.model.head)
    more = ""
    if name == "googlenet":
        own = any(path.startswith("auxiliary") for path in flat(run))
        more = f", aux_logits={own}, init_weights=False"
    if name == "inception_v3":
        more = ", aux_logits=False, init_weights=False"
    return [
        "import torch",
        "import torchvision",
        "from safetensors.torch import load_file",
        "",
        f"net = torchvision.models.{name}(num_classes={outputs(run)}{more})",
        *changes(run, layout),
        f'net.load_state_dict(load_file("{file}"), strict=True)',
        "net.eval()  # takes images [batch, 3, height, width], scaled as export.json says",
    ]
