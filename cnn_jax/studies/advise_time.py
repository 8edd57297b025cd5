"""How long the runs of `advise` take, from a few steps of each strategy, and plans that fit a time.

A run is its start (weights, compilation), the frozen features where it is the first to need them,
and its epochs: steps, validation, a checkpoint. Seconds of steps and of a forward pass are measured
here, on the real images; the rest follows from counts.
"""

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import text
from cnn_jax.data import Split, batches
from cnn_jax.data.feeding import Feed
from cnn_jax.errors import UsageError
from cnn_jax.evaluation.evaluator import Evaluator
from cnn_jax.reporting import tables
from cnn_jax.studies.advise_plan import Trial
from cnn_jax.studies.advise_study import Study
from cnn_jax.studies.comparison import named
from cnn_jax.training import loop
from cnn_jax.training.parts import Parts, prepare
from cnn_jax.training.steps import make_train_step

_IMAGES = 32  # that the forward pass is measured on
_STEPS, _STEP_SECONDS = 3, 1.0  # steps that are measured; fewer where they take longer in all
_FILES_SECONDS = 1.5  # of a run: its folder, figures and curves
_DISK = 200e6  # bytes a second that a checkpoint is written at
_MARGIN = 1.1  # of the estimate, for a plan that is to fit a time
_SHARES = (1.0, 0.75, 0.5, 0.33, 0.25)  # of the preset's epochs, in a plan that is to fit


class Speed(NamedTuple):
    """What a strategy's runs spend their seconds on.

    Attributes:
        start: of a run, before its first step, compilation included.
        step: of one step.
        image: of validating one image.
        feature: of the frozen features of one image; 0 where none are cached.
        save: of one checkpoint.
    """

    start: float
    step: float
    image: float
    feature: float
    save: float


class Clock:
    """The time that runs take: measured beforehand, and corrected by those that were trained.

    Args:
        speeds: {strategy: its speed}.
    """

    def __init__(self, speeds: Mapping[str, Speed]):
        self._speeds = speeds
        self._spent: dict[str, list[tuple[float, float]]] = {}

    def seconds(self, study: Study, trials: Iterable[Trial], done: Iterable[Trial] = ()) -> float:
        """Returns how long runs take that are trained one after the other.

        Args:
            study: what is compared.
            trials: the runs, in their order.
            done: those before them, whose features are in the cache.
        """
        cached = {trial[:2] for trial in done}
        total = 0.0
        for trial in trials:
            total += self._of(study, trial, cached) * self._correction(trial.strategy)
            cached.add(trial[:2])
        return total

    def trained(self, study: Study, trial: Trial, seconds: float, done: Iterable[Trial]) -> None:
        """Takes note of how long a run took."""
        expected = self._of(study, trial, {other[:2] for other in done})
        self._spent.setdefault(trial.strategy, []).append((seconds, expected))

    def _correction(self, strategy: str) -> float:
        spent = self._spent.get(strategy) or list(itertools.chain(*self._spent.values()))
        if not spent:
            return 1.0
        taken, expected = (sum(column) for column in zip(*spent, strict=True))
        one = expected / len(spent)  # the measured speed counts as one run: a single one may err
        return (taken + one) / (expected + one)

    def _of(self, study: Study, trial: Trial, cached: set[Any]) -> float:
        speed = self._speeds[trial.strategy]
        validation = study.validation_images
        steps = batches.steps_per_epoch(trial.images, study.base.dataset.batch_size)
        epoch = steps * speed.step + validation * speed.image + speed.save
        images = 0
        if trial[:2] not in cached:  # the features of one size serve all seeds
            images = trial.images * max(1, study.base.transfer.cache_views)
            if trial.strategy not in {strategy for strategy, _ in cached}:
                images += validation
        return speed.start + _FILES_SECONDS + images * speed.feature + trial.epochs * epoch


def measure(study: Study) -> dict[str, Speed]:
    """Returns the speed of each strategy on this machine, from a few steps of each."""
    forward, speeds = None, {}
    for strategy in study.strategies:
        began = time.monotonic()
        parts = prepare(study.experiment_of(strategy), study.data)
        state = parts.first_state()
        if forward is None:
            measuring = time.monotonic()
            forward = _forward_seconds(parts, state.variables())
            began += time.monotonic() - measuring
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state) if hasattr(leaf, "nbytes"))
        plan = parts.plan
        split = _first_images(parts, plan.batch_size)
        feed = Feed(split, parts.mesh, parts.config.dataset.resident_limit)
        order = batches.TrainBatches(0, plan.batch_size, plan.batch_size, 0, 0)
        given, step = feed.batches(order), loop.jit_step(make_train_step(plan), parts.mesh)
        hyper = parts.hyperparameters()
        state = jax.block_until_ready(step(state, next(given), hyper))
        start = time.monotonic() - began
        steps, began = 0, time.monotonic()
        while steps < _STEPS and (not steps or time.monotonic() - began < _STEP_SECONDS):
            state, steps = jax.block_until_ready(step(state, next(given), hyper)), steps + 1
        seconds = (time.monotonic() - began) / steps
        cached = study.cached_share(strategy)
        speeds[strategy] = Speed(
            start, seconds, forward * (1 - cached), forward * cached, size / _DISK
        )
    return speeds


def _forward_seconds(parts: Parts, variables: Any) -> float:
    """Returns the seconds of a forward pass of the whole network, for one image."""
    split = parts.data.splits["validation"]
    chosen = np.arange(_IMAGES) % len(split.labels)
    some = Split(split.images[chosen], split.labels[chosen], [""] * _IMAGES)
    feed = Feed(some, parts.mesh, parts.config.dataset.resident_limit)
    evaluate = Evaluator(parts.plan.assembly, _IMAGES, parts.mesh)
    evaluate(variables, feed)  # compiles
    began = time.monotonic()
    evaluate(variables, feed)
    return (time.monotonic() - began) / _IMAGES


def _first_images(parts: Parts, count: int) -> Split:
    """Returns images as the steps take them; in place of cached features zeros, as fast."""
    split, plan = parts.data.train, parts.plan
    chosen = np.arange(count) % len(split.labels)
    images = split.images[chosen]
    if plan.cached_stages:
        model = plan.assembly.model

        def forward(variables: Any, images: Any) -> Any:
            inputs = plan.assembly.preprocess(images, None)
            stop = plan.cached_stages
            return model.apply(variables, inputs, stop=stop, method=model.forward_features)

        shapes = plan.assembly.shapes
        found = jax.eval_shape(forward, shapes, jax.ShapeDtypeStruct(images.shape, images.dtype))
        images = np.zeros(found.shape, jnp.float32)
    return Split(images, split.labels[chosen], [""] * count)


def table(study: Study, clock: Clock, done: Mapping[Trial, Any]) -> list[str]:
    """Returns lines that say what is to be trained, how often, and how long that takes.

    Args:
        study: the plan.
        clock: estimates it.
        done: the runs that were trained before.
    """
    trials = [trial for trial in study.trials(done) if trial not in done]
    kinds = {trial.kind: trial for trial in reversed(trials)}
    rows = [
        [
            named(trial.strategy, trial.rate),
            f"{trial.images:,}",
            f"{trial.epochs:,}",
            str(sum(each.kind == kind for each in trials)),
            f"{clock.seconds(study, [trial]):,.0f}",
        ]
        for kind, trial in sorted(kinds.items(), key=lambda item: trials.index(item[1]))
    ]
    headers = ["strategy", "images", "epochs", "runs", "seconds each"]
    before = f", after {len(done)} that are trained already" if done else ""
    seconds = text.duration(clock.seconds(study, trials, done))
    return [
        *tables.table(rows, headers, "lrrrr").splitlines(),
        f"estimate   {text.plural(len(trials), 'run')}{before}, about {seconds} in all, by a few "
        "steps of each strategy on this machine",
    ]


def fit(study: Study, clock: Clock, seconds: float, minutes: float) -> Study:
    """Returns the largest plan that takes at most some seconds.

    Seeds are given up first (two are left, which a test needs), then epochs, then the strategy that
    costs the most.

    Args:
        study: the plan that was asked for.
        clock: estimates plans.
        seconds: what the runs may take.
        minutes: what the whole comparison may take, for the error.

    Raises:
        UsageError: the smallest plan takes longer.
    """
    needed = 0.0
    for plan in _plans(study):
        needed = _MARGIN * clock.seconds(plan, plan.trials({}))
        if needed <= seconds:
            return plan
    raise UsageError(
        f"--advise.minutes={minutes:g} is too short: the smallest plan takes about "
        f"{text.duration(needed)}; give more minutes, or fewer --advise.examples"
    )


def _plans(study: Study) -> Iterator[Study]:
    """Yields plans, the largest first."""
    strategies = list(study.strategies)
    while True:
        yield from _smaller(study.within(strategies=strategies), study.options.seeds)
        if len(strategies) <= 2:
            return
        largest = study.sizes[-1]
        strategies.remove(max(strategies, key=lambda name: study.costs[largest][name].epoch))


def _smaller(study: Study, seeds: int) -> Iterator[Study]:
    epochs = [max(1, round(share * study.preset_epochs)) for share in _SHARES]
    for fewer in dict.fromkeys(epochs):
        for count in range(seeds, min(seeds, 2) - 1, -1):
            yield study.within(epochs=fewer, seeds=count)
