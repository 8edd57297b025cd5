"""The features of a backbone and the class probabilities of every example of a split."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cnn_jax.assembly import Assembly
from cnn_jax.data import Split
from cnn_jax.data.batches import Feed, fetch
from cnn_jax.evaluation import metrics
from cnn_jax.evaluation.evaluator import in_order, jit


def embed(
    assembly: Assembly,
    mesh: Mesh,
    variables: Any,
    split: Split,
    *,
    batch_size: int,
    resident_limit: float,
    start: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pooled backbone features and the class probabilities of every example.

    Args:
        assembly: the model and its preprocessing.
        mesh: the devices.
        variables: the model's, on the devices.
        split: n examples.
        batch_size: examples in one step, over all devices.
        resident_limit: splits of up to this many GiB are put on the devices whole.
        start: the first stage of the backbone that runs, as in `make_eval_step`.

    Returns:
        Features float32 [n, channels], averaged over height and width, and probabilities float32
        [n, classes].
    """
    model = assembly.model

    def step(variables: Any, picked: Any) -> tuple[jax.Array, jax.Array]:
        images = fetch(picked).images
        inputs = images if start else assembly.preprocess(images, None)
        features: Any = model.apply(variables, inputs, start=start, method=model.forward_features)
        logits: Any = model.apply(variables, features, method=model.forward_head)
        features = features.astype(jnp.float32)
        pooled = features.mean(axis=(1, 2)) if features.ndim == 4 else features
        return pooled, metrics.probabilities(logits, assembly.multilabel)

    jitted = jit(step, mesh)
    feed = Feed(split, mesh, resident_limit)
    indices = in_order(len(feed), batch_size, mesh.size)
    found = [jitted(variables, batch) for batch in feed.batches(indices)]
    pooled, probabilities = (
        np.concatenate([np.asarray(part) for part in parts])[: len(feed)]
        for parts in zip(*found, strict=True)
    )
    return pooled, probabilities
