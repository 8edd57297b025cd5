"""What every model is: a backbone that makes features, and a head that makes logits of them."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.layers import Dense, Flatten

# The share of an auxiliary classifier's loss in the training loss; GoogLeNet's, section 5.
AUXILIARY_WEIGHT = 0.3


class Stages(nn.Module, abc.ABC):
    """A backbone of named stages, each of which takes what the one before it gives.

    A family gives `stage_names` and `stage`.
    """

    @property
    @abc.abstractmethod
    def stage_names(self) -> tuple[str, ...]:
        """The stages by the name of their parameters."""

    @abc.abstractmethod
    def stage(self, name: str) -> nn.Module:
        """Returns a stage, called with (features, train)."""

    def initial_values(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the parameters that start from data, by their path in the backbone.

        Args:
            images: float `[n, height, width, channels]`, scaled as the network gets them.
        """
        del images
        return {}

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, start: int = 0, stop: int | None = None
    ) -> jax.Array:
        """Maps images `[batch, height, width, channels]` to a feature map.

        Args:
            x: images, or the output of the stage before `start`.
            train: whether batch normalisation and dropout act as in training.
            start: the first stage to run.
            stop: the stage to stop before; None: all.
        """
        for name in self.stage_names[start:stop]:
            x = self.stage(name)(x, train)
        return x


class Classifier(nn.Module):
    """An image classifier with parameters `{"backbone": ..., "head": ...}`.

    The two halves can be run apart, so that a frozen backbone's features are computed once.

    Attributes:
        backbone: called with (images, train), gives the features.
        head: called with (features, train), gives the logits.
        auxiliary: classifiers that help training, by the stage whose output they see. Their logits
            are sown into the collection "auxiliary" in training, where their stage is trained; in
            evaluation they do not run. Their parameters stand in `auxiliary_STAGE`.
    """

    backbone: nn.Module
    head: nn.Module
    auxiliary: Mapping[str, nn.Module] = dataclasses.field(default_factory=dict)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The backbone's stages by the name of their parameters, or one stage with no name."""
        return getattr(self.backbone, "stage_names", ("",))

    def __call__(
        self, inputs: jax.Array, train: bool = False, *, start: int = 0, frozen: int = 0
    ) -> jax.Array:
        """Maps float images `[batch, height, width, channels]` to logits `[batch, outputs]`.

        Args:
            inputs: images, scaled as the data set or the weights demand; with `start`, the output
                of the stage before it.
            train: True turns dropout on (needs a "dropout" key) and lets batch statistics move.
            start: the first stage to run; the number of stages leaves the head alone.
            frozen: so many of the first stages are run as in evaluation, whatever `train` says.
        """
        x = inputs
        if train or self.is_initializing():
            for name, classifier in self.auxiliary.items():
                stop = self.stage_names.index(name) + 1
                if stop > max(start, frozen):
                    x = self.forward_features(x, train, start=start, stop=stop, frozen=frozen)
                    start = stop
                    logits = classifier(x, train).astype(jnp.float32)
                    if train:
                        self.sow("auxiliary", name, logits)
        features = self.forward_features(x, train, start=start, frozen=frozen)
        return self.forward_head(features, train)

    def forward_features(
        self,
        inputs: jax.Array,
        train: bool = False,
        *,
        start: int = 0,
        stop: int | None = None,
        frozen: int = 0,
    ) -> jax.Array:
        """Maps images to the features, in the dtype of the model's computation.

        They are `[batch, height, width, channels]`, or `[batch, units]` of a dense backbone; with
        `stop`, the output of the stage before it. The other arguments are those of a call.
        """
        stop = len(self.stage_names) if stop is None else stop
        x = inputs
        if start < min(frozen, stop):
            x = self._run(x, False, start, min(frozen, stop))
        if max(start, frozen) < stop:
            x = self._run(x, train, max(start, frozen), stop)
        return x

    def _run(self, x: jax.Array, train: bool, start: int, stop: int) -> jax.Array:
        if len(self.stage_names) == 1:
            return self.backbone(x, train)
        return self.backbone(x, train, start, stop)

    def forward_head(self, features: jax.Array, train: bool = False) -> jax.Array:
        """Maps features to float32 logits `[batch, outputs]`."""
        return self.head(features, train).astype(jnp.float32)


class DenseHead(nn.Module):
    """Flatten, dense layers with ReLU, and a dense layer to the logits.

    Attributes:
        num_outputs: logits.
        hidden: units of each layer with ReLU.
        dtype: of the hidden layers. The logits are computed in float32, since the loss takes
            exponentials of them.
    """

    num_outputs: int
    hidden: tuple[int, ...] = ()
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array, train: bool = False) -> jax.Array:
        """Maps `[batch, ...]` to logits `[batch, num_outputs]`."""
        del train
        x = Flatten(name="flatten")(features) if features.ndim > 2 else features
        for number, units in enumerate(self.hidden, start=1):
            x = Dense(units, activation="relu", dtype=self.dtype, name=f"dense{number}")(x)
        return Dense(self.num_outputs, name="logits")(x)
