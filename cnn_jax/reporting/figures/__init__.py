"""Figures of data, training, predictions and sweeps.

Every function returns a `matplotlib.figure.Figure` that is made without pyplot, so no global state
is opened or has to be closed. No meaning hangs on colour alone: colour-blind readers and readers of
a grey print can tell everything apart.

Importing this package loads Matplotlib, which takes half a second, or raises UsageError where it is
not installed.
"""

# ruff: noqa: E402
from cnn_jax import extras

extras.need_to_draw()

from cnn_jax.reporting.figures import trust
from cnn_jax.reporting.figures.augmented import augmented
from cnn_jax.reporting.figures.canvas import save, to_array
from cnn_jax.reporting.figures.classes import class_counts, confusion_matrix
from cnn_jax.reporting.figures.comparisons import Compared, comparison
from cnn_jax.reporting.figures.curves import learning_curves, training_curves
from cnn_jax.reporting.figures.images import filters, image_grid, prediction_grid
from cnn_jax.reporting.figures.pairs import Shown, pair_grid
from cnn_jax.reporting.figures.rankings import ranking
from cnn_jax.reporting.figures.sweeps import sweep

__all__ = [
    "Compared",
    "Shown",
    "augmented",
    "class_counts",
    "comparison",
    "confusion_matrix",
    "filters",
    "image_grid",
    "learning_curves",
    "pair_grid",
    "prediction_grid",
    "ranking",
    "save",
    "sweep",
    "to_array",
    "training_curves",
    "trust",
]
