"""The loop: the only place where steps, checkpoints, curves and signals meet."""

import contextlib
import itertools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from cnn_jax import build, data, distributed, experiment, run, runtime
from cnn_jax.data import batches
from cnn_jax.errors import RunError
from cnn_jax.evaluation import evaluator, metrics
from cnn_jax.reporting import progress, results, tensorboard
from cnn_jax.training import checkpoints, optimizers, state, steps


class Interrupted(Exception):  # noqa: N818 (not an error: the state is saved)
    """The run was asked to stop, has saved its state and can be resumed.

    Attributes:
        signal_number: the signal that asked.
        step: the step saved.
    """

    def __init__(self, signal_number: int, step: int):
        super().__init__(signal_number, step)
        self.signal_number = signal_number
        self.step = step


@contextlib.contextmanager
def _signals() -> Iterator[Callable[[], int | None]]:
    """Yields a function that returns the signal which asked to stop, or None.

    A second signal ends the process at once.
    """
    received: list[int] = []

    def handle(number: int, frame: Any) -> None:
        del frame
        received.append(number)
        signal.signal(number, signal.SIG_DFL)

    numbers = [signal.SIGTERM, signal.SIGINT]
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield lambda: received[0] if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Trainer:
    """One run: from its directory's newest checkpoint, or the start, to its end.

    Args:
        config: the experiment.
        loaded: its data.
        directory: where everything goes.
        quiet: whether to show no progress.

    Raises:
        UsageError: model, data, loss and devices do not fit together.
    """

    def __init__(
        self,
        config: experiment.Experiment,
        loaded: data.Data,
        directory: run.RunDirectory,
        quiet: bool = False,
    ):
        self.config, self.info, self.directory = config, loaded.info, directory
        self.mesh = distributed.make_mesh()
        distributed.check_batch_size("dataset.batch_size", config.dataset.batch_size, self.mesh)
        self.model = build.build_model(config, loaded.info)
        self.evaluator = evaluator.Evaluator(self.model, config, loaded.info, self.mesh)
        limit = config.dataset.resident_limit
        self.train_feed = batches.Feed(loaded.splits["train"], self.mesh, limit)
        self.validation_feed = batches.Feed(loaded.splits["validation"], self.mesh, limit)
        self._loaded = loaded
        self.validation_split = loaded.splits["validation"]
        self.steps_per_epoch = batches.steps_per_epoch(
            len(self.train_feed), config.dataset.batch_size
        )
        self.total_steps = config.train.epochs * self.steps_per_epoch
        self._quiet = quiet
        self._history: list[dict[str, Any]] = []
        train_step = steps.make_train_step(
            self.model, config, build.make_preprocess(config, loaded.info), self.steps_per_epoch
        )

        def step(state: state.TrainState, resident: Any, batch: Any, hyper: Any) -> Any:
            return train_step(state, batches.fetch(resident, batch), hyper)

        whole = distributed.replicated(self.mesh)
        self._step = jax.jit(
            step,
            donate_argnums=0,
            out_shardings=whole,
            compiler_options=runtime.compiler_options(),
        )
        self._create = jax.jit(
            lambda: build.initial_state(self.model, config, loaded.info), out_shardings=whole
        )

    def run(self) -> list[dict[str, Any]]:
        """Trains to the end and returns the history, one record an epoch.

        Raises:
            Interrupted: SIGTERM or Ctrl-C came; the state is saved.
            RunError: the loss was not finite.
        """
        config = self.config
        with checkpoints.Checkpoints(self.directory.checkpoints, config.checkpoint.keep) as saved:
            restored = saved.restore_latest(
                jax.eval_shape(self._create), distributed.replicated(self.mesh)
            )
            if restored is None:
                current, meta = self._create(), {}
            else:
                current, meta = restored
                self._history = meta["history"]
                if distributed.is_primary():  # a kill leaves the file ahead of the state or behind
                    self.directory.write("history", self._history)
            start = int(current.step)
            if start >= self.total_steps:
                return self._history
            if start and not self._quiet and distributed.is_primary():
                print(f"resumed    at step {start} of {self.total_steps}", flush=True)
            with (
                tensorboard.EventWriter(
                    self.directory.path,
                    experiment.flatten(config),
                    self._resume_step(restored is not None, start),
                ) as events,
                _signals() as stop_signal,
            ):
                if restored is None and distributed.is_primary():
                    results.write_data_figures(self._loaded, self.directory.figures, events)
                return self._train(current, saved, events, stop_signal, meta.get("seconds", 0.0))

    def _resume_step(self, restored: bool, start: int) -> int | None:
        """Returns the step after which earlier points of the curves are void; None: there are none.

        A run that was killed before its first checkpoint starts anew, and all of them are void.
        """
        if restored:
            return start
        return -1 if any(self.directory.path.glob("events.out.*")) else None

    def _train(
        self,
        current: state.TrainState,
        saved: checkpoints.Checkpoints,
        events: tensorboard.EventWriter,
        stop_signal: Callable[[], int | None],
        seconds_before: float,
    ) -> list[dict[str, Any]]:
        config, per_epoch = self.config, self.steps_per_epoch
        hyper = distributed.put(
            jax.tree.map(np.asarray, steps.Hyperparameters.of(config)),
            distributed.replicated(self.mesh),
        )
        log_every = config.logging.every_steps or max(1, per_epoch // 20)
        save_every = config.checkpoint.every_steps
        start = int(current.step)
        bar = progress.Progress(
            self.total_steps, per_epoch, start, config.dataset.batch_size, quiet=self._quiet
        )
        started = time.monotonic()
        last_log = (started, start)
        last_good = start

        def save(step: int, accuracy: float | None) -> None:
            events.flush()
            meta = {
                "step": step,
                "epoch": step // per_epoch,
                "step_in_epoch": step % per_epoch,
                "validation_accuracy": accuracy,
                "seconds": seconds_before + time.monotonic() - started,
                "history": self._history,
                "config": experiment.to_dict(config),
                "data_digest": self.info.digest,
            }
            saved.save(step, current, meta)

        try:
            for step, batch in zip(
                range(start + 1, self.total_steps + 1),
                self.train_feed.batches(self._indices(start)),
                strict=False,
            ):
                current = self._step(current, self.train_feed.resident, batch, hyper)
                ends_epoch = step % per_epoch == 0
                accuracy = None
                if bar.due():
                    self._check_finite(current, last_good, events)
                    bar.update(step, **current.epoch.means())
                if step % log_every == 0 or ends_epoch:
                    self._check_finite(current, last_good, events)
                    last_log = self._log(step, current, events, last_log)
                    current = current.replace(interval=self._zero())
                if ends_epoch:
                    record = self._end_epoch(step, current, events, bar)
                    record["seconds"] = seconds_before + time.monotonic() - started
                    self._history.append(record)
                    accuracy = record["validation_accuracy"]
                    current = current.replace(epoch=self._zero())
                    last_log = (time.monotonic(), step)
                stopping = stop_signal()
                if ends_epoch or stopping or (save_every and step % save_every == 0):
                    self._check_finite(current, last_good, events)
                    save(step, accuracy)
                    last_good = step
                    if distributed.is_primary():
                        self.directory.write("history", self._history)
                        self.directory.set_status("running", step=step, steps=self.total_steps)
                if stopping and step < self.total_steps:
                    saved.wait()
                    events.close("interrupted")
                    raise Interrupted(stopping, step)
            saved.wait()
            events.close("finished")
        finally:
            bar.close()
        return self._history

    def _indices(self, start: int) -> Iterator[batches.BatchIndices]:
        """Yields the batches from a step on, epoch after epoch."""
        size = self.config.dataset.batch_size
        for epoch in itertools.count(start // self.steps_per_epoch):
            order = batches.epoch_order(self.config.seed, epoch, len(self.train_feed))
            first = max(0, start - epoch * self.steps_per_epoch)
            for step in range(first, self.steps_per_epoch):
                yield batches.take_batch(order, size, step)

    def _zero(self) -> state.Sums:
        return distributed.put(
            jax.tree.map(np.asarray, metrics.Sums.zero()), distributed.replicated(self.mesh)
        )

    def _learning_rate(self, step: int) -> float:
        config = self.config.optimizer
        factor = optimizers.schedule_factor(
            jnp.asarray(step, jnp.int32),
            schedule=config.schedule,
            warmup_steps=round(config.warmup_epochs * self.steps_per_epoch),
            total_steps=self.total_steps,
        )
        return config.learning_rate * float(factor)

    def _check_finite(
        self, current: state.TrainState, last_good: int, events: tensorboard.EventWriter
    ) -> None:
        """Raises RunError where a loss or a gradient was not finite."""
        step = int(current.nonfinite_step)
        if step < 0:
            return
        events.close("diverged")
        if distributed.is_primary():
            self.directory.set_status("diverged", step=step, last_checkpoint=last_good)
        kept = f"checkpoint of step {last_good}" if last_good else "no checkpoint"
        raise RunError(
            f"loss or gradient is not finite at step {step + 1} "
            f"(learning rate {self._learning_rate(step):.3g}); last good state: {kept} in "
            f"{run.shown(self.directory.checkpoints)}. Try a lower --optimizer.learning_rate "
            "or --optimizer.clip_norm=1"
        )

    def _log(
        self,
        step: int,
        current: state.TrainState,
        events: tensorboard.EventWriter,
        last: tuple[float, int],
    ) -> tuple[float, int]:
        """Writes one point of the training curves; returns (time, step) of it."""
        means = current.interval.means()
        now = time.monotonic()
        images = (step - last[1]) * self.config.dataset.batch_size
        events.scalars(
            step,
            {
                "train/loss": means["loss"],
                "train/accuracy": means["accuracy"],
                "train/learning_rate": self._learning_rate(step - 1),
                "train/gradient_norm": float(current.gradient_norm),
                "train/images_per_second": images / max(now - last[0], 1e-9),
            },
        )
        return now, step

    def _end_epoch(
        self,
        step: int,
        current: state.TrainState,
        events: tensorboard.EventWriter,
        bar: progress.Progress,
    ) -> dict[str, Any]:
        """Validates, writes curves and figures, and returns the epoch's record."""
        began = time.monotonic()
        train = current.epoch.means()
        found = self.evaluator(current.variables(), self.validation_feed)
        rate = found.examples / (time.monotonic() - began)
        epoch = step // self.steps_per_epoch
        record = {
            "epoch": epoch,
            "step": step,
            "train_loss": train["loss"],
            "train_accuracy": train["accuracy"],
            "validation_loss": found.loss,
            "validation_accuracy": found.accuracy,
            "learning_rate": self._learning_rate(step - 1),
        }
        if not math.isfinite(found.loss):
            logging.warning("the validation loss after epoch %d is not finite", epoch)
        events.scalars(
            step,
            {
                "validation/loss": found.loss,
                "validation/accuracy": found.accuracy,
                "validation/images_per_second": rate,
            },
        )
        results.write_figures(step, current.params, found, self.validation_split, self.info, events)
        bar.message(
            f"epoch {epoch}/{self.config.train.epochs}  "
            f"train loss {train['loss']:.4f} accuracy {train['accuracy']:.4f}  "
            f"validation loss {found.loss:.4f} accuracy {found.accuracy:.4f}"
        )
        return record
