"""Presents explanations: as figures, as a table with lines, as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax import files, text
from cnn_jax.explain import checks, maps
from cnn_jax.explain.checks import Box, Curves
from cnn_jax.explain.explaining import Explanation, Map
from cnn_jax.explain.network import Network
from cnn_jax.reporting import figures, tables
from cnn_jax.reporting.figures.explanations import Panel, explanation, overview
from cnn_jax.runs import figures as run_figures

_BARS = 5
NO_PROOF = (
    "A map shows where the evidence of this network lies. It does not show that the reason is a "
    "good one, or that another network would have the same."
)


def limits(found: Sequence[Explanation]) -> dict[str, float]:
    """Returns {method: the largest size of a value in any of its maps}, the end of its colours."""
    return {
        method: max(float(np.abs(each.maps[method].values).max()) for each in found)
        for method in found[0].maps
    }


def save(
    one: Explanation, whole: np.ndarray, ends: dict[str, float], path: Path, box: Box | None
) -> None:
    """Draws one explanation into a file.

    Args:
        one: the explanation.
        whole: the image in its own size, uint8 [height, width, 1 or 3].
        ends: {method: the value at which colours end}.
        path: the file.
        box: the region that was asked for.
    """
    panels = [
        Panel(
            method if made.layer is None else f"{method} ({made.layer})",
            checks.enlarged(made.values, whole.shape[:2]),
            ends[method],
            maps.UNITS[method],
            _below(one, made),
        )
        for method, made in one.maps.items()
    ]
    order = np.argsort(-one.probabilities, kind="stable")[:_BARS].tolist()
    if one.label not in order:
        order[-1] = one.label
    p = {one.class_names[i]: float(one.probabilities[i]) for i in order}
    figures.save(explanation(whole, panels, p, _title(one), one.class_name, box), path)


def _title(one: Explanation) -> str:
    against = "" if one.against is None else f" and not {one.class_names[one.against]}"
    true = "" if one.true is None else f" (true: {one.class_names[one.true]})"
    return f"{Path(one.name).name}: why {one.class_name}{against}?{true}"


def _below(one: Explanation, made: Map) -> list[str]:
    """Returns the tests of a map in three short lines."""
    lines = []
    if made.total is not None:
        lines.append(f"sum {made.total:.2f} of {made.expected:.2f}")
    cut, chance = made.curves.deletion[1], [each.deletion[1] for each in one.chance]
    lines.append(f"top tenth cut out: p {cut:.3f}, by chance {np.mean(chance):.3f}")
    lines.append(f"weights drawn anew: correlation {made.redrawn['all']:.2f}")
    if made.failures:
        lines.append("FAILS " + ", ".join(made.failures))
    return lines


def save_overview(
    found: Sequence[Explanation], wholes: Sequence[np.ndarray], title: str, path: Path
) -> None:
    """Draws the first map of several explanations on one page."""
    method = next(iter(found[0].maps))
    values = [
        checks.enlarged(one.maps[method].values, whole.shape[:2])
        for one, whole in zip(found, wholes, strict=True)
    ]
    lines = [_overview_line(one) for one in found]
    unit = f"{method}, in {maps.UNITS[method]}; red is for the class that the network says"
    figure = overview(wholes, values, lines, limits(found)[method], unit, title)
    figures.save(figure, path)


def save_filters(network: Network, path: Path) -> bool:
    """Draws the filters of the first convolution; returns False where there is none."""
    kernel = run_figures.first_kernel(network.run.variables["params"])
    if kernel is None:
        return False
    figures.save(figures.filters(np.asarray(kernel)), path)
    return True


def _overview_line(one: Explanation) -> str:
    said = f"{one.class_name} {one.probabilities[one.label]:.2f}"
    if one.true is None or one.true == one.label:
        return said
    return f"{said}, true: {one.class_names[one.true]}"


def write(found: Sequence[Explanation], about: dict[str, Any], path: Path) -> None:
    """Writes explanations as JSON."""
    value = {**about, "explanations": [to_dict(one) for one in found]}
    line = json.dumps(value) + "\n"
    files.write_whole(path, lambda file: file.write(line.encode()))


def to_dict(explanation: Explanation) -> dict[str, Any]:
    """Returns an explanation as values that JSON has; maps are lists of rows."""
    names = explanation.class_names

    def named(label: int | None) -> str | None:
        return None if label is None else names[label]

    return {
        "image": explanation.name,
        "class": explanation.class_name,
        "against": named(explanation.against),
        "true": named(explanation.true),
        "probabilities": dict(zip(names, explanation.probabilities.tolist(), strict=True)),
        "evidence": explanation.evidence,
        "chance": _as_lists(explanation.chance),
        "maps": {
            method: {
                "layer": made.layer,
                "unit": maps.UNITS[method],
                "values": np.round(made.values.astype(float), 6).tolist(),
                "redrawn": made.redrawn,
                "other_class": made.other_class,
                "total": made.total,
                "expected": made.expected,
                "rest": made.rest,
                "deletion": made.curves.deletion.tolist(),
                "insertion": made.curves.insertion.tolist(),
                "regions": made.regions,
                "failures": made.failures,
            }
            for method, made in explanation.maps.items()
        },
    }


def _as_lists(curves: list[Curves]) -> dict[str, list[list[float]]]:
    return {
        "deletion": [each.deletion.tolist() for each in curves],
        "insertion": [each.insertion.tolist() for each in curves],
    }


def table(found: Sequence[Explanation], ids: Sequence[str]) -> str:
    """Returns a row for each map as a text table."""
    has_box = any("box" in made.regions for one in found for made in one.maps.values())
    regions = ["border", "centre", *(["box"] if has_box else [])]
    rows = []
    for one, name in zip(found, ids, strict=True):
        chance = float(np.mean([each.deletion[1] for each in one.chance]))
        for i, (method, made) in enumerate(one.maps.items()):
            p = f"{one.probabilities[one.label]:.3f}"
            first = [name, one.class_name, p] if i == 0 else ["", "", ""]
            total = "" if made.total is None else f"{made.total:.2f} of {made.expected:.2f}"
            cut = f"{made.curves.deletion[1]:.3f} ({chance:.3f})"
            shares = [f"{made.regions[name][0]:.0%}" for name in regions]
            verdict = f"fails {len(made.failures)}" if made.failures else "passes"
            same = f"{made.redrawn['all']:.2f}"
            rows.append([*first, method, total, *shares, cut, same, verdict])
    heads = ["image", "class", "p", "map", "sum of logits", *regions]
    return tables.table(rows, [*heads, "p, top tenth out", "redrawn", "tests"])


def lines(found: Sequence[Explanation], ids: Sequence[str]) -> list[str]:
    """Returns what the table means, and what the maps failed."""
    regions = next(iter(found[0].maps.values())).regions
    areas = ", ".join(f"the {name} {share[1]:.0%}" for name, share in regions.items())
    said = [
        f"of the area {areas}; in brackets what cutting out a tenth by chance leaves; redrawn: "
        "correlation with the map of the same network with weights drawn anew"
    ]
    for method in found[0].maps:
        failed = [(name, one.maps[method]) for one, name in zip(found, ids, strict=True)]
        failed = [(name, made) for name, made in failed if made.failures]
        for name, made in failed[:3]:
            said += [f"{method} of {name}: {failure}" for failure in made.failures.values()]
        if len(failed) > 3:
            said.append(f"{method}: {len(failed)} of {len(found)} maps failed a test")
    return [*said, NO_PROOF]


def file_names(names: Sequence[str]) -> list[str]:
    """Returns the names of the pictures, without repetition."""
    found: dict[str, None] = {}
    for name in names:
        stem = text.file_name(
            Path(name).stem if not name.isdecimal() else f"example_{name}", "image"
        )
        number, free = 2, stem
        while free in found:
            free, number = f"{stem}_{number}", number + 1
        found[free] = None
    return list(found)
