"""The figure of a sweep."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cnn_jax.reporting.figures import canvas, words
from cnn_jax.reporting.scale import Scale, labels, round_ticks

_COLOURS = matplotlib.colormaps["viridis"]
# The marker of each state in which a setting ends without an accuracy.
MARKERS = {"pruned": "v", "diverged": "x", "collapsed": "P", "fail": "s"}
_TICKS = 4
_LONGEST = 20  # letters of a value
_LETTERS = 34  # of all values that stand side by side below a panel

Record = Mapping[str, Any]


def sweep(
    records: Sequence[Record],
    paths: Sequence[str],
    largest_share: float | None = None,
    metric: str = "accuracy",
) -> Figure:
    """Draws the metric over each varied setting, and below it all settings side by side.

    A setting that was stopped early, diverged or says one class only has no accuracy to compare: it
    is a mark at the bottom of its panel.

    Args:
        records: one record a setting: "setting" ({path: value}), "state", "value" (of the
            metric on validation) and "std" (over seeds, or None).
        paths: the dotted names of the settings that vary.
        largest_share: the share of the largest class, which a level line shows.
        metric: what settings are judged by.
    """
    complete = [record for record in records if record["state"] == "complete"]
    others = [record for record in records if record["state"] in MARKERS]
    accuracies = [record["value"] for record in complete]
    low, high = (min(accuracies), max(accuracies)) if accuracies else (0.0, 1.0)
    bottom = low - (0.05 * (high - low) or 0.01)
    norm = Normalize(low, high if high > low else low + 1)
    scales = {path: Scale([record["setting"][path] for record in records]) for path in paths}

    columns = min(3, len(paths))
    rows = -(-len(paths) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows + 3.6), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[3.4 * rows, 3.6])
    upper, lower = parts
    grid = upper.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for axes, (path, scale) in zip(grid, scales.items(), strict=False):
        draw_setting(axes, path, scale, complete, others, bottom, norm)
        if largest_share is not None:
            canvas.level(axes, largest_share, accuracies)
    for axes in grid[len(paths) :]:
        axes.set_visible(False)
    grid[0].set_ylabel(f"validation {metric}")
    if others or largest_share is not None:
        # Below the panels: inside, it would hide points.
        handles, names = grid[0].get_legend_handles_labels()
        upper.legend(handles, names, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    _draw_side_by_side(lower.subplots(), scales, complete, norm, metric)
    return figure


def draw_setting(
    axes: Axes,
    path: str,
    scale: Scale,
    complete: Sequence[Record],
    others: Sequence[Record],
    bottom: float,
    norm: Normalize,
) -> None:
    """Draws accuracy over one setting, and the marks of settings without one at the bottom."""
    x = [scale.place(record["setting"][path]) for record in complete]
    values = [record["value"] for record in complete]
    std = [record["std"] or 0.0 for record in complete]
    axes.errorbar(x, values, std, fmt="none", ecolor="0.7", zorder=1)
    axes.scatter(x, values, c=values, norm=norm, cmap=_COLOURS, zorder=2)
    for state, marker in MARKERS.items():
        at = [scale.place(r["setting"][path]) for r in others if r["state"] == state]
        if at:
            axes.scatter(at, [bottom] * len(at), marker=marker, color="0.4", label=state)
    ticks = scale.ticks(_TICKS)
    names = [words.shorten(text, _LONGEST) for text in ticks.values()]
    axes.set_xticks(list(ticks), names, **words.style(names))
    if sum(map(len, names)) + len(names) > _LETTERS:
        slanted: Any = {"rotation": 30, "ha": "right", "rotation_mode": "anchor", "fontsize": 8}
        for label in axes.get_xticklabels():
            label.set(**slanted)
    if scale.names:
        axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xlabel(path, parse_math=False)
    axes.grid(color="0.9")
    canvas.despine(axes)


def _draw_side_by_side(
    axes: Axes,
    scales: Mapping[str, Scale],
    complete: Sequence[Record],
    norm: Normalize,
    metric: str,
) -> None:
    """Draws each setting as a line across parallel axes, of which the last is its metric."""
    for record in sorted(complete, key=lambda r: r["value"]):
        setting = record["setting"]
        y = [scale.share(scale.place(setting[path])) for path, scale in scales.items()]
        y.append(float(norm(record["value"])))
        axes.plot(range(len(y)), y, color=_COLOURS(norm(record["value"])), alpha=0.8)
    for position, scale in enumerate(scales.values()):
        axes.axvline(position, color="0.5", lw=0.8)
        for place, text in scale.ticks(_TICKS).items():
            name, y = words.shorten(text, _LONGEST), scale.share(place)
            style = {"fontsize": 8, "ha": "right", "va": "center", **words.style([name])}
            axes.text(position - 0.02, y, name, **style)
    last = len(scales)
    axes.axvline(last, color="0.5", lw=0.8)
    ticks = round_ticks(float(norm.vmin or 0), float(norm.vmax or 1), _TICKS)
    for tick, text in zip(ticks, labels(ticks), strict=True):
        axes.text(last + 0.02, float(norm(tick)), text, fontsize=8, va="center")
    titles = [*scales, metric]
    axes.set_xticks(range(last + 1), titles, parse_math=False)
    if sum(map(len, titles)) > 20 * min(3, len(scales)):
        slanted: Any = {"rotation": 20, "ha": "right", "rotation_mode": "anchor", "fontsize": 8}
        for label in axes.get_xticklabels():
            label.set(**slanted)
    axes.set_yticks([])
    axes.set_xlim(-0.3, last + 0.3)
    axes.set_ylim(-0.05, 1.05)
    for side in ("top", "left", "right", "bottom"):
        axes.spines[side].set_visible(False)
