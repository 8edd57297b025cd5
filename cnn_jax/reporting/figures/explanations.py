"""Figures of explanations: maps over images, with a scale that shows their numbers."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cnn_jax.reporting.figures import canvas, words

_MOST_PIXELS = 600  # that are drawn of a side of an image
_MAP = "RdBu_r"  # red is for the class, blue against it


@dataclasses.dataclass(frozen=True)
class Panel:
    """A map over an image.

    Attributes:
        title: one line above it.
        values: float [height, width] of the image as it is drawn.
        limit: the value at which colours end; all maps of one method share it.
        unit: of the values.
        lines: what stands below it.
    """

    title: str
    values: np.ndarray
    limit: float
    unit: str
    lines: Sequence[str] = ()


def overlaid(image: np.ndarray, values: np.ndarray, limit: float) -> np.ndarray:
    """Returns a map laid over a grey image, float [height, width, 3] in 0..1.

    Where the map is 0 the image is seen, and where it is at the limit the colour.

    Args:
        image: uint8 [height, width, 1 or 3].
        values: float [height, width].
        limit: the value at which colours end.
    """
    grey = image.astype(float).mean(axis=-1, keepdims=True) / 255
    strength = np.clip(np.abs(values) / limit, 0, 1)[..., None] if limit else 0.0
    share = 0.85 * strength
    colour = colormaps[_MAP](0.5 + 0.5 * np.clip(values / (limit or 1), -1, 1))[..., :3]
    return (1 - share) * (0.35 + 0.6 * grey) + share * colour


def explanation(
    image: np.ndarray,
    panels: Sequence[Panel],
    probabilities: Mapping[str, float],
    title: str,
    chosen: str,
    box: tuple[float, float, float, float] | None = None,
) -> Figure:
    """Draws an image, maps over it, and the probabilities of some classes.

    Args:
        image: uint8 [height, width, 1 or 3].
        panels: the maps.
        probabilities: {class: probability}, the most probable first.
        title: one line above all.
        chosen: the class that is explained.
        box: (top, left, bottom, right) in 0..1, drawn as a frame.
    """
    columns = len(panels) + 2
    high = max(1.0, min(3.0, 2.7 * image.shape[0] / image.shape[1]))
    figure = Figure(figsize=(2.9 * columns, high + 1.75), layout="constrained")
    axes = figure.subplots(1, columns, gridspec_kw={"width_ratios": [1] * (columns - 1) + [0.85]})
    step = max(1, math.ceil(max(image.shape[:2]) / _MOST_PIXELS))
    image = image[::step, ::step]
    smooth = "nearest" if max(image.shape[:2]) <= 96 else "antialiased"
    grey = image[..., 0] if image.shape[-1] == 1 else image
    axes[0].imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation=smooth)
    _frame(axes[0], image.shape, box)
    axes[0].set_title("the image", fontsize=11)
    for axis, panel in zip(axes[1:-1], panels, strict=True):
        shown = overlaid(image, panel.values[::step, ::step], panel.limit)
        axis.imshow(shown, interpolation=smooth)
        _frame(axis, image.shape, box)
        axis.set_title(panel.title, fontsize=11)
        _scale(figure, axis, panel)
    for axis in axes[:-1]:
        axis.set_xticks([])
        axis.set_yticks([])
    _bars(axes[-1], probabilities, chosen)
    figure.suptitle(title, fontsize=12, **words.style([title]))
    return figure


def _frame(
    axes: Axes, shape: tuple[int, ...], box: tuple[float, float, float, float] | None
) -> None:
    if box is None:
        return
    top, left, bottom, right = box
    corner = (left * shape[1] - 0.5, top * shape[0] - 0.5)
    size = ((right - left) * shape[1], (bottom - top) * shape[0])
    for colour, width in (("white", 3.5), ("black", 1.5)):
        axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=width))


def _scale(figure: Figure, axes: Axes, panel: Panel) -> None:
    """Draws the colours with their numbers below a map, and the lines below that."""
    norm = Normalize(-panel.limit or -1, panel.limit or 1)
    bar = figure.colorbar(
        ScalarMappable(norm, _MAP),
        ax=axes,
        orientation="horizontal",
        fraction=0.06,
        pad=0.02,
        shrink=0.85,
    )
    limit = panel.limit or 1
    bar.set_ticks([-limit, 0, limit], labels=[f"{-limit:.2g}", "0", f"{limit:.2g}"])
    bar.ax.tick_params(labelsize=9)
    bar.set_label("\n".join([panel.unit, *panel.lines]), fontsize=9)


def _bars(axes: Axes, probabilities: Mapping[str, float], chosen: str) -> None:
    names = list(probabilities)
    short = words.distinct(names, 14)
    places = range(len(names))
    colours = [canvas.BLUE if name == chosen else "0.7" for name in names]
    axes.barh(places, list(probabilities.values()), color=colours)
    for place, (name, p) in enumerate(zip(short, probabilities.values(), strict=True)):
        axes.text(
            0.02, place - 0.42, f"{name}  {p:.3f}", fontsize=10, va="bottom", **words.style([name])
        )
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.95), yticks=[], xticks=[0, 0.5, 1])
    for bar in axes.patches:
        bar.set_height(0.3)  # type: ignore[attr-defined]
        bar.set_y(bar.get_y() + 0.3)  # type: ignore[attr-defined]
    axes.set_xlabel("probability", fontsize=9)
    axes.set_title("what the network says", fontsize=11)
    canvas.despine(axes)


def overview(
    images: Sequence[np.ndarray],
    values: Sequence[np.ndarray],
    lines: Sequence[str],
    limit: float,
    unit: str,
    title: str,
) -> Figure:
    """Draws images in pairs: itself, and with a map over it; all maps have one scale.

    Args:
        images: uint8 [height, width, 1 or 3] each.
        values: the maps, float [height, width] each.
        lines: what stands above each pair.
        limit: the value at which colours end.
        unit: of the values.
        title: one line above all.
    """
    across = min(3, len(images))
    rows = math.ceil(len(images) / across)
    figure = Figure(figsize=(3.9 * across, 2.15 * rows + 1.1), layout="constrained")
    axes = figure.subplots(rows, across, squeeze=False)
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, image, map_, line in zip(axes.ravel(), images, values, lines, strict=False):
        step = max(1, math.ceil(max(image.shape[:2]) / 300))
        image, map_ = image[::step, ::step], map_[::step, ::step]
        plain = np.broadcast_to(image / 255, (*image.shape[:2], 3))
        gap = np.ones((image.shape[0], max(1, image.shape[1] // 16), 3))
        both = np.concatenate([plain, gap, overlaid(image, map_, limit)], axis=1)
        smooth = "nearest" if max(image.shape[:2]) <= 96 else "antialiased"
        axis.imshow(np.clip(both, 0, 1), interpolation=smooth)
        axis.set_title(line, fontsize=9.5, **words.style([line]))
    norm = Normalize(-limit or -1, limit or 1)
    bar = figure.colorbar(
        ScalarMappable(norm, _MAP), ax=axes, orientation="horizontal", fraction=0.03, aspect=50
    )
    bar.set_label(unit, fontsize=10)
    figure.suptitle(title, fontsize=13, **words.style([title]))
    return figure


def feature_maps(
    maps: np.ndarray, numbers: Sequence[int], names: Sequence[str], title: str
) -> Figure:
    """Draws feature maps in grey, each with its number; black is 0, white the largest of all.

    Args:
        maps: float [height, width, n].
        numbers: the channel of each.
        names: a line above each beside its number, such as its mean.
        title: one line above all.
    """
    across = min(8, len(numbers))
    rows = math.ceil(len(numbers) / across)
    figure = Figure(figsize=(1.35 * across + 0.2, 1.65 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, across, squeeze=False)
    low, high = min(0.0, float(maps.min())), float(maps.max())
    for axis in axes.ravel():
        axis.set_axis_off()
    for axis, index, number, name in zip(
        axes.ravel(), range(maps.shape[-1]), numbers, names, strict=False
    ):
        axis.imshow(maps[..., index], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axis.set_title(f"{number}: {name}", fontsize=8.5)
    figure.suptitle(title, fontsize=12, **words.style([title]))
    return figure
