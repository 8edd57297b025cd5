"""Trains the runs of `advise`, and reads what came of them."""

import shutil
import time
from collections.abc import Callable

from absl import logging

from cnn_jax import experiment, text
from cnn_jax.errors import RunError
from cnn_jax.experiment import Experiment
from cnn_jax.runs import changes
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import advise_results
from cnn_jax.studies.advise_plan import Trial
from cnn_jax.studies.advise_results import Outcome
from cnn_jax.studies.advise_study import Study
from cnn_jax.studies.advise_time import Clock
from cnn_jax.studies.comparison import named
from cnn_jax.training import start

Say = Callable[[str], None]

# Nothing but the accuracy of these runs is of interest.
_LEAN = {
    "checkpoint.keep": 1,
    "logging.figures_every": None,
    "logging.projector_images": 0,
    "train.patience": None,  # the budgets say how long each run is
}


def known(study: Study, directory: RunDirectory) -> dict[Trial, Outcome]:
    """Returns the results of the runs that have ended already.

    A run that has ended keeps no checkpoint. Where a file of it that says what came of it is
    damaged, a warning names it, and the run is trained again.

    Raises:
        UsageError: a directory holds a run with other settings.
    """
    outcomes: dict[Trial, Outcome] = {}
    while True:
        found = {
            trial: outcome
            for trial in study.trials(outcomes)
            if trial not in outcomes and (outcome := _ended(study, directory, trial)) is not None
        }
        if not found:
            return outcomes
        outcomes |= found


def _ended(study: Study, directory: RunDirectory, trial: Trial) -> Outcome | None:
    """Returns the result of a run, or None where it has not ended."""
    inner, config = _run_of(study, directory, trial)
    if not inner.exists():
        return None
    try:
        changes.check_unchanged(inner, config)
    except RunError as error:  # its configuration is damaged, and no checkpoint is left to tell it
        logging.warning("%s: trained again", error.for_command_line)
        shutil.rmtree(inner.path)
        return None
    if inner.status() == "diverged" or changes.is_finished(inner, config):
        return advise_results.read_outcome(inner, study.validation_counts)
    return None


def _run_of(study: Study, directory: RunDirectory, trial: Trial) -> tuple[RunDirectory, Experiment]:
    """Returns the directory and the experiment of a run."""
    config = study.experiment_of(
        trial.strategy,
        epochs=trial.epochs,
        images=None if trial.images == study.images else trial.images,
        seed=trial.seed,
        rate=trial.rate,
    )
    inner = RunDirectory(directory.path / "runs" / trial.name)
    return inner, experiment.replace(config, _LEAN)


def train_all(
    study: Study,
    directory: RunDirectory,
    ended: dict[Trial, Outcome],
    clock: Clock | None,
    end: float | None,
    say: Say,
) -> tuple[Study, dict[Trial, Outcome]]:
    """Trains the runs that are left.

    Args:
        study: the plan.
        directory: of the comparison.
        ended: the results of the runs that were trained before.
        clock: estimates what is left; None where nothing is.
        end: when to be through, as `time.monotonic` counts; None: whenever that is.
        say: shows a line.

    Returns:
        The plan, with fewer seeds where the time did not suffice, and the results of all runs.

    Raises:
        RunError: a run failed in another way than by diverging.
        KeyboardInterrupt: somebody stopped it; what was being trained is saved.
    """
    outcomes, skipped = dict(ended), set()
    while left := [
        trial
        for trial in study.trials(outcomes)
        if trial not in outcomes and trial.kind not in skipped
    ]:
        trial = left[0]
        if clock is not None and end is not None:
            room = end - time.monotonic()
            if trial.rate != 1 and clock.seconds(study, [trial], outcomes) > room:
                skipped.add(trial.kind)
                say(f"           no time is left to try {trial.strategy} at a lower learning rate")
                continue
            seeds = trial.seed - study.base.seed
            of_seed = [each for each in left if each.seed == trial.seed]
            is_new = not any(done.seed == trial.seed for done in outcomes)
            if seeds and is_new and clock.seconds(study, of_seed, outcomes) > room:
                say(f"minutes    no time is left for another seed: {seeds} in place of more")
                study = study.within(seeds=seeds)
                continue
        outcomes[trial] = _train_one(study, directory, trial, left, outcomes, clock, say)
    return study, outcomes


def _train_one(
    study: Study,
    directory: RunDirectory,
    trial: Trial,
    left: list[Trial],
    outcomes: dict[Trial, Outcome],
    clock: Clock | None,
    say: Say,
) -> Outcome:
    """Trains a run to its end, and returns its result; having diverged is one."""
    inner, config = _run_of(study, directory, trial)
    images, epochs = text.plural(trial.images, "image"), text.plural(trial.epochs, "epoch")
    run = f"{named(trial.strategy, trial.rate)}, {images}, {epochs}, seed {trial.seed}"
    number, count = len(outcomes) + 1, len(outcomes) + len(left)
    seconds = 0.0 if clock is None else clock.seconds(study, left, outcomes)
    say(f"run {number} of {count}: {run}; about {text.duration(seconds)} left in all")
    began = time.monotonic()
    try:
        start.train(config, workdir=inner.path)
    except RunError:
        if inner.status() != "diverged":
            raise
    outcome = advise_results.read_outcome(inner, study.validation_counts)
    if clock is not None:
        clock.trained(study, trial, time.monotonic() - began, outcomes)
    # They would fill the disk, and nobody asked for them.
    shutil.rmtree(inner.checkpoints, ignore_errors=True)
    say(f"           {outcome.text}, {outcome.seconds:.1f} s")
    if outcome.is_lost and trial.rate == 1:
        say(f"           {trial.strategy} is tried once more at a tenth of its learning rate")
    return outcome
