"""The eval step, and evaluation of a whole split."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cnn_jax import cpu, distributed, losses
from cnn_jax.assembly import Assembly
from cnn_jax.data import augment, batches
from cnn_jax.data.batches import Batch, BatchIndices, Picked, fetch
from cnn_jax.data.feeding import Feed, Pace
from cnn_jax.evaluation import intervals, metrics
from cnn_jax.evaluation.metrics import Sums


class EvalSums(NamedTuple):
    """What the batches of an evaluation add up to.

    Attributes:
        sums: loss, correct and examples.
        confusion: int32 [classes, classes], rows are true classes; of several findings
            [findings, 2, 2], one for each.
    """

    sums: Sums
    confusion: jax.Array


def make_eval_step(
    assembly: Assembly, start: int = 0, views: str = "one"
) -> Callable[[Any, Batch | Picked], tuple[EvalSums, jax.Array]]:
    """Returns the eval step: (variables, batch) -> (sums, probabilities [batch, classes]).

    Args:
        assembly: the model, its preprocessing and its loss.
        start: the first stage of the backbone that runs; above 0 the batch's images are the cached
            features of the stage before it.
        views: over which of `augment.views` logits are averaged; with cached features "one".
    """

    def eval_step(variables: Any, picked: Batch | Picked) -> tuple[EvalSums, jax.Array]:
        batch = fetch(picked)
        inputs = batch.images if start else assembly.preprocess(batch.images, None)
        logits: Any = 0.0
        for weight, view in augment.views(inputs, views):
            given: Any = assembly.model.apply(variables, view, start=start)
            logits += weight * given
        values = losses.compute(assembly.loss, logits, batch.labels)
        p = metrics.probabilities(logits, assembly.multilabel)
        counts = batch.weights.astype(jnp.int32)
        if assembly.multilabel:
            confusion = jnp.zeros((p.shape[1], 2, 2), jnp.int32)
            place = (jnp.arange(p.shape[1]), batch.labels, (logits >= 0).astype(jnp.int32))
            confusion = confusion.at[place].add(counts[:, None])
        else:
            confusion = jnp.zeros((p.shape[1], p.shape[1]), jnp.int32)
            confusion = confusion.at[batch.labels, jnp.argmax(p, axis=-1)].add(counts)
        return EvalSums(metrics.batch_sums(values, logits, batch), confusion), p

    return eval_step


def jit(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Returns the jitted step; every process gets all of its results, and can read them."""
    return jax.jit(
        step,
        out_shardings=distributed.replicated(mesh),
        compiler_options=cpu.compiler_options(),
    )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        loss: the mean over the examples.
        accuracy: the share of examples whose most probable class is theirs; of several findings the
            share of those that are right, at a probability of 1/2.
        examples: their number.
        confusion: int [classes, classes], rows are true classes; or [findings, 2, 2].
        probabilities: float32 [examples, classes], in the split's order.
    """

    loss: float
    accuracy: float
    examples: int
    confusion: np.ndarray
    probabilities: np.ndarray

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy's 95 % interval (Wilson's) where the examples are drawn by chance."""
        return intervals.wilson(self.accuracy * self.examples, self.examples)

    def __repr__(self) -> str:
        low, high = self.interval
        return (
            f"<Evaluation: accuracy {self.accuracy:.4f} ({low:.4f} to {high:.4f}) of "
            f"{self.examples:,} examples, loss {self.loss:.4f}>"
        )


class Evaluator:
    """Evaluates variables on whole splits; the last batch is padded and masked.

    Args:
        assembly: the model, its preprocessing and its loss.
        batch_size: examples in one step, over all devices.
        mesh: the devices.
        start: the first stage of the backbone that runs, as in `make_eval_step`.
        views: as in `make_eval_step`.
    """

    def __init__(
        self,
        assembly: Assembly,
        batch_size: int,
        mesh: Mesh,
        start: int = 0,
        views: str = "one",
    ):
        self._batch_size, self._devices = batch_size, mesh.size
        self.step = jit(make_eval_step(assembly, start, views), mesh)

    def __call__(self, variables: Any, feed: Feed) -> Evaluation:
        """Returns the evaluation of variables on a split."""
        total: Any = None
        probabilities, pace = [], Pace()
        for batch in feed.batches(in_order(len(feed), self._batch_size, self._devices)):
            sums, p = self.step(variables, batch)
            total = sums if total is None else jax.tree.map(jnp.add, total, sums)
            probabilities.append(p)
            pace.after(batch, p)
        means = total.sums.means()
        return Evaluation(
            **means,
            examples=int(total.sums.examples),
            confusion=np.asarray(total.confusion),
            probabilities=np.concatenate([np.asarray(p) for p in probabilities])[: len(feed)],
        )


def in_order(examples: int, batch_size: int, devices: int) -> Iterator[BatchIndices]:
    """Yields the batches of all examples in their order; the last one is filled up."""
    order = np.arange(examples, dtype=np.int32)
    # Rounded up to a multiple of the devices: what is padded does not count.
    size = -(-min(batch_size, examples) // devices) * devices
    for step in range(batches.steps_per_epoch(examples, size)):
        yield batches.take_batch(order, size, step)
