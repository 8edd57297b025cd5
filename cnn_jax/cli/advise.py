"""The command `advise`: freeze or fine-tune? Trains with every strategy and compares."""

import dataclasses
import shlex
import sys

from cnn_jax import experiment, text
from cnn_jax.cli import console, presets
from cnn_jax.cli.invocation import Invocation
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.options import Advise
from cnn_jax.runs import code
from cnn_jax.runs.directory import RunDirectory, new_directory
from cnn_jax.studies import advise, advise_results, sides
from cnn_jax.studies.advise_results import Advice
from cnn_jax.training.signals import Interrupted


def run_command(invocation: Invocation) -> int:
    """Trains the runs that are not trained yet, compares, and returns the exit code.

    Raises:
        UsageError: there are no weights, or sizes and data do not fit together.
        RunError: a run failed in another way than by diverging.
    """
    directory, base, options = _open(invocation)
    try:
        say = console.speaker(invocation.quiet)
        command = shlex.join([*text.program(), *sys.argv[1:]])
        advice = advise.advise(base, options, directory, say, command)
    except KeyboardInterrupt as stop:
        tell = console.speaker(quiet=False)
        if (directory.path / "plan.json").exists():
            command = text.command_line("advise", directory.path, *invocation.code_flags)
            tell(f"go on with all of them: {command}")
        if isinstance(stop, Interrupted):
            return 128 + stop.signal_number
        raise
    _print(advice, directory, invocation.code_flags)
    return 0


def _open(invocation: Invocation) -> tuple[RunDirectory, Experiment, Advise]:
    """Returns directory, experiment and options; --workdir says what the flags do not."""
    directory, plan = None, None
    is_given = invocation.config is not None or "transfer.weights" in invocation.overrides
    if invocation.workdir is not None:
        directory = RunDirectory(invocation.workdir)
        if directory.exists():
            raise UsageError(
                f"--workdir={text.shown(directory.path)} is the directory of a training run; give "
                "advise another one"
            )
        plan = sides.read_plan(directory, "advise", is_given)
    if plan is None or invocation.config is not None:
        base = presets.resolve(invocation)
    else:
        code.check(plan.get("code"))
        base = sides.experiment_of(RunDirectory(str(invocation.workdir)), plan)
        base = experiment.replace(base, invocation.overrides)
    before = Advise() if plan is None else sides.options_of(plan, "advise")
    options = dataclasses.replace(before, **invocation.advise)
    return directory or new_directory(f"{base.name}-advise"), base, options


def _print(advice: Advice, directory: RunDirectory, code_flags: list[str]) -> None:
    """Prints the tables and the recommendations; also with --quiet, as they are the result."""
    for budget, cells in advice.cells.items():
        strategy, reason = advice.sentence(budget)
        print(f"\n{advise_results.TITLES[budget]}")
        print(advise_results.table(cells, advice.largest_share, metric=advice.metric))
        if meaning := advise_results.meaning(cells):
            print(meaning)
        print(f"recommended: {strategy}. {reason}")
    print()
    for name in advise_results.written():
        print(f"written    {text.shown(directory.path / name)}")
    if advice.recommended is not None:
        path = directory.path / "recommended"
        config = f"--config={text.shown(path)}.json"
        print(f"train it   {text.command_line('train', path, config, *code_flags)}")
