"""What the units (channels) of a layer answer to: their maps, the images that excite them most."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import cpu
from cnn_jax.errors import UsageError
from cnn_jax.explain.network import BATCH, Network
from cnn_jax.models import capture

_STEPS = 256
_JITTER = 4  # pixels by which an image is moved in each step, so that no pixel matters by itself


def outputs(network: Network, images: np.ndarray) -> np.ndarray:
    """Returns the feature maps of images, float32 [n, height, width, channels].

    Args:
        network: the network, whose `layer` is looked at.
        images: as the data are stored.
    """
    return network.run.features(images, _layer(network))


def strongest(maps: np.ndarray, count: int) -> np.ndarray:
    """Returns the channels of one image's feature maps [height, width, n] with the largest mean."""
    return np.argsort(-maps.mean(axis=(0, 1)), kind="stable")[:count]


def check(network: Network, units: list[int]) -> None:
    """Raises UsageError where a layer has no such unit."""
    count = network.layers[_layer(network)][-1]
    for unit in units:
        if unit >= count:
            raise UsageError(f"{network.layer} has the units 0 to {count - 1}, and no {unit}")


def exciting(
    network: Network, images: np.ndarray, units: list[int], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images that excite units most, by the largest value in their maps.

    Args:
        network: the network.
        images: as the data are stored, [n, height, width, channels].
        units: channels of its layer.
        count: how many images of each unit.

    Returns:
        Indices int [units, count] and values float32 [units, count], the strongest first.
    """
    found = []
    for start in range(0, len(images), 8 * BATCH):
        part = outputs(network, images[start : start + 8 * BATCH])
        found.append(part[..., units].max(axis=(1, 2)))
    values = np.concatenate(found)
    order = np.argsort(-values, axis=0, kind="stable")[:count]
    return order.T, np.take_along_axis(values, order, axis=0).T


def maximised(network: Network, unit: int, seed: int = 0) -> np.ndarray:
    """Returns an image that excites a unit, made by gradient ascent from near the mean image.

    The mean of the unit's map grows, the image is moved about a little in each step, and
    differences between neighbouring pixels cost something (Erhan et al. 2009; Olah et al. 2017,
    https://doi.org/10.23915/distill.00007). It shows what the unit answers to, not what it is for.

    Args:
        network: the network.
        unit: a channel of its layer.
        seed: of the noise at the start and of the movements.

    Returns:
        uint8 [height, width, channels], scaled so that its smallest value is black and its largest
        white, about the mean image as grey.
    """
    path, model = _layer(network), network.run.assembly.model
    shape = (1, *network.layers[path])
    blank = jnp.asarray(network.blank(), jnp.float32)
    spread = 1.0
    if network.run.data_info.dtype == "uint8":  # a quarter of what lies between black and white
        ends = np.zeros((2, *network.shape), np.uint8)
        ends[1] = 255
        spread = 0.25 * float(jnp.ptp(network.preprocess(ends)))

    def score(offset: jax.Array, variables: Any, shift: jax.Array) -> jax.Array:
        moved = jnp.roll(blank + spread * offset, shift, axis=(0, 1))
        _, maps = capture.disturbed(model, variables, moved[None], path, jnp.zeros(shape))
        rough = sum(jnp.abs(jnp.diff(offset, axis=axis)).mean() for axis in (0, 1))
        strength = jnp.mean(maps[..., unit].astype(jnp.float32)) / spread
        return strength - rough - 0.1 * jnp.mean(offset**2)

    @jax.jit
    def step(offset: jax.Array, variables: Any, shift: jax.Array) -> jax.Array:
        gradient = jax.grad(score)(offset, variables, shift)
        return offset + 0.05 * gradient / (jnp.sqrt(jnp.mean(gradient**2)) + 1e-8)

    generator = np.random.default_rng(seed)
    offset = jnp.asarray(0.05 * generator.normal(size=network.shape), jnp.float32)
    with cpu.using("plain"):
        for _ in range(_STEPS):
            shift = generator.integers(-_JITTER, _JITTER + 1, 2)
            offset = step(offset, network.run.variables, shift)
    image = np.asarray(offset)
    image = 127.5 + 127.5 * image / max(float(np.abs(image).max()), 1e-12)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _layer(network: Network) -> str:
    if network.layer is None:
        raise UsageError("this network has no feature map, so its layers have no units to look at")
    return network.layer
