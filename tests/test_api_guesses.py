"""What a person tries first at the public door: it works, or one line says what to give."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import cnn_jax
from cnn_jax.errors import UsageError

door: Any = cnn_jax  # takes what a type checker would refuse


@pytest.fixture(scope="module")
def pair(digits) -> Any:
    return digits.train.images[:120], digits.train.labels[:120]


@pytest.fixture(scope="module")
def data(pair):
    return cnn_jax.from_arrays(*pair, test=0.2)


@pytest.fixture(scope="module")
def run(pair) -> Any:
    return door.train(*pair, model="mlp", epochs=np.int64(1), batch_size=np.array(32))


def test_images_and_labels_are_data(run):
    assert run.data_info.sizes == {"train": 108, "validation": 12}
    assert type(run.experiment.train.epochs) is int
    assert run.experiment.dataset.batch_size == 32


def test_one_image_a_list_and_a_split_are_predicted(run, data, pair):
    images = pair[0][:3]
    three = run.predict(images).probabilities
    for given in (list(images), images.tolist(), images[..., 0], jnp.asarray(images)):
        np.testing.assert_array_equal(run.predict(given).probabilities, three)
    for one in (images[0], images[0, ..., 0]):
        np.testing.assert_allclose(run.predict(one).probabilities, three[:1], rtol=1e-5)
    assert len(run.predict(data.validation)) == len(data.validation)


def test_images_and_labels_are_evaluated_in_every_form(run, data):
    test = data.test
    given = [(test,), (test.images, test.labels), ((test.images, test.labels),)]
    found = [run.evaluate(*each) for each in [*given, ([test.images, test.labels],)]]
    assert len({each.accuracy for each in found}) == 1
    low, high = found[0].interval
    assert 0 <= low <= found[0].accuracy <= high <= 1


def test_what_is_shown_is_short(run, data):
    found = run.evaluate("validation")
    assert repr(data) == (
        "<Data arrays: train 84, validation 12, test 24; uint8 8 x 8 x 1; 10 classes: "
        "0, 1, 2, 3, 4, ...>"
    )
    assert repr(data.test) == "<Split of 24 examples, uint8 8 x 8 x 1>"
    assert repr(found).startswith(f"<Evaluation: accuracy {found.accuracy:.4f} (")
    assert len(repr(run.predict(data.train))) < 80


def test_numbers_of_numpy_and_jax_are_numbers():
    numbers = {"train.epochs": np.int32(3), "optimizer.learning_rate": jnp.float32(0.5)}
    config = cnn_jax.Experiment().replace(
        {**numbers, "dataset.flip": np.bool_(True)}, seed=np.int8(3)
    )
    values = (config.train.epochs, config.optimizer.learning_rate, config.dataset.flip, config.seed)
    assert values == (3, 0.5, True, 3)
    assert [type(value) for value in values] == [int, float, bool, int]
    same = cnn_jax.Experiment(seed=3, train=cnn_jax.Train(epochs=3))
    assert (
        cnn_jax.Experiment(np.str_("experiment"), 3, train=door.Train(epochs=np.uint8(3))) == same
    )
    for wrong in (np.float32(3), np.array([3]), "3"):
        with pytest.raises(UsageError, match=r"train.epochs takes int"):
            config.replace({"train.epochs": wrong})


def test_batches_of_data_are_those_of_the_split_to_train_on(data):
    (one,) = [np.asarray(b.labels) for b in cnn_jax.batches(data, len(data.train), seed=None)]
    np.testing.assert_array_equal(one, data.train.labels)


def test_a_folder_of_images(tmp_path, places, monkeypatch):
    monkeypatch.setenv("CNN_JAX_CACHE", places["CNN_JAX_CACHE"])
    for name, value in (("dark", 30), ("light", 220)):
        (tmp_path / name).mkdir()
        for i in range(10):
            Image.new("RGB", (9 + i, 12), (value, value, i)).save(tmp_path / name / f"{i}.png")
    data = door.from_folder(tmp_path, image_size=8)
    assert data.info.class_names == ("dark", "light")
    assert data.info.image_shape == (8, 8, 3)
    same = cnn_jax.from_experiment(cnn_jax.Experiment(dataset=data.section))
    assert same.info.digest == data.info.digest
    with pytest.raises(UsageError, match=r"no setting 'dataset.on_eror'; did you mean .*on_error"):
        cnn_jax.from_folder(tmp_path, on_eror="skip")


WRONG = {
    "train": [
        (lambda run, data: door.train("digits_lenet"), r"not 'digits_lenet'"),
        (lambda run, data: door.train(data, [1], model="mlp"), "labels belong to images"),
        (lambda run, data: door.train(data, model="mlp", settings=["x"]), "dotted path: value"),
    ],
    "experiment": [
        (lambda run, data: door.Experiment(train=3), r"train is a cnn_jax.Train\(...\), not 3"),
        (lambda run, data: door.Experiment().replace(epochs=3), "did you mean train.epochs"),
        (lambda run, data: door.Experiment().replace([3]), "dotted path: value"),
        (lambda run, data: door.from_experiment("digits"), r"give cnn_jax.preset\(NAME\)"),
    ],
    "batches": [
        (lambda run, data: door.batches(data, 0), "batch_size and epochs are 1 or more"),
        (lambda run, data: door.batches(data, 8, epochs=0), "epochs are 1 or more"),
        (lambda run, data: door.batches(data, 8, start=-1), "start is 0 or more"),
        (lambda run, data: door.batches(data.train.images, 8), "such as data.train, not nd"),
    ],
    "evaluate": [
        (lambda run, data: run.evaluate(data), r"such as data.test.*not Data"),
        (lambda run, data: run.evaluate("tset"), "arrays has no split 'tset', only train, val"),
        (lambda run, data: run.evaluate(batch_size=0), "batch_size must be at least 1"),
        (lambda run, data: run.evaluate(views="two"), "views is one of one, mirror"),
    ],
    "predict": [
        (lambda run, data: run.predict(None), "an array or paths of files, not NoneType"),
        (lambda run, data: run.predict([]), "no images"),
        (lambda run, data: run.predict([[1], [2, 3]]), "several shapes"),
        (lambda run, data: run.predict(data.train.images / 255), "are float64|are float32"),
        (lambda run, data: run.features(data.train, 3), "no layer 3"),
    ],
    "paths": [
        (lambda run, data: door.train(data, model="mlp", workdir=3), "a path, not 3"),
        (lambda run, data: door.load(3), "a path, not 3"),
        (lambda run, data: door.preset(3), "a name or a path, not 3"),
        (lambda run, data: door.from_folder(3), "dataset.path takes str, not 3"),
    ],
    "others": [
        (
            lambda run, data: door.create(data, model="mlp")[1].evaluate(None, data),
            r"give a Split such as data.validation, not Data",
        ),
        (lambda run, data: door.create_model("mlp", 0), "num_outputs must be at least 1"),
        (lambda run, data: door.read_images([], 8), "0 paths"),
        (lambda run, data: door.read_images("a.png", 8, channels=2), "channels 3 or 1"),
        (lambda run, data: door.register_loss("own", 3), "register a function as the loss"),
        (lambda run, data: door.register_model("", lambda n: n), "name of a model is a text"),
        (lambda run, data: door.register_dataset("digits", print), "already a data set"),
    ],
}


@pytest.mark.parametrize("where", WRONG)
def test_a_wrong_guess_is_answered_in_a_line(run, data, where):
    for call, said in WRONG[where]:
        with pytest.raises(UsageError, match=said) as caught:
            call(run, data)
        assert "\n" not in str(caught.value)
        assert "--" not in str(caught.value)
