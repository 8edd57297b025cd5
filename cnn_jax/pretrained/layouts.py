"""What the layers of a model are called in the files of other projects."""

import dataclasses

from cnn_jax.errors import UsageError
from cnn_jax.models import vgg


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer with a kernel and a bias, under each of its names.

    Attributes:
        path: ours, such as "backbone/block1/conv1".
        keras: that of Keras Applications, such as "block1_conv1".
        keras_unnamed: the group in a `.weights.h5` of an early Keras 3, which kept no names:
            layers are numbered by kind in the order of the model, such as "conv2d_1".
        torch: torchvision's, such as "features.0".
        flattened: True for the dense layer that takes a flattened feature map, whose rows torch
            has in the order channel, height, width.
    """

    path: str
    keras: str
    keras_unnamed: str
    torch: str
    flattened: bool = False


def _vgg(stages: tuple[int, ...]) -> tuple[Layer, ...]:
    layers, index = [], 0

    def unnamed(kind: str, number: int) -> str:
        return f"{kind}_{number}" if number else kind

    for block, convolutions in enumerate(stages, start=1):
        for number in range(1, convolutions + 1):
            name = unnamed("conv2d", len(layers))
            ours = f"backbone/block{block}/conv{number}"
            layers.append(Layer(ours, f"block{block}_conv{number}", name, f"features.{index}"))
            index += 2  # torchvision counts the ReLU
        index += 1  # and the pool
    for number, (name, torch) in enumerate([("fc1", 0), ("fc2", 3), ("predictions", 6)]):
        layers.append(
            Layer(
                f"head/{name}", name, unnamed("dense", number), f"classifier.{torch}", number == 0
            )
        )
    return tuple(layers)


LAYOUTS: dict[str, tuple[Layer, ...]] = {name: _vgg(stages) for name, stages in vgg.STAGES.items()}


def find(model: str) -> tuple[Layer, ...]:
    """Returns the layers of a model that files of other projects are known for, in order.

    Raises:
        UsageError: none are known for it.
    """
    if model not in LAYOUTS:
        raise UsageError(
            f"files of weights are known for {', '.join(LAYOUTS)}, not for --model.name={model}; "
            "--transfer.weights takes a run directory of it"
        )
    return LAYOUTS[model]
