"""The names that Keras gives to layers, in files and in networks."""

import re
from collections.abc import Iterable

from cnn_jax.errors import ContentError


def canonical(name: str) -> str:
    """Returns a layer's name as the layouts have it.

    The DenseNet of 2018 has conv1/conv, not conv1_conv; MobileNetV3 had Conv/BatchNorm.
    """
    return name.replace("/", "_").replace("BatchNorm", "bn").lower()


def from_the_first(names: Iterable[str], wanted: Iterable[str]) -> dict[str, str]:
    """Returns {name in a session's first network: name here} of layers that Keras numbered.

    Their numbers, conv2d_95, ..., continue from one network of a session to the next.

    Args:
        names: the layers here.
        wanted: those of a first network, in order; others may be among both.

    Raises:
        ContentError: there are not as many here, so that nobody can tell which is which.
    """
    names, wanted = list(names), list(wanted)
    found: dict[str, str] = {}
    for prefix in ("conv2d", "batch_normalization"):
        pattern = re.compile(rf"{prefix}(?:_(\d+))?")
        here = {name: int(match[1] or 0) for name in names if (match := pattern.fullmatch(name))}
        first = [name for name in wanted if pattern.fullmatch(name)]
        if here and len(here) != len(first):
            raise ContentError(
                f"it has {len(here)} layers called {prefix} with numbers, and the network "
                f"{len(first)}, so that nobody can tell which is which"
            )
        found |= zip(first, sorted(here, key=lambda name: here[name]), strict=False)
    return found
