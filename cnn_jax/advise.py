"""The command `advise`: freeze or fine-tune, answered by experiments on the user's own data.

Every strategy is trained at every size of the training set, once a seed, each in a run directory of
its own below WORKDIR/runs; a run that is finished is not repeated. What counts is the validation
accuracy after the *last* epoch: the best of all epochs would favour those with more of them.

Two budgets make strategies comparable. "epochs" gives each the preset's epochs. "flops" gives each
the FLOPs that training the last block costs in the preset's epochs (fine-tuning everything where
the backbone is one stage), but one epoch at least, and `MOST_EPOCHS` times the preset's at most: an
epoch of a head on cached features costs next to nothing, and a head that has converged gains
nothing by more. FLOPs are those of the layer table (`summary.step_flops`, which the tests hold
against XLA's count): the cached stages once for every training image, then the steps. Validation
and what the optimizer does for each parameter are left out, for all strategies alike.
"""

import dataclasses
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn_jax import build, data, distributed, experiment, flags, run
from cnn_jax.errors import RunError, UsageError
from cnn_jax.evaluation.comparison import Cell, Recommendation, gigaflops, recommend
from cnn_jax.experiment import Advise, Experiment
from cnn_jax.flags import Invocation
from cnn_jax.pretrained import loading
from cnn_jax.reporting import figures, groups, progress, summary, tables
from cnn_jax.training import features, freezing

MOST_EPOCHS = 5

# (directory, experiment, invocation) -> exit code: trains to the end, or goes on with a run.
TrainIn = Callable[[run.RunDirectory, Experiment, Invocation], int]

_TITLES = {"epochs": "Equal epochs", "flops": "Equal FLOPs"}


class Trial(NamedTuple):
    """One run to be made.

    Attributes:
        strategy: one of `experiment.STRATEGIES`.
        images: to train on.
        epochs: of training.
        seed: of the run.
    """

    strategy: str
    images: int
    epochs: int
    seed: int

    @property
    def name(self) -> str:
        """The name of its run directory."""
        return f"{self.strategy}-{self.images}images-{self.epochs}epochs-seed{self.seed}"


class Outcome(NamedTuple):
    """What a run came to.

    Attributes:
        accuracy: on validation after the last epoch; None where the run diverged.
        training_seconds: of steps, evaluations and checkpoints.
        feature_seconds: of computing the frozen features; next to 0 where they were in the cache.
    """

    accuracy: float | None
    training_seconds: float
    feature_seconds: float


def trained_stages(assembly: build.Assembly) -> list[str]:
    """Returns the backbone's stages that have parameters, in order."""
    paths = freezing.flatten(assembly.shapes["params"])
    return [
        name
        for name in assembly.model.stage_names
        if any(path.startswith(f"backbone/{name}/" if name else "backbone/") for path in paths)
    ]


def available(chosen: Sequence[str], stages: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns (the strategies that these stages allow, notes on those that they do not)."""
    needs = {"last_block": 2, "last_two_blocks": 3}
    kept = [name for name in chosen if len(stages) >= needs.get(name, 1)]
    notes = [
        f"{name} is left out: the backbone has {len(stages)} stage{'s'[: len(stages) > 1]}"
        for name in chosen
        if name not in kept
    ]
    return kept, notes


def configure(
    base: Experiment, strategy: str, stages: Sequence[str], lr_scale: float, **changes: Any
) -> Experiment:
    """Returns the experiment of a strategy.

    What the base says of freezing and learning rates of parts gives way. Warm-up keeps its share of
    the run.

    Args:
        base: what all strategies have in common.
        strategy: one of `experiment.STRATEGIES`.
        stages: of `trained_stages`.
        lr_scale: of the backbone's parameters that are trained, pretrained or not: the head's rate
            is too high for a deep network.
        **changes: `epochs`, `images` (None: as in the base) and `seed` of the run.
    """
    blocks = {"last_block": 1, "last_two_blocks": 2}.get(strategy)
    freeze, scale = "none", f"backbone:{lr_scale:g}"
    if strategy == "head":
        freeze, scale = "backbone", None
    elif blocks is not None:
        free = "|".join(re.escape(name) for name in stages[-blocks:])
        freeze = f"backbone/(?!(?:{free})/).+"  # also what stands before the first stage
    settings: dict[str, Any] = {
        "transfer.freeze": freeze,
        "transfer.unfreeze": None,
        "transfer.lr_scale": scale,
        "checkpoint.keep": 1,
        "logging.figures_every": None,
        "logging.projector_images": 0,
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
    return experiment.replace(base, settings)


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a strategy costs at a size of the training set, in FLOPs.

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
        """Returns how many epochs a budget of FLOPs allows, at least 1 and at most so many."""
        return min(most, max(1, (budget - self.once) // max(self.epoch, 1)))


def cost(
    config: Experiment, assembly: build.Assembly, rows: Sequence[summary.LayerRow], images: int
) -> Cost:
    """Returns what an experiment costs on so many training images; a padded batch is a whole one.

    Args:
        config: of `configure`.
        assembly: what it comes to.
        rows: the layer table of its model.
        images: in the training set.
    """
    cut = features.cut(config, assembly)
    none, one = (groups.run_flops(assembly, config, images, cut, epochs, rows) for epochs in (0, 1))
    return Cost(once=none, epoch=one - none)


def plan_epochs(
    costs: Mapping[str, Cost], reference: Cost, budget: str, preset: int
) -> dict[str, int]:
    """Returns the epochs of each strategy in a budget.

    Args:
        costs: of each strategy, at one size of the training set.
        reference: of the strategy that sets the budget of FLOPs.
        budget: "epochs" or "flops".
        preset: the epochs of the preset.
    """
    if budget == "epochs":
        return dict.fromkeys(costs, preset)
    flops = reference.of(preset)
    return {name: of.epochs_within(flops, MOST_EPOCHS * preset) for name, of in costs.items()}


def table_rows(cells: Sequence[Cell]) -> list[list[str]]:
    """Returns the rows of the table whose headers are `HEADERS`."""
    return [
        [
            cell.strategy,
            f"{cell.images:,}",
            f"{cell.epochs:,}",
            cell.text,
            gigaflops(cell.flops),
            f"{cell.seconds:,.1f}",
        ]
        for cell in cells
    ]


HEADERS = ["strategy", "images", "epochs", "validation accuracy", "GFLOPs", "seconds"]
_ALIGN = "lrrlrr"


def run_command(invocation: Invocation, train_in: TrainIn) -> int:
    """Runs `advise`: trains what is not trained yet, then compares; returns the exit code.

    Args:
        invocation: the command line.
        train_in: trains one run.

    Raises:
        UsageError: there are no weights, or sizes and data do not fit together.
        RunError: a run failed in another way than by diverging.
    """
    directory, base, options = _open(invocation)
    if base.transfer.weights is None:
        raise UsageError(
            "advise compares what can be done with pretrained weights: it needs --transfer.weights "
            "(imagenet, a file, or a run directory), in the preset or as a flag"
        )
    loaded = data.load(base.dataset, test=False)
    info = loaded.info
    whole, validation = info.sizes["train"], info.sizes["validation"]
    sizes = options.sizes(whole)
    classes = sum(count > 0 for count in info.class_counts["train"])
    if sizes[-1] > whole or sizes[0] < classes:
        raise UsageError(
            f"--advise.examples={options.examples}: {info.name} has {whole:,} images of "
            f"{classes} classes to train on"
        )
    weights = loading.load(base.transfer.weights, base.model.name, base.transfer.include)
    plain = experiment.replace(
        base, {"transfer.freeze": "none", "transfer.unfreeze": None, "transfer.cache_views": 0}
    )
    assembly = build.assemble(plain, info, weights.preprocessing, weights.options)
    loading.merge(assembly.shapes, weights, base.transfer.include)
    stages = trained_stages(assembly)
    chosen, notes = available(options.chosen, stages)
    if not chosen:
        raise UsageError(f"nothing is left to compare: {'; '.join(notes)}")
    rows = summary.layer_table(assembly.model, info.image_shape)

    def experiment_of(strategy: str, **changes: Any) -> Experiment:
        return configure(base, strategy, stages, options.backbone_lr_scale, **changes)

    def cost_of(strategy: str, images: int) -> Cost:
        config = experiment_of(strategy)
        assembly = build.assemble(config, info, weights.preprocessing, weights.options)
        return cost(config, assembly, rows, images)

    reference = "last_block" if len(stages) > 1 else "everything"
    costs = {n: {name: cost_of(name, n) for name in chosen} for n in sizes}
    epochs = {
        budget: {
            n: plan_epochs(costs[n], cost_of(reference, n), budget, base.train.epochs)
            for n in sizes
        }
        for budget in options.budgets
    }
    # Seed by seed, so that what was stopped early has whole seeds. One run may serve both budgets.
    trials = list(
        dict.fromkeys(
            Trial(name, n, epochs[budget][n][name], base.seed + i)
            for i in range(options.seeds)
            for n in sizes
            for name in chosen
            for budget in options.budgets
        )
    )
    if directory.read("plan") is None:
        directory.create()
    with directory.locked():
        if distributed.is_primary():
            plan = {"experiment": experiment.to_dict(base), "advise": dataclasses.asdict(options)}
            directory.write("plan", plan)
        say = progress.speaker(invocation.quiet)
        say(f"advise     {base.name}: {base.model.name} on {info.name}")
        say(f"results    {run.shown(directory.path)}")
        say(f"images     {whole:,} to train on, {validation:,} to validate on")
        say(f"strategies {', '.join(chosen)}; backbone stages: {', '.join(stages) or 'one'}")
        for note in notes:
            say(f"           {note}")
        code, outcomes = _train_all(
            trials,
            lambda trial: experiment_of(
                trial.strategy,
                epochs=trial.epochs,
                images=None if trial.images == whole else trial.images,
                seed=trial.seed,
            ),
            {trial: costs[trial.images][trial.strategy].of(trial.epochs) for trial in trials},
            directory,
            invocation,
            train_in,
        )
        if code:
            return code
        if not distributed.is_primary():
            return 0
        cells = {
            budget: [
                _cell(name, n, epochs[budget][n][name], costs[n][name], outcomes)
                for name in chosen
                for n in sizes
            ]
            for budget in options.budgets
        }
        advice = {
            budget: recommend([cell for cell in found if cell.images == sizes[-1]], validation)
            for budget, found in cells.items()
        }
        _write(directory, cells, advice, outcomes, notes, [base.name, base.model.name, info.name])
        first = next((b for b, advised in advice.items() if advised.strategy), None)
        if first is not None:
            strategy = str(advice[first].strategy)
            made = experiment_of(strategy, epochs=epochs[first][sizes[-1]][strategy])
            made = experiment.replace(
                made,
                {
                    "checkpoint.keep": base.checkpoint.keep,
                    "logging.figures_every": base.logging.figures_every,
                    "logging.projector_images": base.logging.projector_images,
                },
            )
            directory.write("recommended", experiment.to_dict(made))
        _report(directory, cells, advice, first)
    return 0


def _open(invocation: Invocation) -> tuple[run.RunDirectory, Experiment, Advise]:
    """Returns (directory, experiment, options), those of --workdir as far as no flag says else."""
    plan = None
    if invocation.workdir is not None:
        plan = run.RunDirectory(invocation.workdir).read("plan")
    if plan is None or invocation.config is not None:
        base = flags.resolve(invocation)
    else:
        base = experiment.replace(experiment.from_dict(plan["experiment"]), invocation.overrides)
    options = Advise(**{**(plan or {}).get("advise", {}), **invocation.advise})
    if invocation.workdir is None:
        directory = run.new_directory(f"{base.name}-advise")
    else:
        directory = run.RunDirectory(invocation.workdir)
    if directory.exists():
        raise UsageError(
            f"--workdir={run.shown(directory.path)} is the directory of a training run; give "
            "advise another one"
        )
    return directory, base, options


def _train_all(
    trials: Sequence[Trial],
    experiment_of: Callable[[Trial], Experiment],
    flops: Mapping[Trial, int],
    directory: run.RunDirectory,
    invocation: Invocation,
    train_in: TrainIn,
) -> tuple[int, dict[Trial, Outcome]]:
    """Makes the runs that are not made yet; returns (exit code, outcomes)."""
    say = progress.speaker(invocation.quiet)
    quiet = dataclasses.replace(invocation, quiet=True)
    outcomes: dict[Trial, Outcome] = {}
    go_on = f"go on with all of them: {run.command_line('advise', directory.path)}"
    for number, trial in enumerate(trials, start=1):
        inner = run.RunDirectory(directory.path / "runs" / trial.name)
        plural = "s"[: trial.epochs > 1]
        what = f"{trial.strategy}, {trial.images:,} images, {trial.epochs} epoch{plural}"
        left = _time_left(trials[number - 1 :], flops, outcomes)
        say(f"run {number} of {len(trials)}: {what}, seed {trial.seed}{left}")
        try:
            # One that diverged would do so again. A finished one is only held against its settings.
            if not (inner.exists() and inner.status() == "diverged"):
                code = train_in(inner, experiment_of(trial), quiet)
                if code:
                    print(go_on)
                    return code, outcomes
        except KeyboardInterrupt:
            print(go_on)
            raise
        except RunError:
            if inner.status() != "diverged":
                raise
        outcomes[trial] = _outcome(inner)
        if distributed.is_primary():
            # They would fill the disk, and are not what was asked for.
            shutil.rmtree(inner.checkpoints, ignore_errors=True)
        accuracy, seconds = outcomes[trial].accuracy, outcomes[trial].training_seconds
        shown = "diverged" if accuracy is None else f"validation accuracy {accuracy:.4f}"
        say(f"           {shown}, {seconds + outcomes[trial].feature_seconds:.1f} s")
    return 0, outcomes


def _outcome(inner: run.RunDirectory) -> Outcome:
    """Returns what a run directory says."""
    history = inner.read("history", [])
    spent = inner.read("result", {}).get("features", {"seconds": 0.0})["seconds"]
    diverged = inner.status() == "diverged"
    return Outcome(
        accuracy=None if diverged else history[-1]["validation_accuracy"],
        training_seconds=history[-1]["seconds"] if history else 0.0,
        feature_seconds=spent,
    )


def _time_left(
    trials: Sequence[Trial], flops: Mapping[Trial, int], outcomes: Mapping[Trial, Outcome]
) -> str:
    """Returns "; about H:MM:SS left in all", judged by the runs of the same kind if there are any.

    Before the first run there is nothing to judge by, and nothing is said.
    """

    def rate(done: Sequence[Trial]) -> float:
        seconds = sum(sum(outcomes[trial][1:]) for trial in done)
        return seconds / max(1, sum(flops[trial] for trial in done))

    if not outcomes:
        return ""
    overall = rate(list(outcomes))
    seconds = 0.0
    for trial in trials:
        cells = [done for done in outcomes if done[:3] == trial[:3]]
        alike = cells or [done for done in outcomes if done.strategy == trial.strategy]
        seconds += flops[trial] * (rate(alike) if alike else overall)
    seconds = round(seconds)
    return f"; about {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left in all"


def _cell(
    strategy: str, images: int, epochs: int, cost: Cost, outcomes: Mapping[Trial, Outcome]
) -> Cell:
    """Returns the cell of the runs of all seeds."""
    own = [
        found
        for trial, found in outcomes.items()
        if (trial.strategy, trial.images, trial.epochs) == (strategy, images, epochs)
    ]
    # Computed by whichever run came first, and found in the cache by all others.
    feature_seconds = max(
        found.feature_seconds
        for trial, found in outcomes.items()
        if (trial.strategy, trial.images) == (strategy, images)
    )
    return Cell(
        strategy=strategy,
        images=images,
        epochs=epochs,
        accuracies=tuple(found.accuracy for found in own if found.accuracy is not None),
        diverged=sum(found.accuracy is None for found in own),
        flops=cost.of(epochs),
        seconds=float(np.mean([found.training_seconds for found in own])) + feature_seconds,
    )


def _write(
    directory: run.RunDirectory,
    cells: Mapping[str, Sequence[Cell]],
    advice: Mapping[str, Recommendation],
    outcomes: Mapping[Trial, Outcome],
    notes: Sequence[str],
    subject: Sequence[str],
) -> None:
    """Writes advise.json, advise.md and figures/advise.png."""
    directory.write(
        "advise",
        {
            "notes": list(notes),
            "budgets": {
                budget: {
                    "cells": [
                        {**dataclasses.asdict(cell), "mean": cell.mean, "std": cell.std}
                        if cell.accuracies
                        else dataclasses.asdict(cell)
                        for cell in found
                    ],
                    "recommendation": dataclasses.asdict(advice[budget]),
                }
                for budget, found in cells.items()
            },
            "runs": [
                {"run": f"runs/{trial.name}", **trial._asdict(), **found._asdict()}
                for trial, found in outcomes.items()
            ],
        },
    )
    name, model, dataset = subject
    parts = [
        f"# Freeze or fine-tune? {model} on {dataset}",
        f"Preset `{name}`. Validation accuracy is that after the last epoch, mean ± sample "
        "standard deviation over the seeds. GFLOPs are of one run: the cached stages once for "
        "every training image, then the steps. Seconds are of this machine, evaluations included; "
        "features that were in the cache before cost none.",
        *notes,
        "![Validation accuracy against training images](figures/advise.png)",
    ]
    for budget, found in cells.items():
        parts += [
            f"## {_TITLES[budget]}",
            tables.markdown(table_rows(found), HEADERS, _ALIGN),
            f"**Recommended: {advice[budget].strategy or 'nothing'}.** {advice[budget].text}",
        ]
    (directory.path / "advise.md").write_text("\n\n".join(parts) + "\n")
    panels = {}
    for budget, found in cells.items():
        lines: dict[str, list[tuple[int, float, float]]] = {}
        for cell in found:
            if cell.accuracies:
                point = (cell.images, cell.mean, cell.std or 0.0)
                lines.setdefault(cell.strategy, []).append(point)
        panels[_TITLES[budget]] = lines
    figures.save(figures.learning_curves(panels), directory.figures / "advise.png")


def _report(
    directory: run.RunDirectory,
    cells: Mapping[str, Sequence[Cell]],
    advice: Mapping[str, Recommendation],
    first: str | None,
) -> None:
    """Prints the tables and the recommendations; also with --quiet, as they are the result."""
    for budget, found in cells.items():
        print(f"\n{_TITLES[budget]}")
        print(tables.table(table_rows(found), HEADERS, _ALIGN))
        print(f"recommended: {advice[budget].strategy or 'nothing'}. {advice[budget].text}")
    print()
    for name in ("advise.md", "advise.json", "figures/advise.png"):
        print(f"written    {run.shown(directory.path / name)}")
    if first is not None:
        path = run.shown(directory.path / "recommended")
        line = run.command_line("train", directory.path / "recommended", f"--config={path}.json")
        print(f"train it   {line}")
