"""Trains a network, a loss and an optimizer of your own on 1,797 handwritten digits."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import cnn_jax


class MyNet(nn.Module):
    """Two convolutions with batch normalisation, and a dense layer."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        """Maps images [batch, 8, 8, 1] to logits [batch, 10]."""
        for filters in (32, 64):
            x = nn.Conv(filters, (3, 3))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return nn.Dense(10)(nn.max_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1))


def focal(logits, labels):
    """Returns the focal loss of each example (Lin et al. 2017), gamma = 2."""
    p = jnp.take_along_axis(jax.nn.softmax(logits), labels[:, None], axis=1)[:, 0]
    return -((1 - p) ** 2) * jnp.log(p + 1e-7)


pixels, labels = load_digits(return_X_y=True)
images = np.round(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # grey
data = cnn_jax.from_arrays(images, labels, test=0.2)
run = cnn_jax.train(data, model=MyNet(), loss=focal, optimizer=optax.lion(3e-4), epochs=10)

print("validation accuracy", [round(r["validation_accuracy"], 3) for r in run.history])
print("test", run.evaluate("test"))
