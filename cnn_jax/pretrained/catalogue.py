"""The weights that `--transfer.weights=imagenet` knows: where they are and what belongs to them.

Addresses and md5 sums are those of Keras Applications (`keras/src/applications/vgg16.py`,
`vgg19.py`); sizes are what the server of these addresses reports. Keras publishes no sha256, so
`sha256` is None and the md5 is the checksum that a download must have. That guards against damage
and against another file in its place (no practical way is known to make a file of a given md5);
only the publisher could have made two files of one md5.
"""

import dataclasses

from cnn_jax.errors import UsageError
from cnn_jax.pretrained.preprocessing import Preprocessing

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications"
_VGG_LICENCE = "Creative Commons Attribution License"
_VGG_SOURCE = (
    "Visual Geometry Group, University of Oxford "
    "(https://www.robots.ox.ac.uk/~vgg/research/very_deep/), "
    "Simonyan and Zisserman 2014, arXiv:1409.1556; converted by Keras Applications"
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One file of weights.

    Attributes:
        name: the file's name, in the cache too.
        model: the registered model whose weights they are.
        url: where the file is.
        md5: hexadecimal, as the publisher gives it.
        sha256: hexadecimal, or None where the publisher gives none (see the module's docstring).
        size: bytes.
        licence: of the weights.
        source: who trained them, and who converted them.
        input_size: (height, width) in pixels that the network was trained at; with the top also
            the only size it takes.
        preprocessing: what was done to the pixels in training; see `preprocessing.preprocess`.
        classes: outputs of the top, or None for a file without it.
    """

    name: str
    model: str
    url: str
    md5: str
    sha256: str | None
    size: int
    licence: str
    source: str
    input_size: tuple[int, int]
    preprocessing: Preprocessing
    classes: int | None

    @property
    def includes_top(self) -> bool:
        """Whether the file holds the classifier of the original classes."""
        return self.classes is not None

    @property
    def checksum(self) -> str:
        """The strongest checksum known, as "algorithm:hexadecimal"."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}"


def _vgg(model: str, md5: str, size: int, classes: int | None) -> Entry:
    top = "" if classes else "_notop"
    name = f"{model}_weights_tf_dim_ordering_tf_kernels{top}.h5"
    return Entry(
        name=name,
        model=model,
        url=f"{_KERAS}/{model}/{name}",
        md5=md5,
        sha256=None,
        size=size,
        licence=_VGG_LICENCE,
        source=_VGG_SOURCE,
        input_size=(224, 224),
        preprocessing="caffe",
        classes=classes,
    )


ENTRIES = (
    _vgg("vgg16", "64373286793e3c8b2b4e3219cbf3544b", 553467096, 1000),
    _vgg("vgg16", "6d6bbae143d832006294945121d1f1fc", 58889256, None),
    _vgg("vgg19", "cbe5617147190e668d6c5d5026f83318", 574710816, 1000),
    _vgg("vgg19", "253f8cb515780f3b799900260a226db6", 80134624, None),
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
