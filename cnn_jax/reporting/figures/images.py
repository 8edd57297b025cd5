"""Figures made of images: a look at a data set, predictions, filters."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnn_jax.reporting.figures import canvas, words

# Where one image goes, in inches from the left and from the top of the page: left, top, side.
Cell = tuple[float, float, float]
_LINE = 0.18  # inches that a line of text is high
_MOST_PIXELS = 500  # that are drawn of a side of an image
_MOST = 25  # images that are drawn, unless more are asked for
_FILE = 27  # letters of the name of a file


def image_grid(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], title: str = ""
) -> Figure:
    """Draws the first 25 images in rows of five, each under its class name.

    The idea is from TensorFlow's tutorial "Convolutional Neural Network (CNN)", which looks at its
    data in this way.

    Args:
        images: uint8 `[n, height, width, channels]` with 1 or 3 channels; n may be below 25.
        labels: int `[n]`, indices into the class names.
        class_names: the name of each class.
        title: a line above the images.
    """
    figure, cells = _grid(min(len(images), _MOST), title_lines=1, title=title)
    axes = figure.axes[0]
    names = words.distinct(class_names, 16)
    for cell, image, label in zip(cells, images, labels, strict=False):
        show(axes, cell, image)
        name = names[int(label)]
        _title(axes, cell, name, fontsize=11, **words.style([name]))
    _heading(figure, title)
    return figure


def prediction_grid(
    images: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    ids: Sequence[str] | None = None,
    title: str | None = None,
    most: int = _MOST,
    given: str = "true",
) -> Figure:
    """Draws the first images, each under its predicted and its true class.

    A right prediction has a green tick, a wrong one a red cross and a bold title.

    Args:
        images: uint8 `[n, height, width, channels]` with 1 or 3 channels.
        labels: int `[n]`, the true classes.
        predicted: int `[n]`, the predicted classes.
        probabilities: float `[n]` in 0..1, the probability of the predicted class.
        class_names: the name of each class.
        ids: n names of examples, such as paths of files, written above the images.
        title: a line above the images; None: how many of them are right.
        most: how many images are drawn at most.
        given: what the class in `labels` is called.
    """
    if title is None:
        correct = int(np.sum(np.asarray(labels[:most]) == np.asarray(predicted[:most])))
        title = f"Predictions: {correct} of {min(len(images), most)} right"
    figure, cells = _grid(
        min(len(images), most), title_lines=2 if ids is None else 2.75, title=title
    )
    axes = figure.axes[0]
    names = words.distinct(class_names, 11)
    rows = zip(images, labels, predicted, probabilities, ids or labels, strict=True)
    for cell, (image, label, guess, probability, name) in zip(cells, rows, strict=False):
        right = label == guess
        guessed, true = names[int(guess)], names[int(label)]
        colour = canvas.GREEN if right else canvas.RED
        left, top, width, height = show(axes, cell, image)
        frame = Rectangle((left, top), width, height, fill=False, edgecolor=colour)
        frame.set_linewidth(1 if right else 3)
        axes.add_patch(frame)
        lines = f"{'✓' if right else '✗'} {guessed} {_percent(probability)}\n{given}: {true}"
        style = words.style([lines.replace("\n", "")], bold=not right)
        above = 0.0
        if ids is not None:
            shown, above = _file(name), 0.75 * _LINE
            _title(axes, cell, shown, fontsize=7.5, color="0.25", **words.style([shown]))
        _title(axes, cell, lines, above, fontsize=10, color=colour, **style)
    _heading(figure, title)
    return figure


def _percent(share: float) -> str:
    """Returns a share as a percentage; one below 1 % has one digit that is not 0."""
    return f"{share:.0%}" if share >= 0.0095 else f"{100 * share:.1g}%"


def _file(name: str) -> str:
    """Returns the name of an example in one short line."""
    if name.isdecimal():
        return f"example {name}"
    parts = name.split("/")
    name = name if len(name) <= _FILE or len(parts) == 1 else f"…/{parts[-1]}"
    return words.shorten(name, _FILE)


def filters(kernel: np.ndarray) -> Figure:
    """Draws the filters of a convolution as small images.

    Each filter is scaled by its own largest weight, symmetrically about 0, so mid grey is 0. Three
    input channels are drawn as red, green and blue; with any other number the filter is averaged
    over its input channels and drawn in grey.

    Args:
        kernel: float `[height, width, in, out]`.
    """
    height, width, inputs, outputs = kernel.shape
    colour = inputs == 3
    weights = kernel if colour else kernel.mean(axis=2, keepdims=True)
    weights = np.asarray(weights, dtype=float)
    largest = np.abs(weights).max(axis=(0, 1, 2), keepdims=True)
    weights = weights / np.where(largest > 0, largest, 1)
    columns = _columns(outputs)
    rows = math.ceil(outputs / columns)
    # All filters are one picture. Each has a black frame: its edge may be as white as the page.
    scale = max(1, round(24 / max(height, width)))
    cell_height, cell_width = height * scale + 6, width * scale + 6
    picture = np.ones((rows * cell_height, columns * cell_width, weights.shape[2]))
    for i in range(outputs):
        tile = (0.5 + 0.5 * weights[..., i]).repeat(scale, axis=0).repeat(scale, axis=1)
        top, left = i // columns * cell_height + 2, i % columns * cell_width + 2
        picture[top : top + cell_height - 4, left : left + cell_width - 4] = 0
        picture[top + 1 : top + cell_height - 5, left + 1 : left + cell_width - 5] = tile
    figure = Figure(figsize=(6, 6 * picture.shape[0] / picture.shape[1] + 1), layout="constrained")
    axes = figure.subplots()
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    averaged = "" if colour or inputs == 1 else f", averaged over {inputs} channels"
    axes.set_title(f"{outputs} filters of {height} x {width}{averaged}", fontsize=13)
    figure.supxlabel("each scaled by its largest weight; mid grey is 0", fontsize=10)
    return figure


def _grid(count: int, title_lines: float, title: str) -> tuple[Figure, list[Cell]]:
    """Returns a figure of rows of five, and the cells of `count` images.

    Its only axes cover the page and measure it in inches: 25 axes take ten times as long to draw.

    Args:
        count: the number of images.
        title_lines: the lines of text above each image.
        title: a line at the top of the page, or "".
    """
    side, gap, above = 1.65, 0.13, 0.35 if title else 0.0
    high = side + gap + title_lines * _LINE
    page_width, page_height = 5 * (side + gap) + gap, max(1, math.ceil(count / 5)) * high + gap
    figure = Figure(figsize=(page_width, page_height + above))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, page_width), ylim=(page_height + above, 0))
    cells = []
    for i in range(count):
        left = gap + i % 5 * (side + gap)
        cells.append((left, above + i // 5 * high + gap + title_lines * _LINE, side))
    return figure, cells


def show(axes: Axes, cell: Cell, image: np.ndarray) -> tuple[float, float, float, float]:
    """Draws one uint8 image `[height, width, channels]`; returns its left, top, width, height."""
    left, top, side = cell
    scale = side / max(image.shape[:2])
    height, width = image.shape[0] * scale, image.shape[1] * scale
    left, top = left + (side - width) / 2, top + (side - height)  # below its title
    # The pixels of a small image stay visible; a large one is scaled down smoothly.
    smooth = "nearest" if max(image.shape[:2]) <= 96 else "antialiased"
    # More pixels than the page has would only take time.
    step = max(1, max(image.shape[:2]) // _MOST_PIXELS)
    image = image[::step, ::step]
    limits = axes.axis()
    axes.imshow(
        image[..., 0] if image.shape[-1] == 1 else image,
        cmap="gray",
        vmin=0,
        vmax=255,
        interpolation=smooth,
        extent=(left, left + width, top + height, top),
        aspect="auto",
    )
    axes.axis(limits)  # imshow turns the axes to the picture's own
    return left, top, width, height


def _title(axes: Axes, cell: Cell, line: str, above: float = 0.0, **style: Any) -> None:
    """Writes text in the middle above a cell, `above` inches higher than next to it."""
    left, top, side = cell
    axes.text(left + side / 2, top - 0.04 - above, line, ha="center", va="bottom", **style)


def _heading(figure: Figure, title: str) -> None:
    """Writes a line at the top of the page, for which `_grid` left room."""
    if title:
        middle = figure.get_size_inches()[0] / 2
        figure.axes[0].text(middle, 0.25, title, ha="center", fontsize=12, parse_math=False)


def _columns(count: int) -> int:
    """Returns the number of columns of a block of `count` cells, with full rows if possible."""
    least = math.ceil(math.sqrt(count))
    return next((c for c in range(least, 2 * least + 1) if count % c == 0), least)
