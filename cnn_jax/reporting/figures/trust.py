"""Figures of trust: reliability, risk and coverage, sizes of sets, strangers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cnn_jax.reporting.figures import canvas

_SKY = "#56B4E9"
_STRANGE = (canvas.ORANGE, canvas.GREEN, canvas.RED, "#CC79A7", "#555555")
_DASHES = ("--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))


def reliability(before: Mapping[str, Any], after: Mapping[str, Any], note: str) -> Figure:
    """Draws the share of right answers over the probability that was said, before and after.

    Args:
        before: `reliability`, the rows of `trust.reliability.table`, and `histogram`, the images in
            equal parts of 0..1.
        after: likewise, of calibrated probabilities.
        note: written below, such as the expected calibration errors.
    """
    figure = Figure(figsize=(9.5, 5), layout="constrained")
    grid = figure.subplots(2, 2, height_ratios=(3, 1), sharex="col")
    for column, (title, found) in enumerate((("As trained", before), ("Calibrated", after))):
        rows = found["reliability"]
        upper, lower = grid[0, column], grid[1, column]
        x = np.array([row["confidence"] for row in rows])
        y = np.array([row["accuracy"] for row in rows])
        low = np.array([row["low"] for row in rows])
        high = np.array([row["high"] for row in rows])
        start = min(x.min(), low.min())
        upper.plot([0, 1], [0, 1], color="0.5", linestyle=":", label="probabilities that are right")
        # An interval of a bin in which all are right begins below its share.
        errors = np.maximum([y - low, high - y], 0)
        upper.errorbar(
            x,
            y,
            errors,
            fmt="o",
            color=canvas.BLUE,
            capsize=2,
            markersize=4,
            label="bins of equal mass, 95 % interval",
        )
        upper.set_xlim(max(0.0, start - 0.03), 1.02)
        upper.set_ylim(max(0.0, start - 0.03), 1.02)
        upper.set_title(title, fontsize=13)
        edges = np.linspace(0, 1, len(found["histogram"]) + 1)
        lower.stairs(found["histogram"], edges, fill=True, color=canvas.BLUE)
        lower.set_xlabel("largest probability")
        for axes in (upper, lower):
            axes.grid(color="0.9")
            axes.set_axisbelow(True)
            canvas.despine(axes)
    grid[0, 0].set_ylabel("share that is right")
    grid[1, 0].set_ylabel("images")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=9, frameon=False, loc="outside upper center", ncols=2)
    figure.supxlabel(note, fontsize=9)
    return figure


def risk_coverage(
    curve: Sequence[Sequence[float]],
    measured: tuple[float, float] | None,
    promised: Sequence[tuple[float, float]],
    note: str,
) -> Figure:
    """Draws the share of errors among the answers over the share that is answered.

    Args:
        curve: [coverage, risk] pairs.
        measured: (coverage, risk) at the threshold; None: nothing is answered.
        promised: (coverage, maximal error) pairs; each error is written beside its point.
        note: written below.
    """
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    values = np.asarray(curve, float)
    axes.plot(values[:, 0], values[:, 1], color=canvas.BLUE, label="measured, at every threshold")
    style: dict[str, Any] = {"markeredgecolor": "black", "linestyle": "none"}
    if promised:
        x, y = np.asarray(promised, float).T
        label = "promised: at most so many errors"
        axes.plot(x, y, "o", color="0.35", markersize=6, label=label, **style)
        for each, error in promised:
            axes.annotate(
                f"{100 * error:g} %",
                (each, error),
                xytext=(-6, 4),
                textcoords="offset points",
                horizontalalignment="right",
                fontsize=9,
            )
    if measured is not None:
        label = "measured, at the threshold that it answers by"
        axes.plot(*measured, "*", color=canvas.ORANGE, markersize=15, label=label, **style)
    axes.set_xlabel("share of images that is answered")
    axes.set_ylabel("errors among the answers")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlim(0, 1.02)
    axes.set_ylim(bottom=0)
    axes.grid(color="0.9")
    axes.legend(fontsize=9, frameon=False, loc="upper left")
    canvas.despine(axes)
    figure.supxlabel(note, fontsize=9)
    return figure


def set_sizes(sizes: Sequence[int], note: str) -> Figure:
    """Draws how many images have a set of 0, 1, 2, ... classes.

    Args:
        sizes: the numbers of images.
        note: written below.
    """
    last = max(int(np.flatnonzero(sizes).max(initial=1)), 1)
    shown = np.asarray(sizes[: last + 1])
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    bars = axes.bar(np.arange(last + 1), shown, color=canvas.BLUE)
    if last <= 20:
        axes.bar_label(bars, labels=[f"{n:,}" for n in shown], fontsize=9)
        axes.set_xticks(np.arange(last + 1))
    axes.set_xlabel("classes in the set")
    axes.set_ylabel("images")
    axes.margins(y=0.12)
    canvas.despine(axes)
    figure.supxlabel(note, fontsize=9)
    return figure


def strangers(histograms: Mapping[str, Sequence[int]], note: str) -> Figure:
    """Draws how p-values are distributed, of ordinary images and of strange ones.

    Args:
        histograms: {kind: images in equal bins of 0..1}, "report" the ordinary ones.
        note: written below.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    styles = [(canvas.BLUE, "-"), *zip(_STRANGE, _DASHES, strict=True)]
    for (name, counts), (colour, dashes) in zip(histograms.items(), styles, strict=False):
        values = np.asarray(counts, float)
        share = np.cumsum(values) / max(values.sum(), 1)
        edges = np.linspace(0, 1, len(values) + 1)
        label = "ordinary images" if name == "report" else name
        axes.plot(edges, [0, *share], color=colour, linestyle=dashes, label=label)
    axes.plot([0, 1], [0, 1], color="0.5", linewidth=0.8, label="as promised")
    axes.set_xlabel("p-value: small is unlike the training images")
    axes.set_ylabel("share of images at or below")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(color="0.9")
    axes.legend(fontsize=9, frameon=False, loc="lower right")
    canvas.despine(axes)
    figure.supxlabel(note, fontsize=9)
    return figure


def shift(rows: Sequence[Mapping[str, Any]], most: float) -> Figure:
    """Draws accuracy, confidence, answers and errors over the strength of each corruption.

    Args:
        rows: of `trust.comparisons.shifted`, those with a strength.
        most: the maximal error that was promised.
    """
    kinds = list(dict.fromkeys(row["shift"] for row in rows))
    columns = min(4, len(kinds))
    lines = -(-len(kinds) // columns)
    figure = Figure(figsize=(3 * columns, 2.7 * lines + 0.6), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    styles = (
        ("accuracy", "right, of all", canvas.BLUE, "o", "-"),
        ("confidence", "right, by its probabilities", _SKY, "D", (0, (5, 1))),
        ("answered", "answered", canvas.GREEN, "^", "-."),
        ("error", "wrong, of the answers", canvas.ORANGE, "s", "--"),
        ("strange", "called strange", "#555555", "v", ":"),
    )
    for axes, kind in zip(panels, kinds, strict=False):
        own = [row for row in rows if row["shift"] == kind]
        x = [row["strength"] for row in own]
        for name, label, colour, marker, dashes in styles:
            y = [np.nan if row[name] is None else row[name] for row in own]
            style = {"color": colour, "marker": marker, "linestyle": dashes, "markersize": 4}
            axes.plot(x, y, label=label, **style)
        axes.axhline(most, color="0.6", linewidth=0.8)
        axes.set_title(kind, fontsize=11)
        axes.set_xticks(x)
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(color="0.9")
        canvas.despine(axes)
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    for axes in panels[len(kinds) - columns : len(kinds)]:  # nothing is below them
        axes.tick_params(labelbottom=True)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False, fontsize=9)
    figure.supxlabel(f"strength; the grey line is the promise of {100 * most:g} %", fontsize=9)
    return figure


def of(record: Mapping[str, Any]) -> dict[str, Figure]:
    """Returns {name: figure} of what trust.json holds."""
    found, sets = record["calibration"], record["sets"]
    before, after = found["before"], found["after"]
    errors = (
        f"Expected calibration error {100 * before['ece']:.2f} % and {100 * after['ece']:.2f} %; "
        f"by chance alone about {100 * after['ece_by_chance']:.2f} %"
    )
    drawn = {"reliability": reliability(before, after, errors)}
    report = record["report"]
    measured = (report["share"], report["error"]) if report["answered"] else None
    own = [c for c in record["claims"] if c["class"] is None and not record["settings"]["costs"]]
    promised = {
        (c["coverage"], c["max_error"])
        for c in (*own, *record["other_claims"])
        if c["threshold"] is not None
    }
    drawn["risk_coverage"] = risk_coverage(
        record["risk_coverage"],
        measured,
        sorted(promised),
        f"{report['images']:,} reporting images; promised by {record['claims'][0]['of']:,} others",
    )
    wanted, shown = 1 - sets["made"]["alpha"], sets["measured"]
    said = f"wanted {100 * wanted:g} %, measured {100 * shown['coverage']:.1f} %"
    drawn["set_sizes"] = set_sizes(shown["sizes"], f"Sets that hold the true class: {said}")
    if record["strangers"]["judged"]:
        alarms = record["strangers"]["false_alarms"]
        drawn["strangers"] = strangers(
            record["strangers"]["histogram"],
            f"Called unlike the training images from p = {100 * alarms:g} % down",
        )
    if corrupted := [row for row in record.get("shift", []) if row["strength"]]:
        drawn["shift"] = shift(corrupted, record["settings"]["max_error"])
    return drawn
