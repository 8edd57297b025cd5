"""The outputs of the modules inside a network, and derivatives with respect to them."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnn_jax.layers import Conv, Dense


def outputs(model: nn.Module, variables: Any, x: jax.Array) -> dict[str, jax.Array]:
    """Returns {path: output} of every module that was called, in the order in which they end.

    Args:
        model: a Classifier, or a user's own module behind the same interface.
        variables: its variables.
        x: preprocessed images [n, height, width, channels].

    Returns:
        Paths such as "backbone/block4/conv1". A module that is called several times has the output
        of its last call.
    """
    found: dict[str, jax.Array] = {}

    def keep(path: str, result: jax.Array) -> jax.Array:
        found.pop(path, None)
        found[path] = result
        return result

    _watched(model, variables, x, keep)
    return found


def inside(model: Any, variables: Any, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns (logits, features before them, the output of the middle convolution).

    The features are what the dense layer takes that computes the logits, [n, channels]. Where there
    is no such layer, as in a network that ends with a convolution, they are the features of the
    backbone, a map maybe. Of m convolutions the (m + 1) // 2-th one is in the middle, in the order
    in which they end; where there is none, its output has no channels, [n, 0].

    Args:
        model: as in `outputs`.
        variables: its variables.
        x: preprocessed images.
    """
    seen: list[tuple[jax.Array, int]] = []
    maps: list[jax.Array] = []

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        result = call(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(context.module, Dense | nn.Dense):
            given = args[0] if args else next(iter(kwargs.values()))
            seen.append((given, context.module.features))
        if context.method_name == "__call__" and isinstance(context.module, Conv | nn.Conv):
            maps.append(result)
        return result

    with nn.intercept_methods(intercept):
        features = model.apply(variables, x, method=model.forward_features)
        logits = model.apply(variables, features, method=model.forward_head)
    last = [given for given, outputs in seen if outputs == logits.shape[-1] and given.ndim == 2]
    maps = [each for each in maps if each.ndim == 4]
    middle = maps[(len(maps) - 1) // 2] if maps else jnp.zeros((x.shape[0], 0))
    return logits, (last[-1] if last else features), middle


def called_once(model: nn.Module, variables: Any, x: Any) -> dict[str, tuple[int, ...]]:
    """Returns {path: shape} of the modules that are called once, in the order in which they end.

    Args:
        model: as in `outputs`.
        variables: its variables, or their shapes.
        x: images, or their shape and dtype.
    """
    calls: dict[str, int] = {}

    def count(path: str, result: jax.Array) -> jax.Array:
        calls[path] = calls.get(path, 0) + 1
        return result

    jax.eval_shape(lambda v, i: _watched(model, v, i, count), variables, x)
    shapes = jax.eval_shape(lambda v, i: outputs(model, v, i), variables, x)
    # A jitted function returns a dict sorted by its keys; `calls` has the order of the calls.
    last = {path: shapes[path].shape for path in calls if calls[path] == 1}
    return last


def disturbed(
    model: nn.Module, variables: Any, x: jax.Array, path: str, added: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns (logits, output of a module), where the rest of the network sees output + added.

    The derivative with respect to `added`, at 0, is that with respect to the output.

    Args:
        model: as in `outputs`.
        variables: its variables.
        x: preprocessed images.
        path: of a module that is called once.
        added: an array like its output.
    """
    seen: list[jax.Array] = []

    def add(where: str, result: jax.Array) -> jax.Array:
        if where != path:
            return result
        seen.append(result)
        return result + added.astype(result.dtype)

    logits = _watched(model, variables, x, add)
    return logits, seen[-1]


def _watched(
    model: nn.Module, variables: Any, x: jax.Array, see: Callable[[str, jax.Array], jax.Array]
) -> jax.Array:
    """Returns the logits; what each module returns goes through `see(path, output)`."""

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        result = call(*args, **kwargs)
        path = "/".join(context.module.path)
        if context.method_name == "__call__" and path and isinstance(result, jax.Array):
            return see(path, result)
        return result

    with nn.intercept_methods(intercept):
        logits: Any = model.apply(variables, x)
    return jnp.asarray(logits)
