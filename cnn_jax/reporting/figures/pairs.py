"""Figures of two images side by side: copies, and an image before and after."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from cnn_jax.reporting.figures import words
from cnn_jax.reporting.figures.images import show

_SIDE, _GAP, _BETWEEN, _LINE = 1.05, 0.16, 0.05, 0.16  # inches
_LETTERS = 34


class Shown(NamedTuple):
    """Two images and the lines of text above them.

    Attributes:
        left: uint8 `[height, width, channels]` with 1 or 3 channels; the two may differ in size.
        right: likewise.
        lines: at most two.
    """

    left: np.ndarray
    right: np.ndarray
    lines: tuple[str, ...]


def pair_grid(pairs: Sequence[Shown], title: str, note: str = "", most: int = 25) -> Figure:
    """Draws pairs of images in rows of five pairs.

    Args:
        pairs: what is drawn.
        title: a line at the top of the page.
        note: a smaller line below it.
        most: how many of the pairs are drawn.
    """
    pairs = pairs[:most]
    columns = min(5, max(3, len(pairs)))
    rows = max(1, -(-len(pairs) // columns))
    above = 0.38 + (0.2 if note else 0)
    cell_width, cell_height = 2 * _SIDE + _BETWEEN + _GAP, _SIDE + 2.4 * _LINE + _GAP
    width, height = columns * cell_width + _GAP, rows * cell_height + _GAP + above
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0))
    for i, (left_image, right_image, lines) in enumerate(pairs):
        left = _GAP + i % columns * cell_width
        top = above + i // columns * cell_height + 2.4 * _LINE + _GAP / 2
        show(axes, (left, top, _SIDE), left_image)
        show(axes, (left + _SIDE + _BETWEEN, top, _SIDE), right_image)
        for k, line in enumerate(reversed(lines[:2])):
            short = words.shorten(line, _LETTERS)
            middle = left + _SIDE + _BETWEEN / 2
            place = {"ha": "center", "va": "bottom", "fontsize": 7.5, "color": "0.2"}
            axes.text(middle, top - 0.03 - k * _LINE * 0.85, short, **place, **words.style([short]))
    shown_title = words.shorten(title, 110)
    axes.text(width / 2, 0.26, shown_title, ha="center", fontsize=12, **words.style([shown_title]))
    if note:
        axes.text(width / 2, 0.47, note, ha="center", fontsize=8.5, color="0.3", parse_math=False)
    return figure
