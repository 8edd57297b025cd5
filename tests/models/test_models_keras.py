"""Each model against the same network written in Keras, as the guides write it.

Kernels start at zero only because they are overwritten, and drawing them compiles for seconds.
"""

import importlib
import math
import os

import jax
import numpy as np
import pytest

from cnn_jax import models
from cnn_jax.describe.layer_table import layer_table, totals


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "jax"
    module = importlib.import_module("keras")
    assert module.backend.backend() == "jax"
    return module


def conv(k, filters, size):
    return k.layers.Conv2D(filters, size, activation="relu", kernel_initializer="zeros")


def dense(k, units, activation: str | None = "relu"):
    return k.layers.Dense(units, activation, kernel_initializer="zeros")


def study(k, third, fourth):
    return [
        conv(k, 32, (2, 2)),
        conv(k, 64, (3, 3)),
        k.layers.MaxPooling2D((2, 2)),
        conv(k, *third),
        conv(k, *fourth),
        k.layers.MaxPooling2D((2, 2)),
        k.layers.Flatten(),
        dense(k, 100),
        dense(k, 10, None),
    ]


def mnist(k):
    return [
        conv(k, 32, (3, 3)),
        k.layers.MaxPooling2D((2, 2)),
        conv(k, 64, (3, 3)),
        k.layers.MaxPooling2D((2, 2)),
        conv(k, 64, (3, 3)),
        k.layers.Flatten(),
        dense(k, 64),
        dense(k, 10, None),
    ]


def lenet(k):
    return [
        conv(k, 6, (5, 5)),
        k.layers.MaxPooling2D((2, 2)),
        conv(k, 16, (5, 5)),
        k.layers.MaxPooling2D((2, 2)),
        k.layers.Flatten(),
        dense(k, 120),
        dense(k, 84),
        dense(k, 10, None),
    ]


def mlp(k):
    return [
        k.layers.Flatten(),
        dense(k, 512),
        k.layers.Dropout(0.0),
        dense(k, 256),
        k.layers.Dropout(0.0),
        dense(k, 10, None),
    ]


NETWORKS = {
    "study_cnn": lambda k: study(k, (17, (2, 3)), (14, (4, 4))),
    "study_cnn_wide": lambda k: study(k, (128, (4, 3)), (128, (4, 4))),
    "mnist_cnn": mnist,
    "lenet5": lenet,
    "mlp": mlp,
}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("study_cnn", 58_389),
        ("study_cnn_wide", 585_526),
        ("mnist_cnn", 93_322),
        ("lenet5", 61_706),
        ("mlp", 1_707_274),
    ],
)
def test_same_parameters_shapes_and_logits_as_keras(keras, name, parameters):
    shape = models.REGISTRY[name].input_shape
    theirs = keras.Sequential([keras.Input(shape), *NETWORKS[name](keras)])
    ours = models.create(name, 10)
    rows = layer_table(ours, shape)

    assert theirs.count_params() == totals(rows).parameters == parameters
    assert [row.output_shape for row in rows] == [layer.output.shape[1:] for layer in theirs.layers]

    rng = np.random.default_rng(0)
    weights = [
        rng.normal(scale=math.prod(w.shape[:-1]) ** -0.5, size=w.shape) for w in theirs.weights
    ]
    theirs.set_weights(weights)
    in_order = iter(np.float32(w) for w in weights)
    params: dict[str, dict] = {"backbone": {}, "head": {}}
    for row in rows:
        if row.parameters:
            part, layer = row.name.split("/")
            params[part][layer] = {"kernel": next(in_order), "bias": next(in_order)}

    x = rng.uniform(size=(3, *shape)).astype(np.float32)
    logits = np.asarray(jax.jit(ours.apply)({"params": params}, x))
    expected = np.asarray(theirs(x))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
