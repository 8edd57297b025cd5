"""Figures with a bar or a row for each class."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnn_jax.reporting import order
from cnn_jax.reporting.counts import largest_and_smallest
from cnn_jax.reporting.figures import canvas, words

# With more classes nobody can read a row for each, and the picture grows without end.
_MOST_CLASSES = 100
_SHOWN = 30
_MOST_CHANNELS = 5


def class_counts(
    counts: Mapping[str, Sequence[int] | np.ndarray],
    class_names: Sequence[str],
    channel_mean: Sequence[float] = (),
    channel_std: Sequence[float] = (),
    units: str = "of 0..1",
) -> Figure:
    """Draws the number of examples in each class as bars, with a panel for each split.

    Of more than 100 classes the 15 largest and the 15 smallest are drawn, by their examples in all
    splits, largest first.

    Args:
        counts: {split: int `[classes]`}.
        class_names: the name of each class.
        channel_mean: the mean of each channel of the training images, written below the bars; ():
            not known.
        channel_std: their standard deviation, likewise.
        units: what the two are measured in.
    """
    every = len(class_names)
    shown = largest_and_smallest(counts, class_names, _MOST_CLASSES, _SHOWN)
    classes = len(shown)
    few = classes <= 20
    below = _channels(channel_mean, channel_std, units) if channel_mean else ""
    height = 1.7 + 0.18 * below.count("\n") + classes * (0.32 if few else 0.15)
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
    every_name = words.distinct(class_names, 22)
    names = [every_name[i] for i in shown.tolist()]
    size = 10 if few else 7
    panels[0].set_yticks(np.arange(classes), names, fontsize=size, **words.style(names))
    panels[0].set_ylim(classes - 0.4, -0.6)
    if classes < every:
        figure.suptitle(
            f"The {_SHOWN // 2} largest and {_SHOWN // 2} smallest of {every:,} classes",
            fontsize=12,
        )
    if below:
        figure.supxlabel(below, fontsize=10)
    return figure


def confusion_matrix(
    matrix: np.ndarray, class_names: Sequence[str], heading: str | None = None
) -> Figure:
    """Draws the confusion matrix: colour is the share of the true class, numbers are counts.

    Of more than 100 classes the 30 that are most often mistaken, for others or others for them,
    are drawn in their order; the accuracy and the shares are still those of all classes.

    Args:
        matrix: int `[classes, classes]`; rows are true classes, columns predicted ones.
        class_names: the name of each class; with more than 20 the cells have no numbers.
        heading: a line above the accuracy, or None.
    """
    total = int(matrix.sum())
    title = f"{words.shorten(heading, 60)}\n" if heading else ""
    title += f"Accuracy {np.trace(matrix) / max(total, 1):.1%} on {total:,} examples"
    by_name = order.shown(class_names)
    matrix = matrix[np.ix_(by_name, by_name)]
    totals = matrix.sum(axis=1, keepdims=True)
    names = words.distinct([class_names[i] for i in by_name], 20)
    if len(class_names) > _MOST_CLASSES:
        title += f"\nthe {_SHOWN} most confused of {len(class_names):,} classes"
        errors = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * np.diagonal(matrix)
        shown = np.sort(np.argsort(-errors, kind="stable")[:_SHOWN])
        matrix, totals = matrix[np.ix_(shown, shown)], totals[shown]
        names = [names[int(i)] for i in shown]
    classes = len(names)
    shares = matrix / np.maximum(totals, 1)
    side = min(max(3.2, 0.62 * classes), 11.5)
    # With more than 20 classes the names shrink to the height of a row.
    fontsize = 10 if classes <= 20 else max(4.5, min(9.0, 0.75 * 72 * side / classes))
    where = np.arange(classes)
    longest = max(map(len, names))
    level = 0.1 * classes * longest < side
    # Room for the longest name beside the matrix, and below it where names stand upright.
    room = 0.6 * longest * fontsize / 72
    size = (side + 1.9 + room, side + 1.4 + (0.2 if level else room))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    style = {"fontsize": fontsize, **words.style(names)}
    axes.set_xticks(where, names, rotation=0 if level else 90, **style)
    axes.set_yticks(where, names, **style)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(title, fontsize=13, **words.style([title.replace("\n", "")]))
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


def _channels(mean: Sequence[float], std: Sequence[float], units: str) -> str:
    """Returns mean and standard deviation of each channel as a few lines of text."""

    def number(value: float) -> str:
        return f"{value:.3f}" if value == 0 or 1e-3 <= abs(value) < 100 else f"{value:.3g}"

    each = [f"{number(m)} ± {number(s)}" for m, s in zip(mean, std, strict=True)]
    names = ["red", "green", "blue"]
    # Grey pictures that were stored in colour have three equal channels.
    if len(each) == 1 or (len(each) == 3 and len(set(mean)) == len(set(std)) == 1):
        names = ["grey"]
    elif len(each) != 3:
        names = [f"channel {i}" for i in range(1, min(len(each), _MOST_CHANNELS) + 1)]
    texts = [f"{name} {text}" for name, text in zip(names, each, strict=False)]
    if len(each) > _MOST_CHANNELS:
        texts.append(f"and {len(each) - _MOST_CHANNELS} more")
    width = 3 if len(names) == 3 else 2
    lines = ["     ".join(texts[i : i + width]) for i in range(0, len(texts), width)]
    return "\n".join([f"channel mean ± std, {units}:", *lines])
