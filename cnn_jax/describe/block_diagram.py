"""The blocks of a network: the short form of its layer table.

A block is a stage of the backbone. In a backbone without stages and in the head it is a layer with
parameters, together with the pools, reshapes and dropouts beside it. In a user's own module it is a
submodule of the module itself.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence

from cnn_jax.describe.layer_table import AUXILIARY, LayerRow, by
from cnn_jax.describe.trace import Shape
from cnn_jax.reporting.tables import table

_WORDS = {
    "MaxPool": "max pool",
    "AvgPool": "average pool",
    "AdaptiveAveragePool": "average pool",
    "GlobalAveragePool": "average over the map",
    "Dense": "dense",
    "DenseGeneral": "dense",
    "Flatten": "flatten",
}


@dataclasses.dataclass(frozen=True)
class Block:
    """A part of a network. Shapes are those of one image, without the batch axis.

    Attributes:
        name: the block's path in the parameter tree, such as "backbone/stage1".
        output_shape: (height, width, channels) or (units,).
        layers: the number of its rows in the layer table.
        parameters: the number of learned numbers.
        flops: the FLOPs of one image forward, counted as in the layer table.
        contents: its convolutions by their windows, its pools and dense layers, in order: "3 blocks
            of 1x1, 3x3, 1x1"; branches side by side are "1x1 | 1x1, 3x3 | max pool, 1x1".
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
        rows: the layer table.
        stage_names: the names of the model's stages.
    """
    groups: list[tuple[str, list[LayerRow]]] = []
    for row in rows:
        part, *rest = row.name.split("/")
        of_classifier = part in ("backbone", "head")
        name = "/".join([part, *rest[:1]]) if of_classifier else part
        before = groups[-1] if groups else None
        if before is not None and before[0] == name:
            before[1].append(row)
            continue
        # Layers that are blocks of their own, for want of stages.
        single = part == "head" or (part == "backbone" and tuple(stage_names) == ("",))
        if single and before is not None and before[0].startswith(f"{part}/"):
            if not row.parameters:
                before[1].append(row)
                continue
            if not any(each.parameters for each in before[1]):
                groups[-1] = (name, [*before[1], row])
                continue
        groups.append((name, [row]))
    # The last layer of parallel branches returns one branch; the layer behind it takes all of them.
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
            outputs[name] or (1,),
            len(group),
            sum(row.parameters for row in group),
            sum(row.flops for row in group),
            _contents(group, name),
        )
        for name, group in groups
    ]


def render(parts: Sequence[Block]) -> str:
    """Returns the blocks as a text table, with the totals at the end.

    Where there are auxiliary classifiers, one line of totals leaves them out and one has them.
    """
    flops = sum(part.flops for part in parts if not part.is_auxiliary)
    lines = [
        [
            part.name or "(itself)",
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


def _contents(rows: Sequence[LayerRow], name: str) -> str:
    """Returns the contents of a block, recognised by the names that the model files use.

    Blocks and layers in a row are `blockN` and `layerN`. The name of a layer in a branch begins
    with that of its branch, `branch1_...`; a branch's pool is `..._pool` (see
    `models/inception_v3.py`).
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
        # The last one has no projection, and its input and output have the same channels.
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
    terms = []
    for row in rows:
        kind = row.kind.partition(" ")[0]
        if kind in _WORDS:
            terms.append(_WORDS[kind])
        elif row.window is not None:
            transposed = " transposed" if "Transpose" in kind else ""
            terms.append("x".join(map(str, row.window)) + transposed)
        elif row.flops:
            terms.append(kind)
    return ", ".join(terms)
