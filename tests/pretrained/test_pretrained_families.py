"""ResNet, Inception and DenseNet against Keras', through the file that Keras writes.

`benchmarks/parity.py` compares every model at more sizes, and with torchvision.
"""

import json

import h5py
import jax
import numpy as np
import pytest
from flax import traverse_util
from PIL import Image

from cnn_jax import models
from cnn_jax.pretrained import weights as pretrained
from cnn_jax.runs import stored
from cnn_jax.runs import weights as run_weights
from tests.tiny import UNOPTIMISED

# Keras' own, about NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CLASSES = 10


def made(keras, application, size):
    """A network with top and logits, whose every vector is random: Keras' own hide mistakes."""
    model = getattr(keras.applications, application)(
        weights=None, classes=CLASSES, input_shape=(size, size, 3), classifier_activation=None
    )
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.path.endswith(("gamma", "variance")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape).astype(np.float32))
        elif len(variable.shape) == 1:
            variable.assign(0.1 * rng.standard_normal(variable.shape, np.float32))
    return model


def save(model, path):
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


@pytest.mark.parametrize(
    ("name", "application", "size"),
    [
        ("resnet50", "ResNet50", 45),
        pytest.param("inception_v3", "InceptionV3", 79, marks=pytest.mark.slow),
        pytest.param("densenet121", "DenseNet121", 43, marks=pytest.mark.slow),
    ],
)
def test_same_features_and_logits_as_keras(keras, tmp_path, name, application, size):
    theirs = made(keras, application, size)
    save(theirs, tmp_path / "w.h5")
    pooled = theirs.layers[-2]
    both = keras.Model(theirs.input, [pooled.input, theirs.output])
    state = [[v.value for v in both.trainable_variables]]
    state.append([v.value for v in both.non_trainable_variables])
    x = np.random.default_rng(size).standard_normal((2, size, size, 3), np.float32)
    reference = jax.jit(
        lambda parameters, statistics, x: both.stateless_call(parameters, statistics, x)[0],
        compiler_options=UNOPTIMISED,
    )(*state, x)

    weights = pretrained.load(str(tmp_path / "w.h5"), name)
    model = models.create(name, CLASSES, **weights.options)
    variables = pretrained.merge(jax.eval_shape(model.init, jax.random.key(0), x), weights, ".*")

    def forward(variables, x):
        features = model.apply(variables, x, method="forward_features")
        return features, model.apply(variables, features, method="forward_head")

    ours = jax.jit(forward, compiler_options=UNOPTIMISED)(variables, x)
    for mine, other in zip(ours, reference, strict=True):
        mine, other = np.asarray(mine), np.asarray(other)
        assert mine.shape == other.shape
        largest = np.abs(other).max()
        assert np.std(other) > 1e-3 * largest
        np.testing.assert_allclose(mine, other, atol=1e-4 * largest)


def save_photographs(directory, size):
    """Writes ten dark and ten light images, in a folder each."""
    rng = np.random.default_rng(0)
    for label, value in (("cat", 0), ("dog", 128)):
        (directory / label).mkdir(parents=True)
        for number in range(10):
            pixels = rng.integers(value, value + 127, (size, size, 3), np.uint8)
            Image.fromarray(pixels).save(directory / label / f"{number}.png")


@pytest.mark.parametrize(
    ("name", "size", "features"),
    [
        pytest.param("alexnet", 63, "(1, 1, 256)", marks=pytest.mark.slow),
        pytest.param("vgg11_bn", 32, "(1, 1, 512)", marks=pytest.mark.slow),
        pytest.param("googlenet", 32, "(1, 1, 1024)", marks=pytest.mark.slow),
        pytest.param("inception_v3", 75, "(1, 1, 2048)", marks=pytest.mark.slow),
        pytest.param("densenet121", 32, "(1, 1, 1024)", marks=pytest.mark.slow),
        ("lenet5", 32, "(5, 5, 16)"),
    ],
)
def test_every_family_trains_a_head_on_cached_features(
    main, tmp_path, capsys, name, size, features
):
    save_photographs(tmp_path / "images", size)
    arguments = ["--config=cats_vs_dogs_vgg16", f"--model.name={name}"]
    arguments += ["--dataset.name=folder", "--dataset.path=images", f"--dataset.image_size={size}"]
    arguments += ["--dataset.batch_size=4", "--train.epochs=1"]

    # What a run of this project has learned is as good a source of weights as a file.
    whole = ["--transfer.weights=none", "--transfer.freeze=none"]
    assert main("train", "--workdir=first", *arguments, *whole) == 0
    capsys.readouterr()
    assert main("train", "--workdir=second", *arguments, "--transfer.weights=first") == 0
    assert f"features   train: 16 of {features}" in capsys.readouterr().out
    before, after = (run_weights.load(str(tmp_path / run), name) for run in ("first", "second"))
    assert before.preprocessing == after.preprocessing == "unit"
    same = {path for path, array in before.arrays.items() if (array == after.arrays[path]).all()}
    backbone = {path for path in before.arrays if path.startswith("backbone")}
    assert backbone <= same < set(before.arrays)
    assert main("evaluate", "--workdir=second") == 0


def test_transfer_from_a_resnet_through_the_feature_cache(keras, main, tmp_path, capsys):
    size = 32
    save(made(keras, "ResNet50", size), tmp_path / "w.h5")
    save_photographs(tmp_path / "images", size)
    arguments = ["--config=cats_vs_dogs_vgg16", "--model.name=resnet50"]
    arguments += ["--dataset.name=folder", "--dataset.path=images", f"--dataset.image_size={size}"]
    arguments += ["--dataset.batch_size=4", "--train.epochs=1", "--transfer.weights=w.h5"]

    assert main("train", "--workdir=refused", *arguments, "--model.bottleneck_stride=3x3") == 2
    assert "were trained with 1x1" in capsys.readouterr().err

    assert main("train", "--workdir=run", *arguments) == 0
    assert "features   train: 16 of (1, 1, 2048)" in capsys.readouterr().out
    about = json.loads((tmp_path / "run" / "weights.json").read_text())
    assert about["options"] == {"bottleneck_stride": "1x1"}
    assert about["preprocessing"] == "caffe"

    # What was frozen, statistics included, is what the file has, and goes on to the next run.
    weights = pretrained.load(str(tmp_path / "w.h5"), "resnet50")
    variables, _ = stored.load_variables(tmp_path / "run" / "checkpoints")
    for name, array in traverse_util.flatten_dict(variables, sep="/").items():
        path = name.partition("/")[2]
        if path.startswith("backbone"):
            np.testing.assert_array_equal(array, weights.arrays[path])
    again = run_weights.load(str(tmp_path / "run"), "resnet50")
    assert again.options == weights.options
    assert again.preprocessing == "caffe"
    backbone = {path for path in weights.arrays if path.startswith("backbone")}
    assert backbone <= again.arrays.keys()
