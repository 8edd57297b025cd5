"""The models: one file per architecture, and the registry that names them.

To add one: write its file with a builder `(num_outputs, dtype[, option]...) -> Classifier`, and one
entry below. The tests run over the registry.
"""

import dataclasses
import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from cnn_jax.errors import UsageError
from cnn_jax.models import airbench, densenet, heads, inception, resnet, vgg
from cnn_jax.models.alexnet import alexnet
from cnn_jax.models.classifier import AUXILIARY_WEIGHT, Classifier
from cnn_jax.models.lenet import lenet5
from cnn_jax.models.mlp import mlp
from cnn_jax.models.mnist_cnn import mnist_cnn
from cnn_jax.models.study_cnn import study_cnn, study_cnn_wide
from cnn_jax.models.wide_resnet import wide_resnet28_10

__all__ = ["AUXILIARY_WEIGHT", "REGISTRY", "Classifier", "Entry", "check_input", "create"]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A registered model.

    Attributes:
        builder: called with num_outputs, dtype= and the options.
        input_shape: (height, width, channels) it was made for.
        smallest: (height, width) of the smallest image that it takes.
        source: where it comes from, in one line.
        outputs: the classes that it was made for, with which `parameters` are counted.
        parameters: learned numbers at `outputs` classes and `input_shape`, without batch
            statistics and auxiliary classifiers.
        flops: of one image of `input_shape` forward; a multiply-add is two, and what a pool leaves
            out of a convolution is not made.
        options: what `create` takes for it besides the head, with its own values: `dropout_rate`,
            `bottleneck_stride`, `auxiliary`, `local_response_norm`, `width`.
        published: the accuracy in the paper and what it was measured on; "" where it has none.
    """

    builder: Callable[..., Classifier]
    input_shape: tuple[int, int, int]
    smallest: tuple[int, int]
    source: str
    outputs: int
    parameters: int
    flops: int
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    published: str = ""


_IMAGENET = (224, 224, 3)
_CIFAR = (32, 32, 3)
_VGG = "Simonyan and Zisserman 2014"
_HE = "He et al. 2015"
_HUANG = "Huang et al. 2016"
_HALF = {"dropout_rate": 0.5}
_NO_DROPOUT = {"dropout_rate": 0.0}
_BOTTLENECKS = {"dropout_rate": 0.0, "bottleneck_stride": "3x3"}

REGISTRY: dict[str, Entry] = {
    "lenet5": Entry(
        lenet5,
        (32, 32, 1),
        (16, 16),
        "LeCun et al. 1998, with ReLU and max-pooling",
        10,
        61_706,
        833_040,
        published="MNIST 99.05 %",
    ),
    "mlp": Entry(
        mlp,
        _CIFAR,
        (1, 1),
        "the guides' dense baseline",
        10,
        1_707_274,
        3_412_992,
        _NO_DROPOUT,
    ),
    "mnist_cnn": Entry(
        mnist_cnn, (28, 28, 1), (18, 18), "TensorFlow's CNN tutorial", 10, 93_322, 4_814_336
    ),
    "study_cnn": Entry(study_cnn, _CIFAR, (15, 17), "the CNN study guide", 10, 58_389, 32_343_440),
    "study_cnn_wide": Entry(
        study_cnn_wide,
        _CIFAR,
        (19, 17),
        "the CNN study guide's wide variant",
        10,
        585_526,
        89_557_712,
    ),
    "airbench": Entry(
        airbench.airbench94,
        _CIFAR,
        (25, 25),
        "Jordan 2024",
        10,
        1_971_640,
        210_720_320,
        {"width": 1.0},
        published="CIFAR-10 94.01 % (6 views)",
    ),
    "alexnet": Entry(
        alexnet,
        _IMAGENET,
        (63, 63),
        "Krizhevsky et al. 2012, one tower",
        1000,
        61_100_840,
        1_428_376_960,
        {"dropout_rate": 0.5, "local_response_norm": False},
        "ImageNet 59.3 % (two towers)",
    ),
    "vgg11": Entry(
        vgg.vgg11,
        _IMAGENET,
        (32, 32),
        _VGG,
        1000,
        132_863_336,
        15_218_180_096,
        _HALF,
        "ImageNet 70.4 %",
    ),
    "vgg13": Entry(
        vgg.vgg13,
        _IMAGENET,
        (32, 32),
        _VGG,
        1000,
        133_047_848,
        22_616_932_352,
        _HALF,
        "ImageNet 71.3 %",
    ),
    "vgg16": Entry(
        vgg.vgg16,
        _IMAGENET,
        (32, 32),
        _VGG,
        1000,
        138_357_544,
        30_940_528_640,
        _HALF,
        "ImageNet 74.4 %",
    ),
    "vgg19": Entry(
        vgg.vgg19,
        _IMAGENET,
        (32, 32),
        _VGG,
        1000,
        143_667_240,
        39_264_124_928,
        _HALF,
        "ImageNet 74.5 %",
    ),
    "vgg11_bn": Entry(
        vgg.vgg11_bn, _IMAGENET, (32, 32), _VGG, 1000, 132_868_840, 15_218_180_096, _HALF
    ),
    "vgg13_bn": Entry(
        vgg.vgg13_bn, _IMAGENET, (32, 32), _VGG, 1000, 133_053_736, 22_616_932_352, _HALF
    ),
    "vgg16_bn": Entry(
        vgg.vgg16_bn, _IMAGENET, (32, 32), _VGG, 1000, 138_365_992, 30_940_528_640, _HALF
    ),
    "vgg19_bn": Entry(
        vgg.vgg19_bn, _IMAGENET, (32, 32), _VGG, 1000, 143_678_248, 39_264_124_928, _HALF
    ),
    "vgg16_bn_cifar": Entry(
        vgg.vgg16_bn_cifar,
        _CIFAR,
        (32, 32),
        "Liu and Deng 2015, simplified",
        10,
        14_728_266,
        626_403_328,
        _HALF,
        "CIFAR-10 91.55 %",
    ),
    "googlenet": Entry(
        inception.googlenet,
        _IMAGENET,
        (15, 15),
        "Szegedy et al. 2014, with batch normalisation",
        1000,
        6_624_904,
        2_996_752_384,
        {"dropout_rate": 0.4, "auxiliary": True},
    ),
    "inception_v3": Entry(
        inception.inception_v3,
        (299, 299, 3),
        (75, 75),
        "Szegedy et al. 2015",
        1000,
        23_817_352,
        11_426_432_192,
        _NO_DROPOUT,
        "ImageNet 78.8 %",
    ),
    "resnet18": Entry(
        resnet.resnet18,
        _IMAGENET,
        (32, 32),
        _HE,
        1000,
        11_689_512,
        3_628_146_688,
        _NO_DROPOUT,
        "ImageNet 72.12 % (10 crops)",
    ),
    "resnet34": Entry(
        resnet.resnet34,
        _IMAGENET,
        (32, 32),
        _HE,
        1000,
        21_797_672,
        7_327_522_816,
        _NO_DROPOUT,
        "ImageNet 75.48 % (10 crops)",
    ),
    "resnet50": Entry(
        resnet.resnet50,
        _IMAGENET,
        (32, 32),
        _HE,
        1000,
        25_557_032,
        8_178_368_512,
        _BOTTLENECKS,
        "ImageNet 77.15 % (10 crops)",
    ),
    "resnet101": Entry(
        resnet.resnet101,
        _IMAGENET,
        (32, 32),
        _HE,
        1000,
        44_549_160,
        15_602_810_880,
        _BOTTLENECKS,
        "ImageNet 78.25 % (10 crops)",
    ),
    "resnet152": Entry(
        resnet.resnet152,
        _IMAGENET,
        (32, 32),
        _HE,
        1000,
        60_192_808,
        23_027_253_248,
        _BOTTLENECKS,
        "ImageNet 78.57 % (10 crops)",
    ),
    "resnet18_cifar": Entry(
        resnet.resnet18_cifar, _CIFAR, (8, 8), _HE, 10, 11_173_962, 1_110_845_440, _NO_DROPOUT
    ),
    "resnet20": Entry(
        resnet.resnet20,
        _CIFAR,
        (4, 4),
        _HE,
        10,
        269_722,
        81_102_080,
        _NO_DROPOUT,
        "CIFAR-10 91.25 %",
    ),
    "resnet32": Entry(
        resnet.resnet32,
        _CIFAR,
        (4, 4),
        _HE,
        10,
        464_154,
        137_725_184,
        _NO_DROPOUT,
        "CIFAR-10 92.49 %",
    ),
    "resnet56": Entry(
        resnet.resnet56,
        _CIFAR,
        (4, 4),
        _HE,
        10,
        853_018,
        250_971_392,
        _NO_DROPOUT,
        "CIFAR-10 93.03 %",
    ),
    "wide_resnet28_10": Entry(
        wide_resnet28_10,
        _CIFAR,
        (4, 4),
        "Zagoruyko and Komodakis 2016",
        10,
        36_479_194,
        10_486_657_536,
        _NO_DROPOUT,
        "CIFAR-10 96.00 %",
    ),
    "densenet121": Entry(
        densenet.densenet121,
        _IMAGENET,
        (32, 32),
        _HUANG,
        1000,
        7_978_856,
        5_668_323_328,
        _NO_DROPOUT,
        "ImageNet 74.98 %",
    ),
    "densenet169": Entry(
        densenet.densenet169,
        _IMAGENET,
        (32, 32),
        _HUANG,
        1000,
        14_149_480,
        6_719_686_656,
        _NO_DROPOUT,
        "ImageNet 76.20 %",
    ),
    "densenet201": Entry(
        densenet.densenet201,
        _IMAGENET,
        (32, 32),
        _HUANG,
        1000,
        20_013_928,
        8_582_731_776,
        _NO_DROPOUT,
        "ImageNet 77.42 %",
    ),
    "densenet_bc100_12": Entry(
        densenet.densenet_bc100_12,
        _CIFAR,
        (4, 4),
        _HUANG,
        10,
        769_162,
        575_859_384,
        _NO_DROPOUT,
        "CIFAR-10 95.49 %",
    ),
}


def create(
    name: str,
    num_outputs: int,
    *,
    head: str = "default",
    dtype: Any = jnp.float32,
    **options: Any,
) -> Classifier:
    """Returns a registered model, without parameters yet.

    Args:
        name: a key of `REGISTRY`.
        num_outputs: logits for an image: the classes, or 1 for binary cross-entropy.
        head: "default" for the model's own, or a key of `heads.HEADS` in its place, which also
            takes the place of auxiliary classifiers.
        dtype: of activations (float32 or bfloat16); parameters and logits are float32 always.
        **options: of the model, see `Entry.options`; None: its own value. With another head,
            `dropout_rate` is the head's.

    Raises:
        UsageError: no model or head has this name, or an option has no effect on the model.
    """
    entry = _entry(name)
    given = {key: value for key, value in options.items() if value is not None}
    own = dict(entry.options)
    rate = given.pop("dropout_rate", None) if head != "default" else None
    if head != "default":
        own.pop("auxiliary", None)
    for key in given:
        if key not in own:
            having = ", ".join(k for k, e in REGISTRY.items() if key in e.options)
            raise UsageError(
                f"--model.{key} has no effect on {name}"
                f"{'' if head == 'default' else f' with --model.head={head}'}; "
                f"leave it out, or choose a model that has it ({having})"
            )
    model = entry.builder(num_outputs, dtype=dtype, **own | given)
    if head == "default":
        return model
    return Classifier(
        model.backbone, heads.create(head, num_outputs, dropout_rate=rate, dtype=dtype)
    )


def check_input(name: str, image_shape: Sequence[int]) -> None:
    """Refuses images that a model's valid convolutions and pools would shrink to nothing.

    Args:
        name: a key of `REGISTRY`.
        image_shape: (height, width), or (height, width, channels).

    Raises:
        UsageError: the image is too small, or no model has this name.
    """
    height, width = _entry(name).smallest
    if image_shape[0] < height or image_shape[1] < width:
        raise UsageError(
            f"{name} needs images of at least {height} x {width} pixels (height x width), not "
            f"{image_shape[0]} x {image_shape[1]}; enlarge them with "
            f"--dataset.image_size={max(height, width)} or more"
        )


def _entry(name: str) -> Entry:
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"no model {name!r}.{hint} There are {', '.join(REGISTRY)}")
    return REGISTRY[name]
