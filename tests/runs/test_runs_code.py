"""A run of a user's own code is loaded with that code, and with no other."""

import dataclasses
import importlib.util
import json
import logging
import sys

import flax.linen as nn
import numpy as np
import optax
import pytest

import cnn_jax
from cnn_jax import losses, models
from cnn_jax.runs.directory import RunDirectory

SETTINGS = {"logging.projector_images": 0, "logging.figures_every": None}

FILE = """
import cnn_jax
import flax.linen as nn

class Net(nn.Module):
    units: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense({units})(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.units)(x)

@cnn_jax.register_model("of_a_file")
def build(num_outputs):
    return Net(num_outputs)
"""


class Mine(nn.Module):
    units: int = 8

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Dense(self.units)(x.reshape(x.shape[0], -1))))


class Other(Mine):
    """The same parameters under another name."""


def absolute(logits, labels):
    return abs(losses.cross_entropy(logits, labels))


@pytest.fixture(scope="module")
def arrays(digits):
    train = digits.splits["train"]
    return cnn_jax.from_arrays(train.images[:64], train.labels[:64], validation=0.25)


def train(arrays, workdir, **arguments):
    given = {"epochs": 1, "batch_size": 16, "settings": SETTINGS, **arguments}
    return cnn_jax.train(arrays, workdir=workdir, **given)


def register(tmp_path, units, name="mine.py", more=""):
    """Runs a file of a user's, as the flag --code does."""
    path = tmp_path / name
    path.write_text(FILE.format(units=units) + more)
    models.REGISTRY.pop("of_a_file", None)
    spec = importlib.util.spec_from_file_location("of_a_user", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["of_a_user"] = module
    spec.loader.exec_module(module)


@pytest.fixture
def registered(monkeypatch, tmp_path):
    monkeypatch.setitem(models.REGISTRY, "of_a_file", None)
    del models.REGISTRY["of_a_file"]
    monkeypatch.setitem(sys.modules, "of_a_user", None)
    register(tmp_path, 8)


@pytest.mark.usefixtures("registered")
def test_another_file_that_registers_the_name_is_noticed(arrays, tmp_path, caplog):
    run = train(arrays, tmp_path / "run", model="of_a_file")
    images = arrays.validation.images
    with caplog.at_level(logging.WARNING):
        register(tmp_path, 8, "moved.py")  # the same file somewhere else
        found = cnn_jax.load(tmp_path / "run").logits(images)
        assert not caplog.messages
        np.testing.assert_array_equal(found, run.logits(images))
        register(tmp_path, 8, "edited.py", "print")
        cnn_jax.load(tmp_path / "run")
        assert "edited.py, which defines the model of_a_file, is not as it was" in caplog.text
    register(tmp_path, 9, "wider.py")
    with pytest.raises(
        cnn_jax.UsageError, match=r"parameter Dense_0/bias was \[8\] and is now \[9\]"
    ):
        cnn_jax.load(tmp_path / "run")
    with pytest.raises(cnn_jax.UsageError, match=r"trained with another model: .*Dense_0"):
        train(arrays, tmp_path / "run", model="of_a_file", epochs=2)
    (tmp_path / "run" / "code.json").unlink()  # as in a run of before it was written
    for path in (tmp_path / "run" / "checkpoints").glob("*/meta/metadata"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "code": None}))
    with pytest.raises(cnn_jax.UsageError, match=r"trained with another model: params/Dense_0"):
        cnn_jax.load(tmp_path / "run").predict(images)


def test_what_is_given_to_load_is_what_the_run_had(arrays, tmp_path):
    train(arrays, tmp_path / "named", model="mlp")
    with pytest.raises(cnn_jax.UsageError, match="a model of cnn_jax, by name; leave model= out"):
        cnn_jax.load(tmp_path / "named", model=Mine())
    with pytest.raises(cnn_jax.UsageError, match="a loss of cnn_jax, by name; leave loss= out"):
        cnn_jax.load(tmp_path / "named", loss=absolute)
    given = {"model": Mine(), "loss": absolute}
    train(arrays, tmp_path / "own", **given)
    for wrong, said in [
        ({"model": Other()}, "the model Mine, and Other was given; give Mine"),
        ({"model": Mine(9)}, r"parameter Dense_0/kernel was \[8, 10\] and is now \[9, 10\]"),
        ({"loss": losses.cross_entropy}, "the loss absolute, and cross_entropy was given"),
        ({"model": "mlp"}, "the model Mine, and str was given"),
    ]:
        with pytest.raises(cnn_jax.UsageError, match=said):
            cnn_jax.load(tmp_path / "own", **{**given, **wrong})
    assert cnn_jax.load(tmp_path / "own", **given).predict(arrays.validation.images)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (optax.adam(1e-3), optax.sgd(0.1)),  # has no state: that of Adam would be dropped
        (optax.sgd(0.1), optax.adam(1e-3)),
        (optax.sgd(0.1, momentum=0.9), optax.adam(1e-3)),
    ],
)
def test_a_run_goes_on_with_its_own_optimizer_alone(arrays, tmp_path, first, second):
    train(arrays, tmp_path, model=Mine(), optimizer=first)
    before = RunDirectory(tmp_path).read("history")
    with pytest.raises(cnn_jax.UsageError, match="trained with another optimizer: opt_state/"):
        train(arrays, tmp_path, model=Mine(), optimizer=second, epochs=2)
    assert RunDirectory(tmp_path).read("history") == before
    assert not (tmp_path / "checkpoints" / "damaged").exists()
    assert len(train(arrays, tmp_path, model=Mine(), optimizer=first, epochs=2).history) == 2


def test_a_classifier_that_is_given_has_an_output_for_each_class(arrays):
    with pytest.raises(cnn_jax.UsageError, match=r"returns \(2, 20\) for two images; .*\(2, 10\)"):
        train(arrays, None, model=cnn_jax.create_model("mlp", 20))


@pytest.mark.parametrize(
    ("loss", "outputs", "said"),
    [
        ("cross_entropy", 1, r"logits of shape \(2, 2\), one for each class"),
        ("binary_cross_entropy", 2, r"logits of shape \(2, 1\), one for each image"),
    ],
)
def test_the_outputs_of_two_classes_are_those_of_the_loss(loss, outputs, said):
    images = np.zeros((20, 4, 4, 1), np.uint8)
    data = cnn_jax.from_arrays(images, np.arange(20) % 2, validation=0.2)
    with pytest.raises(cnn_jax.UsageError, match=said):
        train(data, None, model=cnn_jax.create_model("mlp", outputs), loss=loss)


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        ({"model": "mlp", "settings": {"dataset.image_size": 32}}, "dataset.image_size"),
        ({"model": "mlp", "settings": {"dataset.test_fraction": 0.2}}, "dataset.test_fraction"),
        ({"model": Mine(), "settings": {"model.head": "pooled"}}, "model.head"),
        (
            {"model": Mine(), "optimizer": optax.sgd(0.1), "learning_rate": 1.0},
            "optimizer.learning_rate",
        ),
        (
            {"model": "mlp", "loss": absolute, "settings": {"train.label_smoothing": 0.1}},
            "train.label_smoothing",
        ),
    ],
)
def test_a_setting_that_would_be_dropped_is_refused(arrays, arguments, setting):
    with pytest.raises(cnn_jax.UsageError, match=f"^{setting} has no effect on"):
        train(arrays, None, **arguments)


def test_too_small_arrays_are_not_told_of_a_setting(arrays):
    with pytest.raises(cnn_jax.UsageError, match=r"at least .*enlarge the arrays$"):
        train(arrays, None, model="alexnet")


def test_data_of_a_section_are_what_the_configuration_says(digits):
    data = dataclasses.replace(digits, section=cnn_jax.preset("digits_lenet").dataset)
    from cnn_jax.training import arguments

    found = arguments.name_values(cnn_jax.preset("cifar10_cnn"), data, None, None, None).dataset
    assert (found.name, found.batch_size) == (
        "digits",
        cnn_jax.preset("cifar10_cnn").dataset.batch_size,
    )
