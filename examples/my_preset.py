"""Does a network of my own read the digits?

A preset outside the package: it registers a model under a name, and every command takes it.

    cnn-jax --config=examples/my_preset.py --workdir=runs/mine
    cnn-jax evaluate --code=examples/my_preset.py --workdir=runs/mine
"""

import flax.linen as nn

import cnn_jax


@cnn_jax.register_model("tiny_net", input_shape=(8, 8, 1), options={"dropout_rate": 0.1})
def tiny_net(num_outputs, dtype, dropout_rate):
    """Returns the network for a number of classes."""
    del dtype  # it computes in float32 alone
    return TinyNet(num_outputs, dropout_rate)


class TinyNet(nn.Module):
    """A convolution, dropout and a dense layer."""

    num_outputs: int
    dropout_rate: float

    @nn.compact
    def __call__(self, x, train: bool = False):
        """Maps images [batch, 8, 8, 1] to logits [batch, num_outputs]."""
        x = nn.relu(nn.Conv(16, (3, 3))(x)).reshape(x.shape[0], -1)
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.Dense(self.num_outputs)(x)


EXPERIMENT = cnn_jax.Experiment(
    dataset=cnn_jax.Dataset(name="digits"),
    model=cnn_jax.Model(name="tiny_net"),
    train=cnn_jax.Train(epochs=5),
)
