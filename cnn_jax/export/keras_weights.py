"""Weights as `.weights.h5`, which Keras writes and the networks of `keras.applications` load.

A file of weights says nothing of preprocessing and calibration: that is in `export.json`.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax import extras
from cnn_jax.errors import UsageError
from cnn_jax.export import checking, program, torch_weights
from cnn_jax.export.checking import Checked
from cnn_jax.pretrained import keras_names, layouts, statistics
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
    **{f"efficientnet_b{n}": f"EfficientNetB{n}" for n in range(4)},
    "mobilenet_v3_large": "MobileNetV3Large",
    "mobilenet_v3_small": "MobileNetV3Small",
    "convnext_tiny": "ConvNeXtTiny",
    "convnext_small": "ConvNeXtSmall",
}
# These scale pixels inside, unless they are asked not to; EfficientNet does it always.
_SCALES = ("mobilenet_v3", "convnext")
_ALWAYS_SCALES = "efficientnet"
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
    torch_weights.check(run, "Keras Applications'", "keras")
    layout = torch_weights.layout_of(run)
    os.environ.setdefault("KERAS_BACKEND", "jax")  # TensorFlow and PyTorch serve as well
    keras = extras.need("keras", "format=keras", "keras")
    with extras.quiet():
        made = network(keras, run)
        _fill(made, run, layout)
        made.save_weights(folder / FILE)
        del made
        fresh = network(keras, run)
        fresh.load_weights(folder / FILE)

    def compute(images: np.ndarray) -> dict[str, np.ndarray]:
        inside = name.startswith(_ALWAYS_SCALES)
        scaled = np.asarray(images if inside else run.preprocess(images), np.float32)
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
    more = {"include_preprocessing": False} if model.name.startswith(_SCALES) else {}
    if not _replaces_head(run):
        return application(
            weights=None, classes=classes, input_shape=shape, classifier_activation=None, **more
        )
    base = application(include_top=False, weights=None, input_shape=shape, pooling="avg", **more)
    x = base.layers[-2].output if _ends_with_norm(run) else base.output
    if model.head == "pooled_dense128":
        x = keras.layers.Dense(128, "relu", name="dense")(x)
    return keras.Model(base.input, keras.layers.Dense(classes, name="predictions")(x))


def _replaces_head(run: Run) -> bool:
    """Whether the run's head is another one than that of Keras' network."""
    model = run.experiment.model
    return model.head == "pooled_dense128" or (
        model.head == "pooled" and model.name.startswith(("vgg", "mobilenet_v3", "convnext"))
    )


def _ends_with_norm(run: Run) -> bool:
    """Whether Keras' network without a head ends with a normalisation that ours does not have."""
    return run.experiment.model.name.startswith("convnext")


def loading(run: Run) -> list[str]:
    """Returns the lines of Python that make Keras' network with these weights."""
    model, classes = run.experiment.model, torch_weights.outputs(run)
    name, shape = APPLICATIONS[model.name], run.data_info.image_shape
    more = ["    include_preprocessing=False,"] if model.name.startswith(_SCALES) else []
    lines = ["import keras", "", f"net = keras.applications.{name}("]
    if _replaces_head(run):
        lines[-1] = lines[-1].replace("net", "base", 1)
        lines += [
            f'    include_top=False, weights=None, input_shape={shape}, pooling="avg",',
            *more,
            ")",
            f"x = base{'.layers[-2]' if _ends_with_norm(run) else ''}.output",
        ]
        if model.head == "pooled_dense128":
            lines.append('x = keras.layers.Dense(128, "relu", name="dense")(x)')
        last = f'keras.layers.Dense({classes}, name="predictions")(x)'
        lines.append(f"net = keras.Model(base.input, {last})")
    else:
        own = f"weights=None, classes={classes}, input_shape={shape}, classifier_activation=None"
        lines += [f"    {own},", *more, ")"]
    lines.append(f'net.load_weights("{FILE}")')
    how = "as they are" if model.name.startswith(_ALWAYS_SCALES) else "scaled as export.json says"
    lines.append(f"# takes images [batch, height, width, 3], {how}")
    function, words = program.activation(run.data_info.multilabel, classes)
    lines.append(f"# probabilities: keras.ops.{function}(net(images))")
    return [*lines, f"# of the logits: {words}"]


def _fill(made: Any, run: Run, layout: layouts.Layout) -> None:
    """Puts the arrays of a run into a network of Keras."""
    convention = layout.conventions["keras"]
    arrays = statistics.undone(torch_weights.flat(run), layout.layers, convention)
    theirs = {keras_names.canonical(layer.name): layer for layer in _inside(made)}
    if convention.automatic:
        wanted = [layer.keras for layer in layout.layers if layer.keras]
        first = keras_names.from_the_first(theirs, wanted)
        theirs |= {new: theirs[old] for new, old in first.items()}
    for layer in layout.layers:
        own = theirs[str(layer.keras)]
        get = {leaf: arrays.get(f"{layer.path}/{leaf}") for leaf in ("kernel", "bias", "scale")}
        if layer.kind == "batch_norm":
            values = [get["scale"]] if own.scale else []
            moments = [arrays[f"{layer.path}/{leaf}"] for leaf in ("mean", "var")]
            own.set_weights([*values, get["bias"], *moments])
        elif layer.kind == "layer_norm":
            own.set_weights([get["scale"], get["bias"]])
        elif layer.kind == "scale":
            own.set_weights([get["scale"]])
        else:
            # Depthwise kernels have their axes in another order, and some dense layers are
            # convolutions of a single position: the numbers follow one another alike.
            kernel = arrays[f"{layer.path}/kernel"]
            bias = get["bias"] if get["bias"] is not None else np.zeros(kernel.shape[-1])
            kernel = kernel.reshape(own.kernel.shape)
            own.set_weights([kernel, bias] if own.use_bias else [kernel])
    if run.experiment.model.name.startswith(_ALWAYS_SCALES):
        _fill_scaling(made, run)


def _inside(network: Any) -> Iterator[Any]:
    """Yields the layers of a network, also of the networks that are layers of it."""
    for layer in network.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _inside(layer)


def _fill_scaling(made: Any, run: Run) -> None:
    """Lets the layer of Keras' network that scales pixels do what the run does."""
    numbers = torch_weights.mean_and_std(run)
    if numbers is None:
        raise UsageError(
            "format=keras: Keras' EfficientNet scales pixels inside, by a mean and a standard "
            f"deviation, which the scaling {run.assembly.normalize!r} of this run is not; "
            "format=stablehlo and format=onnx hold it"
        )
    mean, std = (np.array(each, np.float32) for each in numbers)
    (own,) = (layer for layer in made.layers if layer.name.startswith("normalization"))
    own.set_weights([mean, std**2, np.int32(0)])
