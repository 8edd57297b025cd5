"""Several runs in one program: the steps of all of them are one compiled step, by `jax.vmap`.

Runs may be trained together that differ in nothing but what a step takes as an array, or what the
host draws from it: `ARRAYS`. Each is a run like any other: its own directory, curves, checkpoints
and end, which may be to diverge; and it ends with what it would have come to alone, up to rounding.

    python -m cnn_jax.sweep.together [--platform=P] RUN.json...

trains the run of every such file in the directory of the same name without the ending.
"""

import contextlib
import math
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import build, data, distributed, experiment, flags, run, runtime
from cnn_jax.data import batches
from cnn_jax.errors import RunError, UsageError, UserError
from cnn_jax.experiment import Experiment
from cnn_jax.training import loop, record, steps

ARRAYS = (
    "optimizer.learning_rate",
    "optimizer.weight_decay",
    "train.label_smoothing",
    "model.dropout_rate",
    "seed",
)


def alike(config: Experiment) -> str:
    """Returns a text that is the same for experiments that can be trained together."""
    values = {path: value for path, value in experiment.flatten(config).items() if path != "name"}
    # Without dropout a network draws no numbers: whether it has any is no array.
    has_dropout = values["model.dropout_rate"] is not None
    return repr({path: v for path, v in values.items() if path not in ARRAYS} | {"d": has_dropout})


def check(config: Experiment) -> None:
    """Raises UsageError where runs of an experiment cannot be trained together."""
    if config.transfer.weights is not None or config.transfer.unfreeze is not None:
        raise UsageError(
            "--sweep.vectorize trains networks from scratch; leave --transfer.weights and "
            "--transfer.unfreeze out, or train one run a process (--sweep.vectorize=1)"
        )


def train(
    configs: Sequence[Experiment], directories: Sequence[run.RunDirectory]
) -> dict[run.RunDirectory, str]:
    """Trains runs together, each from its newest checkpoint or the start.

    Args:
        configs: of the runs, equal in `alike`.
        directories: of the runs.

    Returns:
        The status of every run: finished, diverged, or interrupted.

    Raises:
        UsageError: the runs do not fit together.
        RunError: what ends all of them.
    """
    if len({alike(config) for config in configs}) > 1:
        raise UsageError(f"runs trained together may differ in {', '.join(ARRAYS)} alone")
    check(configs[0])
    loaded = data.load(configs[0].dataset, test=False)
    assembly = build.assemble(configs[0], loaded.info)
    trainers: list[loop.Trainer] = []
    with contextlib.ExitStack() as stack:
        for config, directory in zip(configs, directories, strict=True):
            first = trainers[0] if trainers else None
            trainers.append(
                loop.Trainer(config, loaded, assembly, None, directory, quiet=True, alike=first)
            )
            directory.create()
            stack.enter_context(directory.locked())
            record.begin(trainers[-1])
        try:
            _together(trainers, stack.enter_context(loop.stop_signals()))
        except BaseException as error:
            for directory in directories:
                record.fail(directory, error)
            raise
    return {directory: str(directory.status()) for directory in directories}


class _Clock:
    """The share of a run in the seconds in which it and others are trained."""

    def __init__(self) -> None:
        self._seconds, self._since, self._count = 0.0, math.inf, 1

    def __call__(self) -> float:
        return self._seconds + max(0.0, time.monotonic() - self._since) / self._count

    def share(self, count: int) -> None:
        """Counts from now on, as one of so many."""
        self._seconds, self._since, self._count = self(), time.monotonic(), count


class _Member:
    """A run, its generator of stretches, and whether it still goes on."""

    def __init__(self, trainer: loop.Trainer, stop_signal: loop.StopSignal):
        self.trainer = trainer
        self.clock = trainer.clock = _Clock()
        self.stretches = trainer.stretches(stop_signal)
        self.stretch: loop.Stretch | None = None
        self.given: Any = None

    def go_on(self, reached: loop.Reached | None) -> None:
        """Tells the run what its steps came to; afterwards `stretch` is its next, or None."""
        self.stretch = None
        try:
            self.stretch = self.stretches.send(reached)  # pyright: ignore[reportArgumentType]
        except StopIteration as end:
            record.finish(self.trainer, end.value)
        except loop.Interrupted as stop:
            record.stop(self.trainer, stop)
        except RunError:
            if self.trainer.directory.status() != "diverged":
                raise
        else:
            if self.given is None:
                self.given = self.trainer.indices(self.stretch.start)


def _together(trainers: Sequence[loop.Trainer], stop_signal: loop.StopSignal) -> None:
    """Trains the runs to their ends: together as long as they are at the same step."""
    asked: list[int] = []  # one answer for all: a signal between two of them would part them

    def asked_to_stop() -> int | None:
        return asked[0] if asked else None

    members = [_Member(trainer, asked_to_stop) for trainer in trainers]
    try:
        for member in members:
            member.go_on(None)
        going = [member for member in members if member.stretch is not None]
        # After a kill, some may have saved one epoch more than others.
        starts = sorted({member.stretch.start for member in going if member.stretch})
        for start in starts:
            group = [member for member in going if member.stretch and member.stretch.start == start]
            _train_group(group, stop_signal, asked)
    finally:
        for member in members:
            member.stretches.close()


def _train_group(group: list[_Member], stop_signal: loop.StopSignal, asked: list[int]) -> None:
    """Trains runs that are at the same step to their ends."""
    one = group[0].trainer
    whole = distributed.replicated(one.mesh)
    # Runs are independent: where there are devices for them, each has its own.
    split = distributed.over_batch(one.mesh) if len(group) % one.mesh.size == 0 else whole
    resident = one.feeds["train"].resident
    if resident is None:
        raise RunError(
            "the images are too many for the device, and runs trained together share them there; "
            "raise --dataset.resident_limit, or train one run a process (--sweep.vectorize=1)"
        )
    train_step = steps.make_train_step(one.assembly, one.config, one.steps_per_epoch)

    def step(state: Any, resident: Any, batch: Any, hyper: Any) -> Any:
        return train_step(state, batches.fetch(resident, batch), hyper)

    def jit(function: Any, sharding: Any, donate: Any = ()) -> Any:
        return jax.jit(
            function,
            donate_argnums=donate,
            out_shardings=sharding,
            compiler_options=runtime.compiler_options(),
        )

    step_all = jit(jax.vmap(step, in_axes=(0, None, 0, 0)), split, donate=0)
    count = len(group)
    stack = jit(lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees), split)
    unstack = jit(lambda tree: [_at(tree, place) for place in range(count)], whole)

    hypers = [member.trainer.hyper for member in group]
    if any(hyper.dropout_rate is not None for hyper in hypers):  # none is a rate of 0 then
        hypers = [
            hyper._replace(dropout_rate=jnp.float32(member.trainer.config.model.dropout_rate or 0))
            for hyper, member in zip(hypers, group, strict=True)
        ]
    hyper = stack(hypers)
    states = [member.stretch.current for member in group if member.stretch]
    going = 0
    while any(member.stretch for member in group):
        before, going = going, sum(member.stretch is not None for member in group)
        if going != before:  # at the start, and where some have diverged
            for member in group:
                member.clock.share(going)
        now = next(member.stretch for member in group if member.stretch)
        stacked, made = stack(states), now.start
        for _ in range(now.stop - now.start):
            taken = [next(member.given) for member in group]
            batch = jax.tree.map(lambda *leaves: np.stack(leaves), *taken)
            stacked = step_all(stacked, resident, distributed.put(tuple(batch), split), hyper)
            made += 1
            if received := stop_signal():
                asked.append(received)
                break
        states = unstack(stacked)
        for number, member in enumerate(group):
            if member.stretch is not None:  # the lost ones are carried along, and looked at no more
                member.go_on((states[number], made))
                if member.stretch is not None:
                    states[number] = member.stretch.current


def _at(tree: Any, place: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[place], tree)


def main(arguments: list[str]) -> int:
    """Trains the runs of the command line and returns the exit code."""
    try:
        machine = [argument for argument in arguments if argument.startswith("--")]
        paths = [pathlib.Path(argument) for argument in arguments if argument not in machine]
        invocation = flags.parse(["train", *machine])
        runtime.start(invocation.platform, invocation.cpu_tuning, invocation.cpu_convolutions)
        configs = [experiment.from_dict(run.read_json(path)) for path in paths]
        status = train(configs, [run.RunDirectory(path.with_suffix("")) for path in paths])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 130 if "interrupted" in status.values() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
