"""Advises whether to freeze or to fine-tune, by experiments on the user's own data.

Every strategy is trained at every size of the training set, once per seed, each in a run directory
of its own below DIRECTORY/runs; a run that is finished is not repeated. Strategies are compared by
the validation accuracy after the *last* epoch: the best of all epochs would favour those with more
of them.

Two budgets make strategies comparable. "epochs" gives each the preset's epochs. "flops" gives each
the FLOPs that training the last block costs in the preset's epochs (or training everything, where
the backbone is one stage), but at least one epoch, and at most `MOST_EPOCHS` times the preset's: an
epoch of a head on cached features costs next to nothing, and a head that has converged gains
nothing by more.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from cnn_jax import data, experiment, text
from cnn_jax.assembly import assemble
from cnn_jax.describe import layer_table
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.options import Advise
from cnn_jax.pretrained import weights as pretrained
from cnn_jax.runs import changes, code, recorder
from cnn_jax.runs import weights as run_weights
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import advise_plan, advise_results
from cnn_jax.studies.advise_plan import Cost, Parts, Trial
from cnn_jax.studies.advise_results import Advice, Outcome
from cnn_jax.training import start
from cnn_jax.training.plan import make_plan

Say = Callable[[str], None]

# Nothing but the accuracy of these runs is of interest.
_LEAN = {
    "checkpoint.keep": 1,
    "logging.figures_every": None,
    "logging.projector_images": 0,
}


class Study(NamedTuple):
    """What is to be compared.

    Attributes:
        base: the settings that all strategies have in common.
        options: what the user asked for.
        dataset: the name of the data set.
        images: the number of images to train on.
        validation_images: the number of images to validate on.
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
    validation_images: int
    sizes: list[int]
    parts: Parts
    strategies: list[str]
    notes: list[str]
    costs: dict[int, dict[str, Cost]]
    epochs: dict[str, dict[int, dict[str, int]]]

    @property
    def trials(self) -> list[Trial]:
        """The runs to train: seed by seed, so that whole seeds are there if it is stopped early.

        One run serves both budgets where they give it the same epochs.
        """
        return list(
            dict.fromkeys(
                Trial(name, size, self.epochs[budget][size][name], self.base.seed + i)
                for i in range(self.options.seeds)
                for size in self.sizes
                for name in self.strategies
                for budget in self.options.budgets
            )
        )

    def experiment_of(self, strategy: str, **changes: Any) -> Experiment:
        """Returns the experiment of a strategy; for `changes` see `advise_plan.configure`."""
        scale = self.options.backbone_lr_scale
        return advise_plan.configure(self.base, strategy, self.parts, scale, **changes)

    def flops_of(self, trial: Trial) -> int:
        """Returns the FLOPs of a run."""
        return self.costs[trial.images][trial.strategy].of(trial.epochs)


def advise(
    base: Experiment,
    options: Advise,
    directory: RunDirectory,
    say: Say = lambda _: None,
) -> Advice | None:
    """Trains the runs that are not trained yet, compares, and writes the results.

    DIRECTORY gets plan.json (what is compared), runs/, advise.json, advise.md, figures/advise.png
    and recommended.json (the recommended strategy as an experiment).

    Args:
        base: the settings that all strategies have in common.
        options: what to compare.
        directory: where the results go: a new directory, or that of an earlier `advise`.
        say: shows a line.

    Returns:
        The advice; None in a process that does not write.

    Raises:
        UsageError: there are no weights, or sizes and data do not fit together.
        RunError: a run failed in another way than by diverging.
        KeyboardInterrupt: somebody stopped it; what was being trained is saved.
    """
    study = prepare(base, options)
    if directory.read("plan") is None:
        directory.create()
    with contextlib.ExitStack() as stack:
        if recorder.is_writer():
            stack.enter_context(directory.locked())
            plan = {"experiment": experiment.to_dict(base), "advise": dataclasses.asdict(options)}
            directory.write("plan", {**plan, "code": code.describe(base)})
        say(f"advise     {base.name}: {base.model.name} on {study.dataset}")
        say(f"results    {text.shown(directory.path)}")
        validation = f"{study.validation_images:,} to validate on"
        say(f"images     {study.images:,} to train on, {validation}")
        stages = ", ".join(study.parts.stages) or "one"
        say(f"strategies {', '.join(study.strategies)}; backbone stages: {stages}")
        for note in study.notes:
            say(f"           {note}")
        outcomes = _train_all(study, directory, say)
        if not recorder.is_writer():
            return None
        advice = advise_results.summarise(
            outcomes, study.costs, study.epochs, study.validation_images
        )
        subject = f"{base.model.name} on {study.dataset}"
        advise_results.write(directory, advice, outcomes, study.notes, base.name, subject)
        if advice.recommended is not None:
            strategy, epochs = advice.recommended
            chosen = study.experiment_of(strategy, epochs=epochs)
            directory.write("recommended", experiment.to_dict(chosen))
    return advice


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
    table = layer_table.layer_table(assembly.model, info.image_shape)

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
        validation_images=info.sizes["validation"],
        sizes=sizes,
        parts=parts,
        strategies=strategies,
        notes=notes,
        costs=costs,
        epochs=epochs,
    )


def _train_all(study: Study, directory: RunDirectory, say: Say) -> dict[Trial, Outcome]:
    """Trains the runs that are not trained yet, and returns the outcomes of all."""
    outcomes: dict[Trial, Outcome] = {}
    trials = study.trials
    flops = {trial: study.flops_of(trial) for trial in trials}
    for number, trial in enumerate(trials, start=1):
        inner = RunDirectory(directory.path / "runs" / trial.name)
        images, epochs = text.plural(trial.images, "image"), text.plural(trial.epochs, "epoch")
        left = _time_left(trials[number - 1 :], flops, outcomes)
        run = f"{trial.strategy}, {images}, {epochs}, seed {trial.seed}"
        say(f"run {number} of {len(trials)}: {run}{left}")
        config = study.experiment_of(
            trial.strategy,
            epochs=trial.epochs,
            images=None if trial.images == study.images else trial.images,
            seed=trial.seed,
        )
        _train_one(inner, experiment.replace(config, _LEAN))
        outcomes[trial] = outcome = advise_results.read_outcome(inner)
        if recorder.is_writer():
            # They would fill the disk, and nobody asked for them.
            shutil.rmtree(inner.checkpoints, ignore_errors=True)
        shown = (
            "diverged"
            if outcome.accuracy is None
            else f"validation accuracy {outcome.accuracy:.4f}"
        )
        say(f"           {shown}, {outcome.seconds:.1f} s")
    return outcomes


def _train_one(inner: RunDirectory, config: Experiment) -> None:
    """Trains a run, unless it has ended; a run that diverges has ended too.

    Raises:
        UsageError: the directory holds a run with other settings.
        RunError: the run failed in another way than by diverging.
    """
    if inner.exists():
        changes.check_unchanged(inner, config)
        if inner.status() == "diverged" or changes.is_finished(inner, config):
            return
    try:
        start.train(config, workdir=inner.path)
    except RunError:
        if inner.status() != "diverged":
            raise


def _time_left(
    trials: Sequence[Trial], flops: Mapping[Trial, int], outcomes: Mapping[Trial, Outcome]
) -> str:
    """Returns "; about H:MM:SS left in all", judged by the runs of the same kind if there are any.

    Before the first run there is nothing to judge by, and it returns "".
    """

    def rate(done: Sequence[Trial]) -> float:
        seconds = sum(outcomes[trial].seconds for trial in done)
        return seconds / max(1, sum(flops[trial] for trial in done))

    if not outcomes:
        return ""
    overall = rate(list(outcomes))
    seconds = 0.0
    for trial in trials:
        cell = [done for done in outcomes if done[:3] == trial[:3]]
        alike = cell or [done for done in outcomes if done.strategy == trial.strategy]
        seconds += flops[trial] * (rate(alike) if alike else overall)
    return f"; about {text.duration(seconds)} left in all"
