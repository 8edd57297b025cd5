"""What makes tests of training quick: a small run, and a network with VGG's parts and names."""

import flax.linen as nn
import jax.numpy as jnp

from cnn_jax.models import Classifier, Entry
from cnn_jax.models.heads import PooledHead
from cnn_jax.models.vgg import VGGBlock

# A run with everything that a resume could get wrong: augmentation, dropout, a moving average and a
# schedule. 60 steps, 20 an epoch.
SETTINGS = (
    "--model.name=mlp",
    "--model.dropout_rate=0.2",
    "--dataset.image_size=none",
    "--dataset.train_examples=316",
    "--dataset.batch_size=16",
    "--dataset.flip",
    "--dataset.crop_padding=1",
    "--dataset.cutout=2",
    "--dataset.normalize=standardize",
    "--optimizer.ema_decay=0.9",
    "--optimizer.schedule=cosine",
    "--optimizer.warmup_epochs=0.5",
    "--train.epochs=3",
    "--seed=7",
)
STEPS = 60


class TinyVGG(nn.Module):
    """Five blocks of one convolution with four filters."""

    stage_names = ("block1", "block2", "block3", "block4", "block5")
    dtype: object = jnp.float32

    @nn.compact
    def __call__(self, x, train=False, start=0, stop=None):
        del train
        for name in self.stage_names[start:stop]:
            x = VGGBlock(4, 1, self.dtype, name=name)(x)
        return x


def build(num_outputs, dtype=jnp.float32, dropout_rate=0.0):
    return Classifier(TinyVGG(dtype), PooledHead(num_outputs, dropout_rate=dropout_rate))


ENTRY = Entry(build, (32, 32, 3), (32, 32), "made for tests", dropout_rate=0.0)
