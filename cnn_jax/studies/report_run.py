"""The page of one run."""

import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from cnn_jax import text
from cnn_jax.evaluation import confusion, selection, shares
from cnn_jax.evaluation.selection import best_of
from cnn_jax.reporting import charts, counts, evaluations, page
from cnn_jax.reporting import private as report_private
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import collapse, report_parts, report_trust
from cnn_jax.studies.comparison import gigaflops

# What is shown of the history, and of an evaluation.
_CURVES = {
    *("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"),
}
_EVALUATION = {
    *("accuracy", "loss", "examples", "checkpoint_step"),
    *("class_names", "per_class_accuracy"),
}
_MOST_CLASSES = 100  # that have a row in a table


def page_of(directory: RunDirectory, question: str | None, images: bool = True) -> str:
    """Returns the page of a run.

    Args:
        directory: the run directory.
        question: the question that its preset asks, or None.
        images: whether images and the names of files are shown.
    """
    config = directory.config()
    history = directory.read("history", [])
    result, data = directory.read("result", {}), directory.read("data", {})
    name = config.name if images else report_private.value("name", config.name)
    title = f"{name}: {config.model.name} on {data.get('name', config.dataset.name)}"
    parts = report_parts.title_and_question(title, question)
    parts.append(page.cards(_key_figures(directory, history, result)))
    # Somebody may have taken keys out of these files: what is whole is shown.
    drawn = bool(history) and all(record.keys() >= _CURVES for record in history)
    if drawn:
        parts += [page.heading("Training"), *_curves(history)]
    measured = {
        split: record
        for split, record in result.get("evaluation", {}).items()
        if record.keys() >= _EVALUATION and confusion.is_in(record)
    }
    for split, evaluation in measured.items():
        parts += _evaluation(split, evaluation)
    for split, record in result.get("evaluation", {}).items():
        if record.get("multilabel") and record.keys() >= _EVALUATION:
            parts += _of_findings(split, record)
    parts += report_trust.section(directory, history, images)
    parts += _others(history, result)
    if probe := result.get("probe"):
        parts.append(
            page.paragraph(
                f"A ridge probe in closed form on the same frozen features has a validation "
                f"accuracy of {probe['accuracy']:.4f}."
            )
        )
    parts += _data(data, measured, images)
    parts += report_parts.settings(config, images)
    parts += _reproduce(directory, images)
    drawn_above = ("training_curves",) if drawn else ()
    return report_parts.with_figures(title, parts, directory.figures, images, drawn_above)


def _key_figures(
    directory: RunDirectory, history: Sequence[dict[str, Any]], result: dict[str, Any]
) -> dict[str, str]:
    there = collapse.validation_counts(directory.read("data", {}))
    collapsed = collapse.has_collapsed(history, there)
    status = directory.status() or "unknown"
    figures = {"status": f"{status}, collapsed: says one class only" if collapsed else status}
    if history:
        figures |= _accuracies(history, result)
        if selection.metric_of(best := best_of(history)) != "accuracy":
            figures["chosen by"] = f"validation {selection.said(best)}"
        figures["epochs"] = str(len(history))
        figures["seconds"] = f"{directory.trained_seconds():,.0f}"
    training = result.get("training", {})
    if "flops" in training:
        figures["GFLOPs of training"] = gigaflops(training["flops"])
    if "peak_memory_bytes" in training:
        figures["GiB at most"] = f"{training['peak_memory_bytes'] / 2**30:.2f}"
    return figures


def _accuracies(history: Sequence[dict[str, Any]], result: dict[str, Any]) -> dict[str, str]:
    """Returns validation and test accuracy of one checkpoint, and those of the last epoch."""
    best, last = best_of(history), history[-1]
    test = result.get("evaluation", {}).get("test")
    step = best.get("step") if test is None else test.get("checkpoint_step", best.get("step"))
    record = next((record for record in history if record.get("step") == step), None)
    at = "" if step is None else f", step {step}"
    figures = {}
    if record is not None:
        name = "best validation accuracy" if record is best else "validation accuracy"
        figures[f"{name}{at}"] = f"{record['validation_accuracy']:.4f}"
    if test is not None:
        images = f", {test['examples']:,} images" if "examples" in test else ""
        figures[f"test accuracy{at}{images}"] = f"{test['accuracy']:.4f}"
    if record is not last:
        at = f", step {last['step']}" if "step" in last else ""
        figures[f"validation accuracy, last epoch{at}"] = f"{last['validation_accuracy']:.4f}"
    return figures


def _others(history: Sequence[dict[str, Any]], result: dict[str, Any]) -> list[str]:
    """Returns a table of the evaluations of other checkpoints than the best."""
    validation = {record.get("step"): record["validation_accuracy"] for record in history}
    rows = [
        [split, int(step), validation.get(int(step)), record["accuracy"], record.get("examples")]
        for split, records in result.get("other_checkpoints", {}).items()
        for step, record in sorted(records.items(), key=lambda item: int(item[0]))
    ]
    headers = ["split", "step", "validation accuracy", "accuracy", "examples"]
    return [page.heading("Other checkpoints"), page.table(rows, headers)] if rows else []


def _curves(history: Sequence[dict[str, Any]]) -> list[str]:
    best = best_of(history)
    chosen = selection.metric_of(best)
    titles = {"accuracy": "accuracy", "loss": "loss", chosen: selection.METRICS[chosen].title}
    found = []
    for metric, title in titles.items():
        series = {
            part: [record[f"{part}_{metric}"] for record in history]
            for part in ("train", "validation")
            if all(isinstance(record.get(f"{part}_{metric}"), float | int) for record in history)
        }
        if "validation" not in series:  # no value in some epoch
            continue
        said = f"best epoch: {best['epoch']} ({best[f'validation_{metric}']:.4f})"
        found.append(charts.lines(series, "epoch", title, (best["epoch"], said)))
    return found


def _evaluation(split: str, evaluation: dict[str, Any]) -> list[str]:
    names = evaluation["class_names"]
    matrix = confusion.of_record(evaluation)
    examples, accuracies = matrix.sum(axis=1), evaluation["per_class_accuracy"]
    shown = counts.largest_and_smallest({split: examples}, names, _MOST_CLASSES, _MOST_CLASSES)
    rows = [[names[i], int(examples[i]), accuracies[i]] for i in shown.tolist()]
    return [
        page.heading(f"Evaluation on {split}"),
        page.paragraph(
            f"Accuracy {evaluation['accuracy']:.4f} and loss {evaluation['loss']:.4f} on "
            f"{evaluation['examples']:,} examples, by the checkpoint of step "
            f"{evaluation['checkpoint_step']}."
        ),
        *_worth(matrix, names),
        *_areas(evaluation),
        page.table(rows, ["class", "examples", "accuracy"]),
        *_bounded(len(names)),
    ]


def _of_findings(split: str, evaluation: dict[str, Any]) -> list[str]:
    """Returns the evaluation of images that may have several findings."""
    keys = ("examples", "recall", "specificity", "precision", "auc")
    rows = [
        [name, *(each.get(key) for key in keys)]
        for name, each in zip(
            evaluation["class_names"], evaluation.get("per_class", []), strict=False
        )
        if isinstance(each, dict)
    ]
    return [
        page.heading(f"Evaluation on {split}"),
        page.paragraph(
            f"{evaluation['accuracy']:.4f} of the findings are right on "
            f"{evaluation['examples']:,} examples, by the checkpoint of step "
            f"{evaluation['checkpoint_step']}."
        ),
        *_areas(evaluation),
        page.table(rows, ["finding", "images", "sensitivity", "specificity", "PPV", "AUC"]),
    ]


def _areas(evaluation: dict[str, Any]) -> list[str]:
    """Returns AUC, average precision and kappa with their intervals, and the figures of groups."""
    names = ("auc", "average_precision", "quadratic_kappa")
    said = evaluations.named(evaluation, names, evaluation.get("intervals", {}))
    if not said:
        return []
    of = f"of {evaluation['positive']}" if "positive" in evaluation else "over all classes"
    found = [page.paragraph(f"With intervals of 95 %, {of}: {said}.")]
    if lines := evaluations.group_lines(evaluation):
        head, *figures = (line.removeprefix("by group").strip() for line in lines)
        found.append(page.paragraph(f"{head}: {'; '.join(figures)}."))
    return found


def _worth(matrix: np.ndarray, names: Sequence[str]) -> list[str]:
    """Returns what an accuracy has to be compared with, and the classes that are never said."""
    largest, share = shares.largest_class(matrix.sum(axis=1))
    sentence = f"Always saying {names[largest]}, the largest class, would have {share:.4f}."
    if never := shares.never_predicted(matrix):
        sentence += f" Never predicted: {shares.named(never, names)}."
    return [page.paragraph(sentence)]


def _bounded(classes: int) -> list[str]:
    """Returns a sentence where a table has no row for every class."""
    if classes <= _MOST_CLASSES:
        return []
    half = _MOST_CLASSES // 2
    sentence = f"These are the {half} largest and the {half} smallest of {classes:,} classes."
    return [page.paragraph(sentence, soft=True)]


def _data(data: dict[str, Any], measured: dict[str, Any], images: bool) -> list[str]:
    """Returns sizes and classes of all splits; that of the test split is known by its evaluation.

    Args:
        data: data.json.
        measured: {split and views: record of an evaluation}.
        images: whether notes, which may name files, are shown.
    """
    if not data:
        return []
    names, classes = data["class_names"], dict(data["class_counts"])
    for split, record in measured.items():
        examples = confusion.of_record(record).sum(axis=1)
        if split in ("validation", "test") and len(examples) == len(names):
            classes.setdefault(split, examples)
    sizes = ", ".join(f"{name} {int(np.sum(numbers)):,}" for name, numbers in classes.items())
    shape = " x ".join(map(str, data["image_shape"]))
    named = f"{data['name']} {data['version']}".rstrip()
    found = [
        page.heading("Data"),
        page.paragraph(f"{named}: {sizes} images of {shape}."),
        page.paragraph(f"Classes: {counts.ratio(classes, names)}."),
    ]
    if images:
        found += map(page.paragraph, data["notes"])
    rows = counts.rows(classes, names, _MOST_CLASSES)
    return [*found, page.table(rows, ["class", *classes]), *_bounded(len(names))]


def _reproduce(directory: RunDirectory, images: bool) -> list[str]:
    starts = directory.read("environment", [])
    if not starts:
        return []
    last = starts[-1]
    versions = ", ".join(f"{name} {version}" for name, version in last.get("packages", {}).items())
    python, platform, cores, processor, commit = (
        last.get(name, "unknown")
        for name in ("python", "platform", "cores", "processor", "git_commit")
    )
    sentence = (
        f"Python {python}; {versions}. {platform}, {cores} cores, {processor}; commit {commit}; "
        f"started {text.plural(len(starts), 'time')}."
    )
    commands = page.code("\n".join(_commands(starts, images)))
    return [page.heading("Do it again"), commands, page.paragraph(sentence, True)]


def _commands(starts: Sequence[dict[str, Any]], images: bool) -> list[str]:
    """Returns a run's first command, and the later ones that changed a setting."""
    first, *later = (start["command"] for start in starts)
    changing = [
        command
        for command in later
        if any(word.startswith("--") and not word.startswith("--workdir") for word in command)
    ]
    typed = [text.as_typed(command) for command in [first, *changing]]
    shown = typed if images else [report_private.command(words) for words in typed]
    return list(dict.fromkeys(map(shlex.join, shown)))
