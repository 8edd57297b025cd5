"""The plan of a sweep, which all of its workers follow: plan.json.

The directory of a sweep also holds `study.journal` (the trials, unless another storage has them),
`study.json` (their name in the storage), `trials/NNNN/seedN` (run directories; of folds
`seedN_foldK`), `sweep.json` (their results so far), and at the end `best.json` (the best setting as
an experiment) and `figures/sweep.png`.
"""

import dataclasses
from typing import NamedTuple

from cnn_jax import experiment, text
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.options import Sweep
from cnn_jax.reporting import tensorboard
from cnn_jax.runs import code
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import sides
from cnn_jax.studies.judging import VALIDATION_SETTINGS
from cnn_jax.studies.sweep import space
from cnn_jax.studies.sweep.study import OWN_FILES, Study

# How files begin that are there before the plan is.
_BEFORE_THE_PLAN = ("events.out.tfevents", ".plan.json.")
# Fields of Sweep that say how workers are started; they may change between starts.
START_FIELDS = ("parallel", "launcher", "resources")


class Plan(NamedTuple):
    """What a sweep was started with.

    Attributes:
        base: the experiment that all settings vary.
        options: the sweep; START_FIELDS have their defaults.
    """

    base: Experiment
    options: Sweep


def read(directory: RunDirectory, is_given: bool) -> Plan | None:
    """Returns the plan of a sweep that was started in a directory, or None.

    Args:
        directory: the sweep's directory.
        is_given: whether the command line says what to plan, so that a damaged plan is made anew.

    Raises:
        RunError: the plan is damaged, and the command line does not say it.
        UsageError: the directory holds something else, or the sweep needs code of the user's own
            that is not loaded.
    """
    if directory.exists():
        raise UsageError(
            f"--workdir={text.shown(directory.path)} is the directory of a training run; give "
            "sweep another one"
        )
    is_damaged = (directory.path / "plan.json").exists()
    plan = sides.read_plan(directory, "sweep", is_given)
    if plan is None:
        # Another worker may be about to write the plan, or was stopped before it could.
        names = [x.name for x in directory.path.iterdir()] if directory.path.exists() else []
        ours = all(name in OWN_FILES or name.startswith(_BEFORE_THE_PLAN) for name in names)
        if not (ours or is_damaged):
            raise UsageError(
                f"--workdir={text.shown(directory.path)} holds other files; give a new directory"
            )
        return None
    code.check(plan.get("code"))
    return Plan(sides.experiment_of(directory, plan), sides.options_of(plan, "sweep"))


def check_unchanged(directory: RunDirectory, old: Plan, new: Plan) -> None:
    """Refuses to go on with a sweep in another way than it was started.

    Raises:
        UsageError: a setting differs that may not change, or there are to be fewer trials.
    """
    if new.options.trials < old.options.trials:
        raise UsageError(
            f"the sweep in {text.shown(directory.path)} has --sweep.trials={old.options.trials}, "
            f"which can become more and not {new.options.trials}; leave it out to go on"
        )
    a, b = with_absolute_paths(old.options), with_absolute_paths(new.options)
    changed = [
        f"--sweep.{field.name}={getattr(old.options, field.name)}, "
        f"not {getattr(new.options, field.name)}"
        for field in dataclasses.fields(Sweep)
        if not field.metadata["resumable"] and getattr(a, field.name) != getattr(b, field.name)
    ]
    absolute = map(experiment.with_absolute_paths, (old.base, new.base))
    changed += [f"another --{path}" for path in experiment.difference(*absolute) if path != "name"]
    if changed:
        raise UsageError(
            f"the sweep in {text.shown(directory.path)} was started with {changed[0]}; leave it "
            "out to go on, or give another --workdir"
        )


def with_absolute_paths(options: Sweep) -> Sweep:
    """Returns the options of a sweep so that they also hold in another working directory.

    Raises:
        UsageError: a path in the space can be none on this machine.
    """
    if options.space is None:
        return options
    return dataclasses.replace(options, space=space.with_absolute_paths(options.space))


def start(
    directory: RunDirectory,
    base: Experiment,
    options: Sweep,
    question: str | None = None,
    command: str | None = None,
) -> Study:
    """Starts a sweep, or joins one that was started with the same plan; returns its study.

    Args:
        directory: the sweep's directory; it is made where it is not there.
        base: the experiment that all settings vary.
        options: the sweep.
        question: what the sweep asks, for its report.
        command: the shell command that started it, for its report.

    Raises:
        UsageError: the space or a setting is not legal, and nothing was written.
        RunError: the storage cannot be opened.
    """
    if options.space is None:
        raise UsageError(
            "sweep needs --sweep.space, such as --sweep.space='optimizer.learning_rate="
            "log(1e-4,1e-1)'"
        )
    if options.folds is not None:
        if base.dataset.fold is not None:
            raise UsageError(
                f"--sweep.folds={options.folds} trains on every fold, and --dataset.fold="
                f"{base.dataset.fold} names one; leave one of them out"
            )
        experiment.replace(base, {"dataset.fold": f"1/{options.folds}"})  # refuses what excludes it
    dimensions = space.parse(options.space, base)
    # Before anything is written: single values may be legal, and their combinations not.
    settings = space.planned(options, dimensions, base)
    directory.path.mkdir(parents=True, exist_ok=True)
    study = Study(directory.path, options, dimensions, base, settings)
    with study.locked():
        plan = sides.read_plan(directory, "sweep", is_given=True)
        if plan is None:
            plan = {"experiment": experiment.to_dict(base), "code": code.describe(base)}
            plan |= {"question": question, "command": command}
            varied = [dimension.path for dimension in dimensions]
            tensorboard.write_sweep(directory.path, experiment.flatten(base), varied)
        kept = {k: v for k, v in dataclasses.asdict(options).items() if k not in START_FIELDS}
        directory.write("plan", {**plan, "sweep": kept, "settings": study.wanted})
    return study


def paths_that_change_images(options: Sweep, base: Experiment) -> list[str]:
    """Returns the settings of the space that change which images are validated on, sorted."""
    varied = {dimension.path for dimension in space.parse(str(options.space), base)}
    return sorted(varied & set(VALIDATION_SETTINGS))
