"""Trains a network, a loss and an optimizer of your own on 10,000 images of CIFAR-10."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import cnn_jax


class MyNet(nn.Module):
    """Two convolutions with batch normalisation, and a dense layer."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        """Maps images [batch, 32, 32, 3] to logits [batch, 10]."""
        for filters in (32, 64):
            x = nn.Conv(filters, (3, 3), strides=2)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


def focal(logits, labels):
    """Returns the focal loss of each example (Lin et al. 2017), gamma = 2."""
    p = jnp.take_along_axis(jax.nn.softmax(logits), labels[:, None], axis=1)[:, 0]
    return -((1 - p) ** 2) * jnp.log(p + 1e-7)


train = cnn_jax.from_experiment(cnn_jax.preset("cifar10_cnn").dataset).train
data = cnn_jax.from_arrays(train.images[:10000], train.labels[:10000], test=0.2)
run = cnn_jax.train(data, model=MyNet(), loss=focal, optimizer=optax.lion(3e-4), epochs=5)
print("test", run.evaluate("test"))
