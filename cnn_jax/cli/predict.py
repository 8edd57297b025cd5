"""The command `predict`: classifies image files."""

import dataclasses
import json
from typing import Any

import numpy as np
from absl import logging

from cnn_jax.cli.evaluate import load_run
from cnn_jax.cli.invocation import Invocation
from cnn_jax.data import folder
from cnn_jax.errors import UsageError
from cnn_jax.reporting import tables
from cnn_jax.runs import recorder


def run_command(invocation: Invocation) -> int:
    """Prints the classes of image files and returns the exit code."""
    if invocation.format not in ("table", "json"):
        raise UsageError(f"--format={invocation.format}: predict prints table or json")
    # Here it says what to do with a file of the command line, not with one of the data set.
    overrides = dict(invocation.overrides)
    on_error = overrides.pop("dataset.on_error", "refuse")
    _, run = load_run(dataclasses.replace(invocation, overrides=overrides))
    height, width, channels = run.data_info.image_shape
    bits = run.data_info.bit_depth
    most = run.experiment.dataset.max_megapixels
    images, paths, failures = [], [], []
    for path in invocation.arguments:
        try:
            image = folder.read_image(
                path, (height, width), channels, bit_depth=bits, max_megapixels=most
            )
            images.append(image)
            paths.append(path)
        except folder.ImageError as error:
            if on_error == "refuse":
                raise
            failures.append({"image": path, "error": error.for_command_line})
            logging.warning("skipped: %s", error.for_command_line)
    predictions: list[dict[str, Any]] = []
    if images:
        found = run.predict(np.stack(images))
        for path, row in zip(paths, found.top(len(run.class_names)), strict=True):
            predictions.append({"image": path, "class": row[0][0], "probabilities": dict(row)})
    if recorder.is_writer():
        if invocation.format == "json":
            step = run.step if images else None
            values = {"checkpoint_step": step, "predictions": predictions, "skipped": failures}
            print(json.dumps(values))
        else:
            print(_table(predictions, len(run.class_names)))
    return 1 if failures and not predictions else 0


def _table(predictions: list[dict[str, Any]], classes: int) -> str:
    """Returns the three most probable classes of each image as a text table."""
    rows = []
    for prediction in predictions:
        best = list(prediction["probabilities"].items())[:3]
        rows.append([prediction["image"], *(f"{name} {p:.3f}" for name, p in best)])
    return tables.table(rows, ["image", "first", "second", "third"][: 1 + min(3, classes)])
