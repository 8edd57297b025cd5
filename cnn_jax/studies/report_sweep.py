"""The page of a sweep."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from cnn_jax.evaluation import selection
from cnn_jax.experiment import Experiment
from cnn_jax.reporting import charts, page, tables
from cnn_jax.reporting import private as report_private
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import (
    collapse,
    groups,
    judging,
    report_parts,
    sides,
    summaries,
)
from cnn_jax.studies.collapse import COLLAPSED
from cnn_jax.studies.sweep import results
from cnn_jax.studies.sweep.study import OPEN
from cnn_jax.studies.sweep.worker import repetitions

# The number of settings whose curves are drawn.
_MOST_CURVES = 3


def page_of(
    directory: RunDirectory,
    plan: dict[str, Any],
    records: list[dict[str, Any]],
    question: Callable[[Experiment], str | None],
    images: bool = True,
) -> str:
    """Returns the page of a sweep, finished or not.

    Args:
        directory: the directory of the sweep.
        plan: the contents of plan.json.
        records: those of sweep.json.
        question: returns the question that an experiment's preset asks, or None; for a plan that
            does not say it.
        images: whether images and the names of files are shown.
    """
    if not images:
        plan, records = _private(plan), list(map(report_private.settings, records))
    base = sides.experiment_of(directory, plan)
    metric = base.train.select
    complete = results.best_first(records, metric)
    title_of_metric = f"validation {selection.METRICS[metric].title}"
    share = collapse.largest_share_of(directory.path) if metric == "accuracy" else None
    title = f"Sweep of {base.name}: {base.model.name} on {base.dataset.name}"
    parts = report_parts.title_and_question(title, plan.get("question") or question(base))
    parts += _summary(plan, records, complete, share, title_of_metric)
    parts += _scatters(complete, title_of_metric)
    parts += _every_setting(records, complete, title_of_metric)
    run = next(iter(repetitions(sides.options_of(plan, "sweep"), base)))
    parts += _best_curves(directory, complete[:_MOST_CURVES], run, title_of_metric)
    parts += _ties(directory, metric)
    parts += report_parts.settings(base, images)
    if "command" in plan:
        parts += [page.heading("Do it again"), page.code(plan["command"])]
    return report_parts.with_figures(title, parts, directory.figures, images)


def _private(plan: dict[str, Any]) -> dict[str, Any]:
    """Returns the plan of a sweep without the names of files."""
    space = re.sub(r"[^\s=\[\],]*[/\\~][^\s\[\],]*", report_private.HIDDEN, plan["sweep"]["space"])
    hidden = {**plan, "sweep": {**plan["sweep"], "space": space}}
    if "command" in plan:
        hidden["command"] = report_private.command_text(plan["command"])
    return hidden


def _summary(
    plan: dict[str, Any],
    records: Sequence[dict[str, Any]],
    complete: Sequence[dict[str, Any]],
    share: float | None,
    metric: str,
) -> list[str]:
    """Returns how was searched, and the key figures."""
    options = plan["sweep"]
    parts = [page.paragraph(f"Searched by {options['method']}: {options['space']}")]
    ended = sum(r["state"] not in OPEN for r in records)
    planned = plan.get("settings", len(records))
    if ended < planned:
        parts.append(page.paragraph(f"It has not ended: {planned - ended} settings are left."))
    if options["seeds"] == 1 and options.get("folds") is None:
        parts.append(
            page.paragraph("With one seed each, small differences between settings may be chance.")
        )
    figures = {
        f"best {metric}": f"{complete[0]['value']:.4f}" if complete else "-",
        "settings": str(ended) if ended == planned else f"{ended} of {planned}",
        "stopped early": str(sum(r["state"] == "pruned" for r in records)),
        "diverged": str(sum(r["state"] == "diverged" for r in records)),
        "say one class only (collapsed)": str(sum(r["state"] == COLLAPSED for r in records)),
        "seeds each": str(options["seeds"]),
        **({"folds": str(options["folds"])} if options.get("folds") else {}),
        "seconds in all": f"{sum(r['seconds'] for r in records):,.0f}",
    }
    if share is not None:
        figures["largest class alone"] = f"{share:.4f}"
    return [*parts, page.cards(figures)]


def _scatters(complete: Sequence[dict[str, Any]], metric: str) -> list[str]:
    """Returns one picture per setting that varies: the metric against its value."""
    if len(complete) < 2:
        return []
    panels = {}
    for path in complete[0]["setting"]:
        points = [
            (r["setting"][path], r["value"], f"{r['value']:.4f}: {tables.settings(r['setting'])}")
            for r in complete
        ]
        panels[path] = charts.scatter(points, path, metric)
    return [page.heading(f"{metric.capitalize()} against each setting"), page.choice("of", panels)]


def _every_setting(
    records: Sequence[dict[str, Any]], complete: Sequence[dict[str, Any]], metric: str
) -> list[str]:
    """Returns the table of all settings, the best first."""
    paths = list(records[0]["setting"]) if records else []
    rows = [
        [
            r["place"],
            *("none" if r["setting"][path] is None else r["setting"][path] for path in paths),
            r["value"],
            r["std"],
            r["epochs"],
            float(r["seconds"]),
            r["state"],
        ]
        for r in [*complete, *(r for r in records if r["state"] != "complete")]
    ]
    headers = ["trial", *paths, metric, "std", "epochs", "seconds", "state"]
    return [
        page.heading("Every setting"),
        page.paragraph("A click on a column's title sorts by it.", soft=True),
        page.table(rows, headers),
    ]


def _best_curves(
    directory: RunDirectory, records: Sequence[dict[str, Any]], run: str, metric: str
) -> list[str]:
    """Returns the metric over the epochs of the first run of some settings."""
    series = {}
    for record in records:
        first = RunDirectory(directory.path / "trials" / record["place"] / run)
        history = first.read("history", [])
        if history:
            series[record["place"]] = [selection.value_of(epoch) for epoch in history]
    if not series:
        return []
    curves = charts.lines(series, "epoch", metric)
    return [page.heading("Training of the best"), curves]


def _ties(directory: RunDirectory, metric: str) -> list[str]:
    """Returns a sentence on the settings that cannot be told from the best one."""
    trials = directory.path / "trials"
    if not any(trials.rglob("config.json")):
        return []
    runs = summaries.find([str(trials)], left_out=lambda _: None)
    judged = judging.judge(groups.group(runs), f"validation_{metric}")  # what a sweep decides by
    ties = [group for group in judged if group.note.startswith("tie")]
    if not ties:
        return []
    verb = "settings cannot" if len(ties) > 1 else "setting cannot"
    sentence = f"{len(ties)} {verb} be told from the best one by a t-test over their runs."
    return [page.paragraph(sentence)]
