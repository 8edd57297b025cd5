"""The command `page`: writes one HTML file in which the network of a run runs."""

import pathlib
from typing import Any

from cnn_jax import places, text
from cnn_jax.cli import console
from cnn_jax.cli.given import load_run
from cnn_jax.cli.invocation import Invocation
from cnn_jax.errors import RunError, UsageError
from cnn_jax.options import Page
from cnn_jax.page import contents, frame
from cnn_jax.runs import loading
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.trained import Run
from cnn_jax.studies import report, sides

_MOST_BYTES = 5_000_000


def run_command(invocation: Invocation) -> int:
    """Runs `page` and returns the exit code.

    Raises:
        UsageError: there is no run, or the baseline or the advise does not fit it.
        RunError: its images cannot be read, or the page cannot be written.
    """
    options = Page(**invocation.page)
    directory, run = load_run(invocation)
    say = console.speaker(invocation.quiet)
    found = contents.gather(
        run,
        baseline=_baseline(options.baseline),
        advice=_advice(options.advise),
        images=invocation.images,
        say=say,
    )
    page = frame.document(found)
    size = len(page.encode())
    if size > _MOST_BYTES:
        what = "--page.baseline" if options.baseline else "the images (--noimages)"
        raise RunError(
            f"the page would have {size / 1e6:.1f} MB, and 5 MB are the most; leave {what} out"
        )
    output = pathlib.Path(invocation.output or directory.path / "page.html")
    report.write(page, output)
    print(f"written    {text.shown(output.resolve())} ({size / 1e6:.1f} MB)")
    print(f"open       {output.resolve().as_uri()}")
    return 0


def _baseline(place: str | None) -> Run | None:
    if place is None:
        return None
    return loading.load(places.place(place, "--page.baseline"))


def _advice(place: str | None) -> dict[str, Any] | None:
    """Returns the results of an advise, budget by budget.

    Raises:
        UsageError: there is none in that directory.
    """
    if place is None:
        return None
    directory = RunDirectory(places.place(place, "--page.advise"))
    found = sides.read(directory, "advise") if directory.path.is_dir() else None
    if found is None:
        raise UsageError(
            f"--page.advise={text.shown(directory.path)} is not the directory of an advise that "
            "has finished"
        )
    return {"budgets": found["budgets"]}
