"""The eval step and the loop over a whole split."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cnn_jax import distributed, experiment, runtime
from cnn_jax.build import Assembly
from cnn_jax.data import Split, augment, batches
from cnn_jax.data.batches import Batch, BatchIndices, Feed, fetch
from cnn_jax.evaluation import metrics
from cnn_jax.evaluation.metrics import Sums


class EvalSums(NamedTuple):
    """What an evaluation adds up.

    Attributes:
        sums: loss, correct and examples.
        confusion: int32 [classes, classes], rows are true classes.
    """

    sums: Sums
    confusion: jax.Array


def make_eval_step(
    assembly: Assembly, loss: str, start: int = 0, views: str = "one"
) -> Callable[[Any, Batch], tuple[EvalSums, jax.Array]]:
    """Returns the eval step: (variables, batch) -> (sums, probabilities [batch, classes]).

    Args:
        assembly: model and preprocessing.
        loss: cross_entropy or binary_cross_entropy.
        start: the backbone's stage that the batch's images are the input of; above 0 they are
            cached features.
        views: of `augment.views`; with cached features "one" alone.
    """

    def eval_step(variables: Any, batch: Batch) -> tuple[EvalSums, jax.Array]:
        inputs = batch.images if start else assembly.preprocess(batch.images, None)
        logits: Any = 0.0
        for weight, view in augment.views(inputs, views):
            given: Any = assembly.model.apply(variables, view, start=start)
            logits += weight * given
        values = metrics.losses(logits, batch.labels, loss, 0.0)
        p = metrics.probabilities(logits)
        predicted = jnp.argmax(p, axis=-1)
        confusion = jnp.zeros((p.shape[1], p.shape[1]), jnp.int32)
        confusion = confusion.at[batch.labels, predicted].add(batch.weights.astype(jnp.int32))
        return EvalSums(metrics.batch_sums(values, logits, batch), confusion), p

    return eval_step


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        loss: mean over the examples.
        accuracy: share of examples whose most probable class is theirs.
        examples: how many there were.
        confusion: int [classes, classes], rows are true classes.
        probabilities: float32 [examples, classes], in the split's order.
    """

    loss: float
    accuracy: float
    examples: int
    confusion: np.ndarray
    probabilities: np.ndarray


class Evaluator:
    """Evaluates variables on whole splits; the last batch is padded and masked.

    Args:
        assembly: model and preprocessing.
        config: the experiment.
        mesh: where to compute.
        start: the backbone's stage that the splits' images are the input of; above 0 they are
            cached features.
        views: of `augment.views`.
    """

    def __init__(
        self,
        assembly: Assembly,
        config: experiment.Experiment,
        mesh: Mesh,
        start: int = 0,
        views: str = "one",
    ):
        self._batch_size = config.dataset.eval_batch_size
        self._devices = mesh.size
        eval_step = make_eval_step(assembly, config.train.loss, start, views)

        def step(variables: Any, resident: Any, batch: Any) -> Any:
            return eval_step(variables, fetch(resident, batch))

        # Every process gets all results, so that every one of them can read them.
        self._step = jax.jit(
            step,
            out_shardings=distributed.replicated(mesh),
            compiler_options=runtime.compiler_options(),
        )

    def __call__(self, variables: Any, feed: Feed) -> Evaluation:
        """Returns the evaluation of variables on a split."""
        total: Any = None
        probabilities = []
        for batch in feed.batches(_in_order(len(feed), self._batch_size, self._devices)):
            sums, p = self._step(variables, feed.resident, batch)
            total = sums if total is None else jax.tree.map(jnp.add, total, sums)
            probabilities.append(p)
        means = total.sums.means()
        return Evaluation(
            **means,
            examples=int(total.sums.examples),
            confusion=np.asarray(total.confusion),
            probabilities=np.concatenate([np.asarray(p) for p in probabilities])[: len(feed)],
        )


def embed(
    assembly: Assembly,
    config: experiment.Experiment,
    mesh: Mesh,
    variables: Any,
    split: Split,
    start: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what the head gets of every example, averaged over its positions, and what it says.

    Args:
        assembly: model and preprocessing.
        config: the experiment.
        mesh: where to compute.
        variables: of the model, on the devices.
        split: n examples.
        start: the backbone's stage that the split's images are the input of.

    Returns:
        Features float32 [n, channels] and probabilities float32 [n, classes].
    """
    model = assembly.model

    def step(variables: Any, resident: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
        images = fetch(resident, batch).images
        inputs = images if start else assembly.preprocess(images, None)
        features: Any = model.apply(variables, inputs, start=start, method=model.forward_features)
        logits: Any = model.apply(variables, features, method=model.forward_head)
        features = features.astype(jnp.float32)
        pooled = features.mean(axis=(1, 2)) if features.ndim == 4 else features
        return pooled, metrics.probabilities(logits)

    jitted = jax.jit(
        step,
        out_shardings=distributed.replicated(mesh),
        compiler_options=runtime.compiler_options(),
    )
    feed = Feed(split, mesh, config.dataset.resident_limit)
    indices = _in_order(len(feed), config.dataset.eval_batch_size, mesh.size)
    found = [jitted(variables, feed.resident, batch) for batch in feed.batches(indices)]
    pooled, probabilities = (
        np.concatenate([np.asarray(part) for part in parts])[: len(feed)]
        for parts in zip(*found, strict=True)
    )
    return pooled, probabilities


def _in_order(examples: int, batch_size: int, devices: int) -> Iterator[BatchIndices]:
    """Yields the batches of all examples in their order; the last one is filled up."""
    order = np.arange(examples, dtype=np.int32)
    # Rounded up to a multiple of the devices: what is padded does not count.
    size = -(-min(batch_size, examples) // devices) * devices
    for step in range(batches.steps_per_epoch(examples, size)):
        yield batches.take_batch(order, size, step)
