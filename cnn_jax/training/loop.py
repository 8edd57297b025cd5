"""The train loop: the only place where steps, validation, curves, checkpoints and signals meet."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from cnn_jax import cpu, distributed, progress
from cnn_jax.data import Split, batches
from cnn_jax.data.feeding import Feed, Pace
from cnn_jax.errors import RunError
from cnn_jax.evaluation import evaluator, metrics, selection, shares, validation
from cnn_jax.runs.recorder import Recorder
from cnn_jax.runs.unrecorded import Unrecorded
from cnn_jax.training import freezing, profile
from cnn_jax.training.plan import Plan
from cnn_jax.training.signals import Interrupted
from cnn_jax.training.state import TrainState, enter_phase
from cnn_jax.training.steps import Hyperparameters, TrainStep, make_train_step

StopSignal = Callable[[int], int | None]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When the loop does more than a step.

    Attributes:
        log_every: steps between points of the training curves.
        save_every: steps between saves within an epoch; None: only after every epoch.
    """

    log_every: int
    save_every: int | None

    def is_due(self, step: int, steps_per_epoch: int) -> bool:
        """Returns whether a point, a save or the end of an epoch falls on a step."""
        marks = (self.log_every, steps_per_epoch, self.save_every or steps_per_epoch)
        return any(step % mark == 0 for mark in marks)


def jit_step(step: TrainStep, mesh: Mesh) -> TrainStep:
    """Returns the jitted train step, which gives its state's memory to the new state."""
    return jax.jit(
        step,
        donate_argnums=0,
        out_shardings=distributed.replicated(mesh),
        compiler_options=cpu.compiler_options(),
    )


def train(
    plan: Plan,
    state: TrainState,
    meta: dict[str, Any],
    *,
    seed: int,
    hyper: Hyperparameters,
    mesh: Mesh,
    splits: dict[str, Split],
    feeds: dict[str, Feed],
    evaluate: evaluator.Evaluator,
    schedule: Schedule,
    recorder: Recorder | Unrecorded,
    bar: progress.Progress,
    trace: profile.Trace,
    stop_signal: StopSignal,
) -> tuple[TrainState, list[dict[str, Any]]]:
    """Trains from a state to the end of the plan.

    Args:
        plan: the plan of the run.
        state: the state to go on from; it is given up.
        meta: what the checkpoint of that state says: "phase", "seconds" and "history".
        seed: of the order of the batches.
        hyper: the numbers of every step, on the devices.
        mesh: the devices.
        splits: the train and validation splits as images, for figures.
        feeds: the same two, as the steps take them.
        evaluate: validates.
        schedule: when curves are written and states saved.
        recorder: writes what happens.
        bar: shows how training goes on.
        trace: traces some steps.
        stop_signal: returns the signal that asked to stop after a step, or None.

    Returns:
        The last state, and the history: one record an epoch.

    Raises:
        Interrupted: the signal came; the state is saved.
        RunError: a loss or gradient was not finite, or a checkpoint could not be saved.
    """
    per_epoch, end, whole = plan.steps_per_epoch, plan.total_steps, distributed.replicated(mesh)
    history, phase = list(meta["history"]), meta["phase"]
    began, seconds_before = time.monotonic(), meta["seconds"]
    step = last_good = int(state.step)
    last_point = (began, step)
    order = batches.TrainBatches(
        seed,
        plan.num_examples,
        plan.batch_size,
        step,
        plan.cached_views,
        splits["train"].labels if plan.balanced else None,
    )
    given, pace = feeds["train"].batches(order), Pace()
    train_step = jit_step(make_train_step(plan, phase), mesh)

    def check_finite() -> None:
        first_bad = int(state.nonfinite_step)
        if first_bad >= 0:
            raise _diverged(plan, recorder, "loss or gradient", first_bad + 1, last_good)

    while step < end:
        now = freezing.phase_of(plan.phases, step // per_epoch)
        if now != phase:
            state, phase = enter_phase(plan, state, now, whole), now
            train_step = jit_step(make_train_step(plan, phase), mesh)

        batch = next(given)
        with trace.step(step + 1):
            state = train_step(state, batch, hyper)
        pace.after(batch, state.step)
        step += 1
        trace.after(step, state)

        stopping = stop_signal(step)
        if not (bar.due() or stopping or schedule.is_due(step, per_epoch)):
            continue  # what follows waits for the devices

        ends_epoch = step % per_epoch == 0
        saves = schedule.save_every is not None and step % schedule.save_every == 0
        accuracy = None
        if bar.due():
            check_finite()
            bar.update(step, **state.epoch.means())
        if step % schedule.log_every == 0 or ends_epoch:
            check_finite()
            last_point = _write_point(plan, recorder, step, state, last_point)
            state = state.replace(interval=_zero(whole))
        if ends_epoch:
            with bar.paused():
                record = _end_epoch(
                    plan, recorder, bar, step, state, splits, feeds, evaluate, history
                )
            if not math.isfinite(record["validation_loss"]):  # the last update is to blame
                raise _diverged(plan, recorder, "validation loss", step, last_good)
            record["seconds"] = seconds_before + time.monotonic() - began
            history.append(record)
            accuracy = record["validation_accuracy"]
            if reason := plan.rule.reason(history):
                bar.message(reason)
                end = step
            state = state.replace(epoch=_zero(whole))
            last_point = (time.monotonic(), step)
        stopping = stop_signal(step)
        if ends_epoch or stopping or saves:
            check_finite()
            meta = {
                "step": step,
                "epoch": step // per_epoch,
                "phase": phase,
                "averages_statistics": state.ema_batch_stats is not None,
                "step_in_epoch": step % per_epoch,
                "validation_accuracy": accuracy,
                "seconds": seconds_before + time.monotonic() - began,
                "history": history,
            }
            recorder.save(step, state, meta, end)
            last_good = step
        if stopping and step < end:
            recorder.interrupted(step, end)
            raise Interrupted(stopping, step, end)
    return state, history


def _zero(sharding: NamedSharding) -> metrics.Sums:
    return distributed.put(jax.tree.map(np.asarray, metrics.Sums.zero()), sharding)


def _write_point(
    plan: Plan,
    recorder: Recorder | Unrecorded,
    step: int,
    state: TrainState,
    last: tuple[float, int],
) -> tuple[float, int]:
    """Writes one point of the training curves; returns its (time, step)."""
    now = time.monotonic()
    if recorder.writes:
        means = state.interval.means()
        images = (step - last[1]) * plan.batch_size
        recorder.point(
            step,
            {
                "train/loss": means["loss"],
                "train/accuracy": means["accuracy"],
                "train/learning_rate": plan.learning_rate(step - 1),
                "train/gradient_norm": float(state.gradient_norm),
                "train/images_per_second": images / max(now - last[0], 1e-9),
            },
        )
    return now, step


def _end_epoch(
    plan: Plan,
    recorder: Recorder | Unrecorded,
    bar: progress.Progress,
    step: int,
    state: TrainState,
    splits: dict[str, Split],
    feeds: dict[str, Feed],
    evaluate: evaluator.Evaluator,
    history: list[dict[str, Any]],
) -> dict[str, Any]:
    """Validates, writes curves and figures, and returns the record to follow those before."""
    began = time.monotonic()
    train = state.epoch.means()
    found = evaluate(state.variables(), feeds["validation"])
    rate = found.examples / (time.monotonic() - began)
    epoch = step // plan.steps_per_epoch
    record = {
        "epoch": epoch,
        "step": step,
        "train_loss": train["loss"],
        "train_accuracy": train["accuracy"],
        "validation_loss": found.loss,
        "validation_accuracy": found.accuracy,
        **shares.never_record(found.confusion),
        "learning_rate": plan.learning_rate(step - 1),
        **validation.measured(plan.rule, found, splits["validation"].labels),
    }
    points: dict[str, float | None] = {
        "validation/loss": found.loss,
        "validation/accuracy": found.accuracy,
        "validation/images_per_second": rate,
    }
    if plan.rule.metric != "auc":  # which every epoch shows
        points[f"validation/{plan.rule.metric}"] = selection.value_of(record)
    recorder.point(step, points)
    last = epoch == plan.epochs or plan.rule.is_over([*history, record])
    recorder.epoch_figures(step, epoch, last, state.params, found, splits["validation"])
    bar.end_epoch(step, train["loss"], train["accuracy"])
    bar.message(
        f"epoch {epoch}/{plan.epochs}  "
        f"train loss {train['loss']:.4f} accuracy {train['accuracy']:.4f}  "
        f"validation loss {found.loss:.4f} accuracy {found.accuracy:.4f}"
        + (f" {selection.said(record)}" if plan.rule.metric not in ("accuracy", "loss") else "")
    )
    return record


def _diverged(
    plan: Plan, recorder: Recorder | Unrecorded, what: str, step: int, last_good: int
) -> RunError:
    """Records that the run is lost since a step, and returns the error that says so."""
    recorder.diverged(step, last_good)
    rate = plan.learning_rate(step - 1)
    at = "" if rate is None else f" (learning rate {rate:.3g})"
    kept = recorder.last_good_state(last_good)
    lower = "learning rate in your optimizer" if rate is None else "--optimizer.learning_rate"
    return RunError(
        f"{what} is not finite at step {step}{at}; last good state: {kept}. Try a lower "
        f"{lower} or --optimizer.clip_norm=1"
    )
