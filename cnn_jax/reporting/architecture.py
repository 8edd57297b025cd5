"""A network by its blocks: the short form of its layer table, and a picture of it.

A block is a stage of the backbone; where a model has no stages, and in the head, it is a layer with
parameters and what pools, flattens or drops beside it.
"""

import dataclasses
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from cnn_jax.reporting.summary import AUXILIARY, LayerRow, Shape, by
from cnn_jax.reporting.tables import table

# Sizes of the picture, in inches.
_CELL, _COLUMNS, _MARGIN = 1.45, 7, 0.2
_TALLEST, _LONGEST, _SLANT = 1.05, 0.75, (0.28, 0.2)
_LINE = 0.14
_FEATURES, _UNITS, _INPUT = "#0072B2", "#D55E00", "#777777"


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of a network. Shapes are of one image, without the batch axis.

    Attributes:
        name: its path in the parameter tree, such as "backbone/stage1".
        output_shape: (height, width, channels) or (units,).
        layers: how many rows of the layer table it is.
        parameters: how many numbers it learns.
        flops: of one image forward, counted as in the layer table.
        contents: its convolutions by their windows, pools and dense layers, in order: "3 blocks of
            1x1, 3x3, 1x1"; of branches side by side "1x1 | 1x1, 3x3 | max pool, 1x1".
    """

    name: str
    output_shape: Shape
    layers: int
    parameters: int
    flops: int
    contents: str

    @property
    def is_auxiliary(self) -> bool:
        """Whether it is a classifier that runs in training only."""
        return self.name.startswith(AUXILIARY)


def blocks(rows: Sequence[LayerRow], stage_names: Sequence[str] = ("",)) -> list[Block]:
    """Returns the blocks of a layer table, in the order in which an image passes through them.

    Args:
        rows: of `summary.layer_table`.
        stage_names: of the model.
    """
    groups: list[tuple[str, list[LayerRow]]] = []
    for row in rows:
        part, *rest = row.name.split("/")
        name = part if part.startswith(AUXILIARY) else "/".join([part, *rest[:1]])
        if groups and groups[-1][0] == name:
            groups[-1][1].append(row)
            continue
        loose = not part.startswith(AUXILIARY) and (part != "backbone" or stage_names == ("",))
        if loose and groups and groups[-1][0].startswith(f"{part}/"):
            learned = any(before.parameters for before in groups[-1][1])
            if not row.parameters:
                groups[-1][1].append(row)
                continue
            if not learned:
                groups[-1] = (name, [*groups[-1][1], row])
                continue
        groups.append((name, [row]))
    # Of branches side by side the last layer gives one alone; what comes next takes them all.
    outputs: dict[str, Shape] = {}
    after = rows[-1].output_shape
    for name, group in reversed(groups):
        if name.startswith(AUXILIARY):
            outputs[name] = group[-1].output_shape
        else:
            outputs[name], after = after, group[0].input_shape
    return [
        Block(
            name,
            outputs[name],
            len(group),
            sum(row.parameters for row in group),
            sum(row.flops for row in group),
            _contents(group, name),
        )
        for name, group in groups
    ]


def render(parts: Sequence[Block]) -> str:
    """Returns the blocks as a text table, with the totals in the end.

    Where there are auxiliary classifiers, the totals are those without them and those with them.
    """
    flops = sum(part.flops for part in parts if not part.is_auxiliary)
    lines = [
        [
            part.name,
            part.contents + ("; in training only" if part.is_auxiliary else ""),
            f"{part.layers:,}",
            by(part.output_shape),
            f"{part.parameters:,}",
            f"{part.flops:,}",
            "" if part.is_auxiliary else f"{part.flops / max(flops, 1):.1%}",
        ]
        for part in parts
    ]

    def last_line(name: str, some: Sequence[Block]) -> list[str]:
        layers, parameters, flops = (
            f"{sum(getattr(part, field) for part in some):,}"
            for field in ("layers", "parameters", "flops")
        )
        return [name, "", layers, "", parameters, flops, ""]

    run = [part for part in parts if not part.is_auxiliary]
    lines.append(last_line("total", run))
    if len(run) < len(parts):
        lines.append(last_line("in training", parts))
    headers = ["block", "contents", "layers", "output", "parameters", "FLOPs", "share"]
    return table(lines, headers)


def draw(title: str, input_shape: Sequence[int], parts: Sequence[Block]) -> Figure:
    """Returns a picture of a network: its blocks as boxes, from left to right and line by line.

    A box is as high and as deep as its output and as long as it has channels, all of them on a
    square-root scale, since they differ by a factor of a thousand.

    Args:
        title: what stands above, before the figures of the whole.
        input_shape: (height, width, channels).
        parts: of `blocks`.
    """
    run = [part for part in parts if not part.is_auxiliary]
    helpers = {p.name.removeprefix(AUXILIARY): p for p in parts if p.is_auxiliary}
    parameters, flops = sum(part.parameters for part in run), sum(part.flops for part in run)
    boxes = [Block("input", tuple(input_shape), 0, 0, 0, ""), *run]
    # Lines of about the same length.
    columns = math.ceil(len(boxes) / math.ceil(len(boxes) / _COLUMNS))
    lines = [boxes[i : i + columns] for i in range(0, len(boxes), columns)]
    labels = {box.name: _label(box, flops) for box in boxes}
    longest = max(box.output_shape[-1] for box in boxes)
    sides = [side for box in boxes for side in box.output_shape[:-1]]
    sizes = {box.name: _size(box.output_shape, max(sides), longest) for box in boxes}
    # In a line stand, from its top: auxiliary classifiers, the boxes, the words below them.
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
        if line is not lines[-1]:  # it goes on in the next line
            _arrow(axes, right + 0.04, right + 0.3, middle)
        top -= above[number] + tall[number] + words[number] + 0.4
    note = "boxes: output height, width and channels, square-root scale;  3x3: a convolution"
    _write(axes, width / 2, 0.18, note, fontsize=7, color="0.35")
    return figure


def _short(name: str) -> str:
    return name.rpartition("/")[2]


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
    """How a box is drawn, in inches: its front, how far its back is moved, what it takes in all."""

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
    """Draws a box about (x, y)."""
    left, bottom = x - size.length / 2, y - size.height / 2
    front = [(left, bottom), (left + size.along, bottom)]
    front += [(left + size.along, bottom + size.up), (left, bottom + size.up)]

    def moved(*corners: int) -> list[tuple[float, float]]:
        return [(front[i][0] + size.slant[0], front[i][1] + size.slant[1]) for i in corners]

    # The three faces that are seen, each lighter or darker, so that edges show in grey print.
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


def _contents(rows: Sequence[LayerRow], name: str) -> str:
    """Returns what a block is made of, by the names that the model files give their layers.

    Blocks and layers in a row are `blockN` and `layerN`; branches side by side are called after
    their branch, `branch1_...`, and what pools for one `..._pool` (see `models/inception.py`).
    """
    children: dict[str, list[LayerRow]] = {}
    for row in rows:
        inside = row.name.removeprefix(f"{name}/")
        children.setdefault(inside.partition("/")[0], []).append(row)
    repeated = [child for child in children if re.fullmatch(r"(block|layer)\d+", child)]
    rest = _sequence(
        row for child, group in children.items() if child not in repeated for row in group
    )
    if repeated:
        word = repeated[0].rstrip("0123456789") + ("s" if len(repeated) > 1 else "")
        # The last one has no projection, nor an input of other channels.
        text = f"{len(repeated)} {word} of {_sequence(children[repeated[-1]])}"
        return f"{text}; then {rest}" if rest else text
    if not any(child.startswith("branch") for child in children):
        return rest
    branches: dict[str, str] = {}
    for child, group in children.items():
        if child == "pool":
            continue
        branch = "pool" if child == "branch_pool" else child.partition("_")[0]
        before = branches.get(branch)
        # ..._2a and ..._2b take the same input.
        mark = " + " if re.search(r"\d[b-z]$", child) else ", "
        term = _sequence(group)
        branches[branch] = term if before is None else f"{before}{mark}{term}"
    text = " | ".join(branches.values())
    return f"{text}; then {_sequence(children['pool'])}" if "pool" in children else text


def _sequence(rows: Iterable[LayerRow]) -> str:
    """Returns the layers by their windows, without normalisation and dropout."""
    words = {
        "MaxPool": "max pool",
        "AvgPool": "average pool",
        "GlobalAveragePool": "average over the map",
        "Dense": "dense",
        "Flatten": "flatten",
    }
    terms = []
    for row in rows:
        kind = row.kind.partition(" ")[0]
        if kind == "Conv" and row.window is not None:
            terms.append("{}x{}".format(*row.window))
        elif kind in words:
            terms.append(words[kind])
    return ", ".join(terms)
