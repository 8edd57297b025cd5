"""The command `train`: starts a run, or goes on with the one in --workdir."""

import time

from cnn_jax import experiment, text
from cnn_jax.cli import console, presets
from cnn_jax.cli.invocation import Invocation
from cnn_jax.errors import UsageError
from cnn_jax.evaluation import selection, shares
from cnn_jax.experiment import Experiment
from cnn_jax.reporting import projector
from cnn_jax.runs import changes
from cnn_jax.runs.directory import RunDirectory, new_directory
from cnn_jax.training import start
from cnn_jax.training.signals import Interrupted


def run_command(invocation: Invocation) -> int:
    """Trains, says the result and the next commands, and returns the exit code."""
    config = the_experiment(invocation)
    directory = new_directory(config.name)
    if invocation.workdir is not None:
        directory = RunDirectory(invocation.workdir)
    try:
        str(directory.path).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"--workdir={directory.path}: this process takes file names for ASCII and cannot save "
            "checkpoints there; start it with PYTHONUTF8=1, or name another directory"
        ) from None
    say = console.speaker(invocation.quiet)
    was_finished = directory.exists() and changes.is_finished(directory, config)
    began = time.monotonic()
    try:
        run = start.train(
            config,
            workdir=directory.path,
            say=say,
            progress=not invocation.quiet,
            profile_steps=invocation.profile,
            callbacks=presets.run_code(invocation),
        )
    except Interrupted as stop:
        tell = console.speaker(quiet=False)
        tell(f"stopped at step {stop.step} of {stop.total_steps}; the state is saved")
        tell(f"go on with: {console.go_on(invocation, directory.path)}")
        return 128 + stop.signal_number
    if was_finished:
        _say_finished(invocation, directory, len(run.history))
        return 0
    best, last = selection.best_of(run.history), run.history[-1]
    say(
        f"validation accuracy {last['validation_accuracy']:.4f} after "
        f"{text.plural(len(run.history), 'epoch')}, best {best['validation_accuracy']:.4f} after "
        f"{best['epoch']}; {time.monotonic() - began:.0f} s"
    )
    if selection.metric_of(best) != "accuracy":
        say(f"chosen by  {selection.said(best)} on validation (--train.select)")
    if reason := directory.read("status", {}).get("reason"):
        say(reason)
    counts, never = run.data_info.class_counts["validation"], best.get("never_predicted", [])
    if not run.data_info.multilabel:
        for line in shares.lines(counts, never, run.class_names, shares.never_count(best)):
            say(line)
    if probe := directory.read("result", {}).get("probe"):
        say(f"the probe on the same frozen features had {probe['accuracy']:.4f}")
    if directory.figures.exists():  # else Matplotlib is not installed
        say(f"figures    {text.shown(directory.figures)}/")
    say(f"evaluate   {console.command_line(invocation, 'evaluate', directory.path)}")
    say(f"curves     {console.tensorboard(directory.path)}")
    if (directory.path / projector.FOLDER).exists():
        say("           and, in its tab PROJECTOR, images by their features")
    return 0


def the_experiment(invocation: Invocation) -> Experiment:
    """Returns the experiment of preset and flags; without preset, that of the run in --workdir."""
    if invocation.workdir is not None and invocation.config is None:
        directory = RunDirectory(invocation.workdir)
        if directory.exists():
            return experiment.replace(directory.config(), invocation.overrides)
    return presets.resolve(invocation)


def _say_finished(invocation: Invocation, directory: RunDirectory, epochs: int) -> None:
    """Says that there is nothing left to train, and what can be done."""
    say = console.speaker(invocation.quiet)
    say(f"the run in {text.shown(directory.path)} is finished ({text.plural(epochs, 'epoch')})")
    say(f"evaluate it: {console.command_line(invocation, 'evaluate', directory.path)}")
    if reason := directory.read("status", {}).get("reason"):
        say(reason)
    else:
        more = f"--train.epochs={epochs + 5}"
        say(f"train on:    {console.go_on(invocation, directory.path, more)}")
    if invocation.profile is not None:
        say("profile    no trace: there is no step left to make")
