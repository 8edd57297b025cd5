"""What `advise` compares: strategies, sizes and budgets on the user's own data, and their costs."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cnn_jax import data, experiment
from cnn_jax.assembly import assemble
from cnn_jax.describe import layer_table
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.options import Advise
from cnn_jax.pretrained import weights as pretrained
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
        dataset: the name of the data set.
        images: the number of images to train on.
        validation_counts: the number of images of each class to validate on.
        sizes: the sizes of the training set, ascending.
        parts: the parts of the network.
        strategies: the strategies that the network allows.
        notes: a sentence on each strategy that it does not allow.
        costs: the cost of each strategy at each size, {size: {strategy: cost}}.
        epochs: the epochs of each run, {budget: {size: {strategy: epochs}}}.
    """

    base: Experiment
    options: Advise
    dataset: str
    images: int
    validation_counts: list[int]
    sizes: list[int]
    parts: Parts
    strategies: list[str]
    notes: list[str]
    costs: dict[int, dict[str, Cost]]
    epochs: dict[str, dict[int, dict[str, int]]]

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
        lost = {trial.kind for trial, outcome in outcomes.items() if outcome.is_lost}
        asked = (
            Trial(name, size, self.epochs[budget][size][name], self.base.seed + i)
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
    info = data.load(base.dataset, test=False).info
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
    costs = {size: {name: cost_of(name, size) for name in strategies} for size in sizes}
    epochs = {
        budget: {
            size: advise_plan.plan_epochs(
                costs[size], cost_of(reference, size), budget, base.train.epochs
            )
            for size in sizes
        }
        for budget in options.budgets
    }
    return Study(
        base=base,
        options=options,
        dataset=info.name,
        images=images,
        validation_counts=list(info.class_counts["validation"]),
        sizes=sizes,
        parts=parts,
        strategies=strategies,
        notes=notes,
        costs=costs,
        epochs=epochs,
    )
