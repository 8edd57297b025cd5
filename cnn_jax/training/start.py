"""The order of a run: settings, data, weights, model, plan, state, training, result."""

import contextlib
import os
import time
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging

from cnn_jax import distributed, experiment, processes, progress
from cnn_jax.data import Data, Split
from cnn_jax.data import splits as data_splits
from cnn_jax.data.feeding import Feed
from cnn_jax.evaluation import embedding, metrics, probe
from cnn_jax.experiment import Experiment
from cnn_jax.losses import Loss
from cnn_jax.runs import callbacks as told
from cnn_jax.runs import changes, code, loading
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.recorder import Recorder
from cnn_jax.runs.trained import Run
from cnn_jax.runs.unrecorded import Unrecorded
from cnn_jax.training import costs, freezing, loop, memory, opening, profile, statistics, together
from cnn_jax.training.arguments import name_values
from cnn_jax.training.parts import Parts, Say, prepare
from cnn_jax.training.signals import agreed_stop
from cnn_jax.training.state import TrainState, abstract_state


def train(
    config: Experiment,
    data: Data | None = None,
    *,
    workdir: str | os.PathLike[str] | None = None,
    model: nn.Module | None = None,
    loss: Loss | None = None,
    optimizer: optax.GradientTransformation | None = None,
    say: Say | None = None,
    progress: bool = False,
    profile_steps: tuple[int, int] | None = None,
    callbacks: Sequence[told.Callback] = (),
) -> Run:
    """Trains an experiment, or goes on with the run of a directory; a finished one stays as it is.

    Args:
        config: the experiment.
        data: its data; None: those that it names are loaded.
        workdir: the run directory; None: nothing is written.
        model: a user's own module in place of the experiment's.
        loss: a user's own loss, likewise.
        optimizer: a user's own optimizer, likewise.
        say: shows a line on what the run is and does; None: nothing is said.
        progress: whether a bar (on a terminal or in a notebook) or lines show how it goes on.
        profile_steps: the first and the last step to trace; None: no trace.
        callbacks: are told the points of the curves.

    Returns:
        The trained network, with the variables of the best epoch by validation.

    Raises:
        UsageError: settings, data, model and weights do not fit together, or the directory holds
            another run.
        RunError: data or weights cannot be read, or training diverged.
        Interrupted: a signal asked to stop; the state is saved. Without a workdir signals are left
            alone, and Ctrl-C is a KeyboardInterrupt.
    """
    say = say or _silent
    told.check(callbacks)
    config = experiment.with_absolute_paths(name_values(config, data, model, loss, optimizer))
    directory = None if workdir is None else RunDirectory(workdir)
    together.check_directory(directory)
    if directory is not None and directory.exists():
        code.check(directory.read("code"), model, loss)
        config = changes.check_unchanged(directory, config)
        if changes.is_finished(directory, config):
            return loading.load(directory.path, model=model, loss=loss)
    values = {"model": model, "loss": loss, "optimizer": optimizer}
    with processes.team().first():
        parts = prepare(config, data, directory, **values, quiet=not progress)
    profile.check(profile_steps, parts.plan.total_steps)
    memory.check_plan(parts.plan, config, parts.data.info, parts.mesh.size)
    together.check_same(parts)

    with contextlib.ExitStack() as stack:
        path, per_epoch = None if directory is None else directory.path, parts.plan.steps_per_epoch
        listeners = told.Callbacks(callbacks, config, per_epoch, path)
        recorder: Recorder | Unrecorded
        recorder = Unrecorded(parts.data.info, config.dataset.positive, listeners)
        if directory is not None:
            untrained = freezing.untrained(parts.plan.assembly.shapes["params"], parts.plan.phases)
            recorder = Recorder(directory, config, parts.data.info, untrained, listeners)
        stack.enter_context(recorder)
        if say is not _silent:
            opening.tell(say, parts, directory)
        recorder.begin(parts.about_weights, _code(parts, model, loss))
        if parts.about_weights is None and (warning := statistics.warning(parts.plan)):
            logging.warning("%s", warning)
        stop_signal = stack.enter_context(agreed_stop(listens=directory is not None))
        history = _train(parts, recorder, say, progress, profile_steps, stop_signal)
        recorder.finish(history, costs.run_flops(parts.plan, len(history)))
        return Run(
            config,
            parts.plan.assembly,
            parts.data.info,
            history,
            recorder.best_variables,
            path,
            parts.data,
        )


def _silent(line: str) -> None:
    """Shows nothing."""


def _code(parts: Parts, model: nn.Module | None, loss: Loss | None) -> dict[str, Any]:
    """Returns the contents of code.json; a user's own model is told by its parameters."""
    found = code.describe(parts.config, model, loss)
    if "model" in found:
        found["model"]["parameters"] = code.parameter_shapes(parts.plan.assembly.shapes)
    return found


def _train(
    parts: Parts,
    recorder: Recorder | Unrecorded,
    say: Say,
    shows_progress: bool,
    profile_steps: tuple[int, int] | None,
    stop_signal: loop.StopSignal,
) -> list[dict[str, Any]]:
    """Trains from the newest checkpoint, or the start, to the end; returns the history."""
    config, plan, data = parts.config, parts.plan, parts.data
    restored = recorder.restore(
        lambda meta: abstract_state(plan, meta), distributed.replicated(parts.mesh)
    )
    if restored is None:
        state = parts.first_state()
        meta: dict[str, Any] = {"phase": 0, "seconds": 0.0, "history": []}
    else:
        state, meta = restored
    step = int(state.step)
    if step >= plan.total_steps or plan.rule.is_over(meta["history"]):  # killed just before the end
        _project(parts, recorder, state, data.splits["validation"], 0)
        return meta["history"]
    if step:
        say(f"resumed    at step {step} of {plan.total_steps}")

    splits = dict(data.splits)
    if plan.cached_stages:
        began = time.monotonic()
        on_disk = recorder.path is not None  # a run without a directory writes nothing
        splits |= parts.cache_features(state.variables(), not shows_progress, say, on_disk)
        recorder.add_feature_seconds(plan.cached_stages, time.monotonic() - began)
    limit = config.dataset.resident_limit
    feeds = {name: Feed(splits[name], parts.mesh, limit) for name in ("train", "validation")}
    recorder.start(data, step, restored is not None)
    if restored is None and plan.cached_stages == len(plan.prefixes) and not data.info.multilabel:
        _probe(splits, len(data.info.class_names), recorder, say)

    bar = progress.Progress(
        plan.total_steps, plan.steps_per_epoch, step, plan.batch_size, quiet=not shows_progress
    )
    trace = profile.Trace(recorder.path, profile_steps, step, say)
    log_every = config.logging.every_steps or max(1, plan.steps_per_epoch // 20)
    with contextlib.closing(bar), contextlib.closing(trace):
        state, history = loop.train(
            plan,
            state,
            meta,
            seed=config.seed,
            hyper=parts.hyperparameters(),
            mesh=parts.mesh,
            splits=data.splits,
            feeds=feeds,
            evaluate=parts.evaluator(),
            schedule=loop.Schedule(log_every, config.checkpoint.every_steps),
            recorder=recorder,
            bar=bar,
            trace=trace,
            stop_signal=stop_signal,
        )
    _project(parts, recorder, state, splits["validation"], plan.cached_stages)
    return history


def _probe(
    splits: dict[str, Split], classes: int, recorder: Recorder | Unrecorded, say: Say
) -> None:
    """Records the accuracy of a linear classifier in closed form on the backbone's features."""
    began = time.monotonic()
    train, validation = splits["train"], splits["validation"]
    found = probe.ridge_probe(
        train.images, train.labels, validation.images, validation.labels, classes
    )
    seconds = time.monotonic() - began
    say(
        f"probe      ridge on the frozen features: validation accuracy "
        f"{found.accuracy:.4f} (penalty {found.penalty:.3g}), in {seconds:.1f} s"
    )
    recorder.point(0, {"validation/probe_accuracy": found.accuracy})
    recorder.add_result("probe", {**found._asdict(), "seconds": seconds})


def _project(
    parts: Parts,
    recorder: Recorder | Unrecorded,
    state: TrainState,
    validation: Split,
    start: int,
) -> None:
    """Writes the features of some validation images for TensorBoard's projector.

    Args:
        parts: the model and the images.
        recorder: writes them.
        state: the last state.
        validation: the validation split as images, or as the input of a stage.
        start: that stage; 0: it holds images.
    """
    count = recorder.projector_examples(len(validation.labels))
    if count == 0:
        return
    chosen = np.linspace(0, len(validation.labels) - 1, count).astype(int)
    dataset = parts.config.dataset
    features, logits = embedding.embed(
        embedding.make_step(parts.plan.assembly, parts.mesh, start),
        parts.mesh,
        state.variables(),
        data_splits.take(validation, chosen),
        batch_size=min(dataset.eval_batch_size, count),
        resident_limit=dataset.resident_limit,
    )
    p = np.asarray(metrics.probabilities(jnp.asarray(logits), parts.plan.assembly.multilabel))
    recorder.projector(features, p, data_splits.take(parts.data.splits["validation"], chosen))
