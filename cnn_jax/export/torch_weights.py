"""Weights under torchvision's names, which timm takes too, or under timm's, as safetensors.

EfficientNet, MobileNetV3 and ConvNeXt have other names in timm than in torchvision: there is a file
for each, where both have that network. A file of names and numbers says nothing of preprocessing,
calibration and what a library builds differently: that is in `export.json`, and in the lines that
`loading` returns.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax import files, trees
from cnn_jax.data import scaling
from cnn_jax.errors import ContentError, RunError, UsageError
from cnn_jax.export import program
from cnn_jax.export.checking import Checked
from cnn_jax.pretrained import layouts, statistics, timm_config, torch_files, weights
from cnn_jax.runs.trained import Run

FILE = "model.safetensors"
CONFIG = "config.json"
# The second file, of torchvision's names beside timm's.
TORCHVISION = "torchvision.safetensors"
# Height and width of the map that torchvision's network makes of every map before its dense layers.
_POOLED = {"vgg": 7, "alexnet": 6}
# Those whose files under torchvision's names timm takes, and those with a file of timm's own.
_TAKES = ("vgg", "resnet", "densenet", "inception_v3")
_TIMM = ("efficientnet", "mobilenet_v3", "convnext")
_CROPS = {"crop": "center", "squash": "squash"}


def write(run: Run, folder: Path) -> tuple[Checked, list[str]]:
    """Writes the files, and timm's config.json where it can say how pixels are scaled.

    Args:
        run: the run.
        folder: where they go.

    Returns:
        How the files were checked, and what was left out, in words.

    Raises:
        UsageError: neither library has such a network, or only one that computes something else.
        RunError: a file, read again, has other weights.
    """
    sources, layout = written(run), layout_of(run)
    arrays = flat(run)
    normalize = run.assembly.normalize
    known = normalize if scaling.is_fixed(normalize) else None
    apart, left_out = 0.0, []
    for name, source in sources.items():
        said = {"head": run.experiment.model.head, "preprocessing": known, "source": source}
        metadata = {"format": "pt", torch_files.METADATA: json.dumps(said)}
        convention = layout.conventions[source]
        theirs = statistics.undone(arrays, layout.layers, convention)
        try:
            torch_files.write(folder / name, theirs, layout.layers, metadata, source)
        except ContentError as error:
            raise UsageError(f"format=safetensors: {error}, as torchvision's is") from error
        found = weights.load_file(folder / name, run.experiment.model.name).arrays
        apart = max(apart, _apart(arrays, found, convention.epsilon != 0))
    config = _config(run, layout, sources[FILE])
    if isinstance(config, str):
        left_out.append(f"{CONFIG}, which timm reads, is left out: {config}")
    else:
        files.write_json(folder / CONFIG, config)
    by = "our own reader, which finds the same weights"
    by += ", but for rounding: another epsilon is taken into variances" if apart else " to the bit"
    return Checked(0, "no images", by, {"weights": apart}, apart), left_out


def _apart(arrays: dict[str, np.ndarray], found: dict[str, np.ndarray], rounded: bool) -> float:
    """Returns how far the weights in a file are from those of a run.

    Args:
        arrays: the run's.
        found: the file's.
        rounded: whether variances may be, because another epsilon was taken into them.

    Raises:
        RunError: they are others.
    """
    apart = 0.0
    for name in arrays.keys() | found.keys():
        ours, theirs = arrays.get(name), found.get(name)
        if ours is not None and theirs is not None:
            if np.array_equal(ours, theirs):
                continue
            if rounded and name.endswith("/var") and np.allclose(ours, theirs, 1e-6, 1e-9):
                apart = max(apart, float(np.abs(ours - theirs).max()))
                continue
        raise RunError("the file, read again, has other weights than the run; nothing was written")
    return apart


def written(run: Run) -> dict[str, layouts.Source]:
    """Returns {file: whose names it has} of the files that hold a run.

    Raises:
        UsageError: neither library has such a network, or only one that computes something else.
    """
    model = run.experiment.model
    if not model.name.startswith(_TIMM):
        check(run, "torchvision's", "torch")
        return {FILE: "torch"}
    fits = check(run, "timm's", "torch", "timm", "timm_tf")
    if "torch" in fits and model.head != "default":  # timm's would have to be changed more
        return {FILE: "torch"}
    found: dict[str, layouts.Source] = {FILE: fits[-1]}
    if "torch" in fits:
        found[TORCHVISION] = "torch"
    return found


def layout_of(run: Run) -> layouts.Layout:
    """Returns the layout of a run's network, whose head may be another one."""
    model = run.experiment.model
    return layouts.with_head(layouts.find(model.name), model.head)


def check(run: Run, whose: str, *sources: layouts.Source) -> list[layouts.Source]:
    """Returns those sources whose network is that of a run.

    Args:
        run: the run.
        whose: the name of the project, such as "torchvision's".
        *sources: the project's.

    Raises:
        UsageError: it has no such network, or one that computes something else.
    """
    model, channels = run.experiment.model, run.data_info.image_shape[-1]
    known = [name for name, each in layouts.LAYOUTS.items() if sources[0] in each.conventions]
    if model.name not in known:
        raise UsageError(
            f"{whose} files are written for {', '.join(known)}, not for {model.name}; "
            "format=stablehlo and format=onnx hold every network"
        )
    if channels != 3:
        raise UsageError(f"{whose} networks take images of 3 channels, and this run {channels}")
    backbone, conventions = run.assembly.model.backbone, layouts.LAYOUTS[model.name].conventions
    fits: list[layouts.Source] = []
    others: list[tuple[str, object, object]] = []
    for source in sources:
        if source in conventions:
            asked = conventions[source].options
            mine = {name: getattr(backbone, name) for name in asked}
            if mine == asked:
                fits.append(source)
            others += [(name, asked[name], mine[name]) for name in asked if mine != asked]
    if not fits:
        name, value, own = others[0]
        raise UsageError(
            f"{whose} {model.name} is one with {name}={value}, and this run has {name}={own}: "
            "with its weights that would compute something else; format=stablehlo and "
            "format=onnx hold it"
        )
    return fits


def flat(run: Run) -> dict[str, np.ndarray]:
    """Returns the variables of a run by their paths in the model."""
    return {
        name.partition("/")[2]: np.asarray(array, np.float32)
        for name, array in trees.flatten(run.variables).items()
    }


def _config(run: Run, layout: layouts.Layout, source: layouts.Source) -> dict[str, Any] | str:
    """Returns timm's config.json, or why there is none."""
    model, info = run.experiment.model, run.data_info
    height, width, _ = info.image_shape
    if not model.name.startswith(_TAKES) and source == "torch":
        return f"timm has no {model.name}, or calls its layers otherwise"
    if changes(run, layout, source) or (model.head != "default" and model.name.startswith("vgg")):
        return "timm's network would have to be changed as the lines that load it say"
    if program.activation(info.multilabel, outputs(run))[0] != "softmax":
        return "timm takes the softmax of logits, and of this network's it is the sigmoid"
    numbers = mean_and_std(run)
    if numbers is None:
        return f"mean and standard deviation do not say the scaling {run.assembly.normalize!r}"
    if info.resize not in _CROPS:
        return f"timm does not fit images of another aspect by {info.resize!r}"
    config: dict[str, Any] = {
        "input_size": [3, height, width],
        "mean": numbers[0],
        "std": numbers[1],
        "interpolation": info.interpolation,
        "crop_pct": info.crop_share,
        "crop_mode": _CROPS[info.resize],
        "num_classes": outputs(run),
    }
    return {
        "architecture": timm_config.architecture(model.name, source == "timm_tf"),
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


def changes(run: Run, layout: layouts.Layout, source: layouts.Source = "torch") -> list[str]:
    """Returns the lines that make a library's network, called `net`, that of the run."""
    model, arrays = run.experiment.model, flat(run)
    family = next((name for name in _POOLED if model.name.startswith(name)), None)
    kernels = {x.path: arrays[f"{x.path}/kernel"].shape for x in layout.layers if x.kind == "dense"}
    own = [path for path in kernels if path.startswith("head/")]
    rows, lines = kernels[own[0]][0], []
    # Torchvision's have a dense layer between the pool and the logits, or a normalisation.
    more = model.name.startswith(("mobilenet_v3", "convnext")) or source != "torch"
    if model.head != "default" and (family or more or len(own) > 1):
        if family:
            lines.append("net.avgpool = torch.nn.AdaptiveAvgPool2d(1)")
        elif model.name.startswith("convnext"):
            pool = "torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()"
            lines.append(f"net.avgpool = torch.nn.Sequential({pool})")
        elif source != "torch" and model.name.startswith("mobilenet_v3"):
            lines.append("net.conv_head, net.act2 = torch.nn.Identity(), torch.nn.Identity()")
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


def loading(run: Run) -> list[str]:
    """Returns the lines of Python that make the network of a library with these weights."""
    sources = written(run)
    lines = _loading(run, FILE, sources[FILE])
    if TORCHVISION in sources:
        other = _loading(run, TORCHVISION, sources[TORCHVISION])
        lines += ["", "# or torchvision's network:", *other]
    return lines


def _loading(run: Run, file: str, source: layouts.Source) -> list[str]:
    name, more, several = run.experiment.model.name, "", run.data_info.multilabel
    function, words = program.activation(several, outputs(run))
    if name == "googlenet":
        own = any(path.startswith("auxiliary") for path in flat(run))
        more = f", aux_logits={own}, init_weights=False"
    if name == "inception_v3":
        more = ", aux_logits=False, init_weights=False"
    made = f"torchvision.models.{name}(num_classes={outputs(run)}{more})"
    if source != "torch":
        theirs = timm_config.architecture(name, source == "timm_tf")
        made = f'timm.create_model("{theirs}", num_classes={outputs(run)})'
    return [
        *(["import timm", "import torch"] if source != "torch" else []),
        *(["import torch", "import torchvision"] if source == "torch" else []),
        "from safetensors.torch import load_file",
        "",
        f"net = {made}",
        *changes(run, layout_of(run), source),
        f'net.load_state_dict(load_file("{file}"), strict=True)',
        "net.eval()  # takes images [batch, 3, height, width], scaled as export.json says",
        f"# probabilities: torch.{function}(net(images){', 1' if function == 'softmax' else ''})",
        f"# of the logits: {words}",
    ]
