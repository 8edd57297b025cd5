"""The names of a model's layers in files of other projects, and other differences of those files.

Names and conventions are those of Keras Applications 3.15 (`keras/src/applications`) and of
torchvision 0.28 (`torchvision/models`).
"""

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable

from cnn_jax.errors import UsageError
from cnn_jax.models import densenet, googlenet, heads, inception_v3, resnet, vgg
from cnn_jax.models.alexnet import CONVOLUTIONS
from cnn_jax.pretrained import newer_layouts
from cnn_jax.pretrained.layout import Convention, Kind, Layer, Layout, Source

__all__ = [
    "LAYOUTS",
    "Convention",
    "Kind",
    "Layer",
    "Layout",
    "Source",
    "find",
    "guess",
    "numbered",
    "with_head",
]

# {kind of a layer: the name that Keras gives to one without a name}
_AUTOMATIC = {"conv": "conv2d", "dense": "dense", "batch_norm": "batch_normalization"}


def numbered(layers: Iterable[Layer]) -> list[str]:
    """Returns the names that Keras gives to layers without one: conv2d, conv2d_1, ..., dense."""
    seen: Counter[str] = Counter()
    names = []
    for layer in layers:
        number = seen[layer.kind]
        seen[layer.kind] += 1
        names.append(f"{_AUTOMATIC[layer.kind]}_{number}" if number else _AUTOMATIC[layer.kind])
    return names


def _conv_bn(
    path: str, keras: str | None, torch: tuple[str, str] | None, bias: bool = False
) -> list[Layer]:
    """Returns the layers of a `ConvBatchNorm`; with `bias`, its convolution has a bias too."""
    names = (f"{keras}_conv", f"{keras}_bn") if keras else (None, None)
    torch_names = torch or (None, None)
    norm = f"{path}/bn"
    return [
        Layer(f"{path}/conv", "conv", names[0], torch_names[0], norm=None if bias else norm),
        Layer(norm, "batch_norm", names[1], torch_names[1]),
    ]


def _vgg(stages: tuple[int, ...], batch_norm: bool) -> Layout:
    layers: list[Layer] = []
    index = 0
    for block, convolutions in enumerate(stages, start=1):
        for number in range(1, convolutions + 1):
            path = f"backbone/block{block}/conv{number}"
            torch = f"features.{index}"
            if batch_norm:
                layers += _conv_bn(path, None, (torch, f"features.{index + 1}"), bias=True)
            else:
                layers.append(Layer(path, "conv", f"block{block}_conv{number}", torch))
            index += 2 + batch_norm  # torchvision counts the ReLU
        index += 1  # and the pool
    timm = {"fc1": "pre_logits.fc1", "fc2": "pre_logits.fc2", "predictions": "head.fc"}
    for name, number in [("fc1", 0), ("fc2", 3), ("predictions", 6)]:
        torch = f"classifier.{number}"
        layers.append(Layer(f"head/{name}", "dense", name, torch, number == 0, timm[name]))
    same = Convention("torch")
    conventions: dict[Source, Convention] = {"torch": same, "timm": same}
    if not batch_norm:
        conventions["keras"] = Convention("caffe", sequential=True)
    return Layout(tuple(layers), conventions)


def _alexnet() -> Layout:
    layers: list[Layer] = []
    index = 0
    for block, (*_, pool) in enumerate(CONVOLUTIONS, start=1):
        layers.append(Layer(f"backbone/block{block}/conv", "conv", torch=f"features.{index}"))
        index += 2 + pool  # torchvision counts the ReLU
    for name, number in [("fc1", 1), ("fc2", 4), ("logits", 6)]:
        torch = f"classifier.{number}"
        layers.append(Layer(f"head/{name}", "dense", None, torch, number == 1))
    return Layout(tuple(layers), {"torch": Convention("torch", {"local_response_norm": False})})


def _googlenet() -> Layout:
    def conv(path: str, torch: str) -> list[Layer]:
        return _conv_bn(path, None, (f"{torch}.conv", f"{torch}.bn"))

    branches = {
        "branch1": "branch1",
        "branch2_reduce": "branch2.0",
        "branch2": "branch2.1",
        "branch3_reduce": "branch3.0",
        "branch3": "branch3.1",
        "branch4": "branch4.1",
    }
    layers = [layer for n in (1, 2, 3) for layer in conv(f"backbone/stem/conv{n}", f"conv{n}")]
    for block in googlenet.GOOGLENET_BLOCKS:
        for ours, torch in branches.items():
            layers += conv(f"backbone/{block}/{ours}", f"{block}.{torch}")
    for number, block in enumerate(googlenet.GOOGLENET_AUXILIARY, start=1):
        path, torch = f"auxiliary_{block}", f"aux{number}"
        layers += conv(f"{path}/conv", f"{torch}.conv")
        layers.append(Layer(f"{path}/fc1", "dense", None, f"{torch}.fc1", flattened=True))
        layers.append(Layer(f"{path}/logits", "dense", None, f"{torch}.fc2"))
    layers.append(Layer("head/logits", "dense", None, "fc"))
    # Torchvision's network scales its input inside, to this scaling, which it was trained with.
    return Layout(tuple(layers), {"torch": Convention("symmetric")})


def _inception_v3() -> Layout:
    """Returns the layout, whose convolutions are in the order in which Keras makes them.

    Torchvision's averages of a block count padded positions, which moves features at the edges.
    """
    a = {"branch1_1": "branch1x1", "branch5_1": "branch5x5_1", "branch5_2": "branch5x5_2"}
    a |= {f"branch3_{n}": f"branch3x3dbl_{n}" for n in (1, 2, 3)} | {"pool_1": "branch_pool"}
    b = {"branch1_1": "branch1x1"} | {f"branch7_{n}": f"branch7x7_{n}" for n in (1, 2, 3)}
    b |= {f"branch7x2_{n}": f"branch7x7dbl_{n}" for n in range(1, 6)} | {"pool_1": "branch_pool"}
    c = {"branch1_1": "branch1x1"} | {f"fork1_{n}": f"branch3x3_{n}" for n in ("1", "2a", "2b")}
    c |= {f"fork2_{n}": f"branch3x3dbl_{n}" for n in ("1", "2", "3a", "3b")}
    c |= {"pool_1": "branch_pool"}
    first = {"branch3_1": "branch3x3"} | {f"double_{n}": f"branch3x3dbl_{n}" for n in (1, 2, 3)}
    second = {f"branch3_{n}": f"branch3x3_{n}" for n in (1, 2)}
    second |= {f"branch7_{n}": f"branch7x7x3_{n}" for n in (1, 2, 3, 4)}
    blocks = [a, a, a, first, b, b, b, b, second, c, c]
    stem = zip((1, 2, 3, 4, 5), ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3"), strict=True)
    names = {f"stem/conv{n}": f"Conv2d_{torch}" for n, torch in stem}
    mixed = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
    for number, (block, place) in enumerate(zip(blocks, mixed, strict=True)):
        names |= {f"mixed{number}/{ours}": f"Mixed_{place}.{its}" for ours, its in block.items()}
    layers = [
        layer
        for ours, torch in names.items()
        for layer in _conv_bn(f"backbone/{ours}", None, (f"{torch}.conv", f"{torch}.bn"))
    ]
    layers = [
        dataclasses.replace(layer, keras=name)
        for layer, name in zip(layers, numbered(layers), strict=True)
    ]
    layers.append(Layer("head/logits", "dense", "predictions", "fc"))
    conventions: dict[Source, Convention] = {
        "keras": Convention("symmetric", automatic=True),
        # Torchvision's network scales its input inside, to this scaling.
        "torch": Convention("symmetric", scale_epsilon=inception_v3.EPSILON),
    }
    return Layout(tuple(layers), conventions)


def _resnet(blocks: tuple[int, ...], bottleneck: bool) -> Layout:
    layers = _conv_bn("backbone/stem/conv", "conv1", ("conv1", "bn1"))
    for stage, count in enumerate(blocks, start=1):
        for block in range(1, count + 1):
            path = f"backbone/stage{stage}/block{block}"
            keras, torch = f"conv{stage + 1}_block{block}", f"layer{stage}.{block - 1}"
            for n in range(1, 4 if bottleneck else 3):
                names = (f"{torch}.conv{n}", f"{torch}.bn{n}")
                layers += _conv_bn(f"{path}/conv{n}", f"{keras}_{n}", names)
            if block == 1 and (bottleneck or stage > 1):
                names = (f"{torch}.downsample.0", f"{torch}.downsample.1")
                layers += _conv_bn(f"{path}/projection", f"{keras}_0", names)
    layers.append(Layer("head/logits", "dense", "predictions", "fc"))
    if not bottleneck:
        return Layout(tuple(layers), {"torch": Convention("torch")})
    return Layout(
        tuple(layers),
        {
            "keras": Convention("caffe", {"bottleneck_stride": "1x1"}, epsilon=1e-8),
            "torch": Convention("torch", {"bottleneck_stride": "3x3"}),
        },
    )


def _densenet(blocks: tuple[int, ...]) -> Layout:
    layers = _conv_bn("backbone/stem/conv", "conv1", ("features.conv0", "features.norm0"))
    for block, count in enumerate(blocks, start=1):
        for number in range(1, count + 1):
            path = f"backbone/block{block}/layer{number}"
            keras = f"conv{block + 1}_block{number}"
            torch = f"features.denseblock{block}.denselayer{number}"
            layers += [
                Layer(f"{path}/bn1", "batch_norm", f"{keras}_0_bn", f"{torch}.norm1"),
                Layer(f"{path}/conv1", "conv", f"{keras}_1_conv", f"{torch}.conv1"),
                Layer(f"{path}/bn2", "batch_norm", f"{keras}_1_bn", f"{torch}.norm2"),
                Layer(f"{path}/conv2", "conv", f"{keras}_2_conv", f"{torch}.conv2"),
            ]
        path, torch = f"backbone/block{block}", f"features.transition{block}"
        if block == len(blocks):
            layers.append(Layer(f"{path}/bn", "batch_norm", "bn", f"features.norm{block + 1}"))
        else:
            keras = f"pool{block + 1}"
            layers.append(Layer(f"{path}/bn", "batch_norm", f"{keras}_bn", f"{torch}.norm"))
            layers.append(Layer(f"{path}/transition", "conv", f"{keras}_conv", f"{torch}.conv"))
    layers.append(Layer("head/logits", "dense", "predictions", "classifier"))
    return Layout(
        tuple(layers),
        {"keras": Convention("torch", epsilon=1e-8), "torch": Convention("torch")},
    )


LAYOUTS: dict[str, Layout] = {
    **{name: _vgg(stages, False) for name, stages in vgg.STAGES.items()},
    **{f"{name}_bn": _vgg(stages, True) for name, stages in vgg.STAGES.items()},
    "alexnet": _alexnet(),
    "googlenet": _googlenet(),
    "inception_v3": _inception_v3(),
    **{name: _resnet(*stages) for name, stages in resnet.STAGES.items()},
    **{name: _densenet(blocks) for name, blocks in densenet.BLOCKS.items()},
    **newer_layouts.LAYOUTS,
}


def find(model: str) -> Layout:
    """Returns the layout of a model in files of other projects.

    Raises:
        UsageError: no such files are known for the model.
    """
    if model not in LAYOUTS:
        raise UsageError(
            f"files of weights are known for {', '.join(LAYOUTS)}, not for --model.name={model}; "
            "--transfer.weights takes a run directory of it"
        )
    return LAYOUTS[model]


def guess(names: Collection[str], source: Source, model: str) -> str | None:
    """Returns the other model whose layers a file holds; None: this one's, or nobody knows.

    Args:
        names: what the file calls its tensors (torch) or layers (Keras).
        source: whose names they are.
        model: the model that the file was read for.
    """
    owners = {name if source == "keras" else name.rpartition(".")[0] for name in names}

    def likeness(layout: Layout) -> float:
        if source not in layout.conventions:
            return 0.0
        known = {layer.name(source) for layer in layout.layers if layer.kind != "scale"}
        return len(known & owners) / len(known | owners)

    best = max(LAYOUTS, key=lambda name: (likeness(LAYOUTS[name]), name == model))
    return best if best != model and likeness(LAYOUTS[best]) > 0.9 else None


def with_head(layout: Layout, head: str) -> Layout:
    """Returns the layout of a model with another head.

    Torch's names are those of torchvision's network whose last part is replaced by a `Linear`, or
    by a `Sequential` with the layers of the head.

    Args:
        layout: that of the model with its own head.
        head: "default", or a key of `models.heads.HEADS`.
    """
    if head == "default":
        return layout
    backbone = tuple(layer for layer in layout.layers if layer.path.startswith("backbone/"))
    last = next(layer.torch for layer in layout.layers[::-1] if layer.path.startswith("head/"))
    part, is_sequence, _ = str(last).partition(".")
    hidden = len(heads.HEADS[head][0])
    own = [Layer(f"head/dense{n + 1}", "dense", "dense", f"{part}.{2 * n}") for n in range(hidden)]
    torch = f"{part}.{2 * hidden}" if hidden else f"{part}.1" if is_sequence else part
    own.append(Layer("head/logits", "dense", "predictions", torch))
    return Layout((*backbone, *own), layout.conventions)
