"""The figure of a comparison: for each data set its settings ranked, and what they differ in."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cnn_jax import text
from cnn_jax.reporting import tables
from cnn_jax.reporting.figures import canvas, words
from cnn_jax.reporting.figures.sweeps import MARKERS, Record, draw_setting
from cnn_jax.reporting.scale import Scale

_MOST_DATA_SETS = 6
_MOST_PANELS = 4  # of settings, beside the ranking
_MOST_RANKED = 20
_MOST_NAMES = 10  # side by side on one axis
_LONGEST = 44  # letters of a line of the ranking


@dataclasses.dataclass(frozen=True)
class Compared:
    """Settings whose accuracies were measured on the same images.

    Attributes:
        title: which images.
        records: one record a setting, as `sweeps.sweep` takes them, ranked.
        paths: the dotted names of the settings in which they differ.
        largest_share: the share of the largest class, where it is known.
        metric: what is compared.
    """

    title: str
    records: Sequence[Record]
    paths: Sequence[str]
    largest_share: float | None = None
    metric: str = "accuracy"


def comparison(data_sets: Sequence[Compared]) -> Figure:
    """Draws a row of panels for each data set: the settings ranked, and accuracy over what differs.

    Settings that always change together share a panel. If there are more of them than panels, those
    are drawn that explain most of the accuracies' variance.
    """
    shown = data_sets[:_MOST_DATA_SETS]
    panels = [_panels(each) for each in shown]
    columns = max(len(found) for found in panels)
    heights = [max(3.6, 1.3 + 0.24 * min(len(each.records), _MOST_RANKED + 1)) for each in shown]
    figure = Figure(figsize=(7.0 + 3.4 * columns, sum(heights)), layout="constrained")
    rows: Any = figure.subfigures(len(shown), 1, height_ratios=heights, squeeze=False)
    for row, each, found in zip(rows[:, 0], shown, panels, strict=True):
        ratios = [2.2, *[1.0] * len(found)]
        grid = row.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)
        _draw_row(row, grid[0], each, found)
    if len(data_sets) > len(shown):
        left = text.plural(len(data_sets) - len(shown), "more data set")
        figure.supxlabel(f"{left} not drawn", fontsize=9)
    return figure


def _panels(compared: Compared) -> list[list[str]]:
    """Returns the settings of each panel: those that change together, the most telling first."""
    together: dict[tuple[int, ...], list[str]] = {}
    for path in compared.paths:
        if _varies(path, compared.records):
            values = [tables.shown(record["setting"][path]) for record in compared.records]
            together.setdefault(tuple(map(values.index, values)), []).append(path)
    ranked = sorted(together, key=lambda partition: -_explained(partition, compared.records))
    return [together[partition] for partition in ranked[:_MOST_PANELS]]


def _explained(partition: Sequence[int], records: Sequence[Record]) -> float:
    """Returns the share of the variance that the parts explain, less what they would by chance."""
    parts: dict[int, list[float]] = {}
    for part, record in zip(partition, records, strict=True):
        if record["state"] == "complete":
            parts.setdefault(part, []).append(record["value"])
    values = [value for part in parts.values() for value in part]
    if len(values) <= len(parts) or len(parts) < 2:
        return -1.0
    mean = sum(values) / len(values)
    whole = sum((value - mean) ** 2 for value in values)
    means = {part: sum(found) / len(found) for part, found in parts.items()}
    within = sum((value - means[part]) ** 2 for part, found in parts.items() for value in found)
    return 1 - (within / (len(values) - len(parts))) / (whole / (len(values) - 1) or 1.0)


def _draw_row(row: Any, grid: Sequence[Axes], compared: Compared, panels: list[list[str]]) -> None:
    """Draws the panels of one data set, which share the axis of accuracies."""
    complete = [record for record in compared.records if record["state"] == "complete"]
    others = [record for record in compared.records if record["state"] in MARKERS]
    accuracies = [record["value"] for record in complete]
    low, high = (min(accuracies), max(accuracies)) if accuracies else (0.0, 1.0)
    bottom = low - (0.05 * (high - low) or 0.01)
    norm = Normalize(low, high if high > low else low + 1)
    differing = sum(_varies(path, compared.records) for path in compared.paths)
    drawn = sum(map(len, panels))
    told = f"{text.plural(len(compared.records), 'configuration')}"
    if drawn < differing:
        told += f" that differ in {differing} settings; those that explain most are drawn"
    title = words.shorten(compared.title, 60)
    row.suptitle(f"{title}: {told}", fontsize=11, x=0.01, ha="left", **words.style([title]))
    _draw_ranking(grid[0], compared, panels, norm)
    for axes, together in zip(grid[1:], panels, strict=False):
        _draw_panel(axes, together, complete, others, bottom, norm)
        if compared.largest_share is not None:
            canvas.level(axes, compared.largest_share, accuracies)
    if panels:
        grid[1].set_ylabel(f"validation {compared.metric}")
    if panels and (others or compared.largest_share is not None):
        handles, names = grid[1].get_legend_handles_labels()
        row.legend(handles, names, loc="outside lower right", ncols=4, fontsize=8, frameon=False)


def _varies(path: str, records: Sequence[Record]) -> bool:
    return len({tables.shown(record["setting"][path]) for record in records}) > 1


def _draw_panel(
    axes: Axes,
    together: list[str],
    complete: Sequence[Record],
    others: Sequence[Record],
    bottom: float,
    norm: Normalize,
) -> None:
    """Draws accuracy over settings that change together, by the values of the first."""
    path, *more = together
    records = [*complete, *others]
    scale = Scale([record["setting"][path] for record in records])
    if len(scale.names) > _MOST_NAMES:
        best = sorted(complete, key=lambda record: -record["value"])
        named = dict.fromkeys(tables.shown(record["setting"][path]) for record in best)
        kept = [*named][: _MOST_NAMES - 1]
        rest = f"{len(scale.names) - len(kept)} others"

        def known(record: Record) -> Record:
            shown = tables.shown(record["setting"][path])
            return {**record, "setting": {path: shown if shown in kept else rest}}

        complete, others = list(map(known, complete)), list(map(known, others))
        scale = Scale([*kept, rest])
    draw_setting(axes, path, scale, complete, others, bottom, norm)
    if more:
        names = ", ".join(other.removesuffix(".name").rpartition(".")[2] for other in more)
        label = f"{path}\n{words.shorten(f'with {names}', 40)}"
        axes.set_xlabel(label, fontsize=9, parse_math=False)


def _draw_ranking(axes: Axes, compared: Compared, panels: list[list[str]], norm: Normalize) -> None:
    """Draws the accuracies of the best settings below each other, with what they were."""
    ranked = sorted(compared.records, key=lambda record: record["state"] != "complete")
    ranked = ranked[:_MOST_RANKED]
    names = []
    for place, record in enumerate(ranked):
        values = [tables.shown(record["setting"][together[0]]) for together in panels]
        short = [words.shorten(value, 16) for value in values]
        name = ", ".join(short) or record.get("name", "")
        names.append(words.shorten(name, _LONGEST))
        draw_accuracy(axes, place, record, norm)
    axes.set_yticks(range(len(names)), names, fontsize=8, **words.style(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    left = len(compared.records) - len(ranked)
    axes.set_xlabel(
        f"validation {compared.metric}" + (f" ({left} more are not listed)" if left else "")
    )
    axes.grid(color="0.9", axis="x")
    canvas.despine(axes)


def draw_accuracy(axes: Axes, place: int, record: Record, norm: Normalize) -> None:
    """Draws a ranked accuracy with its deviation; a word stands for one that does not count."""
    if record["state"] != "complete":
        # At the left edge, whatever the accuracies are.
        style: Any = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 8}
        axes.text(0.02, place, record["state"], color="0.4", **style)
        return
    value = record["value"]
    axes.errorbar([value], [place], xerr=[record["std"] or 0.0], fmt="none", ecolor="0.6", zorder=1)
    axes.scatter([value], [place], c=[value], norm=norm, cmap="viridis", zorder=2)
