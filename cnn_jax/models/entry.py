"""What the registry knows of a model; each architecture's file ends with its entries."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A registered model.

    Attributes:
        builder: the function that returns the model, called with num_outputs, dtype= and the
            options.
        input_shape: (height, width, channels) of the images that the model was made for.
        smallest: (height, width) of the smallest image that the model takes.
        source: the model's origin, in one line.
        outputs: the number of classes that the model was made for; `parameters` and `flops` are
            counted with it.
        parameters: the number of learned numbers at `outputs` classes and `input_shape`, without
            batch statistics and auxiliary classifiers; 0: not known.
        flops: the FLOPs of the forward pass of one image of `input_shape`. A multiply-add counts
            two; outputs of a convolution that a pool behind it leaves out are not computed and
            not counted. 0: not known.
        options: the options that `create` accepts for the model besides the head, with their
            defaults: of our models `dropout_rate`, `bottleneck_stride`, `padding`, `auxiliary`,
            `local_response_norm` and `width`.
        published: the accuracy in the paper and the data set that it was measured on; "" where
            the paper has none.
        defined_in: the path of the file that defines the builder of a user's own model; None for
            the models of this package.
    """

    builder: Callable[..., nn.Module]
    input_shape: tuple[int, int, int]
    smallest: tuple[int, int] = (1, 1)
    source: str = ""
    outputs: int = 0
    parameters: int = 0
    flops: int = 0
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    published: str = ""
    defined_in: str | None = None
