"""The command `compare`: prints runs side by side."""

import pathlib
import shutil
import sys
import textwrap

from cnn_jax import extras, text
from cnn_jax.cli import flags
from cnn_jax.cli.invocation import Invocation
from cnn_jax.studies import compare, mcnemar


def run_command(invocation: Invocation) -> int:
    """Runs `compare` and returns the exit code.

    Raises:
        UsageError: there are no runs, or a flag is not legal.
        RunError: a directory that was named holds something else than a run.
    """
    flags.refuse_settings(invocation, "name directories, and give --where=NAME=VALUE to choose")
    if invocation.output is not None:
        extras.need_to_draw()
    comparison = compare.compare(
        invocation.arguments,
        invocation.where,
        invocation.sort,
        left_out=lambda reason: print(f"left out: {reason}", file=sys.stderr),
    )
    if invocation.format == "json":
        print(compare.json_text(comparison))
    elif invocation.format == "csv":
        print(compare.csv_text(comparison), end="")
    else:
        width = _width()
        print(compare.table(comparison, invocation.format == "markdown", width))
        explanation = [compare.EXPLANATION] if comparison.judged else []
        tests = mcnemar.lines(mcnemar.compared(comparison.groups))
        if lines := [*compare.levels(comparison), *explanation, *tests]:
            print("", *(textwrap.fill(line, width) for line in lines), sep="\n")
    if invocation.output is not None:
        output = pathlib.Path(invocation.output)
        compare.draw(comparison, output)
        # A program may read the other lines.
        stream = sys.stderr if invocation.format in ("json", "csv") else sys.stdout
        print(f"figure     {text.shown(output.resolve())}", file=stream)
    return 0


def _width() -> int:
    """Returns how many columns a table may have; a narrow terminal has fewer than usual."""
    if not sys.stdout.isatty():
        return compare.WIDTH
    return min(compare.WIDTH, max(1, shutil.get_terminal_size((compare.WIDTH, 24)).columns))
