"""Measures Keras: `fit` and `predict`, from their first batch to their last.

Images are float arrays that were made before, in its favour. The backend is $KERAS_BACKEND.
"""

import itertools
import time
from typing import Any

import keras
import numpy as np

from benchmarks.peers import networks, worker
from benchmarks.peers.worker import Result, Run

_WEIGHTS = {"gamma": "scale", "beta": "bias"}  # their names of weights to ours, where they differ


class Bias(keras.layers.Layer):
    """Adds a bias to each channel."""

    def build(self, input_shape: Any) -> None:
        """Creates the bias."""
        self.bias = self.add_weight(shape=input_shape[-1:], name="bias")

    def call(self, x: Any) -> Any:
        """Maps [..., channels] to the same shape."""
        return x + self.bias


class Clock(keras.callbacks.Callback):
    """Measures the time from the first batch to the end."""

    began = seconds = 0.0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Starts the clock at the first batch."""
        self.began = self.began or time.perf_counter()

    def on_train_end(self, logs: Any = None) -> None:
        """Stops the clock."""
        self.seconds = time.perf_counter() - self.began

    on_predict_batch_begin = on_train_batch_begin
    on_predict_end = on_train_end


def build(layers: list[networks.Layer], x: Any) -> Any:
    """Applies layers to the tensor `x` and returns the result."""
    for layer in layers:
        match layer:
            case ("conv", path, filters, kernel, stride, padding, bias):
                # Where a stride divides the size, "same" would pad on one side only.
                if padding and stride > 1:
                    x = keras.layers.ZeroPadding2D(padding)(x)
                same = "same" if padding and stride == 1 else "valid"
                x = keras.layers.Conv2D(
                    filters, kernel, stride, same, use_bias=bias, name=_name(path)
                )(x)
            case ("bias", path):
                x = Bias(name=_name(f"{path}/bias"))(x)
            case ("bn", path, epsilon, scale):
                x = keras.layers.BatchNormalization(
                    momentum=0.9, epsilon=epsilon, scale=scale, name=_name(path)
                )(x)
            case ("dense", path, units, bias):
                x = keras.layers.Dense(units, use_bias=bias, name=_name(path))(x)
            case ("pool", window):
                x = keras.layers.MaxPooling2D(window)(x)
            case ("crop", kernel):
                size = tuple(x.shape[1:3])
                ends = [n - m for n, m in zip(size, networks.cropped(size, kernel), strict=True)]
                if any(ends):
                    x = keras.layers.Cropping2D(tuple((0, end) for end in ends))(x)
            case ("residual", main, shortcut):
                x = keras.layers.Add()([build(main, x), build(shortcut, x)])
            case ("flatten",):
                x = keras.layers.Flatten()(x)
            case ("mean",):
                x = keras.layers.GlobalAveragePooling2D()(x)
            case ("scale", factor):
                x = keras.layers.Rescaling(factor)(x)
            case ("relu",):
                x = keras.layers.ReLU()(x)
            case ("gelu",):
                x = keras.layers.Activation("gelu")(x)
            case _:
                raise ValueError(f"unknown layer {layer}")
    return x


def _name(path: str) -> str:
    return path.replace("/", ".")


def _load(model: Any, parameters: dict[str, np.ndarray]) -> None:
    """Sets all parameters of the model."""
    for layer in model.layers:
        path = layer.name.replace(".", "/").removesuffix("/bias")
        for weight in layer.weights:
            if not weight.name.startswith("moving"):
                name = _WEIGHTS.get(weight.name, weight.name)
                weight.assign(worker.take(parameters, f"{path}/{name}"))
    worker.check_all_taken(parameters)


def prepare(work: dict[str, Any]) -> Run:
    """Returns the function that runs a workload; see `worker`."""
    if work["kind"] == "jpeg":
        return _decode(work["photographs"], work["size"])
    images, labels, parameters = worker.load(work)
    inputs = images.astype(np.float32) / 255
    x = keras.Input(inputs.shape[2:])
    layers = networks.network(work["model"], work["outputs"], work["variant"] == "reordered")
    model = keras.Model(x, build(layers, x))
    if parameters:
        _load(model, parameters)
    for layer in model.layers:
        layer.trainable = not worker.is_frozen(work, layer.name.replace(".", "/"))
    rate = work["learning_rate"]
    if work["optimizer"] == "adam":
        # Keras adds epsilon before it corrects the bias of the second moment, the others after
        # that. In the steps whose losses are compared, this epsilon equals their 1e-8.
        optimizer = keras.optimizers.Adam(rate, epsilon=1e-8 * (1 - 0.999**3) ** 0.5)
    else:
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    position = itertools.cycle(range(len(inputs)))

    def feed() -> Any:
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf  # pyright: ignore[reportMissingModuleSource]

            return tf.data.Dataset.from_tensor_slices((inputs, labels)).repeat()
        return ((inputs[i], labels[i]) for i in itertools.cycle(range(len(inputs))))

    def one_by_one(steps: int) -> list[float]:
        losses = []
        for i in itertools.islice(position, steps):
            if work["kind"] == "train":
                losses.append(float(model.train_on_batch(inputs[i], labels[i])))
            else:
                logits = model.predict_on_batch(inputs[i])
                losses.append(worker.cross_entropy(np.asarray(logits), labels[i]))
        return losses

    def run(steps: int, each: bool) -> Result:
        if each:
            began = time.perf_counter()
            losses = one_by_one(steps)
            return Result(time.perf_counter() - began, steps * work["batch"], losses)
        clock = Clock()
        quiet: Any = 0  # Any: Keras declares a string
        if work["kind"] == "train":
            model.fit(
                feed(), steps_per_epoch=steps, shuffle=False, verbose=quiet, callbacks=[clock]
            )
        else:
            model.predict(feed(), steps=steps, verbose=quiet, callbacks=[clock])
        return Result(clock.seconds, steps * work["batch"], [])

    return run


def _decode(paths: list[str], size: int) -> Run:
    """Returns a run whose step decodes one photograph, as image_dataset_from_directory does."""
    import tensorflow as tf  # pyright: ignore[reportMissingModuleSource]

    def read(path: Any) -> Any:
        image = tf.io.decode_image(tf.io.read_file(path), 3, expand_animations=False)
        return tf.image.resize(image, (size, size))

    def run(steps: int, each: bool) -> Result:
        del each
        dataset = tf.data.Dataset.from_tensor_slices(paths).repeat().take(steps)
        dataset = dataset.map(read, tf.data.AUTOTUNE).batch(32).prefetch(tf.data.AUTOTUNE)
        began = time.perf_counter()
        count = sum(int(batch.shape[0]) for batch in dataset)
        return Result(time.perf_counter() - began, count, [])

    return run


if __name__ == "__main__":
    worker.serve(prepare)
