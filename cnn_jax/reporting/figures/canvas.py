"""What all figures share: colours, names on axes, and writing to a file or an array."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cnn_jax import files
from cnn_jax.errors import RunError

# The palette of Okabe and Ito, "Color Universal Design" (2008).
BLUE, ORANGE, GREEN, RED = "#0072B2", "#D55E00", "#00735C", "#B3261E"


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure to a file; a reader finds the old file or the whole new one.

    Args:
        figure: the figure.
        path: the file; an SVG where the name ends in .svg, else a PNG of 150 pixels an inch.

    Raises:
        RunError: the file cannot be written.
    """
    path = Path(path)
    kind = "svg" if path.suffix == ".svg" else "png"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, lambda file: figure.savefig(file, format=kind, dpi=150))
        figure.set_layout_engine("none")  # it is laid out now, which takes as long as to draw it
    except OSError as error:
        raise RunError(f"the figure {path} cannot be written: {error.strerror or error}") from error


def to_array(figure: Figure) -> np.ndarray:
    """Returns the figure as uint8 `[height, width, 3]`, at 100 pixels an inch."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")  # it is laid out now, which takes as long as to draw it
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def despine(axes: Axes) -> None:
    """Hides the upper and the right edge of the axes."""
    axes.spines[["top", "right"]].set_visible(False)


def level(axes: Axes, share: float, accuracies: Sequence[float]) -> str:
    """Draws what saying the largest class alone reaches, and returns the line's label.

    Where it is so far below the accuracies that they could not be told apart any more, the label
    alone says it.

    Args:
        axes: the axes of the accuracies.
        share: the share of the largest class.
        accuracies: what is drawn there.
    """
    low, high = min(accuracies, default=share), max(accuracies, default=share)
    near = share >= low - 2 * max(high - low, 0.05)
    label = f"largest class alone: {share:.4f}{'' if near else ' (below)'}"
    style = {"color": "0.25", "lw": 1.3, "linestyle": (0, (4, 2)), "label": label, "zorder": 1.5}
    if near:
        axes.axhline(share, **style)
    else:
        axes.plot([], [], **style)
    return label
