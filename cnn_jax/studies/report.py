"""Makes one HTML page of a run, a sweep or an advise, to send to somebody."""

import pathlib
from collections.abc import Callable

from cnn_jax import files, text
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Experiment
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import report_advise, report_run, report_sweep, sides


def page_of(
    source: str,
    question: Callable[[Experiment], str | None] = lambda _: None,
    images: bool = True,
) -> str:
    """Returns the page of the run, the sweep or the advise in a directory.

    Args:
        source: the directory.
        question: returns the question that an experiment's preset asks, or None.
        images: whether images and the names and places of files are shown.

    Raises:
        UsageError: there is none of them.
        RunError: a file in the directory cannot be read.
    """
    directory = RunDirectory(source)
    if not directory.path.is_dir():
        raise UsageError(f"there is no directory {source}")
    if directory.exists():
        return report_run.page_of(directory, question(directory.config()), images)
    plan = sides.read(directory, "plan")
    if plan is not None and "advise" in plan:
        return report_advise.page_of(directory, plan, question, images)
    if plan is not None and (records := sides.read(directory, "sweep")) is not None:
        return report_sweep.page_of(directory, plan, records, question, images)
    raise UsageError(
        f"{text.shown(directory.path)} is neither a run directory, nor the directory of an advise, "
        "nor that of a sweep that has finished a setting"
    )


def write(page_text: str, output: pathlib.Path) -> None:
    """Writes a page, and the folder that it belongs in.

    Raises:
        RunError: the file cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(output, lambda file: file.write(page_text.encode()))
    except OSError as error:
        raise RunError(f"{output} cannot be written: {error.strerror}") from error
