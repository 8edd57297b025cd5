"""A picture of a network: its blocks as boxes."""

import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from cnn_jax.describe.block_diagram import Block
from cnn_jax.describe.layer_table import AUXILIARY, by
from cnn_jax.describe.trace import Shape

# Sizes of the picture, in inches.
_CELL, _COLUMNS, _MARGIN = 1.45, 7, 0.2
_TALLEST, _LONGEST, _SLANT = 1.05, 0.75, (0.28, 0.2)
_LINE = 0.14
_FEATURES, _UNITS, _INPUT = "#0072B2", "#D55E00", "#777777"


def draw(title: str, input_shape: Sequence[int], parts: Sequence[Block]) -> Figure:
    """Returns a picture of a network: its blocks as boxes, from left to right and line by line.

    The height, depth and length of a box show the height, width and channels of its output, on a
    square-root scale, since they differ by a factor of a thousand.

    Args:
        title: the first line above the boxes; the second has the totals.
        input_shape: (height, width, channels).
        parts: the blocks.
    """
    run = [part for part in parts if not part.is_auxiliary]
    helpers = {p.name.removeprefix(AUXILIARY): p for p in parts if p.is_auxiliary}
    parameters, flops = sum(part.parameters for part in run), sum(part.flops for part in run)
    boxes = [Block("input", tuple(input_shape), 0, 0, 0, ""), *run]
    # All lines have about the same length.
    columns = math.ceil(len(boxes) / math.ceil(len(boxes) / _COLUMNS))
    lines = [boxes[i : i + columns] for i in range(0, len(boxes), columns)]
    labels = {box.name: _label(box, flops) for box in boxes}
    longest = max(box.output_shape[-1] for box in boxes)
    sides = [side for box in boxes for side in box.output_shape[:-1]]
    sizes = {box.name: _size(box.output_shape, max(sides), longest) for box in boxes}
    # A line has, from its top, the auxiliary classifiers, the boxes, and the words below them.
    above = [0.6 * any(_short(box.name) in helpers for box in line) for line in lines]
    tall = [max(sizes[box.name].height for box in line) for line in lines]
    words = [_LINE * max(len(labels[box.name]) for box in line) for line in lines]
    width = 2 * _MARGIN + max(columns, 4) * _CELL
    height = 0.75 + sum(above) + sum(tall) + sum(words) + 0.4 * len(lines) + 0.2
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.set_axis_off()
    unit, size = ("GFLOP", 1e9) if flops >= 1e9 else ("MFLOP", 1e6)
    operations = f"{flops / size:#.3g}".rstrip(".")
    sums = f"{parameters:,} parameters, {operations} {unit} an image forward"
    if helpers:
        extra = sum(helper.parameters for helper in helpers.values())
        sums += f"; auxiliary classifiers in training: {extra:,} parameters more"
    _write(axes, width / 2, height - 0.22, title, fontsize=12, fontweight="bold")
    _write(axes, width / 2, height - 0.47, sums)
    top = height - 0.75
    for number, line in enumerate(lines):
        middle = top - above[number] - tall[number] / 2
        right = _MARGIN
        for column, box in enumerate(line):
            x, size = _MARGIN + (column + 0.5) * _CELL, sizes[box.name]
            _box(axes, x, middle, size, _colour(box))
            if box is not boxes[0]:
                _arrow(axes, right + 0.04, x - size.length / 2 - 0.04, middle)
            right = x + size.length / 2
            for i, (text, style) in enumerate(labels[box.name]):
                _write(axes, x, middle - tall[number] / 2 - 0.12 - i * _LINE, text, **style)
            helper = helpers.get(_short(box.name))
            if helper is not None:
                text = f"auxiliary classifier\n{helper.parameters:,} parameters"
                _write(axes, x, top - 0.14, text, fontsize=7, color=_UNITS)
                arrow = {"arrowstyle": "->", "linestyle": "--", "color": _UNITS}
                ceiling = middle + size.height / 2
                axes.annotate("", (x, top - 0.3), (x, ceiling), arrowprops=arrow)
        if line is not lines[-1]:  # the network goes on in the next line
            _arrow(axes, right + 0.04, right + 0.3, middle)
        top -= above[number] + tall[number] + words[number] + 0.4
    note = "boxes: output height, width and channels, square-root scale;  3x3: a convolution"
    _write(axes, width / 2, 0.18, note, fontsize=7, color="0.35")
    return figure


def _short(name: str) -> str:
    return name.rpartition("/")[2] or "(itself)"


def _label(box: Block, flops: int) -> list[tuple[str, dict[str, Any]]]:
    """Returns the lines of text below a box, each with its style."""
    small, grey = {"fontsize": 7.5}, {"fontsize": 7, "color": "0.3"}
    units = "" if len(box.output_shape) == 3 else " units"
    lines = [(_short(box.name), {"fontsize": 9, "fontweight": "bold"})]
    lines.append((by(box.output_shape) + units, {"fontsize": 8}))
    if box.layers:
        lines.append((f"{box.parameters:,} parameters", small))
        lines.append((f"{box.flops / max(flops, 1):.1%} of FLOPs", small))
    branches = box.contents.count("|") + 1
    texts = re.split(r"; | \| ", box.contents)
    for text in [f"{branches} branches:", *texts] if branches > 1 else texts:
        lines += [(line, grey) for line in textwrap.wrap(text, 26)]
    return lines


class _Size(NamedTuple):
    """The size of a drawn box in inches: its front, and how far its back is moved."""

    along: float
    up: float
    slant: tuple[float, float]

    @property
    def length(self) -> float:
        return self.along + self.slant[0]

    @property
    def height(self) -> float:
        return self.up + self.slant[1]


def _size(shape: Shape, tallest: int, longest: int) -> _Size:
    height, width, channels = (1, 1, *shape)[-3:]
    back = math.sqrt(width / tallest)
    return _Size(
        max(_LONGEST * math.sqrt(channels / longest), 0.03),
        max(_TALLEST * math.sqrt(height / tallest), 0.05),
        (_SLANT[0] * back, _SLANT[1] * back),
    )


def _colour(box: Block) -> str:
    if len(box.output_shape) == 1:
        return _UNITS
    return _FEATURES if box.layers else _INPUT


def _box(axes: Axes, x: float, y: float, size: _Size, colour: str) -> None:
    """Draws a box whose centre is (x, y)."""
    left, bottom = x - size.length / 2, y - size.height / 2
    front = [(left, bottom), (left + size.along, bottom)]
    front += [(left + size.along, bottom + size.up), (left, bottom + size.up)]

    def moved(*corners: int) -> list[tuple[float, float]]:
        return [(front[i][0] + size.slant[0], front[i][1] + size.slant[1]) for i in corners]

    # The three visible faces differ in brightness, so that edges show in grey print.
    faces = [(front, 0.75), ([front[3], front[2], *moved(2, 3)], 0.35)]
    faces.append(([front[1], front[2], *moved(2, 1)], 0.55))
    for corners, alpha in faces:
        axes.add_patch(Polygon(corners, facecolor="white", edgecolor="none"))
        axes.add_patch(Polygon(corners, facecolor=colour, alpha=alpha, edgecolor="none"))
        axes.add_patch(Polygon(corners, fill=False, edgecolor="black", linewidth=0.6))


def _arrow(axes: Axes, start: float, end: float, y: float) -> None:
    arrow = {"arrowstyle": "->", "color": "0.3", "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (end, y), (start, y), arrowprops=arrow)


def _write(axes: Axes, x: float, y: float, text: str, fontsize: float = 9, **style: Any) -> None:
    axes.text(x, y, text, fontsize=fontsize, ha="center", va="center", parse_math=False, **style)
