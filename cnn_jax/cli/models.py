"""The command `models`: lists the registered models."""

from cnn_jax.cli import console, flags
from cnn_jax.cli.invocation import Invocation
from cnn_jax.describe import model_list


def run_command(invocation: Invocation) -> int:
    """Prints the registered models and what to do with one; returns the exit code.

    Raises:
        UsageError: a preset, a run or a setting was given.
    """
    describe = console.command("describe --model.name=NAME")
    flags.refuse_settings(invocation, f"{describe} shows one model")
    train = console.command("train --config=cifar10_cnn --model.name=NAME --workdir=DIR")
    print(model_list.render())
    print(f"\ndescribe   {describe} --output=NAME.png")
    print(f"train      {train}")
    return 0
