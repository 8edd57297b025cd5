"""The files of a model in other projects, as values: layers, their names, conventions."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from cnn_jax.data.scaling import Scaling

# "timm_tf" are timm's files of weights that came from TensorFlow; their names are those of "timm".
Source = Literal["keras", "torch", "timm", "timm_tf"]
Kind = Literal["conv", "dense", "batch_norm", "layer_norm", "scale"]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer with parameters, under each of its names.

    Attributes:
        path: our name, such as "backbone/block1/conv1".
        kind: "conv", "dense", "batch_norm", "layer_norm", or "scale", one number for each channel.
        keras: the name in Keras Applications, such as "block1_conv1", or None.
        torch: the name in torchvision, such as "features.0", or None; of a scale, that of the
            tensor.
        flattened: True for the dense layer that takes a flattened feature map, whose rows torch
            has in the order channel, height, width.
        timm: the name in timm where it is not torchvision's.
        norm: the path of the normalisation whose mean takes over this convolution's bias, if our
            convolution has none.
    """

    path: str
    kind: Kind
    keras: str | None = None
    torch: str | None = None
    flattened: bool = False
    timm: str | None = None
    norm: str | None = None

    def name(self, source: Source) -> str | None:
        """Returns the name in the files of a source."""
        if source == "keras":
            return self.keras
        return self.timm if source != "torch" and self.timm else self.torch


@dataclasses.dataclass(frozen=True)
class Convention:
    """The conventions of the files of one source, besides the names.

    Attributes:
        preprocessing: the scaling of the pixels in training.
        options: the model's options that the weights need; with others they compute another
            function.
        epsilon: the epsilon of their normalisations minus ours.
        scale_epsilon: the epsilon of normalisations that have a scale where ours have none, so that
            it is taken into their statistics; None: both have one, or neither.
        automatic: Keras gave convolutions and normalisations their names, "conv2d_17", whose
            numbers continue from one model of a session to the next: only their order is known.
        sequential: the layers follow one another without branches, so that the layers in a file of
            an early Keras 3, which has numbers by kind instead of names, are known by their order.
    """

    preprocessing: Scaling
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    epsilon: float = 0.0
    scale_epsilon: float | None = None
    automatic: bool = False
    sequential: bool = False


@dataclasses.dataclass(frozen=True)
class Layout:
    """The files of one model: its layers in order, and each source's convention."""

    layers: tuple[Layer, ...]
    conventions: Mapping[Source, Convention]
