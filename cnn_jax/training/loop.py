"""The loop: the only place where steps, checkpoints, curves and signals meet."""

import contextlib
import itertools
import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import build, data, distributed, experiment, run, runtime
from cnn_jax.data import batches
from cnn_jax.errors import RunError
from cnn_jax.evaluation import evaluator, metrics, probe
from cnn_jax.pretrained import loading
from cnn_jax.reporting import progress, results, tensorboard
from cnn_jax.training import checkpoints, features, freezing, optimizers, profile, state, steps


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
def stop_signals() -> Iterator[Callable[[], int | None]]:
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


class Stretch(NamedTuple):
    """Steps that a run wants made before it looks at its state again.

    Attributes:
        current: the state to go on from, which the steps may donate.
        phase: whose parameters are trained.
        start: steps made so far.
        stop: the step to come back after, at the latest.
    """

    current: state.TrainState
    phase: int
    start: int
    stop: int


# What a run is given for a stretch: the state, and the steps made so far.
Reached = tuple[state.TrainState, int]
StopSignal = Callable[[], int | None]

# Training images that parameters may start from.
_SAMPLE = 5000


class Trainer:
    """One run: from its directory's newest checkpoint, or the start, to its end.

    Args:
        config: the experiment.
        loaded: its data.
        assembly: what the two come to.
        weights: pretrained weights to start from, or None.
        directory: where everything goes.
        quiet: whether to show no progress.
        alike: a trainer of the same data and model, whose images on the devices and whose compiled
            evaluation this one uses as well.
        profile_steps: the first and the last step to trace; None: no trace.

    Raises:
        UsageError: batches and devices do not fit together, or steps to trace are not there.
    """

    def __init__(
        self,
        config: experiment.Experiment,
        loaded: data.Data,
        assembly: build.Assembly,
        weights: loading.Weights | None,
        directory: run.RunDirectory,
        quiet: bool = False,
        alike: "Trainer | None" = None,
        profile_steps: tuple[int, int] | None = None,
    ):
        self.config, self.info, self.directory = config, loaded.info, directory
        self.assembly = assembly
        self.mesh = distributed.make_mesh()
        distributed.check_batch_size("dataset.batch_size", config.dataset.batch_size, self.mesh)
        self.cut = features.cut(config, assembly)
        self.feeds: dict[str, batches.Feed] = {}
        if alike is None:
            self.evaluator = evaluator.Evaluator(assembly, config, self.mesh, self.cut)
        else:
            self.evaluator, self.feeds = alike.evaluator, alike.feeds
        self.hyper = steps.Hyperparameters.of(config)
        self.clock: Callable[[], float] = time.monotonic  # by which the history counts seconds
        self._loaded, self._weights, self._quiet = loaded, weights, quiet
        self.num_examples = len(loaded.splits["train"].labels)
        self.steps_per_epoch = batches.steps_per_epoch(self.num_examples, config.dataset.batch_size)
        self.total_steps = config.train.epochs * self.steps_per_epoch
        profile.check(profile_steps, self.total_steps)
        self._profile_steps = profile_steps
        self._history: list[dict[str, Any]] = []
        self._jitted: dict[int, Any] = {}

    def _step(self, phase: int) -> Any:
        """Returns the jitted step of a phase."""
        if phase not in self._jitted:
            train_step = steps.make_train_step(
                self.assembly, self.config, self.steps_per_epoch, phase, self.cut
            )

            def step(state: state.TrainState, resident: Any, batch: Any, hyper: Any) -> Any:
                return train_step(state, batches.fetch(resident, batch), hyper)

            self._jitted[phase] = jax.jit(
                step,
                donate_argnums=0,
                out_shardings=distributed.replicated(self.mesh),
                compiler_options=runtime.compiler_options(),
            )
        return self._jitted[phase]

    def run(self) -> list[dict[str, Any]]:
        """Trains to the end and returns the history, one record an epoch.

        Raises:
            Interrupted: SIGTERM or Ctrl-C came; the state is saved.
            RunError: a loss was not finite, or a checkpoint could not be read or saved.
        """
        hyper = distributed.put(
            jax.tree.map(np.asarray, self.hyper), distributed.replicated(self.mesh)
        )
        with contextlib.ExitStack() as stack:
            stop_signal = stack.enter_context(stop_signals())
            run = stack.enter_context(contextlib.closing(self.stretches(stop_signal)))
            try:
                stretch = next(run)
                traced = self._profile_steps
                trace = profile.Trace(self.directory.path, traced, stretch.start, self._quiet)
                stack.callback(trace.close)
                given = self.feeds["train"].batches(self.indices(stretch.start))
                while True:
                    current, step, resident = (
                        stretch.current,
                        stretch.start,
                        self.feeds["train"].resident,
                    )
                    train_step = self._step(stretch.phase)
                    for batch in itertools.islice(given, stretch.stop - step):
                        with trace.step(step + 1):
                            current = train_step(current, resident, batch, hyper)
                        step += 1
                        trace.after(step, current)
                        if self._bar.due() or stop_signal():
                            break
                    stretch = run.send((current, step))
            except StopIteration as end:
                return end.value

    def stretches(
        self, stop_signal: StopSignal
    ) -> Generator[Stretch, Reached, list[dict[str, Any]]]:
        """Does all of a run but its steps: yields which to make, and is sent what they came to.

        Whoever makes the steps may make those of several runs at once.

        Args:
            stop_signal: returns the signal that asked to stop, or None.

        Returns:
            The history, one record an epoch.

        Raises:
            Interrupted: the signal came; the state is saved.
            RunError: a loss was not finite, or a checkpoint could not be read or saved.
        """
        config, whole = self.config, distributed.replicated(self.mesh)
        with checkpoints.Checkpoints(self.directory.checkpoints, config.checkpoint.keep) as saved:
            restored = saved.restore_latest(
                lambda meta: build.abstract_state(self.assembly, config, meta["phase"]), whole
            )
            if restored is None:
                images = self._loaded.splits["train"].images[:_SAMPLE]
                current = build.initial_state(self.assembly, config, self._weights, whole, images)
                meta = {"phase": 0, "seconds": 0.0}
            else:
                current, meta = restored
                self._history = meta["history"]
                if distributed.is_primary():  # a kill leaves the file ahead of the state or behind
                    self.directory.write("history", self._history)
            start = int(current.step)
            if start >= self.total_steps:  # killed between the last checkpoint and the end
                self._embed(current, self._loaded.splits["validation"], 0)
                return self._history
            if start and not self._quiet and distributed.is_primary():
                print(f"resumed    at step {start} of {self.total_steps}", flush=True)
            splits = self._loaded.splits
            if self.cut:
                began = time.monotonic()
                splits = features.cache_splits(
                    config, self._loaded, self.assembly, current.variables(), self.cut, self._quiet
                )
                if distributed.is_primary():
                    before = self.directory.read("result", {}).get("features", {"seconds": 0.0})
                    seconds = before["seconds"] + time.monotonic() - began
                    self.directory.update_result(
                        "features", {"stages": self.cut, "seconds": seconds}
                    )
            limit = config.dataset.resident_limit
            for name in ("train", "validation"):
                if name not in self.feeds:
                    self.feeds[name] = batches.Feed(splits[name], self.mesh, limit)
            with tensorboard.EventWriter(
                self.directory.path,
                experiment.flatten(config),
                self._resume_step(restored is not None, start),
                experiment.setting_name(config),
                experiment.difference(experiment.Experiment(), config).keys() - {"name"},
            ) as events:
                results.write_texts(start, config, self.directory, events)
                if restored is None and distributed.is_primary():
                    results.write_data_figures(self._loaded, self.directory.figures, events)
                    if self.cut == len(self.assembly.model.stage_names):
                        self._probe(splits, events)
                current = yield from self._train(current, saved, events, stop_signal, meta)
                self._embed(current, splits["validation"], self.cut)
                return self._history

    def _probe(self, splits: dict[str, data.Split], events: tensorboard.EventWriter) -> None:
        """Says what a linear classifier in closed form does on the features of the backbone."""
        began = time.monotonic()
        train, validation = splits["train"], splits["validation"]
        found = probe.ridge_probe(
            train.images,
            train.labels,
            validation.images,
            validation.labels,
            len(self.info.class_names),
        )
        seconds = time.monotonic() - began
        if not self._quiet:
            print(
                f"probe      ridge on the frozen features: validation accuracy "
                f"{found.accuracy:.4f} (penalty {found.penalty:.3g}), in {seconds:.1f} s",
                flush=True,
            )
        events.scalars(0, {"validation/probe_accuracy": found.accuracy})
        self.directory.update_result("probe", {**found._asdict(), "seconds": seconds})

    def _embed(self, current: state.TrainState, validation: data.Split, start: int) -> None:
        """Writes the features of some validation images for TensorBoard's projector.

        Args:
            current: the state.
            validation: the split as images, or as the input of a stage.
            start: that stage.
        """
        count = min(self.config.logging.projector_images, len(validation.labels))
        if count == 0:
            return
        chosen = np.linspace(0, len(validation.labels) - 1, count).astype(int)

        def take(split: data.Split) -> data.Split:
            ids = [split.ids[int(i)] for i in chosen]
            return data.Split(split.images[chosen], split.labels[chosen], ids)

        found = evaluator.embed(
            self.assembly, self.config, self.mesh, current.variables(), take(validation), start
        )
        if distributed.is_primary():
            images = take(self._loaded.splits["validation"])
            results.write_projector(self.directory.path, *found, images, self.info)

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
        stop_signal: StopSignal,
        meta: dict[str, Any],
    ) -> Generator[Stretch, Reached, state.TrainState]:
        """Trains from the state given to the end and returns the last one."""
        config, per_epoch = self.config, self.steps_per_epoch
        phases, phase, seconds_before = self.assembly.phases, meta["phase"], meta["seconds"]
        log_every = config.logging.every_steps or max(1, per_epoch // 20)
        save_every = config.checkpoint.every_steps
        step = int(current.step)
        bar = self._bar = progress.Progress(
            self.total_steps, per_epoch, step, config.dataset.batch_size, quiet=self._quiet
        )
        started = self.clock()
        last_log = (time.monotonic(), step)
        last_good = step

        def save(step: int, accuracy: float | None) -> None:
            events.flush()
            meta = {
                "step": step,
                "epoch": step // per_epoch,
                "phase": phase,
                "step_in_epoch": step % per_epoch,
                "validation_accuracy": accuracy,
                "seconds": seconds_before + self.clock() - started,
                "history": self._history,
                "config": experiment.to_dict(config),
                "data_digest": self.info.digest,
            }
            saved.save(step, current, meta)

        try:
            while step < self.total_steps:
                now = freezing.phase_of(phases, step // per_epoch)
                if now != phase:
                    current, phase = self._enter_phase(current, now), now
                marks = [log_every, per_epoch, *([save_every] if save_every else [])]
                stop = min(step - step % mark + mark for mark in marks)
                current, step = yield Stretch(current, phase, step, stop)
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
                    with bar.paused():
                        record = self._end_epoch(step, current, events, bar)
                    if not math.isfinite(record["validation_loss"]):  # the last update's doing
                        raise self._diverged("validation loss", step, last_good, events)
                    record["seconds"] = seconds_before + self.clock() - started
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
        return current

    def _enter_phase(self, current: state.TrainState, phase: int) -> state.TrainState:
        """Returns the state with the parameters of a new phase trainable."""
        this = self.assembly.phases[phase]
        optimizer = optimizers.make_optimizer(self.config.optimizer, this.groups)
        enter = jax.jit(
            lambda old: state.enter_phase(old, optimizer, this),
            out_shardings=distributed.replicated(self.mesh),
        )
        return enter(current)

    def indices(self, start: int) -> Iterator[batches.BatchIndices]:
        """Yields the batches from a step on, epoch after epoch."""
        size = self.config.dataset.batch_size
        for epoch in itertools.count(start // self.steps_per_epoch):
            order = batches.epoch_order(self.config.seed, epoch, self.num_examples)
            if self.cut and self.config.transfer.cache_views:
                view = epoch % self.config.transfer.cache_views
                order = order + np.int32(view * self.num_examples)
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
            milestones=config.milestone_shares,
        )
        return config.learning_rate * float(factor)

    def _check_finite(
        self, current: state.TrainState, last_good: int, events: tensorboard.EventWriter
    ) -> None:
        """Raises RunError where a loss or a gradient was not finite."""
        step = int(current.nonfinite_step)
        if step >= 0:
            raise self._diverged("loss or gradient", step + 1, last_good, events)

    def _diverged(
        self, what: str, step: int, last_good: int, events: tensorboard.EventWriter
    ) -> RunError:
        """Writes the status, and returns the error, of a run that is lost since a step."""
        events.close("diverged")
        if distributed.is_primary():
            self.directory.set_status("diverged", step=step, last_checkpoint=last_good)
        kept = f"checkpoint of step {last_good}" if last_good else "no checkpoint"
        return RunError(
            f"{what} is not finite at step {step} "
            f"(learning rate {self._learning_rate(step - 1):.3g}); last good state: {kept} in "
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
        found = self.evaluator(current.variables(), self.feeds["validation"])
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
        events.scalars(
            step,
            {
                "validation/loss": found.loss,
                "validation/accuracy": found.accuracy,
                "validation/images_per_second": rate,
            },
        )
        every = self.config.logging.figures_every
        if every is not None and (epoch % every == 0 or epoch == self.config.train.epochs):
            split = self._loaded.splits["validation"]
            results.write_figures(step, current.params, found, split, self.info, events)
        bar.message(
            f"epoch {epoch}/{self.config.train.epochs}  "
            f"train loss {train['loss']:.4f} accuracy {train['accuracy']:.4f}  "
            f"validation loss {found.loss:.4f} accuracy {found.accuracy:.4f}"
        )
        return record
