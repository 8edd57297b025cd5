"""The weights of `--transfer.weights=imagenet`: address, checksum, licence, preprocessing.

Addresses and md5 sums are those of Keras Applications (`keras/src/applications`), licences those of
its documentation (keras.io/applications, in the keras repository up to 2.3
`docs/templates/applications.md`). Sizes are those that the server of these addresses reports, from
published logs of downloads; None if no log was found. Keras publishes no sha256, so
`sha256` is None and the md5 is the checksum that a download must have. That guards against damage
and against another file in its place (no practical way is known to make a file of a given md5);
only the publisher could have made two files of one md5.

What the networks were evaluated with (`evaluated`) is what their authors publish: VGG and ResNet in
the descriptions of their Caffe models, DenseNet through fb.resnet.torch, each the middle 224 x 224
of an image whose short side is 256; Inception v3 in TensorFlow's `inception_preprocessing`, the
middle 87.5 % of both sides, squashed to 299 x 299, and so MobileNetV3; EfficientNet in TensorFlow's
`tpu` repository, 32 pixels larger than the middle that is taken; ConvNeXt as VGG.
"""

import dataclasses

from cnn_jax import models
from cnn_jax.data.fitting import Resize
from cnn_jax.data.scaling import Scaling
from cnn_jax.errors import UsageError
from cnn_jax.pretrained import layouts, newer_files

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file of weights.

    Attributes:
        name: the file's name, in the cache too.
        model: the registered model whose weights they are.
        url: where the file is.
        md5: hexadecimal, as the publisher gives it; None if it gives a sha256.
        sha256: hexadecimal, or None if the publisher gives none (see the module's docstring).
        size: the size in bytes, or None if it is not known.
        licence: the licence of the weights.
        source: who trained them, and who converted them.
        input_size: (height, width) in pixels that the network was trained at; with the top also
            the only size it takes.
        preprocessing: the scaling of the pixels in training.
        evaluated: (a `fitting.Resize`, the share of the short side that it keeps): how images of
            another aspect became those of `input_size` when its published accuracy was measured.
        classes: the outputs of the top, or None for a file without it.
    """

    name: str
    model: str
    url: str
    md5: str | None
    sha256: str | None
    size: int | None
    licence: str
    source: str
    input_size: tuple[int, int]
    preprocessing: Scaling
    evaluated: tuple[Resize, float]
    classes: int | None

    @property
    def includes_top(self) -> bool:
        """Whether the file holds the classifier of the original classes."""
        return self.classes is not None

    @property
    def checksum(self) -> str:
        """The strongest checksum known, as "algorithm:hexadecimal"."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}"


def _keras(
    model: str,
    folder: str,
    licence: str,
    source: str,
    files: tuple[tuple[str, int | None], tuple[str, int | None]],
) -> list[Entry]:
    """Returns the entries with and without top of (md5, size) each."""
    entries = []
    for (md5, size), classes in zip(files, (1000, None), strict=True):
        name = f"{model}_weights_tf_dim_ordering_tf_kernels{'' if classes else '_notop'}.h5"
        entries.append(
            Entry(
                name=name,
                model=model,
                url=f"{_KERAS}/{folder}/{name}",
                md5=md5,
                sha256=None,
                size=size,
                licence=licence,
                source=f"{source}; converted by Keras Applications",
                input_size=models.REGISTRY[model].input_shape[:2],
                preprocessing=layouts.find(model).conventions["keras"].preprocessing,
                evaluated=("squash" if model == "inception_v3" else "crop", 0.875),
                classes=classes,
            )
        )
    return entries


_VGG = (
    "Creative Commons Attribution License",
    "Visual Geometry Group, University of Oxford "
    "(https://www.robots.ox.ac.uk/~vgg/research/very_deep/), "
    "Simonyan and Zisserman 2014, arXiv:1409.1556",
)
_RESNET = (
    "MIT License",
    "Kaiming He (https://github.com/KaimingHe/deep-residual-networks), "
    "He et al. 2015, arXiv:1512.03385",
)
_INCEPTION = (
    "Apache License 2.0",
    "Google (https://github.com/tensorflow/models), Szegedy et al. 2015, arXiv:1512.00567",
)
_DENSENET = (
    "BSD 3-Clause License",
    "Zhuang Liu (https://github.com/liuzhuang13/DenseNet), Huang et al. 2016, arXiv:1608.06993",
)

_CLASSIC = (
    *_keras(
        "vgg16",
        "vgg16",
        *_VGG,
        (
            ("64373286793e3c8b2b4e3219cbf3544b", 553467096),
            ("6d6bbae143d832006294945121d1f1fc", 58889256),
        ),
    ),
    *_keras(
        "vgg19",
        "vgg19",
        *_VGG,
        (
            ("cbe5617147190e668d6c5d5026f83318", 574710816),
            ("253f8cb515780f3b799900260a226db6", 80134624),
        ),
    ),
    *_keras(
        "resnet50",
        "resnet",
        *_RESNET,
        (
            ("2cb95161c43110f7111970584f804107", 102967424),
            ("4d473c1dd8becc155b73f8504c6f6626", 94765736),
        ),
    ),
    *_keras(
        "resnet101",
        "resnet",
        *_RESNET,
        (
            ("f1aeb4b969a6efcfb50fad2f0c20cfc5", 179648224),
            ("88cf7a10940856eca736dc7b7e228a21", 171446536),
        ),
    ),
    *_keras(
        "resnet152",
        "resnet",
        *_RESNET,
        (
            ("100835be76be38e30d865e96f2aaae62", None),
            ("ee4c566cf9a93f14d82f913c2dc6dd0c", 234698864),
        ),
    ),
    *_keras(
        "inception_v3",
        "inception_v3",
        *_INCEPTION,
        (
            ("9a0d58056eeedaa3f26cb7ebd46da564", 96112376),
            ("bcbd6486424b2319ff4ef7d526e38f63", 87910968),
        ),
    ),
    *_keras(
        "densenet121",
        "densenet",
        *_DENSENET,
        (
            ("9d60b8095a5708f2dcce2bca79d332c7", None),
            ("30ee3e1110167f948a6b9946edeeb738", 29084464),
        ),
    ),
    *_keras(
        "densenet169",
        "densenet",
        *_DENSENET,
        (
            ("d699b8f76981ab1b30698df4c175e90b", None),
            ("b8c4d4c20dd625c148057b9ff1c1176b", 51877672),
        ),
    ),
    *_keras(
        "densenet201",
        "densenet",
        *_DENSENET,
        (
            ("1ceb130c1ea1b78c3bf6114dbdfd8807", None),
            ("c13680b51ded0fb44dff2d8f86ac8bb1", 74836368),
        ),
    ),
)


def _newer(files: newer_files.Files) -> list[Entry]:
    """Returns the entries with and without top; digests of 64 digits are sha256."""
    return [
        Entry(
            name=name,
            model=files.model,
            url=f"{files.address}/{name}",
            md5=digest if len(digest) == 32 else None,
            sha256=digest if len(digest) == 64 else None,
            size=None,
            licence=files.licence,
            source=f"{files.source}; converted by Keras Applications",
            input_size=models.REGISTRY[files.model].input_shape[:2],
            preprocessing=layouts.find(files.model).conventions["keras"].preprocessing,
            evaluated=files.evaluated,
            classes=classes,
        )
        for name, digest, classes in zip(files.names, files.digests, (1000, None), strict=True)
    ]


ENTRIES = (
    *_CLASSIC,
    *(entry for files in newer_files.FILES for entry in _newer(files)),
)


def find(model: str, includes_top: bool = False) -> Entry:
    """Returns the entry of a registered model's ImageNet weights.

    Raises:
        UsageError: there are none.
    """
    for entry in ENTRIES:
        if entry.model == model and entry.includes_top == includes_top:
            return entry
    known = ", ".join(sorted({entry.model for entry in ENTRIES}))
    raise UsageError(
        f"there are no ImageNet weights for --model.name={model}, only for {known}; "
        "--transfer.weights=PATH takes a file of your own"
    )
