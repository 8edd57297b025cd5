"""Parts that the pages of a run and of a sweep have in common."""

import json
import math
import pathlib
from collections.abc import Collection, Sequence

from cnn_jax import experiment
from cnn_jax.experiment import Experiment
from cnn_jax.reporting import page, tables
from cnn_jax.reporting import private as report_private

# A mail server takes a file of this size.
MOST_BYTES = 5_000_000
# The figures that a reader wants first, in this order; the others follow.
_FIGURES = (
    "sweep",
    "advise",
    "training_curves",
    "test_confusion_matrix",
    "validation_confusion_matrix",
    "test_roc",
    "validation_roc",
    "test_predictions",
    "validation_predictions",
    "data_images",
    "data_classes",
)


def title_and_question(title: str, question: str | None) -> list[str]:
    """Returns the title of a page, and below it the question that its preset asks."""
    heading = f"<h1>{page.escape(title)}</h1>"
    return [heading, page.paragraph(question)] if question else [heading]


def settings(config: Experiment, images: bool = True) -> list[str]:
    """Returns the settings that differ from the defaults as a table, and all of them as JSON.

    Args:
        config: the experiment.
        images: whether the names of files may be shown.
    """
    default = experiment.flatten(Experiment())
    show = (lambda _, value: value) if images else report_private.value
    changed = [
        [path, tables.shown(show(path, value)), tables.shown(default[path])]
        for path, value in experiment.flatten(config).items()
        if value != default[path] and path != "name"
    ]
    values = experiment.to_dict(config)
    every = json.dumps(values if images else report_private.settings(values), indent=2)
    return [
        page.heading("Settings"),
        page.table(changed, ["setting", "value", "default"]) if changed else "",
        page.details("all settings as JSON", page.code(every)),
    ]


def with_figures(
    title: str,
    parts: Sequence[str],
    folder: pathlib.Path,
    images: bool = True,
    without: Collection[str] = (),
) -> str:
    """Returns the page with as many of a folder's pictures as fit into `MOST_BYTES`.

    Pictures that do not fit are named.

    Args:
        title: the title of the page.
        parts: the HTML above the pictures.
        folder: holds the pictures.
        images: whether pictures with images or names of files in them are shown.
        without: the names of pictures that are left out.
    """
    room = MOST_BYTES - sum(len(part.encode()) for part in parts) - 50_000
    shown, left_out = [], []
    for name, png in _pictures(folder):
        if name in without or not (images or report_private.is_shown(name)):
            continue
        caption = name.replace("_", " ")
        size = math.ceil(len(png) * 4 / 3) + 500
        if size > room:
            left_out.append(caption)
            continue
        room -= size
        shown.append(page.image(png, caption))
    parts = [*parts]
    if shown:
        parts += [page.heading("Figures"), *shown]
    if left_out:
        parts.append(page.paragraph(f"Left out for their size: {', '.join(left_out)}.", soft=True))
    if not images:
        parts.append(page.paragraph(report_private.SENTENCE, soft=True))
    return page.page(title, parts)


def _pictures(folder: pathlib.Path) -> list[tuple[str, bytes]]:
    """Returns (name, PNG) of every picture in a folder."""
    paths = {path.stem: path for path in sorted(folder.glob("*.png"))}
    order = [name for name in _FIGURES if name in paths]
    order += [name for name in paths if name not in order]
    return [(name, paths[name].read_bytes()) for name in order]
