"""The command `predict`: classifies image files."""

import csv
import dataclasses
import io
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from cnn_jax import files, text
from cnn_jax.cli import console, findings, verdicts
from cnn_jax.cli.evaluate import load_run
from cnn_jax.cli.invocation import Invocation
from cnn_jax.data import bit_depth, cache, images, named
from cnn_jax.errors import RunError, UsageError
from cnn_jax.reporting import tables
from cnn_jax.runs import recorder
from cnn_jax.runs.trained import Run

_BLOCK = 512  # images that are in memory at a time


def run_command(invocation: Invocation) -> int:
    """Prints the classes of image files, or writes them to a file, and returns the exit code."""
    if invocation.format == "markdown":
        raise UsageError("--format=markdown: predict prints table, json or csv")
    # Here they say what to do with a file of the command line, not with one of the data set.
    overrides = dict(invocation.overrides)
    on_error = overrides.pop("dataset.on_error", "refuse")
    depth = overrides.pop("dataset.bit_depth", "auto")
    _, run = load_run(dataclasses.replace(invocation, overrides=overrides))
    predictions: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    for paths, pixels in _read(named.expand(invocation.arguments), run, on_error, depth, failures):
        found = run.predict(pixels)
        if run.data_info.multilabel:
            predictions += findings.predicted(paths, found)
            continue
        for i, (path, row) in enumerate(zip(paths, found.top(len(run.class_names)), strict=True)):
            said = {"image": path, "class": row[0][0], "probabilities": dict(row)}
            predictions.append(said | verdicts.fields(found, i))
    if recorder.is_writer():
        _show(invocation, run, predictions, failures)
    return 1 if failures and not predictions else 0


def _read(
    paths: Sequence[str], run: Run, on_error: str, depth: str, failures: list[dict[str, str]]
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yields (paths, images) of some files at a time; failures gets those that are skipped.

    16-bit values are read with the run's bits, unless `depth` says others.
    """
    if run.data_info.dtype != "uint8":
        raise UsageError("the run was trained on float arrays; give it such in Python, not files")
    how = decoding(run, paths, depth)

    def read(path: str) -> np.ndarray | images.ImageError:
        try:
            return images.decode(path, how).pixels
        except images.ImageError as error:
            return error

    with ThreadPoolExecutor(cache.cores()) as pool:
        for start in range(0, len(paths), _BLOCK):
            block = paths[start : start + _BLOCK]
            good, pixels = [], []
            for path, result in zip(block, pool.map(read, block), strict=True):
                if not isinstance(result, images.ImageError):
                    good.append(path)
                    pixels.append(result)
                elif on_error == "refuse":
                    raise result
                else:
                    failures.append({"image": path, "error": result.for_command_line})
                    logging.warning("skipped: %s", result.for_command_line)
            if good:
                yield good, np.stack(pixels)


def decoding(run: Run, paths: Sequence[str], depth: str) -> images.Decoding:
    """Returns how image files are decoded for a run; warns of those that would be nearly black.

    Args:
        run: the run.
        paths: the files.
        depth: how many bits 16-bit values use; "auto": as many as those of the run.
    """
    how = images.like(run.data_info, run.experiment.dataset.max_megapixels)
    if depth != "auto":
        return dataclasses.replace(how, bit_depth=int(depth))
    if line := bit_depth.dark(paths, how.bit_depth, how.max_megapixels):
        logging.warning("%s", line)
    return how


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
        if predictions and not several and "answers" not in predictions[0]:
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
