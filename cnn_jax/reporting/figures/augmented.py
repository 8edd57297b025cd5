"""The figure of images before and after augmentation."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from cnn_jax.reporting.figures import words

_SIDE, _GAP, _LABEL, _TITLE = 0.72, 0.05, 1.9, 0.35  # inches


def augmented(rows: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """Draws rows of images, each with its name on the left.

    Args:
        rows: {name: uint8 `[images, height, width, channels]` with 1 or 3 channels}; all of one
            shape.
        title: a line above the rows.
    """
    count, height, width, _ = next(iter(rows.values())).shape
    step, above = _SIDE + _GAP, _TITLE if title else 0.0
    page = (_LABEL + count * step + _GAP, above + len(rows) * step + _GAP)
    figure = Figure(figsize=page)
    axes = figure.add_axes((0, 0, 1, 1))  # measured in inches; many axes take long to draw
    axes.set_axis_off()
    axes.set(xlim=(0, page[0]), ylim=(page[1], 0))
    scale = _SIDE / max(height, width)
    for row, (name, images) in enumerate(rows.items()):
        top = above + row * step + _GAP
        shown = words.shorten(name, 26)
        middle = top + _SIDE / 2
        axes.text(0.08, middle, shown, va="center", fontsize=9, **words.style([shown]))
        for column, image in enumerate(images):
            left = _LABEL + column * step + _GAP
            axes.imshow(
                image[..., 0] if image.shape[-1] == 1 else image,
                cmap="gray",
                vmin=0,
                vmax=255,
                interpolation="nearest" if max(height, width) <= 96 else "antialiased",
                extent=(left, left + width * scale, top + height * scale, top),
                aspect="auto",
            )
    axes.set(xlim=(0, page[0]), ylim=(page[1], 0))  # imshow sets them to the picture's own
    if title:
        axes.text(page[0] / 2, 0.24, title, ha="center", fontsize=11, parse_math=False)
    return figure
