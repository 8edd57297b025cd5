"""Figures with a bar or a row for each class."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnn_jax.reporting.figures import canvas

# With more classes nobody can read a row for each, and the picture grows without end.
_MOST_CLASSES = 100
_SHOWN = 30


def class_counts(
    counts: Mapping[str, Sequence[int] | np.ndarray],
    class_names: Sequence[str],
    channel_mean: Sequence[float] | np.ndarray | None = None,
    channel_std: Sequence[float] | np.ndarray | None = None,
) -> Figure:
    """Draws the number of examples in each class as bars, with a panel for each split.

    Of more than 100 classes the 15 largest and the 15 smallest are drawn, by their examples in all
    splits, largest first.

    Args:
        counts: {split: int `[classes]`}.
        class_names: the name of each class.
        channel_mean: float `[channels]`, the mean of the training images in 0..1; written below
            the bars.
        channel_std: float `[channels]`, their standard deviation, likewise.
    """
    every = len(class_names)
    shown = np.arange(every)
    if every > _MOST_CLASSES:
        sizes = np.sum([np.asarray(numbers) for numbers in counts.values()], axis=0)
        order = np.argsort(-sizes, kind="stable")
        shown = np.concatenate([order[: _SHOWN // 2], order[-_SHOWN // 2 :]])
    classes = len(shown)
    few = classes <= 20
    height = 1.9 + classes * (0.32 if few else 0.15)
    figure = Figure(figsize=(max(5.5, 3.4 * len(counts)), height), layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, (split, numbers) in zip(panels, counts.items(), strict=True):
        numbers = np.asarray(numbers)
        axes.set_title(f"{split}: {int(numbers.sum()):,}", fontsize=12, parse_math=False)
        numbers = numbers[shown]
        bars = axes.barh(np.arange(classes), numbers, color=canvas.BLUE)
        axes.set_xlabel("examples")
        axes.set_xlim(0, max(1, int(numbers.max())) * (1.3 if few else 1.05))
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        canvas.despine(axes)
        if few:
            axes.bar_label(bars, labels=[f"{n:,}" for n in numbers], padding=3, fontsize=9)
    names = [canvas.shorten(class_names[i], 22) for i in shown.tolist()]
    size = 10 if few else 7
    panels[0].set_yticks(np.arange(classes), names, fontsize=size, parse_math=False)
    panels[0].set_ylim(classes - 0.4, -0.6)
    if classes < every:
        figure.suptitle(
            f"The {_SHOWN // 2} largest and {_SHOWN // 2} smallest of {every:,} classes",
            fontsize=12,
        )
    if channel_mean is not None and channel_std is not None:
        colours = ("red", "green", "blue") if len(channel_mean) == 3 else ("grey",)
        text = "     ".join(
            f"{colour} {mean:.3f} ± {std:.3f}"
            for colour, mean, std in zip(colours, channel_mean, channel_std, strict=True)
        )
        figure.supxlabel(f"channel mean ± std, of 0..1:\n{text}", fontsize=10)
    return figure


def confusion_matrix(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draws the confusion matrix: colour is the share of the true class, numbers are counts.

    Of more than 100 classes the 30 that are most often mistaken, for others or others for them,
    are drawn in their order; the accuracy and the shares are still those of all classes.

    Args:
        matrix: int `[classes, classes]`; rows are true classes, columns predicted ones.
        class_names: the name of each class; with more than 20 the cells have no numbers.
    """
    total = int(matrix.sum())
    title = f"Accuracy {np.trace(matrix) / max(total, 1):.1%} on {total:,} examples"
    totals = matrix.sum(axis=1, keepdims=True)
    if len(class_names) > _MOST_CLASSES:
        title += f"\nthe {_SHOWN} most confused of {len(class_names):,} classes"
        errors = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diagonal(matrix)
        shown = np.sort(np.argsort(-errors, kind="stable")[:_SHOWN])
        matrix, totals = matrix[np.ix_(shown, shown)], totals[shown]
        class_names = [class_names[int(i)] for i in shown]
    classes = len(class_names)
    shares = matrix / np.maximum(totals, 1)
    side = min(max(3.2, 0.62 * classes), 11.5)
    figure = Figure(figsize=(side + 2.6, side + 1.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    # With more than 20 classes the names shrink to the height of a row.
    fontsize = 10 if classes <= 20 else max(4.5, min(9.0, 0.75 * 72 * side / classes))
    names = [canvas.shorten(name, 20) for name in class_names]
    where = np.arange(classes)
    level = 0.1 * classes * max(map(len, names)) < side
    axes.set_xticks(where, names, rotation=0 if level else 90, fontsize=fontsize, parse_math=False)
    axes.set_yticks(where, names, fontsize=fontsize, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title, fontsize=13)
    if classes <= 20:
        for row, column in np.ndindex(*matrix.shape):
            axes.text(
                column,
                row,
                f"{matrix[row, column]:,}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if shares[row, column] > 0.6 else "black",
            )
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("share of the true class")
    return figure
