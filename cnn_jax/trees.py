"""Trees of parameters by path."""

from collections.abc import Mapping
from typing import Any

from flax import traverse_util


def flatten(params: Any) -> dict[str, Any]:
    """Returns {"backbone/block1/conv1/kernel": leaf, ...} of nested parameters."""
    return dict(traverse_util.flatten_dict(params, sep="/"))


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested parameters of flat ones."""
    return traverse_util.unflatten_dict(dict(flat), sep="/")
