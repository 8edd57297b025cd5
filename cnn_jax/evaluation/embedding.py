"""What a network makes of every example of a split: its pooled features and its logits."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cnn_jax.assembly import Assembly
from cnn_jax.data import Split, augment, batches
from cnn_jax.data.batches import Feed, fetch
from cnn_jax.evaluation import evaluator


def features_and_logits(
    assembly: Assembly, variables: Any, inputs: jax.Array, start: int = 0, views: str = "one"
) -> tuple[jax.Array, jax.Array]:
    """Returns float32 (features [n, channels] averaged over height and width, logits [n, outputs]).

    Args:
        assembly: the model.
        variables: the model's.
        inputs: preprocessed images, or from `start` on the output of the stage before it.
        start: the first stage of the backbone that runs.
        views: over which of `augment.views` logits are averaged; features are of the image itself.
    """
    model = assembly.model
    kept: Any = None
    logits: Any = 0.0
    for weight, view in augment.views(inputs, views):
        features: Any = model.apply(variables, view, start=start, method=model.forward_features)
        kept = features if kept is None else kept
        own: Any = model.apply(variables, features, method=model.forward_head)
        logits += weight * own
    return pooled(kept.astype(jnp.float32)), logits.astype(jnp.float32)


def pooled(features: Any) -> Any:
    """Returns features [n, channels]: a map is averaged over height and width."""
    return features.mean(axis=(1, 2)) if features.ndim == 4 else features.reshape(len(features), -1)


def make_step(
    assembly: Assembly,
    mesh: Mesh,
    start: int = 0,
    views: str = "one",
) -> Callable[[Any, Any], tuple[jax.Array, jax.Array]]:
    """Returns the jitted step (variables, batch) -> (pooled features, logits), for `embed`.

    Args:
        assembly: the model and its preprocessing.
        mesh: the devices.
        start: the first stage of the backbone that runs, as in `evaluator.make_eval_step`.
        views: over which of `augment.views` logits are averaged.
    """

    def step(variables: Any, picked: Any) -> tuple[jax.Array, jax.Array]:
        images = fetch(picked).images
        inputs = images if start else assembly.preprocess(images, None)
        return features_and_logits(assembly, variables, inputs, start, views)

    return evaluator.jit(step, mesh)


def embed(
    step: Callable[[Any, Any], tuple[jax.Array, jax.Array]],
    mesh: Mesh,
    variables: Any,
    split: Split,
    *,
    batch_size: int,
    resident_limit: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pooled backbone features and the logits of every example.

    Args:
        step: of `make_step`.
        mesh: the devices.
        variables: the model's, on the devices.
        split: n examples.
        batch_size: examples in one step, over all devices; the last one is filled up, also where
            it is the only one, so that splits of any size take one program.
        resident_limit: splits of up to this many GiB are put on the devices whole; a program then
            serves splits of one size only.

    Returns:
        Features float32 [n, channels], averaged over height and width, and logits float32
        [n, outputs].
    """
    feed = Feed(split, mesh, resident_limit)
    size, order = -(-batch_size // mesh.size) * mesh.size, np.arange(len(feed), dtype=np.int32)
    steps = range(batches.steps_per_epoch(len(feed), size))
    indices = (batches.take_batch(order, size, i) for i in steps)
    found = [step(variables, batch) for batch in feed.batches(indices)]
    pooled, logits = (
        np.concatenate([np.asarray(part) for part in parts])[: len(feed)]
        for parts in zip(*found, strict=True)
    )
    return pooled, logits
