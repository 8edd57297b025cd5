"""The networks of the benchmark as lists of layers, for the libraries that are compared with ours.

Layers are tuples: ("conv", path, filters, (height, width), stride, padding, bias), ("bias", path),
("bn", path, epsilon, scale), ("dense", path, units, bias), ("pool", window), ("residual", layers,
layers of the shortcut), ("scale", factor), ("crop", kernel), ("relu",), ("gelu",), ("flatten",) and
("mean",). A crop keeps the top left part of the images whose convolution with this kernel has an
even height and width. Paths are those of the parameters in `cnn_jax.models`; a parameter that only
one side has is an error.
"""

from collections.abc import Iterator
from typing import Any

Layer = tuple[Any, ...]


def network(model: str, outputs: int, reordered: bool = False) -> list[Layer]:
    """Returns the layers of a model.

    Args:
        model: the name of the model in `cnn_jax.models.REGISTRY`; vgg16 has the pooled head.
        outputs: number of logits.
        reordered: whether max-pools come before bias and ReLU, and the positions that they leave
            out are not computed, as in `cnn_jax.layers.Conv`.

    Raises:
        KeyError: this file does not have the model.
    """
    return list(_NETWORKS[model](outputs, reordered))


def _conv(path: str, filters: int, kernel: int | tuple[int, int], **more: Any) -> Layer:
    size = (kernel, kernel) if isinstance(kernel, int) else kernel
    stride, padding, bias = more.get("stride", 1), more.get("padding", 0), more.get("bias", True)
    return ("conv", path, filters, size, stride, padding, bias)


def _conv_relu_pool(path: str, *shape: Any, reordered: bool, **more: Any) -> list[Layer]:
    if reordered:
        convolution = _conv(path, *shape, bias=False, **more)
        crop = [] if more.get("padding") else [("crop", convolution[3])]
        return [*crop, convolution, ("pool", 2), ("bias", path), ("relu",)]
    return [_conv(path, *shape, **more), ("relu",), ("pool", 2)]


def cropped(size: tuple[int, int], kernel: tuple[int, int]) -> tuple[int, int]:
    """Returns the height and width that ("crop", kernel) keeps of `size`."""
    height, width = ((n - k + 1) // 2 * 2 + k - 1 for n, k in zip(size, kernel, strict=True))
    return height, width


def _dense_head(outputs: int, *hidden: int) -> Iterator[Layer]:
    yield ("flatten",)
    for number, units in enumerate(hidden, start=1):
        yield from [("dense", f"head/dense{number}", units, True), ("relu",)]
    yield ("dense", "head/logits", outputs, True)


def _study(conv3: Any, conv4: Any, outputs: int, reordered: bool) -> Iterator[Layer]:
    yield from [_conv("backbone/conv1", 32, (2, 2)), ("relu",)]
    yield from _conv_relu_pool("backbone/conv2", 64, (3, 3), reordered=reordered)
    yield from [_conv("backbone/conv3", *conv3), ("relu",)]
    yield from _conv_relu_pool("backbone/conv4", *conv4, reordered=reordered)
    yield from _dense_head(outputs, 100)


def _lenet5(outputs: int, reordered: bool) -> Iterator[Layer]:
    yield from _conv_relu_pool("backbone/conv1", 6, 5, reordered=reordered)
    yield from _conv_relu_pool("backbone/conv2", 16, 5, reordered=reordered)
    yield from _dense_head(outputs, 120, 84)


def _conv_bn(path: str, *shape: Any, **more: Any) -> list[Layer]:
    return [_conv(f"{path}/conv", *shape, bias=False, **more), ("bn", f"{path}/bn", 1e-5, True)]


def _resnet18_cifar(outputs: int, reordered: bool) -> Iterator[Layer]:
    del reordered
    yield from [*_conv_bn("backbone/stem/conv", 64, 3, padding=1), ("relu",)]
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in (1, 2):
            path = f"backbone/stage{stage}/block{block}"
            stride = 2 if block == 1 < stage else 1
            main = [
                *_conv_bn(f"{path}/conv1", filters, 3, stride=stride, padding=1),
                ("relu",),
                *_conv_bn(f"{path}/conv2", filters, 3, padding=1),
            ]
            shortcut = _conv_bn(f"{path}/projection", filters, 1, stride=2) if stride == 2 else []
            yield from [("residual", main, shortcut), ("relu",)]
    yield from [("mean",), ("dense", "head/logits", outputs, True)]


def _airbench(outputs: int, reordered: bool) -> Iterator[Layer]:
    del reordered
    yield from [_conv("backbone/stem/conv", 24, 2), ("gelu",)]
    for block, filters in enumerate((64, 256, 256), start=1):
        for number in (1, 2):
            path = f"backbone/block{block}"
            yield _conv(f"{path}/conv{number}", filters, 3, padding=1, bias=False)
            yield from [("pool", 2)] if number == 1 else []
            yield from [("bn", f"{path}/bn{number}", 1e-12, False), ("gelu",)]
    yield from [("pool", 3), ("flatten",)]
    yield from [("dense", "head/logits", outputs, False), ("scale", 1 / 256)]


def _vgg16(outputs: int, reordered: bool) -> Iterator[Layer]:
    for block, (filters, depth) in enumerate(
        [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], start=1
    ):
        for number in range(1, depth):
            yield _conv(f"backbone/block{block}/conv{number}", filters, 3, padding=1)
            yield ("relu",)
        last = f"backbone/block{block}/conv{depth}"
        yield from _conv_relu_pool(last, filters, 3, padding=1, reordered=reordered)
    yield from [("mean",), ("dense", "head/logits", outputs, True)]


_NETWORKS: dict[str, Any] = {
    "study_cnn": lambda *a: _study((17, (2, 3)), (14, (4, 4)), *a),
    "study_cnn_wide": lambda *a: _study((128, (4, 3)), (128, (4, 4)), *a),
    "lenet5": _lenet5,
    "resnet18_cifar": _resnet18_cifar,
    "airbench": _airbench,
    "vgg16": _vgg16,
}
