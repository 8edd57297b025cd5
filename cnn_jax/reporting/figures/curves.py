"""Curves over epochs, and over the number of training images."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnn_jax.reporting.figures import canvas

# (colour, marker, dashes) of each line, which a grey print tells apart too.
_LINES = (
    (canvas.BLUE, "o", "-"),
    (canvas.ORANGE, "s", "--"),
    (canvas.GREEN, "^", "-."),
    ("#CC79A7", "D", "-"),
    ("#555555", "v", ":"),
)
_MOST_MARKERS = 40


def training_curves(
    history: Sequence[Mapping[str, Any]], best: int | None = None, more: Mapping[str, str] = {}
) -> Figure:
    """Draws loss and accuracy over epochs, and marks the best epoch.

    Args:
        history: a dict for each epoch with `epoch` (counted from 1), `train_loss`,
            `train_accuracy`, `validation_loss` and `validation_accuracy`; a value that is missing,
            None or not finite leaves a gap.
        best: the index of the best epoch; None: the first with the best validation accuracy.
        more: {METRIC: its title} of other curves, whose values are at `validation_METRIC`.
    """

    def column(key: str) -> np.ndarray:
        values = [row.get(key) for row in history]
        array = np.array([math.nan if v is None else v for v in values], dtype=float)
        return np.where(np.isfinite(array), array, math.nan)

    titles = {"loss": "Loss", "accuracy": "Accuracy", **more}
    figure = Figure(figsize=(4.5 * len(titles), 4.5), layout="constrained")
    epochs = column("epoch")
    accuracy = column("validation_accuracy")
    if best is None and np.isfinite(accuracy).any():
        best = int(np.nanargmax(accuracy))
    for axes, (metric, title) in zip(figure.subplots(1, len(titles)), titles.items(), strict=True):
        validation = column(f"validation_{metric}")
        # The markers of a long curve would lie upon each other, and hide it.
        style: dict[str, Any] = {"markevery": -(-max(len(epochs), 1) // _MOST_MARKERS)}
        train = column(f"train_{metric}")
        if np.isfinite(train).any() or metric not in more:  # others are of validation alone
            axes.plot(epochs, train, color=canvas.BLUE, marker="o", label="train", **style)
        style |= {"marker": "s", "label": "validation"}
        axes.plot(epochs, validation, "--", color=canvas.ORANGE, **style)
        if best is not None:
            axes.axvline(epochs[best], color="0.5", linestyle=":", zorder=0)
            axes.plot(
                epochs[best],
                validation[best],
                "*",
                color=canvas.ORANGE,
                markeredgecolor="black",
                markersize=15,
                linestyle="none",
                label=f"best epoch: {epochs[best]:.0f} ({validation[best]:.4f})",
            )
        axes.set_title(title, fontsize=13)
        axes.set_xlabel("epoch")
        axes.set_ylabel(more.get(metric, metric))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.margins(x=0.08, y=0.1)
        axes.grid(color="0.9")
        # Below the panel: inside, it would hide a part of the curves.
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 3}
        axes.legend(fontsize=9, frameon=False, columnspacing=1.2, **below)
        canvas.despine(axes)
    return figure


def learning_curves(
    panels: Mapping[str, Mapping[str, Sequence[tuple[int, float, float]]]],
    largest_share: float | None = None,
    metric: str = "accuracy",
) -> Figure:
    """Draws the metric over the number of training images, as lines with a band of ± std.

    Args:
        panels: {title of the panel: {name of the line: (images, mean, std) of each point}}. A line
            has the same colour and marker in all panels.
        largest_share: the share of the largest class, which a level line shows.
        metric: what is drawn.
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    styles = dict(zip(names, itertools.cycle(_LINES), strict=False))
    sizes = sorted({n for lines in panels.values() for line in lines.values() for n, *_ in line})
    means = [mean for lines in panels.values() for line in lines.values() for _, mean, _ in line]
    level: list[str] = []
    figure = Figure(figsize=(1.2 + 4.6 * len(panels), 4.6), layout="constrained")
    axes_of = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, lines) in zip(axes_of, panels.items(), strict=True):
        for name, points in lines.items():
            images, mean, std = (np.array(column) for column in zip(*points, strict=True))
            colour, marker, dashes = styles[name]
            axes.plot(images, mean, dashes, color=colour, marker=marker, label=name)
            if len(images) > 1:
                axes.fill_between(images, mean - std, mean + std, color=colour, alpha=0.15, lw=0)
            else:
                axes.errorbar(images, mean, std, color=colour, capsize=4)
        if largest_share is not None:
            level = [canvas.level(axes, largest_share, means)]
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.set_xticks([], minor=True)
        axes.set_title(title, fontsize=12, parse_math=False)
        axes.set_xlabel("training images (log scale)")
        axes.grid(color="0.9")
        canvas.despine(axes)
    axes_of[0].set_ylabel(f"validation {metric}")
    handles = {h.get_label(): h for axes in axes_of for h in axes.get_lines() if h.get_label()}
    names += level
    if names:
        shown = [handles[name] for name in names]
        columns = min(5, len(names))
        figure.legend(shown, names, loc="outside lower center", ncols=columns, frameon=False)
    return figure
