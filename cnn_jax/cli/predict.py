"""The command `predict`: classifies image files."""

import csv
import dataclasses
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cnn_jax import files, text
from cnn_jax.cli import console, findings, presets, verdicts
from cnn_jax.cli.given import load_run, read_files
from cnn_jax.cli.invocation import Invocation
from cnn_jax.data import named
from cnn_jax.errors import RunError
from cnn_jax.reporting import tables
from cnn_jax.runs import untrained
from cnn_jax.runs.trained import Run


def run_command(invocation: Invocation) -> int:
    """Prints the classes of image files, or writes them to a file, and returns the exit code."""
    # Here they say what to do with a file of the command line, not with one of the data set.
    overrides = dict(invocation.overrides)
    on_error = overrides.pop("dataset.on_error", "refuse")
    depth = overrides.pop("dataset.bit_depth", "auto")
    invocation = dataclasses.replace(invocation, overrides=overrides)
    if invocation.workdir is None and invocation.config is not None:
        run, file, how = untrained.load(presets.resolve(invocation))
        print(f"weights    {file}\nimages     {how}", file=sys.stderr)
    else:
        _, run = load_run(invocation)
    predictions: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    names = named.expand(invocation.arguments)
    for paths, pixels in read_files(names, run, on_error, depth, failures):
        found = run.predict(pixels)
        if run.data_info.multilabel:
            predictions += findings.predicted(paths, found)
            continue
        for i, (path, row) in enumerate(zip(paths, found.top(len(run.class_names)), strict=True)):
            said = {"image": path, "class": row[0][0], "probabilities": dict(row)}
            predictions.append(said | verdicts.fields(found, i))
    _show(invocation, run, predictions, failures)
    return 1 if failures and not predictions else 0


def _show(
    invocation: Invocation,
    run: Run,
    predictions: list[dict[str, Any]],
    failures: list[dict[str, str]],
) -> None:
    """Prints the predictions, and writes them to the file of --output."""
    several = run.data_info.multilabel
    csv_text = findings.csv_text if several else _csv
    path = None if invocation.output is None else Path(invocation.output)
    if path is not None:
        content = csv_text(predictions, run.class_names)
        try:
            files.write_whole(path, lambda file: file.write(content.encode()))
        except OSError as error:
            raise RunError(f"--output={path} cannot be written: {error.strerror}") from error
    if invocation.format == "json":
        step = run.step if predictions else None
        values: dict[str, Any] = {"checkpoint_step": step}
        values |= {"calibrated": bool(predictions) and "answers" in predictions[0]}
        print(json.dumps(values | {"predictions": predictions, "skipped": failures}))
    elif invocation.format == "csv":
        print(csv_text(predictions, run.class_names), end="")
    elif path is None:
        print(findings.table(predictions) if several else _table(predictions, len(run.class_names)))
        if run.directory and predictions and not several and "answers" not in predictions[0]:
            command = console.command_line(invocation, "trust", Path(str(run.directory)))
            print(f"note       {verdicts.NOT_CALIBRATED}\n           {command}")
    if path is not None:
        stream = sys.stdout if invocation.format == "table" else sys.stderr
        where, count = text.shown(path.resolve()), text.plural(len(predictions), "image")
        print(f"written    {where}, {count}", file=stream)


def _csv(predictions: list[dict[str, Any]], class_names: Sequence[str]) -> str:
    """Returns a row for each image: file, class, its probability, and that of every class."""
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    head = ["file", "class", "probability", *(f"p_{name}" for name in class_names)]
    judged = any("answers" in each for each in predictions)
    writer.writerow(map(text.printable, [*head, *(verdicts.COLUMNS if judged else ())]))
    for each in predictions:
        p = each["probabilities"]
        numbers = (f"{value:.6g}" for value in (p[each["class"]], *map(p.get, class_names)))
        more = map(text.printable, verdicts.cells(each) if judged else ())
        writer.writerow([*map(text.printable, (each["image"], each["class"])), *numbers, *more])
    return lines.getvalue()


def _table(predictions: list[dict[str, Any]], classes: int) -> str:
    """Returns the three most probable classes of each image as a text table."""
    rows = []
    for prediction in predictions:
        best = list(prediction["probabilities"].items())[:3]
        said = [verdicts.of(prediction)] if "answers" in prediction else []
        rows.append([prediction["image"], *(f"{name} {p:.3f}" for name, p in best), *said])
    head = ["image", "first", "second", "third"][: 1 + min(3, classes)]
    judged = any("answers" in prediction for prediction in predictions)
    return tables.table(rows, [*head, *(["verdict"] if judged else [])])
