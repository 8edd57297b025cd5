"""The networks of airbench, which reach 94, 95 and 96 % on CIFAR-10 with very little computation.

Source: Jordan 2024, arXiv:2404.00498 ("94% on CIFAR-10 in 3.29 seconds on a single GPU"), appendix
A, and airbench94_muon, airbench95 and airbench96 in its repository. The second is wider, and the
third has three convolutions in a block, of which a shortcut passes the last two. Three ideas
concern the architecture:

* The first convolution is not learned: its filters whiten 2 x 2 patches of the training images, so
  that the next layer gets uncorrelated values of variance one. `Airbench.initial_values` computes
  the filters from images; a preset freezes them.
* The first filters of every other convolution start as the identity (dirac), so that the network
  passes its input through before it has learned anything.
* Normalisation has no scale, its running statistics change quickly, and it follows the max-pool,
  where it has a quarter of the values to process.

At 32 x 32 x 3 with ten classes they have 1,971,640, 4,604,728 and 9,915,704 learned parameters.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.layers import BatchNorm, Conv, Dense, Flatten, MaxPool
from cnn_jax.models.classifier import Classifier, Stages
from cnn_jax.models.entry import Entry

WHITENING = (2, 2)
_WHITENING_EPSILON = 5e-4
# The default of torch for convolutions and dense layers: uniform within 1 / sqrt(fan in).
_torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def _unit_uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    return jax.random.uniform(key, shape, dtype, -(3**0.5), 3**0.5)


def dirac(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Draws a kernel `[height, width, in, out]` whose first `in` filters are the identity."""
    height, width, inputs, outputs = shape
    same = min(inputs, outputs)
    kernel = _torch_uniform(key, shape, dtype)
    identity = jnp.zeros((height, width, inputs, same), dtype)
    identity = identity.at[height // 2, width // 2, :same].set(jnp.eye(same, dtype=dtype))
    return kernel.at[..., :same].set(identity)


def whitening_filters(images: np.ndarray, window: tuple[int, int] = WHITENING) -> np.ndarray:
    """Returns the kernel that whitens the patches of images.

    Args:
        images: float `[n, height, width, channels]`, preprocessed.
        window: (height, width) of a patch.

    Returns:
        float32 `[*window, channels, 2 * patch size]`: the eigenvectors of the patches' second
        moments, each divided by the root of its eigenvalue, the largest eigenvalue first; then the
        same filters negated.
    """
    height, width = window
    patches = np.lib.stride_tricks.sliding_window_view(images, window, axis=(1, 2))
    # [n, height', width', channels, *window] -> one row for each patch, in the order of a kernel.
    rows = patches.transpose(0, 1, 2, 4, 5, 3).reshape(-1, height * width * images.shape[-1])
    rows = rows.astype(np.float64)
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    scaled = vectors[:, ::-1] / np.sqrt(values[::-1] + _WHITENING_EPSILON)
    kernel = np.concatenate([scaled, -scaled], axis=1).astype(np.float32)
    return kernel.reshape(height, width, images.shape[-1], -1)


class WhiteningStem(nn.Module):
    """A valid 2 x 2 convolution with two filters for each value of a patch, and GELU."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height - 1, width - 1, 8 * in]`."""
        del train
        filters = 2 * WHITENING[0] * WHITENING[1] * x.shape[-1]
        return Conv(
            filters,
            WHITENING,
            activation="gelu",
            dtype=self.dtype,
            kernel_init=_torch_uniform,
            name="conv",
        )(x)


class AirbenchBlock(nn.Module):
    """Convolution, max-pool, normalisation, GELU; once or twice convolution, normalisation, GELU.

    Attributes:
        filters: the number of filters of each convolution.
        depth: the number of convolutions, 2 or 3; of three the last two are passed by a shortcut,
            which is added before the last GELU.
        dtype: the dtype of activations.
    """

    filters: int
    depth: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, in]` to `[batch, height // 2, width // 2, filters]`."""
        first = x
        for number in range(1, self.depth + 1):
            x = Conv(
                self.filters,
                (3, 3),
                padding="SAME",
                use_bias=False,
                pool=(2, 2) if number == 1 else None,
                dtype=self.dtype,
                kernel_init=dirac,
                name=f"conv{number}",
            )(x)
            x = BatchNorm(
                1e-12,
                momentum=0.6,
                use_scale=False,
                activation=None if number == 3 else "gelu",
                dtype=self.dtype,
                name=f"bn{number}",
            )(x, train)
            if number == 1:
                first = x
            if number == 3:
                single = (x + first).astype(jnp.promote_types(self.dtype, jnp.float32))
                x = nn.gelu(single, approximate=False).astype(self.dtype)
        return x


class Airbench(Stages):
    """The stem and three blocks: 32 x 32 images give feature maps of 3 x 3.

    Attributes:
        filters: the number of filters of each block.
        depth: the number of convolutions of each block, 2 or 3.
        dtype: the dtype of activations.
    """

    filters: tuple[int, int, int] = (64, 256, 256)
    depth: int = 2
    dtype: Any = jnp.float32

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The stem and the blocks, in order."""
        return ("stem", "block1", "block2", "block3")

    def stage(self, name: str) -> nn.Module:
        """Returns the stem or a block."""
        if name == "stem":
            return WhiteningStem(self.dtype, name=name)
        number = self.stage_names.index(name)
        return AirbenchBlock(self.filters[number - 1], self.depth, self.dtype, name=name)

    def initial_values(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns initial values that are computed from data, by their path in the backbone.

        Args:
            images: float `[n, height, width, channels]`, training images, preprocessed.
        """
        return {"stem/conv/kernel": whitening_filters(images)}


class AirbenchHead(nn.Module):
    """A 3 x 3 max-pool and logits without bias, divided by the number of features.

    The kernel's initial variance is one, so that the updates of a high learning rate are small
    compared with it.

    Attributes:
        num_outputs: the number of logits for an image.
    """

    num_outputs: int

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, height, width, channels]` to logits `[batch, num_outputs]`."""
        del train
        x = MaxPool((3, 3), name="pool")(features)
        x = Flatten(name="flatten")(x)
        logits = Dense(self.num_outputs, use_bias=False, kernel_init=_unit_uniform, name="logits")
        return logits(x) / x.shape[-1]


def _airbench(
    num_outputs: int,
    dtype: Any = jnp.float32,
    width: float = 1.0,
    *,
    filters: tuple[int, int, int] = (64, 256, 256),
    depth: int = 2,
) -> Classifier:
    """Returns whitening, three blocks of `filters` times `width`, and logits.

    The number of filters is rounded to a multiple of eight, and is at least eight.
    """
    block1, block2, block3 = (max(8, 8 * round(width * count / 8)) for count in filters)
    backbone = Airbench((block1, block2, block3), depth, dtype)
    return Classifier(backbone, AirbenchHead(num_outputs))


def _entry(parameters: int, flops: int, published: str, **architecture: Any) -> Entry:
    return Entry(
        builder=functools.partial(_airbench, **architecture),
        input_shape=(32, 32, 3),
        smallest=(25, 25),
        source="Jordan 2024",
        outputs=10,
        parameters=parameters,
        flops=flops,
        options={"width": 1.0},
        published=published,
    )


ENTRIES = {
    "airbench": _entry(1_971_640, 210_720_320, "CIFAR-10 94.01 % (6 views)"),
    "airbench95": _entry(
        4_604_728, 539_586_624, "CIFAR-10 95.01 % (6 views)", filters=(128, 384, 384)
    ),
    "airbench96": _entry(
        9_915_704, 828_897_856, "CIFAR-10 96.03 % (6 views)", filters=(128, 384, 512), depth=3
    ),
}
