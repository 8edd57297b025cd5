"""The VGG of this project against Keras', with the same weights through each kind of file."""

import os
import tempfile
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
import safetensors.numpy

from cnn_jax import models
from cnn_jax.data.scaling import normalize
from cnn_jax.pretrained import layouts
from cnn_jax.pretrained import weights as pretrained

# Keras' own, about NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CLASSES, SIZE = 10, 64  # with the top; a feature map of 2 x 2 shows the order of flattening


@pytest.fixture(scope="module")
def theirs(keras):
    """Keras' VGG16 with top, and random biases, as its zeros would hide a mistake."""
    model = keras.applications.VGG16(weights=None, classes=CLASSES, input_shape=(SIZE, SIZE, 3))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if len(variable.shape) == 1:
            variable.assign(0.1 * rng.standard_normal(variable.shape, np.float32))
    return model


@pytest.fixture(scope="module")
def files(theirs):
    """{kind: file} of the same weights; 160 MB each, so they do not outlive the tests."""
    from keras.src.legacy.saving import legacy_h5_format

    with tempfile.TemporaryDirectory() as folder:
        paths = {
            "legacy": Path(folder, "legacy.h5"),
            "keras3": Path(folder, "keras3.weights.h5"),
            "torch": Path(folder, "torch.safetensors"),
        }
        with h5py.File(paths["legacy"], "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, theirs)
        theirs.save_weights(paths["keras3"])
        tensors = {}
        for layer in layouts.find("vgg16").layers:
            kernel, bias = theirs.get_layer(layer.keras).get_weights()
            if kernel.ndim == 4:
                kernel = kernel.transpose(3, 2, 0, 1)
            elif layer.flattened:
                kernel = kernel.reshape(2, 2, 512, -1).transpose(3, 2, 0, 1).reshape(-1, 2048)
            else:
                kernel = kernel.T
            tensors[f"{layer.torch}.weight"] = np.ascontiguousarray(kernel)
            tensors[f"{layer.torch}.bias"] = bias
        safetensors.numpy.save_file(tensors, paths["torch"])
        del tensors
        yield paths


@pytest.fixture(scope="module")
def loaded(files):
    return {kind: pretrained.load(str(path), "vgg16") for kind, path in files.items()}


def shapes(model, size):
    image = jax.ShapeDtypeStruct((1, size, size, 3), np.float32)
    return jax.eval_shape(model.init, jax.random.key(0), image)


def assert_close(ours, reference):
    """To 1e-4 of the largest value."""
    ours, reference = np.asarray(ours), np.asarray(reference)
    assert ours.shape == reference.shape
    assert np.abs(reference).max() > 1e-3
    np.testing.assert_allclose(ours, reference, atol=1e-4 * np.abs(reference).max())


def test_all_roads_give_the_same_arrays(loaded):
    for kind in ("keras3", "torch"):
        assert loaded[kind].arrays.keys() == loaded["legacy"].arrays.keys()
        for name, array in loaded["legacy"].arrays.items():
            np.testing.assert_array_equal(loaded[kind].arrays[name], array)
    assert {weights.classes for weights in loaded.values()} == {CLASSES}


def test_same_predictions_as_keras_with_the_top(theirs, loaded):
    model = models.create("vgg16", CLASSES)
    variables = pretrained.merge(shapes(model, SIZE), loaded["legacy"], ".*")
    images = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    x = np.asarray(normalize(images, "caffe"))
    logits = jax.jit(model.apply)(variables, x)
    assert_close(jax.nn.softmax(logits), theirs(x))


@pytest.mark.parametrize("size", [97, 160, 224])
def test_same_features_as_keras(keras, theirs, loaded, size):
    reference = keras.applications.VGG16(
        weights=None, include_top=False, input_shape=(size, size, 3)
    )
    reference.set_weights(theirs.get_weights()[:26])
    assert_features_equal(reference, loaded["legacy"], size)


def assert_features_equal(reference, weights, size):
    model = models.create("vgg16", 1, head="pooled")
    merged = pretrained.merge(shapes(model, size), weights)
    variables = {kind: {"backbone": leaves["backbone"]} for kind, leaves in merged.items()}
    images = np.random.default_rng(size).integers(0, 256, (1, size, size, 3), np.uint8)
    x = np.asarray(normalize(images, "caffe"))
    features = jax.jit(lambda v, x: model.apply(v, x, method="forward_features"))
    assert_close(features(variables, x), reference(x))


@pytest.mark.parametrize("size", [97, 160, 224])
def test_same_features_as_keras_with_the_imagenet_weights(keras, size):
    path = os.environ.get("CNN_JAX_REAL_WEIGHTS")
    if not path:
        pytest.skip("CNN_JAX_REAL_WEIGHTS does not name Keras' VGG16 file without top")
    reference = keras.applications.VGG16(weights=path, include_top=False)
    assert_features_equal(reference, pretrained.load(path, "vgg16"), size)
