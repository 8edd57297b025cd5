"""The form of every model: a backbone computes features, and a head computes logits from them."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax.layers import Dense, Flatten

# The factor of an auxiliary classifier's loss in the training loss; section 5 of GoogLeNet's paper.
AUXILIARY_WEIGHT = 0.3


class Stages(nn.Module, abc.ABC):
    """A backbone of named stages; each stage takes the output of the one before it.

    A subclass defines `stage_names` and `stage`.
    """

    @property
    @abc.abstractmethod
    def stage_names(self) -> tuple[str, ...]:
        """The names of the stages, which are the names of their parameters, in order."""

    @abc.abstractmethod
    def stage(self, name: str) -> nn.Module:
        """Returns the module of a stage, called with (features, train)."""

    def initial_values(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns initial values that are computed from data, by their path in the backbone.

        Args:
            images: float `[n, height, width, channels]`, training images, preprocessed.
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
            train: whether batch normalisation and dropout run as in training.
            start: the index of the first stage to run.
            stop: the index of the stage to stop before; None: run all stages.
        """
        for name in self.stage_names[start:stop]:
            x = self.stage(name)(x, train)
        return x


class Classifier(nn.Module):
    """An image classifier with parameters `{"backbone": ..., "head": ...}`.

    The two halves can run separately, so that the features of a frozen backbone are computed once.

    Attributes:
        backbone: the module that maps (images, train) to the features.
        head: the module that maps (features, train) to the logits.
        auxiliary: classifiers that help training, by the name of the stage whose output they
            classify. In training they run where their stage is trained, and sow their logits into
            the collection "auxiliary"; in evaluation they do not run. Their parameters are in
            `auxiliary_STAGE`.
    """

    backbone: nn.Module
    head: nn.Module
    auxiliary: Mapping[str, nn.Module] = dataclasses.field(default_factory=dict)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """The names of the backbone's stages; ("",) where it is one stage with no name."""
        return getattr(self.backbone, "stage_names", ("",))

    def __call__(
        self, inputs: jax.Array, train: bool = False, *, start: int = 0, frozen: int = 0
    ) -> jax.Array:
        """Maps float images `[batch, height, width, channels]` to logits `[batch, outputs]`.

        Args:
            inputs: preprocessed images; with `start`, the output of the stage before it.
            train: True turns dropout on (needs a "dropout" key) and updates batch statistics.
            start: the index of the first stage to run; the number of stages runs only the head.
            frozen: the number of first stages that run as in evaluation, whatever `train` is.
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
        """Maps images to the features, in the dtype of the model's activations.

        The arguments besides `stop` are those of `__call__`.

        Args:
            inputs: see `__call__`.
            train: see `__call__`.
            start: see `__call__`.
            stop: the index of the stage to stop before; None: run all stages.
            frozen: see `__call__`.

        Returns:
            Features `[batch, height, width, channels]`, or `[batch, units]` of a dense backbone.
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


def stage_prefixes(model: Any) -> tuple[str, ...]:
    """Returns the beginning of the parameter paths of each stage.

    They are "backbone/block1/", "backbone/block2/", ... of a backbone with stages, "backbone/" of
    one without, and "" of a user's own module, which is one stage with all of its parameters.

    Args:
        model: a Classifier, or a user's module from `own.adapt`.
    """
    if not isinstance(model, Classifier):
        return ("",)
    return tuple(map(stage_prefix, model.stage_names))


def stage_prefix(name: str) -> str:
    """Returns the beginning of the parameter paths of one stage of a Classifier.

    Args:
        name: of the stage; "" where the backbone is one stage with no name.
    """
    return f"backbone/{name}/" if name else "backbone/"


class DenseHead(nn.Module):
    """Flatten, dense layers with ReLU, and a dense layer to the logits.

    Attributes:
        num_outputs: the number of logits for an image.
        hidden: the number of units of each layer with ReLU.
        dtype: the dtype of the hidden layers. Logits are computed in float32, since the loss takes
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
