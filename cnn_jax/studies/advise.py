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
import time
from collections.abc import Callable

from cnn_jax import experiment, text
from cnn_jax.experiment import Experiment
from cnn_jax.options import Advise
from cnn_jax.runs import code
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import advise_results, advise_runs, advise_study, advise_time, sides
from cnn_jax.studies.advise_results import Advice
from cnn_jax.studies.advise_study import Study
from cnn_jax.studies.advise_time import Clock
from cnn_jax.training.signals import raised_signals

Say = Callable[[str], None]

_RETRY = (
    "a strategy that diverges or collapses (says one class only) is tried once more, at a tenth of "
    "its learning rate"
)


def advise(
    base: Experiment,
    options: Advise,
    directory: RunDirectory,
    say: Say = lambda _: None,
    command: str | None = None,
) -> Advice:
    """Trains the runs that are not trained yet, compares, and writes the results.

    DIRECTORY gets plan.json (what is compared), runs/, advise.json, advise.md, figures/advise.png
    and recommended.json (the recommended strategy as an experiment).

    Args:
        base: the settings that all strategies have in common.
        options: what to compare.
        directory: where the results go: a new directory, or that of an earlier `advise`.
        say: shows a line.
        command: the shell command that started it, for its report.

    Returns:
        The advice.

    Raises:
        UsageError: there are no weights, or sizes and data do not fit together.
        RunError: a run failed in another way than by diverging.
        KeyboardInterrupt: somebody stopped it; what was being trained is saved.
    """
    study = advise_study.prepare(base, options)
    before = sides.read_plan(directory, "advise", is_given=True)
    if not (directory.path / "plan.json").exists():
        directory.create()
    with contextlib.ExitStack() as stack:
        stack.enter_context(directory.locked())
        stack.enter_context(raised_signals())
        asked = {"experiment": experiment.to_dict(base), "advise": dataclasses.asdict(options)}
        plan = {**asked, "code": code.describe(base), "command": command}
        if before is not None and all(before.get(key) == value for key, value in asked.items()):
            plan |= {key: before.get(key) for key in ("fitted", "command")}
        directory.write("plan", plan)
        _say_begin(study, directory, say)
        known = advise_runs.known(study, directory)
        clock, end, whole = None, None, study
        if plan.get("fitted") is not None:
            study = study.within(**plan["fitted"])
        if any(trial not in known for trial in study.trials(known)):
            began = time.monotonic()
            clock = Clock(advise_time.measure(study))
            if options.minutes is not None:
                end = began + 60 * options.minutes
                if plan.get("fitted") is None:
                    seconds = end - time.monotonic()
                    study = advise_time.fit(study, clock, seconds, options.minutes)
                    plan["fitted"] = study.size
                    directory.write("plan", plan)
                if given_up := study.given_up(whole):
                    say(f"minutes    to fit into {options.minutes:g}: {', '.join(given_up)}")
            for line in advise_time.table(study, clock, known):
                say(line)
        study, outcomes = advise_runs.train_all(study, directory, known, clock, end, say)
        advice = advise_results.summarise(
            outcomes, study.costs, study.epochs, study.validation_counts
        )
        subject = f"{base.model.name} on {study.data.info.name}"
        notes = list(study.notes)
        if given_up := study.given_up(whole):
            notes.append(f"To fit into {options.minutes:g} minutes: {', '.join(given_up)}.")
        advise_results.write(directory, advice, outcomes, notes, base.name, subject)
        if advice.recommended is not None:
            cell = advice.recommended
            chosen = study.experiment_of(cell.strategy, epochs=cell.epochs, rate=cell.rate)
            directory.write("recommended", experiment.to_dict(chosen))
    return advice


def _say_begin(study: Study, directory: RunDirectory, say: Say) -> None:
    """Says what is compared, on what, and where the results go."""
    say(f"advise     {study.base.name}: {study.base.model.name} on {study.data.info.name}")
    say(f"results    {text.shown(directory.path)}")
    say(f"images     {study.images:,} to train on, {study.validation_images:,} to validate on")
    stages = ", ".join(study.parts.stages) or "one"
    say(f"strategies {', '.join(study.strategies)}; backbone stages: {stages}")
    for note in [*study.notes, _RETRY]:
        say(f"           {note}")
