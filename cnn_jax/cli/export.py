"""The command `export`: writes the network of a run for others to use."""

import shlex
from pathlib import Path

from cnn_jax import text
from cnn_jax.cli import console
from cnn_jax.cli.given import load_run
from cnn_jax.cli.invocation import Invocation
from cnn_jax.export import exporting


def run_command(invocation: Invocation) -> int:
    """Runs `export` and returns the exit code.

    Raises:
        UsageError: there is no run, or the format cannot hold it.
        RunError: the file says something else than the run.
    """
    say = console.speaker(invocation.quiet)
    _, run = load_run(invocation)
    made = exporting.export_run(run, invocation.format, invocation.output, say=say)
    checked = made.checked
    print(
        f"checked    by {checked.by} on {text.plural(checked.images, 'image')} "
        f"({text.one_line(checked.source)})"
    )
    for name, value in checked.differences.items():
        print(f"           {name} differ by at most {value:.2g}{exporting.UNITS.get(name, '')}")
    for line in made.record["left_out"]:
        print(f"note       {text.one_line(line)}")
    for each in made.record["files"]:
        size = each["bytes"] / 1e6
        print(f"written    {text.shown(made.folder / each['name'])} ({size:,.3g} MB)")
    print(f"written    {text.shown(made.folder / 'export.json')}")
    script = Path(__file__).resolve().parents[2] / "examples" / "serve.py"
    if invocation.format == "onnx" and script.exists():  # it is the repository
        words = [text.python(), text.shown(script), text.shown(made.folder), "8000"]
        print(f"serve      {shlex.join(words)}")
    print(f"load       {text.shown(made.folder / 'README.md')} has the lines that do it")
    return 0
