"""The eval step and the loop over a whole split."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from cnn_jax import build, distributed, experiment, models, runtime
from cnn_jax.data import DataInfo, batches
from cnn_jax.data.batches import Batch, Feed, fetch
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
    model: nn.Module, config: experiment.Experiment, preprocess: build.Preprocess, num_classes: int
) -> Callable[[Any, Batch], tuple[EvalSums, jax.Array]]:
    """Returns the eval step: (variables, batch) -> (sums, probabilities [batch, classes])."""

    def eval_step(variables: Any, batch: Batch) -> tuple[EvalSums, jax.Array]:
        logits: Any = model.apply(variables, preprocess(batch.images, None), train=False)
        values = metrics.losses(logits, batch.labels, config.train.loss, 0.0)
        p = metrics.probabilities(logits)
        predicted = jnp.argmax(p, axis=-1)
        confusion = jnp.zeros((num_classes, num_classes), jnp.int32)
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
        model: images to logits.
        config: the experiment.
        info: of the data set.
        mesh: where to compute.

    Raises:
        UsageError: the evaluation batch cannot be split evenly over the devices.
    """

    def __init__(
        self,
        model: models.Classifier,
        config: experiment.Experiment,
        info: DataInfo,
        mesh: Mesh,
    ):
        self._batch_size = config.dataset.eval_batch_size
        distributed.check_batch_size("dataset.eval_batch_size", self._batch_size, mesh)
        preprocess = build.make_preprocess(config, info)
        eval_step = make_eval_step(model, config, preprocess, len(info.class_names))

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
        order = np.arange(len(feed), dtype=np.int32)
        size = min(self._batch_size, len(feed)) if jax.device_count() == 1 else self._batch_size
        count = batches.steps_per_epoch(len(feed), size)
        indices = (batches.take_batch(order, size, step) for step in range(count))
        total: Any = None
        probabilities = []
        for batch in feed.batches(indices):
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
