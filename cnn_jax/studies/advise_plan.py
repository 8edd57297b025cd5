"""Plans the runs of `advise`: strategies, the settings of each, their cost, epochs and runs.

FLOPs are those of the layer table (`layer_table.step_flops`, which the tests hold against XLA's
count): the cached stages once for every training image, then the steps. Validation, and the work of
the optimizer for each parameter, are left out, for all strategies alike.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cnn_jax import experiment, text, trees
from cnn_jax.assembly import Assembly
from cnn_jax.describe.layer_table import LayerRow
from cnn_jax.experiment import Experiment
from cnn_jax.models.classifier import stage_prefixes
from cnn_jax.training import costs
from cnn_jax.training.plan import Plan

MOST_EPOCHS = 5  # times those of the preset
# Of its learning rate: at which a strategy is tried once more where it learnt nothing.
RETRY_RATE = 0.1

_LAST_STAGES = {"last_block": 1, "last_two_blocks": 2}


class Trial(NamedTuple):
    """One run to train.

    Attributes:
        strategy: one of `options.STRATEGIES`.
        images: the number of training images.
        epochs: the epochs of training.
        seed: the seed.
        rate: its learning rate, as a share of the strategy's: 1, or `RETRY_RATE`.
    """

    strategy: str
    images: int
    epochs: int
    seed: int
    rate: float = 1.0

    @property
    def kind(self) -> tuple[str, int, int, float]:
        """What it shares with its other seeds."""
        return self.strategy, self.images, self.epochs, self.rate

    @property
    def name(self) -> str:
        """The name of its run directory."""
        rate = "" if self.rate == 1 else f"-rate{self.rate:g}"
        return f"{self.strategy}-{self.images}images-{self.epochs}epochs-seed{self.seed}{rate}"


class Parts(NamedTuple):
    """The parts of a network that a strategy can freeze or train.

    Attributes:
        stages: the names of the backbone's stages that have parameters, in order.
        separate: whether backbone and head are apart; a user's own module is one part.
    """

    stages: tuple[str, ...]
    separate: bool


def parts(assembly: Assembly) -> Parts:
    """Returns the parts of a model."""
    paths = list(trees.flatten(assembly.shapes["params"]))
    prefixes = stage_prefixes(assembly.model)
    stages = tuple(
        name
        for name, prefix in zip(assembly.model.stage_names, prefixes, strict=True)
        if any(path.startswith(prefix) for path in paths)
    )
    return Parts(stages, separate=all(prefixes))


def available(chosen: Sequence[str], parts: Parts) -> tuple[list[str], list[str]]:
    """Returns the strategies that a network allows, and a note on each that it does not."""
    kept, notes = [], []
    for name in chosen:
        if not parts.separate and name in ("head", *_LAST_STAGES):
            notes.append(f"{name} is left out: the model has no backbone and head of its own")
        elif len(parts.stages) <= _LAST_STAGES.get(name, 0):
            stages = text.plural(len(parts.stages), "stage")
            notes.append(f"{name} is left out: the backbone has {stages}")
        else:
            kept.append(name)
    return kept, notes


def configure(
    base: Experiment, strategy: str, parts: Parts, backbone_lr_scale: float, **changes: Any
) -> Experiment:
    """Returns the experiment of a strategy.

    It replaces the base's settings on freezing and on learning rates of parts. Warm-up keeps its
    share of the run.

    Args:
        base: the settings that all strategies have in common.
        strategy: one of `options.STRATEGIES`.
        parts: the parts of the network.
        backbone_lr_scale: the learning rate of the backbone's trainable parameters, pretrained or
            not, as a share of the head's, which is too high for a deep network.
        **changes: `epochs`, `images` (None: as in the base), `seed`, and `rate`, a share of the
            base's learning rate.
    """
    freeze, scale = "none", f"backbone:{backbone_lr_scale:g}" if parts.separate else None
    if strategy == "head":
        freeze, scale = "backbone", None
    elif strategy in _LAST_STAGES:
        free = "|".join(re.escape(name) for name in parts.stages[-_LAST_STAGES[strategy] :])
        freeze = f"backbone/(?!(?:{free})/).+"  # also the parameters before the first stage
    settings: dict[str, Any] = {
        "transfer.freeze": freeze,
        "transfer.unfreeze": None,
        "transfer.lr_scale": scale,
    }
    if freeze == "none":
        settings["transfer.cache_views"] = 0
    if strategy == "scratch":
        settings |= {"transfer.weights": None, "transfer.include": None}
    if "epochs" in changes:
        share = base.optimizer.warmup_epochs / base.train.epochs
        settings["train.epochs"] = changes["epochs"]
        settings["optimizer.warmup_epochs"] = share * changes["epochs"]
    if changes.get("images") is not None:
        settings["dataset.train_examples"] = changes["images"]
    if "seed" in changes:
        settings["seed"] = changes["seed"]
    if changes.get("rate", 1.0) != 1:
        settings["optimizer.learning_rate"] = base.optimizer.learning_rate * changes["rate"]
    return experiment.replace(base, settings)


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of a strategy at one size of the training set, in FLOPs.

    Attributes:
        once: the forward pass of the cached stages over all training images.
        epoch: the steps of one epoch.
    """

    once: int
    epoch: int

    def of(self, epochs: int) -> int:
        """Returns the FLOPs of a run."""
        return self.once + epochs * self.epoch

    def epochs_within(self, budget: int, most: int) -> int:
        """Returns how many epochs a budget of FLOPs allows, from 1 to `most`."""
        return min(most, max(1, (budget - self.once) // max(self.epoch, 1)))


def cost(plan: Plan, table: Sequence[LayerRow]) -> Cost:
    """Returns the cost of a run with one phase; a padded batch counts as a whole one.

    Args:
        plan: the plan of the run.
        table: the layer table of its model.
    """
    none, one = (costs.run_flops(plan, epochs, table) for epochs in (0, 1))
    return Cost(once=none, epoch=one - none)


def plan_epochs(
    costs: Mapping[str, Cost], reference: Cost, budget: str, preset: int
) -> dict[str, int]:
    """Returns the epochs of each strategy in a budget.

    Args:
        costs: the cost of each strategy, at one size of the training set.
        reference: the cost of the strategy that sets the budget of FLOPs.
        budget: "epochs" or "flops".
        preset: the epochs of the preset.
    """
    if budget == "epochs":
        return dict.fromkeys(costs, preset)
    flops = reference.of(preset)
    return {name: of.epochs_within(flops, MOST_EPOCHS * preset) for name, of in costs.items()}
