"""The list of the registered models, with the figures of the registry; no model is built."""

import functools
import pathlib
import sys
from typing import Any

from cnn_jax import models
from cnn_jax.describe.layer_table import by
from cnn_jax.pretrained import catalogue
from cnn_jax.reporting.tables import table
from cnn_jax.text import shown

_HEADERS = (
    "model",
    "parameters",
    "GFLOP",
    "input",
    "smallest",
    "ImageNet",
    "published accuracy",
    "source",
)


def render() -> str:
    """Returns the registered models as a text table, each family below the first line of its file.

    "GFLOP" are the FLOPs of one image of the size "input" forward, two for a multiply-add;
    "smallest" is the smallest image, (height, width); "ImageNet" shows whether
    `--transfer.weights=imagenet` has weights for the model. A figure that is not known is left out.
    """
    with_weights = {entry.model for entry in catalogue.ENTRIES}
    families: dict[str, list[str]] = {}
    for name, entry in models.REGISTRY.items():
        families.setdefault(_family(entry), []).append(name)
    names = [name for family in families.values() for name in family]
    rows = [
        [
            f"  {name}",
            f"{entry.parameters:,}" if entry.parameters else "",
            f"{entry.flops / 1e9:#.3g}".rstrip(".") if entry.flops else "",
            by(entry.input_shape),
            by(entry.smallest),
            "weights" if name in with_weights else "",
            entry.published,
            entry.source,
        ]
        for name, entry in ((name, models.REGISTRY[name]) for name in names)
    ]
    headers, rule, *lines = table(rows, _HEADERS).splitlines()
    listing = [headers, rule]
    for title, family in families.items():
        listing += [title, *lines[: len(family)]]
        lines = lines[len(family) :]
    return "\n".join(listing)


def _family(entry: models.Entry) -> str:
    """Returns the first line of the file that defines a model; of a user's file its path."""
    if entry.defined_in is not None:
        return f"from {shown(pathlib.Path(entry.defined_in))}"
    builder: Any = entry.builder
    while isinstance(builder, functools.partial):
        builder = builder.func
    docstring = sys.modules[builder.__module__].__doc__ or builder.__module__
    return docstring.partition("\n")[0].rstrip(".")
