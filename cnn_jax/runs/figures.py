"""Figures of the data before training and of an epoch.

The functions import `reporting.figures` themselves, since Matplotlib takes half a second to load.
Those that write figures write none where it is not installed.
"""

import pathlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from cnn_jax import experiment, extras, text
from cnn_jax.data import Data, DataInfo, Split, batches
from cnn_jax.evaluation import findings, ranking, selection, two_classes
from cnn_jax.evaluation.evaluator import Evaluation
from cnn_jax.reporting import order as class_order
from cnn_jax.reporting.tensorboard import EventWriter

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[Any], "Figure"]  # is given the module `reporting.figures`

_DRAWN = 25  # images in one figure
_MOST_CURVES = 20
_MOST_RANKED = 2_000_000  # more scores would take seconds to sort in every epoch


def write_texts(
    step: int, config: experiment.Experiment, command: Sequence[str] | None, events: EventWriter
) -> None:
    """Writes the configuration and the command of this start to TensorBoard's TEXT.

    Args:
        step: the step at which TensorBoard shows the texts.
        config: the experiment.
        command: the command line of this start: Python, script, arguments; None: there is none.
        events: the event file.
    """
    events.text(step, "configuration", f"```json\n{experiment.to_json(config)}\n```")
    if command:
        line = shlex.join(text.as_typed(command))
        events.text(step, "command", f"```sh\n{line}\n```")


def write_figures(
    step: int, drawn: Mapping[str, Draw], events: EventWriter, folder: pathlib.Path | None = None
) -> None:
    """Draws figures, and writes them to TensorBoard.

    Args:
        step: the training steps made so far.
        drawn: what draws each figure, by the name in TensorBoard.
        events: the event file.
        folder: receives the figures as well, as NAME.png with "_" for "/"; or None.
    """
    if not extras.can_draw():
        return
    from cnn_jax.reporting import figures

    for name, draw in drawn.items():
        figure = draw(figures)
        events.figure(step, name, figure)
        if folder is not None:
            events.flush()  # where the file is there, so is the event
            figures.save(figure, folder / f"{name.replace('/', '_')}.png")


def of_data(data: Data) -> dict[str, Draw]:
    """Returns what draws 25 training images, and the examples in each class with the statistics."""
    split, info = data.splits["train"], data.info
    labels, names = split.labels, list(info.class_names)
    if info.multilabel:
        labels, names = findings.as_classes(labels, names)
    chosen = some_of_every_class(labels)
    place = np.argsort(class_order.shown(names))
    chosen = chosen[np.argsort(place[labels[chosen]], kind="stable")]
    title = f"{len(chosen)} of {len(split):,} training images, some of every class"
    if len(set(labels[chosen])) < len(names):
        title = f"{len(chosen)} of {len(split):,} training images"
    units = "of 0..1" if info.dtype == "uint8" else "in the units of the images"
    pixels, counts = as_pixels(split.images[chosen]), (info.class_counts, info.class_names)
    return {
        "data/images": lambda to: to.image_grid(pixels, labels[chosen], names, title),
        "data/classes": lambda to: to.class_counts(*counts, info.mean, info.std, units),
    }


def some_of_every_class(labels: np.ndarray, count: int = _DRAWN) -> np.ndarray:
    """Returns the indices of some examples, by class, as equally many of each as there are.

    Args:
        labels: int [n].
        count: how many, if there are that many. Of more classes than this, classes far apart in
            their order have one each.

    Returns:
        int [count or n]; always the same ones.
    """
    order = batches.epoch_order(0, 0, len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    classes, first, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    if len(classes) > count:
        return order[first[np.linspace(0, len(classes) - 1, count).astype(int)]]
    rank = np.arange(len(order)) - np.repeat(first, sizes)  # within its class
    return order[np.sort(np.lexsort((labels[order], rank))[:count])]


def of_epoch(params: Any, found: Evaluation, split: Split, info: DataInfo) -> dict[str, Draw]:
    """Returns what draws confusion matrix, predictions and first-layer filters.

    All that they show is read here: what is returned may be called while training goes on.

    Args:
        params: the parameters, whose first convolution is drawn.
        found: the result of the validation.
        split: the examples that were validated on, as images.
        info: the data set's class names.
    """
    drawn: dict[str, Draw] = {}
    if not info.multilabel:
        matrix, names = found.confusion, info.class_names
        drawn["validation/confusion_matrix"] = lambda to: to.confusion_matrix(matrix, names)
        drawn["validation/predictions"] = draw_predictions(found, split, info)
    kernel = first_kernel(params)
    if kernel is not None:
        drawn["filters/first_convolution"] = lambda to: to.filters(kernel)
    return drawn


def areas(
    found: Evaluation, split: Split, info: DataInfo, positive: str | None
) -> dict[str, float | None]:
    """Returns the points of AUC and average precision of a validation; {}: there are none.

    Args:
        found: the result of the validation.
        split: the examples that were validated on.
        info: the data set's class names.
        positive: `dataset.positive`.
    """
    p, labels = found.probabilities, split.labels
    if not _is_ranked(p):
        return {}
    if info.multilabel:
        each = [ranking.auc(p[:, c], labels[:, c] > 0) for c in range(p.shape[1])]
        known = [area for area in each if not np.isnan(area)]
        return {"validation/auc": float(np.mean(known)) if known else None}
    chosen = two_classes.positive_class(positive, info.class_names)
    means = ranking.mean_areas(p, labels, chosen)
    return {f"validation/{name}": value for name, value in means.items()}


def write_curves(
    step: int,
    found: Evaluation,
    split: Split,
    info: DataInfo,
    positive: str | None,
    events: EventWriter,
) -> None:
    """Writes PR CURVES to TensorBoard, of the positive of two classes or of the first 20 classes.

    Args:
        step: the training steps made so far.
        found: the result of the validation.
        split: the examples that were validated on.
        info: the data set's class names.
        positive: `dataset.positive`.
        events: the event file.
    """
    p, labels, names = found.probabilities, split.labels, info.class_names
    if info.multilabel or not _is_ranked(p):
        return
    chosen = two_classes.positive_class(positive, names)
    for label in [chosen] if chosen is not None else range(min(len(names), _MOST_CURVES)):
        if (labels == label).any():
            tag = f"validation/{text.printable(names[label])}"
            events.precision_recall(step, tag, labels == label, p[:, label])


def _is_ranked(probabilities: np.ndarray) -> bool:
    """Whether they are few enough to rank in every epoch, and of a run that has not diverged."""
    return probabilities.size <= _MOST_RANKED and bool(np.isfinite(probabilities).all())


def first_kernel(params: Any) -> np.ndarray | None:
    """Returns the first convolution's kernel [height, width, in, out], or None."""
    # A copy: the memory is the next state's.
    return next((np.array(leaf) for leaf in jax.tree.leaves(params) if leaf.ndim == 4), None)


def as_pixels(images: np.ndarray) -> np.ndarray:
    """Returns images that can be drawn, uint8 [n, height, width, 1 or 3].

    Floats are scaled so that their smallest value is black and their largest white. Of images with
    another number of channels the first one is drawn, in grey.
    """
    images = np.asarray(images)
    if images.shape[-1] not in (1, 3):
        images = images[..., :1]
    if images.dtype == np.uint8:
        return images
    low, high = float(images.min()), float(images.max())
    return np.round((images - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)


def predictions_figure(found: Evaluation, split: Split, info: DataInfo) -> "Figure":
    """Returns the 5 x 5 grid of predictions: the surest errors first, then the least sure others.

    Args:
        found: the result of an evaluation.
        split: the examples that were evaluated, as images.
        info: the data set's class names.
    """
    from cnn_jax.reporting import figures

    return draw_predictions(found, split, info)(figures)


def draw_predictions(found: Evaluation, split: Split, info: DataInfo) -> Draw:
    """Returns what draws the figure of `predictions_figure`; the images are read already."""
    predicted, surest = found.probabilities.argmax(axis=1), found.probabilities.max(axis=1)
    wrong = predicted != split.labels
    chosen = np.lexsort((np.where(wrong, -surest, surest), ~wrong))[:_DRAWN]
    errors = int(wrong.sum())
    verb = "is" if errors == 1 else "are"
    title = f"{errors:,} of {len(split):,} {verb} wrong: the surest errors first"
    if errors == 0:
        title = f"All {len(split):,} are right: the least sure ones first"
    elif errors < len(chosen):
        title += ", then the least sure of the others"
    shown = (
        as_pixels(split.images[chosen]),
        split.labels[chosen],
        predicted[chosen],
        surest[chosen],
        info.class_names,
        [split.ids[int(i)] for i in chosen],
        title,
    )
    return lambda to: to.prediction_grid(*shown)


def save_training_curves(history: Sequence[Mapping[str, Any]], folder: pathlib.Path) -> None:
    """Draws loss and accuracy of every epoch as training_curves.png."""
    if not extras.can_draw():
        return
    from cnn_jax.reporting import figures

    figures.save(training_curves(history), folder / "training_curves.png")


def training_curves(history: Sequence[Mapping[str, Any]]) -> Any:
    """Returns the curves of a run, with that of the metric that chose its best epoch."""
    from cnn_jax.reporting import figures

    best = selection.best_of(history)
    metric = selection.metric_of(best)
    return figures.training_curves(
        history,
        [record is best for record in history].index(True),
        {} if metric in ("accuracy", "loss") else {metric: selection.METRICS[metric].title},
    )


def projector_columns(
    probabilities: np.ndarray, split: Split, info: DataInfo
) -> dict[str, list[str]]:
    """Returns {column: n texts}, which TensorBoard's PROJECTOR colours and searches by.

    Args:
        probabilities: float [n, classes].
        split: the n examples.
        info: the data set's class names.
    """
    if info.multilabel:
        said = probabilities >= findings.THRESHOLD
        sure = np.maximum(probabilities, 1 - probabilities).min(axis=1)  # of the least sure finding
        return {
            "id": list(split.ids),
            "label": [findings.named(row, info.class_names) or "-" for row in split.labels],
            "predicted": [findings.named(row, info.class_names) or "-" for row in said],
            "confidence": [f"{p:.4f}" for p in sure],
            "outcome": np.where((said == split.labels).all(axis=1), "right", "wrong").tolist(),
        }
    predicted = probabilities.argmax(axis=1)
    right = predicted == split.labels
    return {
        "id": list(split.ids),
        "label": [info.class_names[i] for i in split.labels],
        "predicted": [info.class_names[i] for i in predicted],
        "confidence": [f"{p:.4f}" for p in probabilities.max(axis=1)],
        "outcome": np.where(right, "right", "wrong").tolist(),
    }
