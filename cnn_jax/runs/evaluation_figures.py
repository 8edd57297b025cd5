"""Figures of an evaluation: confusion, curves over all thresholds, predictions, surest errors.

The functions import `reporting.figures` themselves, since Matplotlib takes half a second to load.
Where it is not installed, there are no figures.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn_jax import extras
from cnn_jax.data import DataInfo, Split
from cnn_jax.evaluation import bands, confusion
from cnn_jax.evaluation.evaluator import Evaluation
from cnn_jax.reporting.evaluations import with_interval
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.figures import as_pixels, predictions_figure, training_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(
    name: str,
    found: Evaluation,
    split: Split,
    info: DataInfo,
    history: Sequence[Mapping[str, Any]],
    directory: RunDirectory,
    record: Mapping[str, Any],
    worst: int,
) -> list[pathlib.Path]:
    """Draws an evaluation, and the training curves once more; returns the files.

    Args:
        name: what the names of the files begin with: the split, and its views.
        found: the result of the evaluation.
        split: the examples that were evaluated, as images.
        info: the data set's class names.
        history: one record an epoch; where it is empty no curves are drawn.
        directory: the run directory, whose figures/ receives the files.
        record: what result.json says of it, with its operating point, if it has one.
        worst: how many of the surest errors have a figure of their own.
    """
    if not extras.can_draw():
        return []
    from cnn_jax.reporting import figures

    drawn: dict[str, Figure | None] = {}
    if not info.multilabel:
        drawn = _of_classes(name, found, split, info, record, worst)
    if history:
        drawn["training_curves"] = training_curves(history)
    paths = []
    for stem, figure in drawn.items():
        if figure is not None:
            paths.append(directory.figures / f"{stem}.png")
            figures.save(figure, paths[-1])
    return paths


def _of_classes(
    name: str,
    found: Evaluation,
    split: Split,
    info: DataInfo,
    record: Mapping[str, Any],
    worst: int,
) -> dict[str, "Figure | None"]:
    """Returns the figures of an evaluation by name; the arguments are those of `save`."""
    from cnn_jax.reporting import figures

    drawn: dict[str, Figure | None] = {
        f"{name}_confusion_matrix": figures.confusion_matrix(found.confusion, info.class_names),
        f"{name}_predictions": predictions_figure(found, split, info),
        f"{name}_roc": ranking(found, split, info, record),
        f"{name}_worst": worst_errors(found, split, info, worst),
    }
    if point := record.get("operating_point"):
        title = f"At the threshold {point['threshold']:.4g} for {record['positive']}"
        matrix = np.asarray(point["confusion_matrix"])
        drawn[f"{name}_operating_point_confusion_matrix"] = figures.confusion_matrix(
            matrix, info.class_names, title
        )
    return drawn


def worst_errors(found: Evaluation, split: Split, info: DataInfo, count: int) -> "Figure | None":
    """Returns a figure of the surest errors with the names of their files; None: there are none."""
    from cnn_jax.reporting import figures

    chosen = confusion.surest_errors(found.probabilities, split.labels, count)
    if not len(chosen):
        return None
    p = found.probabilities[chosen]
    errors = int((found.probabilities.argmax(axis=1) != split.labels).sum())
    return figures.prediction_grid(
        as_pixels(split.images[chosen]),
        split.labels[chosen],
        p.argmax(axis=1),
        p.max(axis=1),
        info.class_names,
        [split.ids[int(i)] for i in chosen],
        f"The surest {len(chosen):,} of {errors:,} errors on {len(split):,} images",
        most=count,
    )


def ranking(
    found: Evaluation, split: Split, info: DataInfo, record: Mapping[str, Any]
) -> "Figure | None":
    """Returns the ROC and the precision-recall curves; None where the record has no area.

    Of two classes they are those of the positive one, with the thresholds of the record; of more
    the mean over the classes, and those of the classes with the smallest areas.
    """
    from cnn_jax.reporting import figures
    from cnn_jax.reporting.figures import rankings

    if record.get("auc") is None:
        return None
    p, labels = found.probabilities, split.labels
    counts = np.bincount(labels, minlength=len(info.class_names))
    classes = [c for c, n in enumerate(counts.tolist()) if 0 < n < len(labels)]

    def line(name: str, chosen: Sequence[int], of: Mapping[str, Any], banded: bool) -> Any:
        curves = bands.curves(p, labels, chosen, split.groups, with_band=banded)
        ends = of["intervals"]
        area = with_interval(of["auc"], ends.get("auc"), 3)
        average = with_interval(of["average_precision"], ends.get("average_precision"), 3)
        return rankings.Line(
            name,
            curves[0].y,
            curves[1].y,
            curves[0].band,
            curves[1].band,
            f"AUC {area}",
            f"average precision {average}",
        )

    whole = f"{len(labels):,} images"
    if "groups" in record:
        whole += f" of {record['groups']:,} groups"
    if "positive" in record:
        positive = list(info.class_names).index(record["positive"])
        lines = [line(record["positive"], [positive], record, True)]
        share = counts[positive] / len(labels)
        title = f"{record['positive']} against {info.class_names[1 - positive]}: {whole}"
        return figures.ranking(lines, _marks(record), share, title)
    worst = sorted(classes, key=lambda c: record["per_class"][c]["auc"])
    lines = [line(f"mean over {len(classes):,} classes", classes, record, True)]
    for c in worst[: rankings.MOST_LINES - 1]:
        lines.append(line(info.class_names[c], [c], record["per_class"][c], False))
    title = f"Each class against the rest: {whole}"
    if len(classes) >= rankings.MOST_LINES:
        title += f"; the {len(lines) - 1} classes with the smallest AUC"
    return figures.ranking(lines, [], float(np.mean(counts[classes])) / len(labels), title)


def _marks(record: Mapping[str, Any]) -> list[Any]:
    """Returns the thresholds of a record of two classes."""
    from cnn_jax.reporting.figures import rankings

    found = [rankings.Mark("probability of 1/2", dict(record), record["rate_intervals"])]
    if point := record.get("operating_point"):
        name = f"threshold {point['threshold']:.3g}, by {point['rule']}"
        found.append(rankings.Mark(name, dict(point), point["rate_intervals"]))
    return found
