"""Weights as `.weights.h5`, which Keras writes and the networks of `keras.applications` load.

A file of weights says nothing of preprocessing and calibration: that is in `export.json`.
"""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax import extras
from cnn_jax.errors import UsageError
from cnn_jax.export import checking, torch_weights
from cnn_jax.export.checking import Checked
from cnn_jax.pretrained import layouts
from cnn_jax.runs.trained import Run

FILE = "model.weights.h5"
APPLICATIONS = {
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "resnet152": "ResNet152",
    "inception_v3": "InceptionV3",
    "densenet121": "DenseNet121",
    "densenet169": "DenseNet169",
    "densenet201": "DenseNet201",
}
_BATCH = 32
_IMAGES = 64


def write(run: Run, folder: Path) -> Checked:
    """Writes the file, loads it into another network of Keras, and compares that with the run.

    Args:
        run: the run.
        folder: where it goes.

    Raises:
        UsageError: Keras is not installed, or has no such network.
        RunError: the network of Keras says something else than the run.
    """
    name = run.experiment.model.name
    if name not in APPLICATIONS:
        raise UsageError(
            f"keras.applications has {', '.join(APPLICATIONS)}, and no {name}; format=stablehlo "
            "and format=onnx hold every network"
        )
    layout = torch_weights.checked_layout(run, "keras", "Keras Applications'")
    os.environ.setdefault("KERAS_BACKEND", "jax")  # TensorFlow and PyTorch serve as well
    keras = extras.need("keras", "format=keras", "keras")
    with extras.quiet():
        made = network(keras, run)
        _fill(made, torch_weights.flat(run), layout)
        made.save_weights(folder / FILE)
        del made
        fresh = network(keras, run)
        fresh.load_weights(folder / FILE)

    def compute(images: np.ndarray) -> dict[str, np.ndarray]:
        scaled = np.asarray(run.preprocess(images), np.float32)
        with extras.quiet():
            parts = [
                fresh.predict_on_batch(scaled[i : i + _BATCH])
                for i in range(0, len(scaled), _BATCH)
            ]
        return {"logits": np.concatenate(parts)}

    by = f"Keras {keras.__version__}, from the file,"
    return checking.check(run, compute, by, "float32", most=_IMAGES, logits_alone=True)


def network(keras: Any, run: Run) -> Any:
    """Returns the network of Keras that `loading` describes, with weights by chance."""
    model = run.experiment.model
    application = getattr(keras.applications, APPLICATIONS[model.name])
    shape, classes = run.data_info.image_shape, torch_weights.outputs(run)
    if not _replaces_head(run):
        return application(
            weights=None, classes=classes, input_shape=shape, classifier_activation=None
        )
    base = application(include_top=False, weights=None, input_shape=shape, pooling="avg")
    x = base.output
    if model.head == "pooled_dense128":
        x = keras.layers.Dense(128, "relu", name="dense")(x)
    return keras.Model(base.input, keras.layers.Dense(classes, name="predictions")(x))


def _replaces_head(run: Run) -> bool:
    """Whether the run's head is another one than that of Keras' network."""
    model = run.experiment.model
    return model.head == "pooled_dense128" or (
        model.head == "pooled" and model.name.startswith("vgg")
    )


def loading(run: Run) -> list[str]:
    """Returns the lines of Python that make Keras' network with these weights."""
    model, classes = run.experiment.model, torch_weights.outputs(run)
    name, shape = APPLICATIONS[model.name], run.data_info.image_shape
    lines = ["import keras", ""]
    if _replaces_head(run):
        lines += [
            f"base = keras.applications.{name}(",
            f'    include_top=False, weights=None, input_shape={shape}, pooling="avg"',
            ")",
            "x = base.output",
        ]
        if model.head == "pooled_dense128":
            lines.append('x = keras.layers.Dense(128, "relu", name="dense")(x)')
        last = f'keras.layers.Dense({classes}, name="predictions")(x)'
        lines.append(f"net = keras.Model(base.input, {last})")
    else:
        lines += [
            f"net = keras.applications.{name}(",
            f"    weights=None, classes={classes}, input_shape={shape}, classifier_activation=None",
            ")",
        ]
    lines.append(f'net.load_weights("{FILE}")')
    lines.append("# takes images [batch, height, width, 3], scaled as export.json says")
    return lines


def _fill(made: Any, arrays: dict[str, np.ndarray], layout: layouts.Layout) -> None:
    """Puts our arrays into a network of Keras."""
    convention = layout.conventions["keras"]
    theirs = {layer.name: layer for layer in made.layers}
    if convention.automatic:
        theirs |= _numbered_from_0(theirs)
    for layer in layout.layers:
        own = theirs[str(layer.keras)]
        get = {leaf: arrays.get(f"{layer.path}/{leaf}") for leaf in ("kernel", "bias", "scale")}
        if layer.kind == "batch_norm":
            var = arrays[f"{layer.path}/var"] - np.float32(convention.epsilon)
            values = [get["scale"]] if own.scale else []
            own.set_weights([*values, get["bias"], arrays[f"{layer.path}/mean"], var])
            continue
        kernel = arrays[f"{layer.path}/kernel"]
        bias = get["bias"] if get["bias"] is not None else np.zeros(kernel.shape[-1], np.float32)
        own.set_weights([kernel, bias] if own.use_bias else [kernel])


def _numbered_from_0(theirs: dict[str, Any]) -> dict[str, Any]:
    """Returns layers that Keras numbered, conv2d_95, ..., by the names of a first network."""
    found: dict[str, Any] = {}
    for prefix in ("conv2d", "batch_normalization"):
        numbers = {
            int(match[1] or 0): name
            for name in theirs
            if (match := re.fullmatch(rf"{prefix}(?:_(\d+))?", name))
        }
        for new, old in enumerate(sorted(numbers)):
            found[f"{prefix}_{new}" if new else prefix] = theirs[numbers[old]]
    return found
