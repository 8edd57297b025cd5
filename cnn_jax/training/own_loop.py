"""The train step for those who write their own loop."""

from typing import Any

import jax

from cnn_jax.data import Split
from cnn_jax.data.batches import Batch, Picked
from cnn_jax.data.feeding import Feed
from cnn_jax.describe import layer_table
from cnn_jax.errors import UsageError
from cnn_jax.evaluation.evaluator import Evaluation
from cnn_jax.training import costs, loop
from cnn_jax.training.parts import Parts
from cnn_jax.training.state import TrainState
from cnn_jax.training.steps import Hyperparameters, TrainStep, make_train_step


class Step:
    """The jitted train step of your own loop: `state = step(state, batch)`.

    The state that is given is given up: its memory serves the new one.

    Attributes:
        pure: (state, batch, hyperparameters) -> state, not jitted: for `jax.vmap` and the like.
        hyperparameters: the learning rate, weight decay, label smoothing and dropout rate of a
            step, float32 arrays; another value of them needs no compilation.
    """

    def __init__(self, parts: Parts):
        self._parts = parts
        self.pure: TrainStep = make_train_step(parts.plan)
        self.hyperparameters: Hyperparameters = parts.hyperparameters()
        self._jitted = loop.jit_step(self.pure, parts.mesh)
        self._evaluator = parts.evaluator()

    def __call__(
        self, state: TrainState, batch: Batch | Picked, hyper: Hyperparameters | None = None
    ) -> TrainState:
        """Returns the state after one update, with other hyperparameters where they are given."""
        return self._jitted(state, batch, self.hyperparameters if hyper is None else hyper)

    def evaluate(self, state: TrainState, split: Split) -> Evaluation:
        """Returns loss, accuracy and probabilities on a split, as the step takes it.

        Raises:
            UsageError: it is no Split.
        """
        if not isinstance(split, Split):
            raise UsageError(f"give a Split such as data.validation, not {type(split).__name__}")
        feed = Feed(split, self._parts.mesh, self._parts.config.dataset.resident_limit)
        return self._evaluator(state.variables(), feed)

    def evaluate_batch(self, state: TrainState, batch: Batch | Picked) -> tuple[Any, jax.Array]:
        """Returns (sums of loss, correct and examples; probabilities) of one batch."""
        sums, probabilities = self._evaluator.step(state.variables(), batch)
        return sums.sums, probabilities

    def prepare(self, state: TrainState) -> dict[str, Split]:
        """Returns the splits of the data as the step takes them.

        Where stages stay frozen, train and validation hold the features of these stages, computed
        once and cached on disk; else they hold the images.
        """
        splits = dict(self._parts.data.splits)
        if self._parts.plan.cached_stages:
            splits |= self._parts.cache_features(state.variables(), quiet=True, say=None)
        return splits

    @property
    def flops(self) -> int:
        """FLOPs of a step for one image, forward and backward, without cached stages."""
        plan = self._parts.plan
        return costs.step_flops(plan, 0, plan.layers)

    @property
    def forward_flops(self) -> int:
        """FLOPs of the whole network forward for one image."""
        return layer_table.totals(self._parts.plan.layers).flops
