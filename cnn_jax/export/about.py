"""The record of an export: what a user of the file needs to know, as JSON has it."""

import platform
from collections.abc import Mapping
from typing import Any

import jax

from cnn_jax._version import __version__
from cnn_jax.experiment import Experiment
from cnn_jax.export import program, torch_weights
from cnn_jax.pretrained import catalogue
from cnn_jax.pretrained import weights as pretrained
from cnn_jax.reporting import private
from cnn_jax.runs import environment
from cnn_jax.runs import trusted as trust_file
from cnn_jax.runs.trained import Run
from cnn_jax.runs.untrained import Untrained

_SCALING = {
    "none": "x",
    "unit": "x / 255",
    "symmetric": "x / 127.5 - 1",
    "caffe": "x with channels blue, green, red, minus (103.939, 116.779, 123.68)",
    "torch": "(x / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)",
}
_PACKAGES = ("jax", "flax", "numpy")


def of_run(run: Run, format: str, made: program.Program | None) -> dict[str, Any]:
    """Returns the record of a run's export, without its files and how it was checked.

    Args:
        run: the run.
        format: the name of the format.
        made: the program, where the file is a graph; None: weights alone.
    """
    info, config = run.data_info, run.experiment
    variables = run.variables["params"]
    record: dict[str, Any] = {
        "format": format,
        "model": config.model.name,
        "head": config.model.head,
        "parameters": int(sum(x.size for x in jax.tree.leaves(variables))),
        "classes": list(info.class_names),
        "several_findings": info.multilabel,
        "input": _input(run),
        "preprocessing": {**preprocessing(run), "in_file": made is not None},
        "outputs": [_logits(run)] if made is None else outputs(made),
        "precision": config.train.precision if made is None else made.precision,
        "checkpoint": {
            "which": "not trained here" if isinstance(run, Untrained) else run.checkpoint,
            "step": run.step,
            "sha256": trust_file.digest(run.variables, info, config),
        },
        "trust": _trust(run, made),
        "pretrained": origin(run),
        "data": _data(run),
        "versions": versions(),
        "left_out": [],
    }
    return record


def _data(run: Run) -> dict[str, Any] | None:
    """Returns what is known of the data that a run was trained on; None: it was not, here."""
    info = run.data_info
    if isinstance(run, Untrained):
        return None
    name = private.value("name", info.name)
    return {"name": name, "version": info.version, "sizes": dict(info.sizes)}


def _input(run: Run) -> dict[str, Any]:
    info = run.data_info
    height, width, channels = info.image_shape
    order = {1: "grey", 3: "red, green, blue"}.get(channels, f"{channels} channels")
    found = {
        "name": "images",
        "dtype": info.dtype,
        "shape": ["batch", height, width, channels],
        "axes": "batch, height, width, channels",
        "channels": order,
    }
    if info.dtype == "uint8":
        found |= {
            "range": [0, 255],
            "other_sizes": info.resize,
            "crop_share": info.crop_share,
            "interpolation": info.interpolation,
            "bit_depth": info.bit_depth,
        }
    return found


def preprocessing(run: Run) -> dict[str, Any]:
    """Returns how pixels are scaled, by name, as a formula, and with its numbers."""
    name, info = run.assembly.normalize, run.data_info
    found: dict[str, Any] = {"name": name, "formula": _SCALING.get(name)}
    if name == "standardize":
        x = "x / 255" if info.dtype == "uint8" else "x"
        found["formula"] = f"({x} - mean) / std, where std is above 0"
        found |= {"mean": list(info.mean), "std": list(info.std)}
    return found


def outputs(made: program.Program) -> list[dict[str, Any]]:
    """Returns name, type, shape and meaning of each output."""
    return [
        {
            "name": name,
            "dtype": str(each.dtype),
            "shape": ["batch", *each.shape[1:]],
            "meaning": program.MEANING[name],
        }
        for name, each in made.outputs().items()
    ]


def _logits(run: Run) -> dict[str, Any]:
    """Returns what `outputs` does, of the network that a file of weights is for."""
    count = torch_weights.outputs(run)
    _, words = program.activation(run.data_info.multilabel, count)
    return {
        "name": "logits",
        "dtype": "float32",
        "shape": ["batch", count],
        "meaning": f"{program.MEANING['logits']}; {words}",
    }


def _trust(run: Run, made: program.Program | None) -> dict[str, Any] | None:
    if run.trusted is None:
        return None
    record = run.trusted.record
    settings, gate = record["settings"], record["strangers"]
    return {
        "in_file": made is not None,
        "calibration": record["calibration"]["scaling"],
        "score": record["score"],
        "thresholds": dict(zip(run.class_names, record["thresholds"], strict=True)),
        "views": record["network"]["views"],
        "max_error": settings["max_error"],
        "confidence": settings["confidence"],
        "false_alarms": gate["false_alarms"],
        "strangers_judged": gate["judged"],
        "sets": record["sets"]["made"],
        "sentences": private.lines(record["sentences"], run.class_names),
    }


def origin(run: Run) -> dict[str, Any] | None:
    """Returns source, sha256 and licence of the weights that a run started from; None: none."""
    return origin_of(run.experiment, run.assembly.about_weights)


def origin_of(config: Experiment, said: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Returns what `origin` does, by an experiment and what weights.json says; None: nothing."""
    asked = config.transfer.weights
    if asked is None:
        return None
    said = said or {}
    known = entry = pretrained.catalogued(said.get("preprocessing_reason", ""))
    if asked == "imagenet" and entry is None:  # nothing is said: the file has a sibling
        entry = catalogue.find(config.model.name)
    return {
        "asked_for": private.value("weights", asked),
        "file": None if known is None else known.name,
        "sha256": said.get("sha256"),
        "licence": None if entry is None else entry.licence,
        "source": None if entry is None else entry.source,
    }


def versions() -> dict[str, str]:
    """Returns the versions of what made the file."""
    found = {"cnn_jax": __version__, "python": platform.python_version()}
    return found | environment.versions((*_PACKAGES, "jax2onnx", "onnxruntime", "keras"))
