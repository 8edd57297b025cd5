"""Where a network drops values in training, and what it says when it drops them in evaluation."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from cnn_jax import layers
from cnn_jax.evaluation import metrics

_MARK = "cnn_jax_page_dropout"


class Dropout(NamedTuple):
    """A place where values are dropped.

    Attributes:
        rate: the share of the values that is set to zero, above 0.
        shared: axes along which values are dropped together, such as those of a whole map.
    """

    rate: float
    shared: tuple[int, ...] = ()


def of(context: nn.module.InterceptorContext, result: Any) -> Dropout | None:
    """Returns what the called module drops in training; None where it drops nothing.

    Args:
        context: of the call.
        result: what it returned.
    """
    module = context.module
    if context.method_name != "__call__" or not isinstance(module, nn.Dropout | layers.Dropout):
        return None
    axes = getattr(module, "broadcast_dims", ())
    rate = float(module.rate)
    return Dropout(rate, tuple(axis % result.ndim for axis in axes)) if rate > 0 else None


def marked(context: nn.module.InterceptorContext, result: Any) -> Any:
    """Returns the result of a call, marked in the traced program where the module drops values."""
    found = of(context, result)
    if found is None:
        return result
    axes = ",".join(map(str, found.shared))
    return checkpoint_name(result, f"{_MARK}:{found.rate!r}:{axes}")


def read(mark: str) -> Dropout | None:
    """Returns what a mark says; None for the name of something else."""
    word, _, rest = mark.partition(":")
    if word != _MARK:
        return None
    rate, _, axes = rest.partition(":")
    return Dropout(float(rate), tuple(map(int, filter(None, axes.split(",")))))


def rates(model: nn.Module, variables: Any, x: Any) -> list[float]:
    """Returns the rate of each dropout that an image passes, in order.

    Args:
        model: a Classifier, or a user's own module behind the same interface.
        variables: its variables.
        x: the shape and dtype of preprocessed images.
    """
    found: list[float] = []

    def look(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        result = call(*args, **kwargs)
        place = of(context, result)
        if place is not None:
            found.append(place.rate)
        return result

    with nn.intercept_methods(look):
        jax.eval_shape(model.apply, variables, x)
    return found


def passes(model: nn.Module, variables: Any, x: jax.Array, keys: jax.Array) -> jax.Array:
    """Returns class probabilities [keys, n, classes] with dropout on, one draw for each key.

    Everything else is as in evaluation: batch normalisation takes the means of training.

    Args:
        model: as in `rates`.
        variables: its variables.
        x: preprocessed images [n, height, width, channels].
        keys: of the draws.
    """

    def once(key: jax.Array) -> jax.Array:
        number = 0

        def drop(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            nonlocal number
            result = call(*args, **kwargs)
            place = of(context, result)
            if place is None:
                return result
            number += 1
            shape = [1 if i in place.shared else size for i, size in enumerate(result.shape)]
            kept = jax.random.bernoulli(jax.random.fold_in(key, number), 1 - place.rate, shape)
            scale = 1 / (1 - place.rate) if place.rate < 1 else 0.0
            return jnp.where(kept, result * scale, jnp.zeros((), result.dtype))

        with nn.intercept_methods(drop):
            logits: Any = model.apply(variables, x)
        return metrics.probabilities(logits)

    return jax.vmap(once)(keys)
