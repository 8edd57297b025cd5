"""What `advise` compares: strategies, sizes and budgets on the user's own data, and their costs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cnn_jax import experiment, text
from cnn_jax.assembly import assemble
from cnn_jax.data import Data
from cnn_jax.describe import layer_table
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.options import Advise
from cnn_jax.pretrained import weights as pretrained
from cnn_jax.runs import changes
from cnn_jax.runs import weights as run_weights
from cnn_jax.studies import advise_plan
from cnn_jax.studies.advise_plan import Cost, Parts, Trial
from cnn_jax.studies.advise_results import Outcome
from cnn_jax.training.plan import make_plan


class Study(NamedTuple):
    """What is to be compared.

    Attributes:
        base: the settings that all strategies have in common.
        options: what the user asked for.
        data: the images.
        sizes: the sizes of the training set, ascending.
        parts: the parts of the network.
        strategies: the strategies that the network allows.
        notes: a sentence on each strategy that it does not allow.
        costs: the cost of each strategy at each size, {size: {strategy: cost}}.
        references: at each size the cost of the strategy that sets the budget of FLOPs.
        preset_epochs: the epochs of the budget "epochs".
        forward_flops: FLOPs of the whole network forward for one image.
    """

    base: Experiment
    options: Advise
    data: Data
    sizes: list[int]
    parts: Parts
    strategies: list[str]
    notes: list[str]
    costs: dict[int, dict[str, Cost]]
    references: dict[int, Cost]
    preset_epochs: int
    forward_flops: int

    @property
    def images(self) -> int:
        """The number of images to train on."""
        return len(self.data.train)

    @property
    def epochs(self) -> dict[str, dict[int, dict[str, int]]]:
        """The epochs of each run, {budget: {size: {strategy: epochs}}}."""

        def of(budget: str, size: int) -> dict[str, int]:
            costs = {name: self.costs[size][name] for name in self.strategies}
            return advise_plan.plan_epochs(costs, self.references[size], budget, self.preset_epochs)

        return {
            budget: {size: of(budget, size) for size in self.sizes}
            for budget in self.options.budgets
        }

    @property
    def validation_counts(self) -> list[int]:
        """The number of images of each class to validate on."""
        return list(self.data.info.class_counts["validation"])

    @property
    def validation_images(self) -> int:
        """The number of images to validate on."""
        return sum(self.validation_counts)

    def trials(self, outcomes: Mapping[Trial, Outcome]) -> list[Trial]:
        """Returns the runs to train, seed by seed: if it is stopped, whole seeds are there.

        One run serves both budgets where they give it the same epochs. Where a seed learnt nothing,
        the others are not trained: all are at a lower learning rate, unless they were at that.

        Args:
            outcomes: the results so far.
        """
        epochs = self.epochs
        lost = {trial.kind for trial, outcome in outcomes.items() if outcome.is_lost}
        asked = (
            Trial(name, size, epochs[budget][size][name], self.base.seed + i)
            for i in range(self.options.seeds)
            for size in self.sizes
            for name in self.strategies
            for budget in self.options.budgets
        )
        found: dict[Trial, None] = {}
        for trial in asked:
            slower = trial._replace(rate=advise_plan.RETRY_RATE)
            for each in (trial, slower) if trial.kind in lost else (trial,):
                if each in outcomes or each.kind not in lost:
                    found[each] = None
        return list(found)

    def within(
        self,
        strategies: Sequence[str] | None = None,
        seeds: int | None = None,
        epochs: int | None = None,
    ) -> "Study":
        """Returns a smaller plan; what is None stays."""
        options = self.options
        if seeds is not None:
            options = dataclasses.replace(options, seeds=seeds)
        return self._replace(
            options=options,
            strategies=self.strategies if strategies is None else list(strategies),
            preset_epochs=self.preset_epochs if epochs is None else epochs,
        )

    @property
    def size(self) -> dict[str, Any]:
        """The arguments of `within` that return this plan."""
        seeds, epochs = self.options.seeds, self.preset_epochs
        return {"strategies": self.strategies, "seeds": seeds, "epochs": epochs}

    def given_up(self, whole: "Study") -> list[str]:
        """Returns what this plan leaves out of another, as phrases."""
        found = []
        if self.options.seeds < whole.options.seeds:
            seeds = text.plural(self.options.seeds, "seed")
            found.append(f"{seeds} in place of {whole.options.seeds}")
        if self.preset_epochs < whole.preset_epochs:
            epochs = text.plural(self.preset_epochs, "epoch")
            found.append(f"{epochs} in place of {whole.preset_epochs}")
        return [*found, *(f"without {x}" for x in whole.strategies if x not in self.strategies)]

    def cached_share(self, strategy: str) -> float:
        """Returns the share of a forward pass that a strategy's cached stages are."""
        views = max(1, self.base.transfer.cache_views)
        size = self.sizes[-1]
        return self.costs[size][strategy].once / (views * size * self.forward_flops)

    def experiment_of(self, strategy: str, **changes: Any) -> Experiment:
        """Returns the experiment of a strategy; for `changes` see `advise_plan.configure`."""
        scale = self.options.backbone_lr_scale
        return advise_plan.configure(self.base, strategy, self.parts, scale, **changes)

    def flops_of(self, trial: Trial) -> int:
        """Returns the FLOPs of a run."""
        return self.costs[trial.images][trial.strategy].of(trial.epochs)


def prepare(base: Experiment, options: Advise) -> Study:
    """Plans the comparison, without training anything.

    Raises:
        UsageError: there are no weights, or sizes and data do not fit together.
    """
    if base.transfer.weights is None:
        raise UsageError(
            "advise compares what can be done with pretrained weights: it needs --transfer.weights "
            "(imagenet, a file, or a run directory), in the preset or as a flag"
        )
    if base.train.loss == "multilabel":
        raise UsageError(
            "advise compares what a network says of one class an image, and not several findings; "
            "compare two runs of --train.loss=multilabel by `compare`"
        )
    section = base.dataset
    loaded = changes.data_of(base, test=False)
    loaded = dataclasses.replace(loaded, section=section)
    info = loaded.info
    images = info.sizes["train"]
    sizes = options.sizes(images)
    classes = sum(count > 0 for count in info.class_counts["train"])
    if sizes[-1] > images or sizes[0] < classes:
        raise UsageError(
            f"--advise.examples={options.examples}: {info.name} has {images:,} images of "
            f"{classes} classes to train on"
        )
    weights = run_weights.load(base.transfer.weights, base.model.name, base.transfer.include)
    about = {"preprocessing": weights.preprocessing, "options": weights.options}
    plain = experiment.replace(
        base, {"transfer.freeze": "none", "transfer.unfreeze": None, "transfer.cache_views": 0}
    )
    assembly = assemble(plain, info, about)
    pretrained.merge(assembly.shapes, weights, base.transfer.include)  # refuses what does not fit
    parts = advise_plan.parts(assembly)
    strategies, notes = advise_plan.available(options.chosen, parts)
    if not strategies:
        raise UsageError(f"nothing is left to compare: {'; '.join(notes)}")
    table = layer_table.layer_table(assembly.model, info.image_shape, assembly.shapes)

    def cost_of(strategy: str, size: int) -> Cost:
        config = advise_plan.configure(base, strategy, parts, options.backbone_lr_scale)
        return advise_plan.cost(make_plan(config, assemble(config, info, about), size), table)

    reference = "last_block" if len(parts.stages) > 1 else "everything"
    return Study(
        base=base,
        options=options,
        data=loaded,
        sizes=sizes,
        parts=parts,
        strategies=strategies,
        notes=notes,
        costs={size: {name: cost_of(name, size) for name in strategies} for size in sizes},
        references={size: cost_of(reference, size) for size in sizes},
        preset_epochs=base.train.epochs,
        forward_flops=layer_table.totals(table).flops,
    )
