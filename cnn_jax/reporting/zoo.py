"""The list of the registered models, from the registry's own figures: no model is built."""

import functools
import sys
from typing import Any

from cnn_jax import models
from cnn_jax.pretrained import catalogue
from cnn_jax.reporting.summary import by
from cnn_jax.reporting.tables import table

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
    """Returns the registered models as a text table, each family below what its file says of it.

    GFLOP are those of one image of the input forward, a multiply-add being two; "smallest" is the
    smallest image, (height, width); "ImageNet" says whether `--transfer.weights=imagenet` has
    weights for the model.
    """
    with_weights = {entry.model for entry in catalogue.ENTRIES}
    families: dict[str, list[str]] = {}
    for name, entry in models.REGISTRY.items():
        families.setdefault(_family(entry.builder), []).append(name)
    names = [name for family in families.values() for name in family]
    rows = [
        [
            f"  {name}",
            f"{entry.parameters:,}",
            f"{entry.flops / 1e9:#.3g}".rstrip("."),
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


def _family(builder: Any) -> str:
    """Returns the first sentence of the file that a model is built in."""
    while isinstance(builder, functools.partial):
        builder = builder.func
    docstring = sys.modules[builder.__module__].__doc__ or builder.__module__
    return docstring.partition("\n")[0].rstrip(".")
