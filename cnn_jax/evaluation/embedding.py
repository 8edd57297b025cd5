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
from cnn_jax.data.feeding import Feed, Pace
from cnn_jax.evaluation import evaluator
from cnn_jax.models import capture

Step = Callable[[Any, Any], tuple[jax.Array, ...]]


def inside(
    assembly: Assembly, variables: Any, inputs: jax.Array, views: str = "one"
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns what `capture.inside` does of preprocessed images, float32 [n, ...] each.

    Logits [n, outputs], features before them [n, channels], and the output of the middle
    convolution [n, channels]; maps are averaged over height and width.

    Args:
        assembly: the model.
        variables: the model's.
        inputs: preprocessed images.
        views: over which of `augment.views` logits are averaged; the rest is of the image itself.
    """
    kept: Any = None
    logits: Any = 0.0
    for weight, view in augment.views(inputs, views):
        own, *others = capture.inside(assembly.model, variables, view)
        kept = others if kept is None else kept
        logits += weight * own
    features, middle = (pooled(each.astype(jnp.float32)) for each in kept)
    return logits.astype(jnp.float32), features, middle


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


def make_step_inside(assembly: Assembly, mesh: Mesh, views: str) -> Step:
    """Returns the jitted step (variables, batch) -> what `inside` returns, for `embed`.

    Args:
        assembly: the model and its preprocessing.
        mesh: the devices.
        views: over which of `augment.views` logits are averaged.
    """

    def step(variables: Any, picked: Any) -> tuple[jax.Array, ...]:
        inputs = assembly.preprocess(fetch(picked).images, None)
        return inside(assembly, variables, inputs, views)

    return evaluator.jit(step, mesh)


def embed(
    step: Step,
    mesh: Mesh,
    variables: Any,
    split: Split,
    *,
    batch_size: int,
    resident_limit: float,
) -> tuple[np.ndarray, ...]:
    """Returns what a step returns of every example.

    Args:
        step: of `make_step` or `make_step_inside`.
        mesh: the devices.
        variables: the model's, on the devices.
        split: n examples.
        batch_size: examples in one step, over all devices; the last one is filled up, also where
            it is the only one, so that splits of any size take one program.
        resident_limit: splits of up to this many GiB are put on the devices whole; a program then
            serves splits of one size only.

    Returns:
        float32 [n, ...] each: features and logits, or what `inside` returns.
    """
    feed = Feed(split, mesh, resident_limit)
    size, order = -(-batch_size // mesh.size) * mesh.size, np.arange(len(feed), dtype=np.int32)
    steps = range(batches.steps_per_epoch(len(feed), size))
    indices = (batches.take_batch(order, size, i) for i in steps)
    found, pace = [], Pace()
    for batch in feed.batches(indices):
        found.append(step(variables, batch))
        pace.after(batch, found[-1][0])
    return tuple(
        np.concatenate([np.asarray(part) for part in parts])[: len(feed)]
        for parts in zip(*found, strict=True)
    )
