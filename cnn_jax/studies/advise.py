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

from cnn_jax import experiment, text
from cnn_jax.errors import RunError
from cnn_jax.experiment import Experiment
from cnn_jax.options import Advise
from cnn_jax.runs import changes, code, recorder
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import advise_results, advise_study
from cnn_jax.studies.advise_plan import Trial
from cnn_jax.studies.advise_results import Advice, Outcome
from cnn_jax.studies.advise_study import Study
from cnn_jax.studies.comparison import named
from cnn_jax.training import start

Say = Callable[[str], None]

# Nothing but the accuracy of these runs is of interest.
_LEAN = {
    "checkpoint.keep": 1,
    "logging.figures_every": None,
    "logging.projector_images": 0,
}

_RETRY = (
    "a strategy that diverges or collapses (says one class only) is tried once more, at a tenth of "
    "its learning rate"
)


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
    study = advise_study.prepare(base, options)
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
        for note in [*study.notes, _RETRY]:
            say(f"           {note}")
        outcomes = _train_all(study, directory, say)
        if not recorder.is_writer():
            return None
        advice = advise_results.summarise(
            outcomes, study.costs, study.epochs, study.validation_counts
        )
        subject = f"{base.model.name} on {study.dataset}"
        advise_results.write(directory, advice, outcomes, study.notes, base.name, subject)
        if advice.recommended is not None:
            cell = advice.recommended
            chosen = study.experiment_of(cell.strategy, epochs=cell.epochs, rate=cell.rate)
            directory.write("recommended", experiment.to_dict(chosen))
    return advice


def _train_all(study: Study, directory: RunDirectory, say: Say) -> dict[Trial, Outcome]:
    """Trains the runs that are not trained yet, and returns the outcomes of all."""
    outcomes: dict[Trial, Outcome] = {}
    while left := [trial for trial in study.trials(outcomes) if trial not in outcomes]:
        trial = left[0]
        inner = RunDirectory(directory.path / "runs" / trial.name)
        images, epochs = text.plural(trial.images, "image"), text.plural(trial.epochs, "epoch")
        time_left = _time_left(left, study.flops_of, outcomes)
        name = named(trial.strategy, trial.rate)
        run = f"{name}, {images}, {epochs}, seed {trial.seed}"
        say(f"run {len(outcomes) + 1} of {len(outcomes) + len(left)}: {run}{time_left}")
        config = study.experiment_of(
            trial.strategy,
            epochs=trial.epochs,
            images=None if trial.images == study.images else trial.images,
            seed=trial.seed,
            rate=trial.rate,
        )
        _train_one(inner, experiment.replace(config, _LEAN))
        outcomes[trial] = outcome = advise_results.read_outcome(inner)
        if recorder.is_writer():
            # They would fill the disk, and nobody asked for them.
            shutil.rmtree(inner.checkpoints, ignore_errors=True)
        say(f"           {outcome.text}, {outcome.seconds:.1f} s")
        if outcome.is_lost and trial.rate == 1:
            say(f"           {trial.strategy} is tried once more at a tenth of its learning rate")
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
    trials: Sequence[Trial],
    flops_of: Callable[[Trial], int],
    outcomes: Mapping[Trial, Outcome],
) -> str:
    """Returns "; about H:MM:SS left in all", judged by the runs of the same kind if there are any.

    Before the first run there is nothing to judge by, and it returns "".
    """

    def rate(done: Sequence[Trial]) -> float:
        seconds = sum(outcomes[trial].seconds for trial in done)
        return seconds / max(1, sum(flops_of(trial) for trial in done))

    if not outcomes:
        return ""
    overall = rate(list(outcomes))
    seconds = 0.0
    for trial in trials:
        cell = [done for done in outcomes if done.kind == trial.kind]
        alike = cell or [done for done in outcomes if done.strategy == trial.strategy]
        seconds += flops_of(trial) * (rate(alike) if alike else overall)
    return f"; about {text.duration(seconds)} left in all"
