"""The page of one run."""

import shlex
from collections.abc import Sequence
from typing import Any

from cnn_jax import text
from cnn_jax.reporting import page
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import report_parts
from cnn_jax.studies.comparison import gigaflops


def page_of(directory: RunDirectory, question: str | None) -> str:
    """Returns the page of a run.

    Args:
        directory: the run directory.
        question: the question that its preset asks, or None.
    """
    config = directory.config()
    history = directory.read("history", [])
    result, data = directory.read("result", {}), directory.read("data", {})
    title = f"{config.name}: {config.model.name} on {data.get('name', config.dataset.name)}"
    parts = report_parts.title_and_question(title, question)
    parts.append(page.cards(_key_figures(directory, history, result)))
    if history:
        parts += [page.heading("Training"), *_curves(history)]
    for split, evaluation in result.get("evaluation", {}).items():
        parts += _evaluation(split, evaluation)
    if probe := result.get("probe"):
        parts.append(
            page.paragraph(
                f"A ridge probe in closed form on the same frozen features has a validation "
                f"accuracy of {probe['accuracy']:.4f}."
            )
        )
    parts += _data(data)
    parts += report_parts.settings(config)
    parts += _reproduce(directory)
    return report_parts.with_figures(title, parts, directory.figures)


def _key_figures(
    directory: RunDirectory, history: Sequence[dict[str, Any]], result: dict[str, Any]
) -> dict[str, str]:
    figures = {"status": directory.status() or "unknown"}
    if history:
        figures["validation accuracy"] = f"{history[-1]['validation_accuracy']:.4f}"
        figures["epochs"] = str(len(history))
        figures["seconds"] = f"{directory.trained_seconds():,.0f}"
    if test := result.get("evaluation", {}).get("test"):
        figures["test accuracy"] = f"{test['accuracy']:.4f}"
    training = result.get("training", {})
    if "flops" in training:
        figures["GFLOPs of training"] = gigaflops(training["flops"])
    if "peak_memory_bytes" in training:
        figures["GiB at most"] = f"{training['peak_memory_bytes'] / 2**30:.2f}"
    return figures


def _curves(history: Sequence[dict[str, Any]]) -> list[str]:
    def series(metric: str) -> dict[str, list[float]]:
        return {
            part: [record[f"{part}_{metric}"] for record in history]
            for part in ("train", "validation")
        }

    return [
        page.lines(series("accuracy"), "epoch", "accuracy"),
        page.lines(series("loss"), "epoch", "loss"),
    ]


def _evaluation(split: str, evaluation: dict[str, Any]) -> list[str]:
    names = evaluation["class_names"]
    rows = [
        [name, sum(evaluation["confusion_matrix"][i]), evaluation["per_class_accuracy"][i]]
        for i, name in enumerate(names)
    ]
    return [
        page.heading(f"Evaluation on {split}"),
        page.paragraph(
            f"Accuracy {evaluation['accuracy']:.4f} and loss {evaluation['loss']:.4f} on "
            f"{evaluation['examples']:,} examples, by the checkpoint of step "
            f"{evaluation['checkpoint_step']}."
        ),
        page.table(rows, ["class", "examples", "accuracy"]),
    ]


def _data(data: dict[str, Any]) -> list[str]:
    if not data:
        return []
    sizes = ", ".join(f"{name} {size:,}" for name, size in data["sizes"].items())
    shape = " x ".join(map(str, data["image_shape"]))
    sentence = f"{data['name']} {data['version']}: {sizes} images of {shape}."
    return [page.heading("Data"), page.paragraph(sentence), *map(page.paragraph, data["notes"])]


def _reproduce(directory: RunDirectory) -> list[str]:
    starts = directory.read("environment", [])
    if not starts:
        return []
    last = starts[-1]
    versions = ", ".join(f"{name} {version}" for name, version in last["packages"].items())
    sentence = (
        f"Python {last['python']}; {versions}. {last['platform']}, {last['cores']} cores, "
        f"{last['processor']}; commit {last['git_commit']}; started "
        f"{text.plural(len(starts), 'time')}."
    )
    commands = page.code("\n".join(_commands(starts)))
    return [page.heading("Do it again"), commands, page.paragraph(sentence, True)]


def _commands(starts: Sequence[dict[str, Any]]) -> list[str]:
    """Returns a run's first command, and the later ones that changed a setting."""
    first, *later = (start["command"] for start in starts)
    changing = [
        command
        for command in later
        if any(word.startswith("--") and not word.startswith("--workdir") for word in command)
    ]
    return list(dict.fromkeys(shlex.join(text.as_typed(command)) for command in [first, *changing]))
