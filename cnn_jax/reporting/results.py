"""Figures of the data before training, and of what an evaluation found.

`figures` is imported where something is drawn: Matplotlib takes half a second.
"""

import pathlib
import shlex
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from cnn_jax import experiment, run
from cnn_jax.data import Data, DataInfo, Split, batches
from cnn_jax.evaluation.evaluator import Evaluation
from cnn_jax.reporting import projector, tensorboard

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_data_figures(loaded: Data, folder: pathlib.Path, events: tensorboard.EventWriter) -> None:
    """Writes a 5 x 5 grid of training images, and class counts with channel statistics."""
    from cnn_jax.reporting import figures

    split, info = loaded.splits["train"], loaded.info
    chosen = np.sort(batches.epoch_order(0, 0, len(split.labels))[:25])
    made = {
        "images": figures.image_grid(split.images[chosen], split.labels[chosen], info.class_names),
        "classes": figures.class_counts(info.class_counts, info.class_names, info.mean, info.std),
    }
    for name, figure in made.items():
        figures.save(figure, folder / f"data_{name}.png")
        events.figure(0, f"data/{name}", figure)


def write_texts(
    step: int,
    config: experiment.Experiment,
    directory: run.RunDirectory,
    events: tensorboard.EventWriter,
) -> None:
    """Writes the configuration and the command of this start to TensorBoard's TEXT."""
    events.text(step, "configuration", f"```json\n{experiment.to_json(config)}\n```")
    starts = directory.read("environment", [])
    if starts:
        command = shlex.join(["python", *starts[-1]["command"][1:]])
        events.text(step, "command", f"```sh\n{command}\n```")


def first_kernel(params: Any) -> np.ndarray | None:
    """Returns the first convolution's kernel [height, width, in, out], or None."""
    for leaf in jax.tree.leaves(params):
        if leaf.ndim == 4:
            return np.asarray(leaf)
    return None


def write_figures(
    step: int,
    params: Any,
    found: Evaluation,
    split: Split,
    info: DataInfo,
    events: tensorboard.EventWriter,
) -> None:
    """Writes confusion matrix, predictions and first-layer filters to TensorBoard."""
    from cnn_jax.reporting import figures

    events.figure(
        step,
        "validation/confusion_matrix",
        figures.confusion_matrix(found.confusion, info.class_names),
    )
    events.figure(step, "validation/predictions", predictions_figure(found, split, info))
    kernel = first_kernel(params)
    if kernel is not None:
        events.figure(step, "filters/first_convolution", figures.filters(kernel))


def predictions_figure(found: Evaluation, split: Split, info: DataInfo) -> "Figure":
    """Returns the 5 x 5 grid of predictions of examples spread over the split."""
    from cnn_jax.reporting import figures

    chosen = np.linspace(0, len(split.labels) - 1, min(25, len(split.labels))).astype(int)
    p = found.probabilities[chosen]
    return figures.prediction_grid(
        split.images[chosen],
        split.labels[chosen],
        p.argmax(axis=1),
        p.max(axis=1),
        info.class_names,
    )


def write_projector(
    directory: pathlib.Path,
    embeddings: np.ndarray,
    probabilities: np.ndarray,
    split: Split,
    info: DataInfo,
) -> None:
    """Writes the features of a split's examples for TensorBoard's PROJECTOR.

    Args:
        directory: of the run.
        embeddings: float [n, units].
        probabilities: float [n, classes].
        split: the n examples as images.
        info: of the data set.
    """
    predicted = probabilities.argmax(axis=1)
    right = predicted == split.labels
    columns = {
        "label": [info.class_names[i] for i in split.labels],
        "predicted": [info.class_names[i] for i in predicted],
        "confidence": [f"{p:.4f}" for p in probabilities.max(axis=1)],
        "outcome": np.where(right, "right", "wrong").tolist(),
    }
    projector.write(directory, embeddings, split.images, columns)
