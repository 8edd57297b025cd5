"""ImageNet's 1,000 classes, in the order of the outputs of networks that were trained on them."""

import functools
from pathlib import Path

_FILE = Path(__file__).with_name("imagenet_classes.txt")


@functools.cache
def class_names() -> tuple[str, ...]:
    """Returns their names, each of which is there once."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return tuple(line.partition(" ")[2] for line in lines if not line.startswith("#"))
