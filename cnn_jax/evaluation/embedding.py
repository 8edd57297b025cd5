"""What a network makes of every example of a split: its features and its logits."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cnn_jax.assembly import Assembly
from cnn_jax.data import Split, augment, batches
from cnn_jax.data.batches import fetch
from cnn_jax.data.feeding import Feed
from cnn_jax.evaluation import evaluator
from cnn_jax.models import capture

Step = Callable[[Any, Any], tuple[jax.Array, jax.Array]]


def before_logits(
    assembly: Assembly, variables: Any, inputs: jax.Array, views: str = "one"
) -> tuple[jax.Array, jax.Array]:
    """Returns float32 (features [n, channels], logits [n, outputs]) of preprocessed images.

    The features are what the dense layer takes that computes the logits: after the head's own
    pooling, and of a user's own module too. Where there is no such layer, they are the pooled
    features of the backbone.

    Args:
        assembly: the model.
        variables: the model's.
        inputs: preprocessed images.
        views: over which of `augment.views` logits are averaged; features are of the image itself.
    """
    kept: Any = None
    logits: Any = 0.0
    for weight, view in augment.views(inputs, views):
        features, own = capture.before_logits(assembly.model, variables, view)
        kept = features if kept is None else kept
        logits += weight * own
    return pooled(kept.astype(jnp.float32)), logits.astype(jnp.float32)


def pooled(features: Any) -> Any:
    """Returns features [n, channels]: a map is averaged over height and width."""
    if features.ndim == 4:
        return features.mean(axis=(1, 2))
    return features.reshape(features.shape[0], math.prod(features.shape[1:]))


def make_step(assembly: Assembly, mesh: Mesh, start: int = 0) -> Step:
    """Returns the jitted step (variables, batch) -> (pooled features, logits), for `embed`.

    Args:
        assembly: the model and its preprocessing.
        mesh: the devices.
        start: the first stage of the backbone that runs, as in `evaluator.make_eval_step`.
    """
    model = assembly.model

    def step(variables: Any, picked: Any) -> tuple[jax.Array, jax.Array]:
        images = fetch(picked).images
        inputs = images if start else assembly.preprocess(images, None)
        features: Any = model.apply(variables, inputs, start=start, method=model.forward_features)
        logits: Any = model.apply(variables, features, method=model.forward_head)
        return pooled(features.astype(jnp.float32)), logits.astype(jnp.float32)

    return evaluator.jit(step, mesh)


def make_step_before_logits(assembly: Assembly, mesh: Mesh, views: str) -> Step:
    """Returns the jitted step (variables, batch) -> what `before_logits` returns, for `embed`.

    Args:
        assembly: the model and its preprocessing.
        mesh: the devices.
        views: over which of `augment.views` logits are averaged.
    """

    def step(variables: Any, picked: Any) -> tuple[jax.Array, jax.Array]:
        inputs = assembly.preprocess(fetch(picked).images, None)
        return before_logits(assembly, variables, inputs, views)

    return evaluator.jit(step, mesh)


def embed(
    step: Step,
    mesh: Mesh,
    variables: Any,
    split: Split,
    *,
    batch_size: int,
    resident_limit: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the features and the logits of every example.

    Args:
        step: of `make_step` or `make_step_before_logits`.
        mesh: the devices.
        variables: the model's, on the devices.
        split: n examples.
        batch_size: examples in one step, over all devices; the last one is filled up, also where
            it is the only one, so that splits of any size take one program.
        resident_limit: splits of up to this many GiB are put on the devices whole; a program then
            serves splits of one size only.

    Returns:
        Features float32 [n, channels] and logits float32 [n, outputs].
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
