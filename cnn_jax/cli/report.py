"""The command `report`: writes a run or a sweep as one HTML page, or a run as a model card."""

import pathlib

from cnn_jax import places, text
from cnn_jax.cli import console, flags, presets
from cnn_jax.cli.invocation import Invocation
from cnn_jax.experiment import Experiment
from cnn_jax.export import card
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import report


def run_command(invocation: Invocation) -> int:
    """Runs `report` and returns the exit code.

    Raises:
        UsageError: there is no run and no sweep.
        RunError: a file of it cannot be read, or the page cannot be written.
    """
    flags.refuse_settings(invocation, "give nothing but the directory: report DIR")
    (source,) = invocation.arguments
    if invocation.format == "card":
        return _card(invocation, source)
    page = report.page_of(source, _question, invocation.images)
    output = pathlib.Path(invocation.output or places.place(source, "directory") / "report.html")
    report.write(page, output)
    print(f"written    {text.shown(output.resolve())} ({len(page.encode()) / 1e6:.1f} MB)")
    return 0


def _card(invocation: Invocation, source: str) -> int:
    """Writes the model card of a run."""
    directory = RunDirectory(source)
    written = card.of_directory(directory)
    output = pathlib.Path(invocation.output or directory.path / "README.md")
    report.write(written, output)
    print(f"written    {text.shown(output.resolve())}")
    line = console.command_line(invocation, "export", directory.path, "--format=onnx")
    print(f"export     {line}")
    return 0


def _question(config: Experiment) -> str | None:
    """Returns the question of the preset with this name, if it is about the same model and data."""
    if config.name not in presets.names():
        return None
    preset = presets.load(config.name)
    if (preset.model.name, preset.dataset.name) != (config.model.name, config.dataset.name):
        return None
    return presets.question(Invocation(config=config.name))
