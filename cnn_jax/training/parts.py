"""All that a run needs before its first state: settings with names, data, weights, model, plan."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.sharding import Mesh

from cnn_jax import distributed, models
from cnn_jax.assembly import assemble
from cnn_jax.data import Data, Split
from cnn_jax.evaluation import evaluator, two_classes
from cnn_jax.experiment import Experiment
from cnn_jax.losses import Loss
from cnn_jax.pretrained.weights import Weights, merge
from cnn_jax.runs import changes, stored
from cnn_jax.runs import weights as run_weights
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.training import balance, features
from cnn_jax.training.plan import Plan, make_plan
from cnn_jax.training.state import TrainState, initial_state
from cnn_jax.training.steps import Hyperparameters

Say = Callable[[str], None]


class Parts(NamedTuple):
    """All that a run needs before its first state.

    Attributes:
        config: the experiment.
        data: the images.
        weights: pretrained weights to start from, or None.
        about_weights: what weights.json says of them, or None.
        plan: model, phases and optimizer.
        mesh: the devices.
    """

    config: Experiment
    data: Data
    weights: Weights | None
    about_weights: dict[str, Any] | None
    plan: Plan
    mesh: Mesh

    def first_state(self) -> TrainState:
        """Returns the state before the first step, on the devices."""
        images = self.data.splits["train"].images
        whole, include = distributed.replicated(self.mesh), self.config.transfer.include
        return initial_state(self.plan, self.config.seed, whole, self.weights, include, images)

    def hyperparameters(self) -> Hyperparameters:
        """Returns the numbers of every step, on the devices."""
        hyper = Hyperparameters.of(self.config)
        entry = models.REGISTRY.get(self.config.model.name)
        if entry is None or entry.defined_in:  # Linen's own dropout takes a number, no array
            hyper = hyper._replace(dropout_rate=None)
        weights = balance.class_weights(self.config.train.class_weights, self.data.info)
        hyper = hyper._replace(class_weights=weights)
        numbers = jax.tree.map(np.asarray, hyper)
        return distributed.put(numbers, distributed.replicated(self.mesh))

    def evaluator(self) -> evaluator.Evaluator:
        """Returns the evaluator of splits that are prepared as the steps take them."""
        size, cut = self.config.dataset.eval_batch_size, self.plan.cached_stages
        return evaluator.Evaluator(self.plan.assembly, size, self.mesh, cut)

    def cache_features(
        self, variables: Any, quiet: bool, say: Say | None, on_disk: bool = True
    ) -> dict[str, Split]:
        """Returns the splits with cached features of the frozen stages in place of images."""
        dataset, precision = self.config.dataset, self.config.train.precision
        augmentation = features.augmentation_of(dataset, self.data.info)
        return features.cache_splits(
            self.plan, self.data, variables, precision, augmentation, quiet, say, on_disk
        )


def prepare(
    config: Experiment,
    data: Data | None,
    directory: RunDirectory | None = None,
    *,
    model: nn.Module | None = None,
    loss: Loss | None = None,
    optimizer: optax.GradientTransformation | None = None,
    quiet: bool = True,
) -> Parts:
    """Loads data and weights, and builds model and plan.

    The arguments and errors are those of `start.train`; `quiet` decodes images without a bar.
    """
    if data is None:
        found = changes.data_of(config, directory, test=False, quiet=quiet)
        data = dataclasses.replace(found, section=config.dataset)
    elif directory is not None and directory.exists():
        changes.check_same_data(directory, data.info)
    balance.check(config.train, data.info)
    two_classes.positive_class(config.dataset.positive, data.info.class_names)
    weights, about = _find_weights(config, directory)
    assembly = assemble(config, data.info, about, model=model, loss=loss)
    if weights is not None:
        merge(assembly.shapes, weights, config.transfer.include)  # refuses now what does not fit
    plan = make_plan(config, assembly, len(data.train), optimizer)
    plan.rule.check(data.info.class_counts["validation"], data.info.multilabel)
    mesh = distributed.make_mesh()
    distributed.check_batch_size("dataset.batch_size", plan.batch_size, mesh)
    return Parts(config, data, weights, about, plan, mesh)


def _find_weights(
    config: Experiment, directory: RunDirectory | None
) -> tuple[Weights | None, dict[str, Any] | None]:
    """Returns (weights to start from, what weights.json says of them), where there are any.

    A run that has a checkpoint needs the weights no more.
    """
    transfer = config.transfer
    if transfer.weights is None:
        return None, None
    if directory is not None:
        about = directory.read("weights")
        if about is not None and stored.best_step(directory.checkpoints) is not None:
            return None, about
    weights = run_weights.load(transfer.weights, config.model.name, transfer.include)
    about = {
        "source": weights.source,
        "sha256": weights.sha256,
        "preprocessing": weights.preprocessing,
        "preprocessing_reason": weights.preprocessing_reason,
        "options": dict(weights.options),
        "evaluated": weights.evaluated,
    }
    return weights, about
