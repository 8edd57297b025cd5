"""Maps of one image: where the evidence for a class lies.

A is a feature map [height, width, channels] after its activation, G the gradient of the evidence z
(see `network`) by A, x the preprocessed image and x' the mean of the training images.

| method | the map | unit |
|---|---|---|
| hirescam | the sum over channels of G A, signed | logits |
| gradcam | ReLU of the sum over channels of mean(G) A | logits |
| ig | (x - x') times the mean gradient on the way from x' to x | logits |
| smoothgrad | the mean gradient at x + noise | logits a unit of input |
| occlusion | how far the probability falls under a patch of x' | probability |

Sources: HiResCAM: Draelos and Carin 2020, arXiv:2011.08891; Grad-CAM: Selvaraju et al. 2017,
arXiv:1610.02391; integrated gradients: Sundararajan et al. 2017, arXiv:1703.01365; SmoothGrad:
Smilkov et al. 2017, arXiv:1706.03825; occlusion: Zeiler and Fergus 2014, arXiv:1311.2901.

What HiResCAM marks, the rest of the network used, where that rest is one dense layer; and what is
summed is then z less the layer's bias. Behind a global average pool Grad-CAM (without its ReLU),
HiResCAM and CAM are the same. Elsewhere what a map does not account for is its `rest`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from cnn_jax.explain.network import BATCH, Network

METHODS = ("hirescam", "occlusion", "ig", "gradcam", "smoothgrad")
UNITS = {
    "hirescam": "logits",
    "gradcam": "logits",
    "ig": "logits",
    "smoothgrad": "logits a unit of input",
    "occlusion": "probability",
}
OF_LAYER = ("hirescam", "gradcam")  # these take one pass, and need a feature map

_NOISE = 0.15  # of the range of the image, as the authors of SmoothGrad recommend
_SAMPLES = 64


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is explained.

    Attributes:
        image: as the data are stored, [height, width, channels].
        label: the class that is explained.
        against: the class that it is compared with, or None.
    """

    image: np.ndarray
    label: int
    against: int | None = None


def hirescam(network: Network, subject: Subject, variables: Any = None, steps: int = 0) -> Any:
    """Returns HiResCAM's map, float32 [height, width] of the layer."""
    del steps
    activation, gradient = _at_layer(network, subject, variables)
    return (activation * gradient).sum(axis=-1)


def gradcam(network: Network, subject: Subject, variables: Any = None, steps: int = 0) -> Any:
    """Returns Grad-CAM's map, float32 [height, width] of the layer, never below 0."""
    del steps
    activation, gradient = _at_layer(network, subject, variables)
    return np.maximum((activation * gradient.mean(axis=(0, 1))).sum(axis=-1), 0)


def _at_layer(network: Network, subject: Subject, variables: Any) -> tuple[np.ndarray, np.ndarray]:
    x = network.preprocess(subject.image[None])[0]
    return network.at_layer(x, subject.label, subject.against, variables)


def ig(network: Network, subject: Subject, variables: Any = None, steps: int = 128) -> np.ndarray:
    """Returns integrated gradients by the midpoint rule, float32 [height, width] of the image.

    Args:
        network: the network.
        subject: what is explained.
        variables: None: those of the run.
        steps: points between the mean image and the image.
    """
    x, blank = _ends(network, subject)
    total = np.zeros(x.shape, np.float64)
    shares = (np.arange(steps) + 0.5) / steps
    for start in range(0, steps, BATCH):
        part = shares[start : start + BATCH, None, None, None].astype(np.float32)
        between = blank + part * (x - blank)
        found = network.gradients(between, subject.label, subject.against, variables)
        total += found.astype(np.float64).sum(axis=0)
    return ((x - blank) * (total / steps)).sum(axis=-1).astype(np.float32)


def smoothgrad(network: Network, subject: Subject, variables: Any = None, steps: int = 0) -> Any:
    """Returns the mean gradient at 64 noisy images, summed over channels, float32 like the image.

    The noise is normal, with 0.15 of the image's range as its standard deviation, and always the
    same.
    """
    del steps
    x, _ = _ends(network, subject)
    noise = np.random.default_rng(0).normal(size=(_SAMPLES, *x.shape)).astype(np.float32)
    noisy = x + _NOISE * float(x.max() - x.min()) * noise
    total = np.zeros(x.shape, np.float64)
    for start in range(0, _SAMPLES, BATCH):
        part = noisy[start : start + BATCH]
        found = network.gradients(part, subject.label, subject.against, variables)
        total += found.astype(np.float64).sum(axis=0)
    return (total / _SAMPLES).sum(axis=-1).astype(np.float32)


def _ends(network: Network, subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """Returns (the image, the mean image) as the model takes them, float32."""
    x = np.asarray(network.preprocess(subject.image[None]), np.float32)[0]
    return x, np.asarray(network.blank(), np.float32)


def occlusion(network: Network, subject: Subject, variables: Any = None, steps: int = 0) -> Any:
    """Returns how far the probability of the class falls, float32 [height, width] of the image.

    A patch of a sixth of the image, filled with the mean of the training images, moves by half of
    its size; a pixel has the mean over the patches that cover it. With `against`, the difference of
    the two probabilities.
    """
    del steps
    height, width = subject.image.shape[:2]
    patch = (max(1, round(height / 6)), max(1, round(width / 6)))
    tops, lefts = _starts(height, patch[0]), _starts(width, patch[1])
    places = [(top, left) for top in tops for left in lefts]
    whole = _value(network.probabilities(subject.image[None], variables), subject)[0]
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for start in range(0, len(places), BATCH):
        part = places[start : start + BATCH]
        hidden = np.repeat(subject.image[None], len(part), axis=0)
        for image, (top, left) in zip(hidden, part, strict=True):
            image[top : top + patch[0], left : left + patch[1]] = fill(network, image.dtype)
        fallen = whole - _value(network.probabilities(hidden, variables), subject)
        for (top, left), fall in zip(part, fallen, strict=True):
            total[top : top + patch[0], left : left + patch[1]] += fall
            count[top : top + patch[0], left : left + patch[1]] += 1
    return (total / count).astype(np.float32)


def _starts(size: int, patch: int) -> list[int]:
    """Returns where patches start, so that they cover everything and overlap by half or more."""
    count = int(np.ceil((size - patch) / max(1, patch // 2))) + 1
    return sorted(set(np.linspace(0, size - patch, count).round().astype(int).tolist()))


def fill(network: Network, dtype: Any) -> np.ndarray:
    """Returns the mean colour of the training images in the type of stored images."""
    return (np.round(network.mean) if dtype == np.uint8 else network.mean).astype(dtype)


def _value(probabilities: np.ndarray, subject: Subject) -> np.ndarray:
    """Returns the probability of the class, less that of the one it is compared with."""
    other = 0.0 if subject.against is None else probabilities[:, subject.against]
    return probabilities[:, subject.label] - other


MAKERS: dict[str, Callable[..., np.ndarray]] = {
    "hirescam": hirescam,
    "gradcam": gradcam,
    "ig": ig,
    "smoothgrad": smoothgrad,
    "occlusion": occlusion,
}
