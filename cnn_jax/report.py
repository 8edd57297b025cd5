"""The command `report`: a run or a sweep as one HTML page to send to somebody."""

import contextlib
import json
import math
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

from cnn_jax import compare, experiment, flags, run
from cnn_jax.errors import RunError, UsageError
from cnn_jax.evaluation.comparison import gigaflops
from cnn_jax.experiment import Experiment
from cnn_jax.flags import Invocation
from cnn_jax.reporting import page, tables
from cnn_jax.sweep import study

MOST_BYTES = 5_000_000
# Settings of a sweep whose curves are drawn.
_MOST_CURVES = 3
# In the order in which a reader wants them; what is not named comes last.
_FIGURES = (
    "sweep",
    "advise",
    "training_curves",
    "test_confusion_matrix",
    "validation_confusion_matrix",
    "test_predictions",
    "validation_predictions",
    "data_images",
    "data_classes",
)


def run_command(invocation: Invocation) -> int:
    """Runs `report` and returns the exit code.

    Raises:
        UsageError: there is no run or sweep, or the file cannot be named so.
        RunError: what is in it cannot be read, or the page cannot be written.
    """
    flags.refuse_settings(invocation, "name the directory alone: python launch.py report DIR")
    (source,) = invocation.arguments
    directory = run.RunDirectory(source)
    if not directory.path.is_dir():
        raise UsageError(f"report: there is no directory {source}")
    output = pathlib.Path(invocation.output or directory.path / "report.html")
    if directory.exists():
        text = of_run(directory)
    elif directory.read("plan") is not None and directory.read("sweep") is not None:
        text = of_sweep(directory)
    else:
        raise UsageError(
            f"{run.shown(directory.path)} is neither a run directory nor that of a sweep of which "
            "a setting has come to an end"
        )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{output} cannot be written: {error.strerror}") from error
    print(f"written    {run.shown(output.resolve())} ({len(text.encode()) / 1e6:.1f} MB)")
    return 0


def of_run(directory: run.RunDirectory) -> str:
    """Returns the page of a run."""
    config = directory.config()
    history = directory.read("history", [])
    result, data = directory.read("result", {}), directory.read("data", {})
    title = f"{config.name}: {config.model.name} on {data.get('name', config.dataset.name)}"
    parts = [f"<h1>{page.escape(title)}</h1>", *_question(_preset_question(config))]
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
    parts += _settings(config)
    parts += _reproduce(directory)
    return _within_limit(title, parts, _pictures(directory.figures))


def of_sweep(directory: run.RunDirectory) -> str:
    """Returns the page of a sweep."""
    plan, records = directory.read("plan"), directory.read("sweep")
    base, options = experiment.from_dict(plan["experiment"]), plan["sweep"]
    title = f"Sweep of {base.name}: {base.model.name} on {base.dataset.name}"
    complete = sorted((r for r in records if r["state"] == "complete"), key=lambda r: -r["value"])
    question = plan.get("question") or _preset_question(base)
    parts = [f"<h1>{page.escape(title)}</h1>", *_question(question)]
    parts.append(page.paragraph(f"Searched by {options['method']}: {options['space']}"))
    seconds = sum(r["seconds"] for r in records)
    ended = sum(r["state"] not in study.OPEN for r in records)
    planned = plan.get("settings", len(records))
    if ended < planned:
        parts.append(page.paragraph(f"It has not ended: {planned - ended} settings are left."))
    if options["seeds"] == 1:
        parts.append(
            page.paragraph("With one seed each, small differences between settings may be chance.")
        )
    figures = {
        "best validation accuracy": f"{complete[0]['value']:.4f}" if complete else "-",
        "settings": str(ended) if ended == planned else f"{ended} of {planned}",
        "stopped early": str(sum(r["state"] == "pruned" for r in records)),
        "diverged": str(sum(r["state"] == "diverged" for r in records)),
        "seeds each": str(options["seeds"]),
        "seconds in all": f"{seconds:,.0f}",
    }
    parts.append(page.cards(figures))
    paths = list(records[0]["setting"]) if records else []
    panels = {}
    for path in paths:
        points = [
            (r["setting"][path], r["value"], f"{r['value']:.4f}: {tables.settings(r['setting'])}")
            for r in complete
        ]
        if len(points) > 1:
            panels[path] = page.scatter(points, path, "validation accuracy")
    if panels:
        parts += [page.heading("Accuracy against each setting"), page.choice("of", panels)]
    parts.append(page.heading("Every setting"))
    parts.append(page.paragraph("A click on a column's title sorts by it.", soft=True))
    rows = [
        [
            r["place"],
            *("none" if r["setting"][p] is None else r["setting"][p] for p in paths),
            r["value"],
            r["std"],
            r["epochs"],
            float(r["seconds"]),
            r["state"],
        ]
        for r in [*complete, *(r for r in records if r["state"] != "complete")]
    ]
    headers = ["trial", *paths, "validation accuracy", "std", "epochs", "seconds", "state"]
    parts.append(page.table(rows, headers))
    curves = _best_curves(directory, complete[:_MOST_CURVES], base.seed)
    if curves:
        parts += [page.heading("Training of the best"), *curves]
    trials = directory.path / "trials"
    runs = compare.find([str(trials)]) if any(trials.rglob("config.json")) else []
    ties = [g for g in compare.judge(compare.group(runs)) if g.note.startswith("tie")]
    if ties:
        parts.append(
            page.paragraph(
                f"{len(ties)} settings cannot be told from the best one by a t-test over their "
                "seeds."
            )
        )
    parts += _settings(base)
    if "command" in plan:
        parts += [page.heading("Do it again"), page.code(plan["command"])]
    return _within_limit(title, parts, _pictures(directory.figures))


def _best_curves(
    directory: run.RunDirectory, records: Sequence[dict[str, Any]], seed: int
) -> list[str]:
    """Returns validation accuracy over the epochs of settings' first seeds."""
    series = {}
    for record in records:
        first = run.RunDirectory(directory.path / "trials" / record["place"] / f"seed{seed}")
        history = first.read("history", [])
        if history:
            series[record["place"]] = [epoch["validation_accuracy"] for epoch in history]
    return [page.lines(series, "epoch", "validation accuracy")] if series else []


def _question(text: str | None) -> list[str]:
    return [page.paragraph(text)] if text else []


def _preset_question(config: Experiment) -> str | None:
    """Returns what the preset of a configuration's name asks of the same model and data."""
    with contextlib.suppress(UsageError):
        invocation = flags.Invocation(config=config.name)
        preset = flags.resolve(invocation)
        if (preset.model.name, preset.dataset.name) == (config.model.name, config.dataset.name):
            return flags.question(invocation)
    return None


def _key_figures(
    directory: run.RunDirectory, history: Sequence[dict[str, Any]], result: dict[str, Any]
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
    text = f"{data['name']} {data['version']}: {sizes} images of {shape}."
    return [page.heading("Data"), page.paragraph(text), *map(page.paragraph, data["notes"])]


def _settings(config: Experiment) -> list[str]:
    default = experiment.flatten(Experiment())
    changed = [
        [path, tables.shown(value), tables.shown(default[path])]
        for path, value in experiment.flatten(config).items()
        if value != default[path] and path != "name"
    ]
    every = json.dumps(experiment.to_dict(config), indent=2)
    return [
        page.heading("Settings"),
        page.table(changed, ["setting", "value", "default"]) if changed else "",
        page.details("all settings as JSON", page.code(every)),
    ]


def _reproduce(directory: run.RunDirectory) -> list[str]:
    starts = directory.read("environment", [])
    if not starts:
        return []
    last = starts[-1]
    versions = ", ".join(f"{name} {version}" for name, version in last["packages"].items())
    text = (
        f"Python {last['python']}; {versions}. {last['platform']}, {last['cores']} cores, "
        f"{last['processor']}; commit {last['git_commit']}; started {len(starts)} time"
        f"{'s' * (len(starts) != 1)}."
    )
    commands = page.code("\n".join(_commands(starts)))
    return [page.heading("Do it again"), commands, page.paragraph(text, True)]


def _commands(starts: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the commands that made a run: its first, and later ones that say more than go on."""
    first, *later = (start["command"][1:] for start in starts)
    saying = [
        command
        for command in later
        if any(word.startswith("--") and not word.startswith("--workdir") for word in command)
    ]
    return list(dict.fromkeys(shlex.join(["python", *words]) for words in [first, *saying]))


def _pictures(folder: pathlib.Path) -> list[tuple[str, bytes]]:
    """Returns (caption, PNG) of a folder, what a reader wants first coming first."""
    files = {path.stem: path for path in sorted(folder.glob("*.png"))}
    order = [*(name for name in _FIGURES if name in files)]
    order += [name for name in files if name not in order]
    return [(name.replace("_", " "), files[name].read_bytes()) for name in order]


def _within_limit(title: str, parts: list[str], pictures: list[tuple[str, bytes]]) -> str:
    """Returns the page with as many pictures as fit into `MOST_BYTES`; the rest are named."""
    room = MOST_BYTES - sum(len(part.encode()) for part in parts) - 50_000
    shown, left = [], []
    for caption, png in pictures:
        size = math.ceil(len(png) * 4 / 3) + 500
        if size > room:
            left.append(caption)
            continue
        room -= size
        shown.append(page.image(png, caption))
    if shown:
        parts = [*parts, page.heading("Figures"), *shown]
    if left:
        parts.append(page.paragraph(f"Left out for their size: {', '.join(left)}.", soft=True))
    return page.page(title, parts)
