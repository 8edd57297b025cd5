"""Scaling as Keras scales for its pretrained networks."""

import jax
import numpy as np
import pytest

from cnn_jax.data.scaling import normalize
from cnn_jax.errors import UsageError


@pytest.mark.parametrize(
    ("name", "keras_module"),
    [
        ("caffe", "vgg16"),
        ("caffe", "vgg19"),
        ("caffe", "resnet50"),
        ("symmetric", "inception_v3"),
        ("torch", "densenet"),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalize_equals_keras(name, keras_module, dtype, keras):
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype(dtype)
    reference = getattr(keras.applications, keras_module).preprocess_input
    result = jax.jit(normalize, static_argnames="mode")(images, mode=name)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, reference(images.astype("float32")), atol=2e-5)


def test_normalize_does_not_change_its_input():
    images = np.full((1, 2, 2, 3), 7, np.uint8)
    normalize(images, "caffe")
    assert (images == 7).all()


def test_unknown_name_and_grey_images_are_refused():
    with pytest.raises(UsageError, match="caffe, symmetric, torch"):
        normalize(np.zeros((1, 2, 2, 3)), "tf")
    with pytest.raises(UsageError, match="3 channels"):
        normalize(np.zeros((1, 2, 2, 1)), "torch")
