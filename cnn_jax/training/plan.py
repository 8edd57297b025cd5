"""The plan of a run: what is trained, by which optimizer, in which phases, for how long."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from cnn_jax import experiment
from cnn_jax.assembly import Assembly
from cnn_jax.data import augmentation, batches
from cnn_jax.describe.layer_table import LayerRow, layer_table
from cnn_jax.evaluation import selection
from cnn_jax.models.classifier import stage_prefixes
from cnn_jax.training import freezing, limits, optimizers, own_optimizer
from cnn_jax.training.freezing import Phase
from cnn_jax.trees import flatten


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a train step depends on, besides its state, its batch and its numbers.

    Attributes:
        assembly: the model, its preprocessing and its loss.
        phases: which parameters are trainable, epoch by epoch.
        optimizer: the settings of the optimizer.
        own_optimizer: a user's own, in its place, or None.
        epochs: passes over the training split.
        batch_size: examples in a step.
        num_examples: examples in the training split.
        cached_stages: the number of first stages of the backbone that no phase trains and whose
            output is computed once; 0: every step runs the whole network.
        cached_views: augmented views of each image in that cache; 0: it holds the images alone.
        alternate_flip: whether images are mirrored in every other epoch.
        balanced: whether an epoch draws equally many examples of each class.
        rule: which epoch is the best, and when the run stops early.
    """

    assembly: Assembly
    phases: tuple[Phase, ...]
    optimizer: experiment.Optimizer
    own_optimizer: optax.GradientTransformation | None
    epochs: int
    batch_size: int
    num_examples: int
    cached_stages: int
    cached_views: int
    alternate_flip: bool
    balanced: bool
    rule: selection.Rule

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one epoch; the last one may be filled up."""
        return batches.steps_per_epoch(self.num_examples, self.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps in the whole run."""
        return self.epochs * self.steps_per_epoch

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What the parameter paths of each stage begin with."""
        return stage_prefixes(self.assembly.model)

    @functools.cached_property
    def layers(self) -> list[LayerRow]:
        """The layer table of the model, which is traced once."""
        assembly = self.assembly
        return layer_table(assembly.model, assembly.image_shape, assembly.shapes)

    def schedule_factor(self, step: jax.Array) -> jax.Array:
        """Returns the learning rate after `step` updates as a share of its peak, float32 []."""
        return optimizers.schedule_factor(
            step,
            schedule=self.optimizer.schedule,
            warmup_steps=round(self.optimizer.warmup_epochs * self.steps_per_epoch),
            total_steps=self.total_steps,
            milestones=self.optimizer.milestone_shares,
        )

    def learning_rate(self, step: int) -> float | None:
        """Returns the learning rate after `step` updates; None of a user's own optimizer."""
        if self.own_optimizer is not None:
            return None
        return self.optimizer.learning_rate * float(
            self.schedule_factor(jnp.asarray(step, jnp.int32))
        )

    def make_optimizer(
        self,
        phase: int,
        learning_rate: float | jax.Array = 0.0,
        weight_decay: float | jax.Array = 0.0,
    ) -> optax.GradientTransformationExtraArgs:
        """Returns the optimizer of a phase's trainable parameters for one update."""
        groups = self.phases[phase].groups
        if self.own_optimizer is not None:
            return own_optimizer.by_group(self.own_optimizer, self.optimizer.clip_norm, groups)
        return optimizers.make_optimizer(self.optimizer, groups, learning_rate, weight_decay)


def make_plan(
    config: experiment.Experiment,
    assembly: Assembly,
    num_examples: int,
    optimizer: optax.GradientTransformation | None = None,
) -> Plan:
    """Returns the plan of an experiment.

    Args:
        config: the experiment.
        assembly: its model, preprocessing and loss.
        num_examples: examples in the training split.
        optimizer: a user's own optimizer, in place of the experiment's.

    Raises:
        UsageError: a pattern selects nothing, nothing is left to train, or the optimizer needs more
            than a step can give it.
    """
    paths = list(flatten(assembly.shapes["params"]))
    model = assembly.model
    phases = freezing.make_phases(config.transfer, paths, model.stage_names, stage_prefixes(model))
    dataset, transfer = config.dataset, config.transfer
    cached = min(phase.frozen_stages for phase in phases)
    # Where training images are augmented afresh in every epoch there is nothing to cache, unless
    # `cache_views` fixes the views.
    if not transfer.cache_features or (dataset.augments and not transfer.cache_views):
        cached = 0
    if optimizer is not None:
        own_optimizer.check(optimizer, phases, assembly.shapes["params"], config.optimizer)
    augmentation.check(dataset, assembly.image_shape, assembly.image_dtype)
    limits.check(dataset, config.train.epochs, num_examples)
    return Plan(
        assembly=assembly,
        phases=phases,
        optimizer=config.optimizer,
        own_optimizer=optimizer,
        epochs=config.train.epochs,
        batch_size=dataset.batch_size,
        num_examples=num_examples,
        cached_stages=cached,
        cached_views=transfer.cache_views if cached else 0,
        alternate_flip=dataset.alternate_flip,
        balanced=config.train.sampling == "balanced",
        rule=selection.Rule.of(config),
    )
