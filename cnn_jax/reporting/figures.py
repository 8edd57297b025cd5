"""Figures of data, training and predictions.

Every function returns a `matplotlib.figure.Figure` made without pyplot, so that nothing global is
opened or has to be closed. Colours are told apart by colour-blind readers and in grey print: no
meaning hangs on colour alone.
"""

import contextlib
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cnn_jax.errors import RunError

# The palette of Okabe and Ito, "Color Universal Design" (2008).
_BLUE, _ORANGE, _GREEN, _RED = "#0072B2", "#D55E00", "#00735C", "#B3261E"

# (colour, marker, dashes) of lines that are told apart in grey print too.
_LINES = (
    (_BLUE, "o", "-"),
    (_ORANGE, "s", "--"),
    (_GREEN, "^", "-."),
    ("#CC79A7", "D", "-"),
    ("#555555", "v", ":"),
)


def image_grid(images: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Returns the first 25 images in rows of five, each under its class name.

    The look at the data of TensorFlow's tutorial "Convolutional Neural Network (CNN)".

    Args:
        images: uint8 `[n, height, width, channels]` with 1 or 3 channels; n may be below 25.
        labels: int `[n]`, indices into the class names.
        class_names: the name of each class.
    """
    figure, cells = _grid(len(images), title_lines=1)
    for axes, image, label in zip(cells, images, labels, strict=False):
        _show(axes, image)
        axes.set_title(_shorten(class_names[int(label)], 16), fontsize=11, parse_math=False)
    return figure


def prediction_grid(
    images: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
) -> Figure:
    """Returns the first 25 images with predicted and true class.

    A right prediction has a green tick, a wrong one a red cross and a bold title.

    Args:
        images: uint8 `[n, height, width, channels]` with 1 or 3 channels; n may be below 25.
        labels: int `[n]`, the true classes.
        predicted: int `[n]`, the predicted classes.
        probabilities: float `[n]` in 0..1, of the predicted class.
        class_names: the name of each class.
    """
    figure, cells = _grid(len(images), title_lines=2)
    rows = zip(images, labels, predicted, probabilities, strict=True)
    for axes, (image, label, guess, probability) in zip(cells, rows, strict=False):
        right = label == guess
        _show(axes, image)
        axes.set_title(
            f"{'✓' if right else '✗'} {_shorten(class_names[int(guess)], 12)} {probability:.0%}\n"
            f"true: {_shorten(class_names[int(label)], 12)}",
            fontsize=10,
            color=_GREEN if right else _RED,
            fontweight="normal" if right else "bold",
            parse_math=False,
        )
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color(_GREEN if right else _RED)
            spine.set_linewidth(1 if right else 3)
    shown = min(len(images), 25)
    correct = int(np.sum(np.asarray(labels[:25]) == np.asarray(predicted[:25])))
    figure.suptitle(f"Predictions: {correct} of {shown} right", fontsize=13)
    return figure


def class_counts(
    counts: Mapping[str, Sequence[int] | np.ndarray],
    class_names: Sequence[str],
    channel_mean: Sequence[float] | np.ndarray | None = None,
    channel_std: Sequence[float] | np.ndarray | None = None,
) -> Figure:
    """Returns bars of the examples in each class, a panel for each split.

    Args:
        counts: {split: int `[classes]`}.
        class_names: the name of each class.
        channel_mean: float `[channels]`, of the training images in 0..1; written below the bars.
        channel_std: float `[channels]`, likewise.
    """
    classes = len(class_names)
    few = classes <= 20
    height = 1.9 + classes * (0.32 if few else 0.15)
    figure = Figure(figsize=(max(5.5, 3.4 * len(counts)), height), layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, (split, numbers) in zip(panels, counts.items(), strict=True):
        numbers = np.asarray(numbers)
        bars = axes.barh(np.arange(classes), numbers, color=_BLUE)
        axes.set_title(f"{split}: {int(numbers.sum()):,}", fontsize=12, parse_math=False)
        axes.set_xlabel("examples")
        axes.set_xlim(0, max(1, int(numbers.max())) * (1.3 if few else 1.05))
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        _despine(axes)
        if few:
            axes.bar_label(bars, labels=[f"{n:,}" for n in numbers], padding=3, fontsize=9)
    names = [_shorten(name, 22) for name in class_names]
    size = 10 if few else 7
    panels[0].set_yticks(np.arange(classes), names, fontsize=size, parse_math=False)
    panels[0].set_ylim(classes - 0.4, -0.6)
    if channel_mean is not None and channel_std is not None:
        colours = ("red", "green", "blue") if len(channel_mean) == 3 else ("grey",)
        text = "     ".join(
            f"{colour} {mean:.3f} ± {std:.3f}"
            for colour, mean, std in zip(colours, channel_mean, channel_std, strict=True)
        )
        figure.supxlabel(f"channel mean ± std, of 0..1:\n{text}", fontsize=10)
    return figure


def training_curves(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Returns loss and accuracy over epochs, with the best epoch by validation accuracy marked.

    Args:
        history: a dict for each epoch with `epoch` (counted from 1), `train_loss`,
            `train_accuracy`, `validation_loss` and `validation_accuracy`; a value that is absent,
            None or not finite leaves a gap.
    """

    def column(key: str) -> np.ndarray:
        values = [row.get(key) for row in history]
        array = np.array([math.nan if v is None else v for v in values], dtype=float)
        return np.where(np.isfinite(array), array, math.nan)

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    epochs = column("epoch")
    accuracy = column("validation_accuracy")
    best = int(np.nanargmax(accuracy)) if np.isfinite(accuracy).any() else None
    for axes, metric in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        validation = column(f"validation_{metric}")
        axes.plot(epochs, column(f"train_{metric}"), color=_BLUE, marker="o", label="train")
        axes.plot(epochs, validation, "--", color=_ORANGE, marker="s", label="validation")
        if best is not None:
            axes.axvline(epochs[best], color="0.5", linestyle=":", zorder=0)
            axes.plot(
                epochs[best],
                validation[best],
                "*",
                color=_ORANGE,
                markeredgecolor="black",
                markersize=15,
                linestyle="none",
                label=f"best epoch: {epochs[best]:.0f} ({validation[best]:.4f})",
            )
        axes.set_title(metric.capitalize(), fontsize=13)
        axes.set_xlabel("epoch")
        axes.set_ylabel(metric)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axes.margins(x=0.08, y=0.1)
        axes.grid(color="0.9")
        axes.legend()
        _despine(axes)
    return figure


def learning_curves(
    panels: Mapping[str, Mapping[str, Sequence[tuple[int, float, float]]]],
) -> Figure:
    """Returns accuracy over the number of training images, a line each with a band of ± std.

    Args:
        panels: {title of the panel: {name of the line: (images, mean, std) of each point}}; of one
            line in all panels the colour and the marker are the same.
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    styles = dict(zip(names, itertools.cycle(_LINES), strict=False))
    sizes = sorted({n for lines in panels.values() for line in lines.values() for n, *_ in line})
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
        axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.set_xticks([], minor=True)
        axes.set_title(title, fontsize=12, parse_math=False)
        axes.set_xlabel("training images (log scale)")
        axes.grid(color="0.9")
        _despine(axes)
    axes_of[0].set_ylabel("validation accuracy")
    handles = {h.get_label(): h for axes in axes_of for h in axes.get_lines() if h.get_label()}
    shown = [handles[name] for name in names]
    figure.legend(shown, names, loc="outside lower center", ncols=min(5, len(names)), frameon=False)
    return figure


def sweep(records: Sequence[Mapping[str, Any]], paths: Sequence[str]) -> Figure:
    """Returns what a sweep found: accuracy over each setting, and all settings side by side.

    Settings that were stopped early or diverged have no accuracy to compare, and are marks at the
    bottom of their panel.

    Args:
        records: of `sweep.study.Study.records`: "setting", "state", "value" and "std".
        paths: of the settings that were varied.
    """
    complete = [record for record in records if record["state"] == "complete"]
    others = [record for record in records if record["state"] in ("pruned", "diverged", "fail")]
    values = np.array([record["value"] for record in complete], float)
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.01
    top = high if high > low else low + 1
    normed = Normalize(low, top)
    colours = matplotlib.colormaps["viridis"]
    columns = min(3, len(paths))
    rows = -(-len(paths) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows + 3.6), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[3.4 * rows, 3.6])
    upper, lower = parts
    grid = upper.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    scales = {path: _Scale([record["setting"][path] for record in records]) for path in paths}
    for axes, path in zip(grid, paths, strict=False):
        scale = scales[path]
        x = [scale.place(record["setting"][path]) for record in complete]
        std = [record["std"] or 0.0 for record in complete]
        axes.errorbar(x, values, std, fmt="none", ecolor="0.7", zorder=1)
        axes.scatter(x, values, c=values, norm=normed, cmap=colours, zorder=2)
        for state, marker in (("pruned", "v"), ("diverged", "x"), ("fail", "s")):
            at = [scale.place(r["setting"][path]) for r in others if r["state"] == state]
            if at:
                axes.scatter(at, [low - margin] * len(at), marker=marker, color="0.4", label=state)
        axes.set_xticks(*scale.ticks())
        axes.set_xlabel(path, parse_math=False)
        axes.grid(color="0.9")
        _despine(axes)
    for axes in grid[len(paths) :]:
        axes.set_visible(False)
    grid[0].set_ylabel("validation accuracy")
    if others:
        grid[0].legend(fontsize=8, loc="best")
    axes = lower.subplots()
    for record in sorted(complete, key=lambda r: r["value"]):
        y = [scales[path].share(record["setting"][path]) for path in paths]
        y.append((record["value"] - low) / (top - low))
        axes.plot(range(len(y)), y, color=colours(normed(record["value"])), alpha=0.8)
    for position, path in enumerate(paths):
        axes.axvline(position, color="0.5", lw=0.8)
        for place, text in zip(*scales[path].ticks(), strict=True):
            share = scales[path].share_of_place(place)
            axes.text(position - 0.02, share, text, fontsize=8, ha="right", va="center")
    axes.axvline(len(paths), color="0.5", lw=0.8)
    for share in (0.0, 0.5, 1.0):
        text = f"{low + share * (top - low):.4f}"
        axes.text(len(paths) + 0.02, share, text, fontsize=8, va="center")
    axes.set_xticks(range(len(paths) + 1), [*paths, "accuracy"], parse_math=False)
    axes.set_yticks([])
    axes.set_xlim(-0.3, len(paths) + 0.3)
    axes.set_ylim(-0.05, 1.05)
    for side in ("top", "left", "right", "bottom"):
        axes.spines[side].set_visible(False)
    return figure


class _Scale:
    """Where the values of a setting stand on an axis: by number, by its logarithm, or in turn."""

    def __init__(self, values: Sequence[Any]):
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        self._names: list[str] = []
        self._log = False
        if len(numbers) < len(values):
            self._names = list(dict.fromkeys(str(value) for value in values))
        elif min(numbers) > 0 and max(numbers) / min(numbers) >= 20:
            self._log = True
        places = [self.place(value) for value in values]
        self._low, self._high = min(places), max(places)

    def place(self, value: Any) -> float:
        if self._names:
            return float(self._names.index(str(value)))
        return float(np.log10(value)) if self._log else float(value)

    def share_of_place(self, place: float) -> float:
        if self._high == self._low:
            return 0.5
        return (place - self._low) / (self._high - self._low)

    def share(self, value: Any) -> float:
        return self.share_of_place(self.place(value))

    def ticks(self) -> tuple[list[float], list[str]]:
        if self._names:
            return [float(i) for i in range(len(self._names))], self._names
        places = [float(x) for x in np.linspace(self._low, self._high, 4)]
        return places, [f"{10**x if self._log else x:.2g}" for x in places]


def confusion_matrix(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Returns the confusion matrix: colour is the share of the true class, numbers are counts.

    Args:
        matrix: int `[classes, classes]`; rows are true classes, columns predicted ones.
        class_names: the name of each class; with more than 20, cells carry no number.
    """
    classes = len(class_names)
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    side = min(max(3.2, 0.62 * classes), 11.5)
    figure = Figure(figsize=(side + 2.6, side + 1.6), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    # Beyond 20 classes names shrink to what a row has room for.
    fontsize = 10 if classes <= 20 else max(4.5, min(9.0, 0.75 * 72 * side / classes))
    names = [_shorten(name, 20) for name in class_names]
    where = np.arange(classes)
    level = 0.1 * classes * max(map(len, names)) < side
    axes.set_xticks(where, names, rotation=0 if level else 90, fontsize=fontsize, parse_math=False)
    axes.set_yticks(where, names, fontsize=fontsize, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    total = int(matrix.sum())
    accuracy = np.trace(matrix) / max(total, 1)
    axes.set_title(f"Accuracy {accuracy:.1%} on {total:,} examples", fontsize=13)
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


def filters(kernel: np.ndarray) -> Figure:
    """Returns the filters of a convolution as small images.

    Each is scaled by its own largest weight, symmetrically about 0, so that mid grey is 0. With
    three input channels they are red, green and blue; with any other number the filter is averaged
    over its input channels and grey.

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
    # One picture of all filters. Each has a black frame, since its rim may be as white as the page.
    scale = max(1, round(24 / max(height, width)))
    cell_height, cell_width = height * scale + 6, width * scale + 6
    canvas = np.ones((rows * cell_height, columns * cell_width, weights.shape[2]))
    for i in range(outputs):
        tile = (0.5 + 0.5 * weights[..., i]).repeat(scale, axis=0).repeat(scale, axis=1)
        top, left = i // columns * cell_height + 2, i % columns * cell_width + 2
        canvas[top : top + cell_height - 4, left : left + cell_width - 4] = 0
        canvas[top + 1 : top + cell_height - 5, left + 1 : left + cell_width - 5] = tile
    figure = Figure(figsize=(6, 6 * canvas.shape[0] / canvas.shape[1] + 1), layout="constrained")
    axes = figure.subplots()
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    averaged = "" if colour or inputs == 1 else f", averaged over {inputs} channels"
    axes.set_title(f"{outputs} filters of {height} x {width}{averaged}", fontsize=13)
    figure.supxlabel("each scaled by its largest weight; mid grey is 0", fontsize=10)
    return figure


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure; a reader finds the old file or the whole new one.

    Args:
        figure: the figure.
        path: ends in .svg, or it is a PNG.

    Raises:
        RunError: the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = "svg" if path.suffix == ".svg" else "png"
        figure.savefig(temporary, format=kind, dpi=150)
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"the figure {path} cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # where the folder could not be made either
            temporary.unlink(missing_ok=True)


def to_array(figure: Figure) -> np.ndarray:
    """Returns the figure as uint8 `[height, width, 3]`, at 100 pixels an inch."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _grid(count: int, title_lines: int) -> tuple[Figure, list[Axes]]:
    """Returns a figure of up to 5 x 5 cells and the axes of the first `count` of them."""
    count = min(count, 25)
    rows = max(1, math.ceil(count / 5))
    figure = Figure(figsize=(9, rows * (1.75 + 0.18 * title_lines) + 0.4), layout="constrained")
    cells = figure.subplots(rows, 5, squeeze=False).ravel().tolist()
    for axes in cells:
        axes.set_axis_off()
    return figure, cells[:count]


def _show(axes: Axes, image: np.ndarray) -> None:
    """Draws one uint8 image `[height, width, channels]`."""
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    # A small image keeps its pixels; a large one is scaled down smoothly.
    smooth = "nearest" if max(image.shape[:2]) <= 96 else "antialiased"
    grey = image.shape[-1] == 1
    axes.imshow(
        image[..., 0] if grey else image, cmap="gray", vmin=0, vmax=255, interpolation=smooth
    )


def _columns(count: int) -> int:
    """Returns how many columns show so many things in a block: full rows where that is possible."""
    least = math.ceil(math.sqrt(count))
    return next((c for c in range(least, 2 * least + 1) if count % c == 0), least)


def _shorten(name: str, length: int) -> str:
    """Returns at most so many characters, of which the first and the last are the name's."""
    end = (length - 1) // 3
    return name if len(name) <= length else f"{name[: length - 1 - end]}…{name[-end:]}"


def _despine(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
