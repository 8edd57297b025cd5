"""The study guide's CNN for CIFAR-10, and its wide variant.

Two pairs of valid convolutions with ReLU, each pair followed by a max-pool, then a dense layer of
100 units. The wide variant has 128 filters in both convolutions of the second pair. At 32 x 32 x 3
they have 58,389 and 585,526 parameters.

Source: the CNN study guide (Keras). The guide has uneven kernels, such as (2, 3), to show how the
output-size formula applies to height and width separately.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Conv
from cnn_jax.models.classifier import Classifier, DenseHead
from cnn_jax.models.entry import Entry


class StudyBackbone(nn.Module):
    """The four convolutions and two pools; 32 x 32 images give 5 x 4 feature maps, wide 4 x 4.

    Attributes:
        conv3: (filters, kernel size) of the third convolution.
        conv4: (filters, kernel size) of the fourth convolution.
        dtype: the dtype of activations.
    """

    conv3: tuple[int, tuple[int, int]]
    conv4: tuple[int, tuple[int, int]]
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images `[batch, height, width, channels]` to a feature map."""
        del train
        relu: Any = {"activation": "relu", "dtype": self.dtype}
        x = Conv(32, (2, 2), name="conv1", **relu)(x)
        x = Conv(64, (3, 3), pool=(2, 2), name="conv2", **relu)(x)
        x = Conv(*self.conv3, name="conv3", **relu)(x)
        return Conv(*self.conv4, pool=(2, 2), name="conv4", **relu)(x)


def study_cnn(num_outputs: int, dtype: Any = jnp.float32) -> Classifier:
    """Returns Conv 32 (2, 2), 64 (3, 3), pool, 17 (2, 3), 14 (4, 4), pool, Dense 100, logits."""
    return Classifier(
        StudyBackbone(conv3=(17, (2, 3)), conv4=(14, (4, 4)), dtype=dtype),
        DenseHead(num_outputs, hidden=(100,), dtype=dtype),
    )


def study_cnn_wide(num_outputs: int, dtype: Any = jnp.float32) -> Classifier:
    """Returns Conv 32 (2, 2), 64 (3, 3), pool, 128 (4, 3), 128 (4, 4), pool, Dense 100, logits."""
    return Classifier(
        StudyBackbone(conv3=(128, (4, 3)), conv4=(128, (4, 4)), dtype=dtype),
        DenseHead(num_outputs, hidden=(100,), dtype=dtype),
    )


ENTRIES = {
    "study_cnn": Entry(
        builder=study_cnn,
        input_shape=(32, 32, 3),
        smallest=(15, 17),
        source="the CNN study guide",
        outputs=10,
        parameters=58_389,
        flops=32_343_440,
    ),
    "study_cnn_wide": Entry(
        builder=study_cnn_wide,
        input_shape=(32, 32, 3),
        smallest=(19, 17),
        source="the CNN study guide's wide variant",
        outputs=10,
        parameters=585_526,
        flops=89_557_712,
    ),
}
