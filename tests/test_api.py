"""The public door: training, loading and using networks as values, with a user's own parts."""

import contextlib
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cnn_jax
from cnn_jax import data as data_sets
from cnn_jax import experiment, models, trees
from cnn_jax.data import Split
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.training import arguments
from tests.tiny import ENTRY

SETTINGS = {"logging.projector_images": 0, "logging.figures_every": None}


class Own(nn.Module):
    """A convolution, batch normalisation, dropout, and a count in a collection of its own."""

    classes: int = 10

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.relu(nn.Conv(8, (3, 3), strides=2)(x))
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(0.2, deterministic=not train)(x)
        calls = self.variable("calls", "training", lambda: jnp.zeros((), jnp.int32))
        if train:
            calls.value += 1
        return nn.Dense(self.classes)(x.reshape(x.shape[0], -1))


class Hard(nn.Module):
    """Batch normalisation, dropout or noise as in training, whatever it is told."""

    layer: str

    @nn.compact
    def __call__(self, x, train: bool = False):
        if self.layer == "normalization":
            x = nn.BatchNorm(use_running_average=False)(x)
        elif self.layer == "dropout":
            x = nn.Dropout(0.5, deterministic=False)(x)
        elif train:
            x = x + jax.random.normal(self.make_rng("noise"), x.shape)
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


def focal(logits, labels):
    p = jnp.take_along_axis(jax.nn.softmax(logits), labels[:, None], axis=1)[:, 0]
    return -((1 - p) ** 2) * jnp.log(p + 1e-7)


@pytest.fixture(scope="module")
def arrays(digits):
    train, test = digits.splits["train"], digits.splits["test"]
    return cnn_jax.from_arrays(
        train.images, train.labels, validation=0.2, test=(test.images, test.labels)
    )


@pytest.fixture(scope="module")
def own(arrays):
    return cnn_jax.train(
        arrays, model=Own(), loss=focal, optimizer=optax.lion(3e-3), epochs=3, batch_size=16
    )


def test_importing_the_package_imports_no_jax():
    code = "import sys, cnn_jax; print('jax' in sys.modules, sorted(cnn_jax.__all__)[:2])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("False")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cnn_jax.nothing  # noqa: B018
    assert {getattr(cnn_jax, name) is not None for name in cnn_jax.__all__} == {True}


def test_training_writes_nothing_and_prints_nothing(arrays, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    run = cnn_jax.train(arrays, model="mlp", epochs=2, batch_size=32)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
    assert run.directory is None
    assert [record["epoch"] for record in run.history] == [1, 2]
    assert run.history[-1]["validation_accuracy"] > 0.5


def test_progress_shows_how_it_goes_on(arrays, capfd):
    cnn_jax.train(arrays, model="mlp", epochs=1, batch_size=32, progress=True)
    assert "epoch 1/1" in capfd.readouterr().err


def test_a_users_own_network_loss_and_optimizer(own, arrays):
    assert own.history[-1]["validation_accuracy"] > 0.5
    assert [record["learning_rate"] for record in own.history] == [None] * 3
    assert isinstance(own.model, Own)
    images = arrays.test.images
    # The variables are those of the user's module, as it is.
    logits: Any = own.model.apply(own.variables, own.preprocess(images[:5]))
    np.testing.assert_allclose(logits, own.logits(images[:5]), atol=1e-5)
    assert set(own.variables) == {"params", "batch_stats", "calls"}
    assert int(own.variables["calls"]["training"]) == own.step
    found = own.evaluate("test")
    assert found.examples == 360
    predictions = own.predict(images)
    assert np.mean(predictions.labels == arrays.test.labels) == pytest.approx(found.accuracy)
    assert predictions.classes[0] == own.class_names[predictions.labels[0]]
    assert predictions.top(2)[0][0][1] >= predictions.top(2)[0][1][1]
    assert own.features(images[:3], "Conv_0").shape == (3, 4, 4, 8)
    floats = Split(images / np.float32(255), arrays.test.labels, arrays.test.ids)
    with pytest.raises(cnn_jax.UsageError, match=r"images are float32 .* takes uint8"):
        own.evaluate(floats)
    with pytest.raises(cnn_jax.UsageError, match=r"no layer 'Conv_9'; did you mean Conv_0"):
        own.features(images[:3], "Conv_9")
    with pytest.raises(cnn_jax.UsageError, match="views is one of one, mirror, mirror_trans"):
        own.evaluate("test", views="x")


def test_the_loss_is_the_one_that_was_given(own, arrays):
    p = own.predict(arrays.test.images).probabilities
    right = p[np.arange(len(p)), arrays.test.labels]
    mean = float(np.mean(-((1 - right) ** 2) * np.log(right + 1e-7)))
    assert own.evaluate("test").loss == pytest.approx(mean, rel=1e-3)


def test_the_best_epoch_is_kept(arrays):
    run = cnn_jax.train(
        arrays, model="mlp", epochs=4, batch_size=32, optimizer="sgd", learning_rate=0.3
    )
    best = max(run.history, key=lambda r: r["validation_accuracy"])
    assert run.step == best["step"]
    assert run.evaluate("validation").accuracy == pytest.approx(best["validation_accuracy"])


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        x = x.reshape(x.shape[0], -1)
        return nn.Dense(10)(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))


def test_averaged_statistics_are_saved_and_go_on(arrays, tmp_path):
    def train(name, epochs):
        settings = {**SETTINGS, "optimizer.ema_decay": 0.9, "dataset.batch_size": 64}
        workdir = tmp_path / name
        return cnn_jax.train(
            arrays, model=Normalized(), epochs=epochs, settings=settings, workdir=workdir
        )

    train("stopped", 1)
    stopped, whole = train("stopped", 2), train("whole", 2)
    assert without_seconds(stopped.history) == without_seconds(whole.history)
    run = cnn_jax.load(tmp_path / "stopped", "last", model=Normalized())
    validation = (arrays.validation.images, arrays.validation.labels)
    assert run.evaluate(validation).loss == pytest.approx(run.history[-1]["validation_loss"])


def test_with_a_workdir_it_is_what_the_command_line_does(main, tmp_path, digits):
    flags = ("--model.name=mlp", "--train.epochs=2", "--dataset.train_examples=316", "--quiet")
    assert main("train", "--workdir=cli", "--logging.projector_images=0", *flags) == 0
    changes = {"model.name": "mlp", "train.epochs": 2, "dataset.train_examples": 316}
    config = cnn_jax.preset("digits_lenet").replace({**changes, "logging.projector_images": 0})
    run = cnn_jax.train(config, workdir=tmp_path / "api")

    def digest(name):
        newest = max((tmp_path / name / "checkpoints").glob("[0-9]*"), key=lambda p: int(p.name))
        return json.loads((newest / "meta" / "metadata").read_text())["sha256"]

    assert digest("cli") == digest("api")
    loaded = cnn_jax.load("cli")
    assert loaded.step == run.step
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, run.variables)
    images = digits.splits["test"].images
    big = np.repeat(np.repeat(images, 4, 1), 4, 2) if run.data_info.image_shape[0] == 32 else images
    np.testing.assert_array_equal(loaded.logits(big[:70]), run.logits(big[:70]))
    # The same call goes on, and a finished run is only loaded.
    again = cnn_jax.train(config, workdir="cli")
    assert without_seconds(again.history) == without_seconds(run.history)
    more = cnn_jax.train(config.replace({"train.epochs": 3}), workdir="cli")
    assert len(more.history) == 3


def without_seconds(history):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


def test_a_run_of_values_is_loaded_with_them_alone(arrays, tmp_path, main, capsys):
    given = {"model": Own(), "loss": focal}
    run = cnn_jax.train(
        arrays, epochs=1, batch_size=32, workdir=tmp_path / "run", settings=SETTINGS, **given
    )
    code = RunDirectory(tmp_path / "run").read("code")
    assert code["model"]["name"] == "Own"
    assert code["model"]["file"] == __file__
    with pytest.raises(cnn_jax.UsageError, match=r"trained on a model of your own, Own of .*give"):
        cnn_jax.load(tmp_path / "run")
    loaded = cnn_jax.load(tmp_path / "run", **given)
    test = (arrays.test.images, arrays.test.labels)
    assert loaded.evaluate(test).accuracy == run.evaluate("test").accuracy
    with pytest.raises(cnn_jax.UsageError, match="arrays given in Python"):
        loaded.evaluate("test")
    assert main("evaluate", f"--workdir={tmp_path / 'run'}") == 2
    assert "cnn_jax.load(DIR, model=...)" in capsys.readouterr().err
    more = cnn_jax.train(
        arrays, epochs=2, batch_size=32, workdir=tmp_path / "run", settings=SETTINGS, **given
    )
    assert len(more.history) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": Own}, "made: MyNet"),
        ({"model": "resnet2"}, "resnet20"),
        ({"model": "mlp", "loss": "crossentropy"}, r"train.loss=crossentropy; did you mean cross"),
        ({"model": "mlp", "loss": lambda logits, labels: logits.mean()}, r"one value for each"),
        ({"model": Own(classes=3)}, r"returns \(2, 3\) for two images"),
        ({"model": "mlp", "optimizer": 3}, "optax.GradientTransformation"),
        ({"model": "mlp", "optimizer": "lion"}, "optimizer.name is one of adam"),
        ({"model": "mlp", "optimizer": "own"}, "given in Python"),
        ({"model": "mlp", "epochs": 0}, "train.epochs must be at least 1"),
        ({"model": "mlp", "settings": {"train.epoch": 1}}, "did you mean train.epochs"),
        ({}, "needs a model beside data"),
        ({"model": Hard("normalization")}, r"Hard changes its variables .*running_average=not tra"),
        ({"model": Hard("dropout")}, r"Hard draws random numbers .*deterministic=not train"),
        ({"model": Hard("noise")}, r"Hard draws random numbers .*noise.*the key 'dropout'"),
        (
            {"model": "mlp", "optimizer": optax.sgd(1.0), "learning_rate": 1.0},
            "no effect on an optimizer of your own",
        ),
        ({"model": Own(), "settings": {"transfer.weights": "imagenet"}}, "for a registered model"),
    ],
)
def test_what_does_not_fit_is_said_in_settings(arrays, given, said):
    with pytest.raises(cnn_jax.UsageError, match=said) as caught:
        cnn_jax.train(arrays, **given)
    assert "--" not in str(caught.value)


def test_every_augmentation_holds_for_images_that_are_loaded_already(arrays):
    config = experiment.Experiment()
    found = {}
    for field in dataclasses.fields(config.dataset):
        for value in (True, 1, 0.5):
            with contextlib.suppress(cnn_jax.UsageError):
                changed = dataclasses.replace(config.dataset, **{field.name: value})
                asked = dataclasses.replace(config, dataset=changed)
                found |= {field.name: asked} if changed.augments else {}
    assert {"flip", "cutout", "zoom", "random_crop", "trivial_augment", "mixup"} <= set(found)
    for name, asked in found.items():
        arguments.check_effects({f"dataset.{name}": 1}, arrays, None, None, None)
        kept = arguments.name_values(asked, arrays, None, None, None)
        assert getattr(kept.dataset, name) == getattr(asked.dataset, name)


def test_a_directory_that_is_no_run_or_damaged_is_named(tmp_path):
    with pytest.raises(cnn_jax.UsageError, match="is not a run directory"):
        cnn_jax.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(cnn_jax.RunError, match="does not hold JSON"):
        cnn_jax.load(tmp_path)


def test_a_loop_of_ones_own_is_the_loop(arrays):
    run = cnn_jax.train(arrays, model="mlp", epochs=2, batch_size=32, seed=5)
    state, step = cnn_jax.create(arrays, model="mlp", epochs=2, batch_size=32, seed=5)
    for batch in cnn_jax.batches(arrays.train, 32, seed=5, epochs=2):
        assert batch.images.shape == (32, 8, 8, 1)
        state = step(state, batch)
    found = step.evaluate(state, arrays.validation)
    assert found.accuracy == pytest.approx(run.history[-1]["validation_accuracy"])
    assert found.loss == pytest.approx(run.history[-1]["validation_loss"], rel=1e-5)
    assert step.flops == pytest.approx(3 * step.forward_flops, rel=0.2)


def test_the_pure_step_maps_over_learning_rates(arrays):
    with cnn_jax.cpu.using("xla"):
        state, step = cnn_jax.create(arrays, model="mlp", batch_size=32)
        rates = jnp.array([0.0, 1e-3])
        hyper = step.hyperparameters._replace(learning_rate=rates)
        axes = jax.tree.map(lambda _: None, hyper)._replace(learning_rate=0)
        states = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), state)
        batch = next(iter(cnn_jax.batches(arrays.train, 32)))
        after = jax.jit(jax.vmap(step.pure, in_axes=(0, None, axes)))(states, batch, hyper)
    for before, new in zip(
        jax.tree.leaves(state.params), jax.tree.leaves(after.params), strict=True
    ):
        np.testing.assert_array_equal(new[0], before)
        assert not np.array_equal(new[1], before)


def test_features_of_a_registered_network(arrays, monkeypatch):
    monkeypatch.setitem(models.REGISTRY, "tiny", ENTRY)
    shape = {"dataset.normalize": "standardize"}
    large = arrays.train.images[:100].repeat(4, axis=1).repeat(4, axis=2)
    given = cnn_jax.from_arrays(large, arrays.train.labels[:100])
    run = cnn_jax.train(given, model="tiny", epochs=1, batch_size=64, settings=shape)
    images = large[:2]
    stages = run.model.stage_names
    last = run.features(images)
    np.testing.assert_array_equal(last, run.features(images, stages[-1]))
    assert run.features(images, stages[0]).shape[:3] == (2, 16, 16)
    kernels = [p for p in trees.flatten(run.variables["params"]) if p.endswith("conv1/kernel")]
    layer = kernels[0].removesuffix("/kernel")
    assert run.features(images, layer).ndim == 4


def test_float_arrays_are_taken_as_they_are(digits, tmp_path):
    train = digits.splits["train"]
    images = (train.images / 127.5 - 1).astype(np.float64)
    data = cnn_jax.from_arrays(images, train.labels)
    run = cnn_jax.train(data, model="mlp", epochs=2, batch_size=32)
    assert run.history[-1]["validation_accuracy"] > 0.5
    single = images[:2].astype(np.float32)
    np.testing.assert_array_equal(run.preprocess(single), single)
    files = cnn_jax.train(data, model="mlp", epochs=1, batch_size=64, workdir=tmp_path / "run")
    assert (tmp_path / "run" / "figures" / "data_images.png").exists()
    loaded = cnn_jax.load(tmp_path / "run")
    assert loaded.data_info.dtype == "float32"
    np.testing.assert_array_equal(loaded.logits(single), files.logits(single))
    with pytest.raises(cnn_jax.UsageError, match="float32"):
        run.predict(train.images)
    with pytest.raises(cnn_jax.UsageError, match=r"normalize=torch scales pixels"):
        cnn_jax.train(data, model="mlp", settings={"dataset.normalize": "torch"})


PRESET = Path(__file__).resolve().parent.parent / "examples" / "my_preset.py"


@pytest.mark.skipif(not PRESET.is_file(), reason="no examples here")
def test_the_preset_file_among_the_examples(main, tmp_path, capsys):
    """Everything else that such a file serves is tested with the command line."""
    small = ("--train.epochs=1", "--logging.projector_images=0", "--logging.figures_every=none")
    assert main("train", f"--config={PRESET}", "--workdir=mine", *small) == 0
    code = json.loads((tmp_path / "mine" / "code.json").read_text())
    assert code["model"]["file"] == str(PRESET)
    assert main("evaluate", f"--code={PRESET}", "--workdir=mine") == 0
    assert "test accuracy" in capsys.readouterr().out


def test_code_found_in_a_run_directory_is_not_run(tmp_path, main, caplog):
    """Nothing that stands in code.json is opened as Python."""
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    small = ("--train.epochs=1", "--model.name=mlp", "--dataset.train_examples=100", "--quiet")
    assert main("train", "--workdir=run", *small, "--logging.projector_images=0") == 0
    entry = {"name": "trapped", "file": str(trap), "sha256": None, "given": False}
    (tmp_path / "run" / "code.json").write_text(json.dumps({"model": entry}))
    assert main("evaluate", "--workdir=run") == 0
    assert "code.json is not of this run" in caplog.text
    assert not (tmp_path / "sprung").exists()


def test_registered_losses_have_names_for_flags(arrays):
    cnn_jax.register_loss("focal_of_tests", focal)
    cnn_jax.register_loss("focal_of_tests", focal)  # the same one, once more
    with pytest.raises(cnn_jax.UsageError, match="already"):
        cnn_jax.register_loss("focal_of_tests", lambda logits, labels: logits[:, 0])
    with pytest.raises(cnn_jax.UsageError, match="already"):
        cnn_jax.register_loss("cross_entropy", focal)
    run = cnn_jax.train(arrays, model="mlp", loss="focal_of_tests", epochs=1, batch_size=64)
    assert run.experiment.train.loss == "focal_of_tests"


def test_a_model_by_name_has_no_parameters_yet():
    model = cnn_jax.create_model("mlp", 7)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    assert model.apply(variables, jnp.zeros((2, 8, 8, 1))).shape == (2, 7)


def test_files_are_read_as_data_sets_are(tmp_path):
    from PIL import Image

    for i in range(3):
        Image.fromarray(np.full((20, 10, 3), 50 * i, np.uint8)).save(tmp_path / f"{i}.png")
    images = cnn_jax.read_images([tmp_path / f"{i}.png" for i in range(3)], 8)
    assert images.shape == (3, 8, 8, 3)
    assert images.dtype == np.uint8
    assert images[2].max() == 100


def test_data_of_an_experiment(places, digits, monkeypatch):
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    section = cnn_jax.preset("digits_lenet").replace({"dataset.image_size": None}).dataset
    data = cnn_jax.from_experiment(section)
    assert data.section == section
    assert data.info.digest == data_sets.load(section).info.digest
    assert len(data.test) == 360
