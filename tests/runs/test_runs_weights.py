"""Weights of a run directory."""

import dataclasses
import json

import numpy as np
import pytest

from cnn_jax import experiment
from cnn_jax.errors import RunError, UsageError
from cnn_jax.runs import stored, weights
from tests.tiny import data_json


@pytest.fixture
def run(tmp_path, monkeypatch):
    config = experiment.replace(
        experiment.Experiment(), {"model.name": "lenet5", "dataset.normalize": "symmetric"}
    )
    (tmp_path / "config.json").write_text(experiment.to_json(config))
    params = {
        "backbone": {"conv1": {"kernel": np.ones((5, 5, 1, 6), "f4")}},
        "head": {"logits": {"kernel": np.ones((84, 10), "f4"), "bias": np.ones(10, "f4")}},
    }
    stats = {"backbone": {"bn": {"mean": np.ones(6, "f4")}}}
    checkpoint = {"params": params, "batch_stats": stats}, 7
    monkeypatch.setattr(stored, "load_variables", lambda *_: checkpoint)
    (tmp_path / "data.json").write_text(json.dumps(data_json()))
    return tmp_path


def test_a_run_directory_gives_its_parameters_and_scaling(run):
    found = weights.load(str(run), "lenet5")
    assert set(found.arrays) == {
        "backbone/conv1/kernel",
        "backbone/bn/mean",
        "head/logits/kernel",
        "head/logits/bias",
    }
    assert found.preprocessing == "symmetric"
    assert found.classes == 10
    assert found.sha256 == weights.load(str(run), "lenet5").sha256


def test_scaling_by_a_runs_own_data_is_no_known_preprocessing(run):
    config = experiment.from_dict(json.loads((run / "config.json").read_text()))
    changed = experiment.replace(config, {"dataset.normalize": "standardize"})
    (run / "config.json").write_text(experiment.to_json(changed))
    found = weights.load(str(run), "lenet5")
    assert found.preprocessing is None
    assert "standardize" in found.preprocessing_reason


def test_nobody_knows_the_scaling_of_float_images(run, digits):
    info = dataclasses.replace(digits.info, dtype="float32")
    (run / "data.json").write_text(json.dumps(info.to_dict()))
    for normalize in ("auto", "none"):
        config = experiment.from_dict(json.loads((run / "config.json").read_text()))
        changed = experiment.replace(config, {"dataset.normalize": normalize})
        (run / "config.json").write_text(experiment.to_json(changed))
        assert weights.load(str(run), "lenet5").preprocessing is None


@pytest.mark.parametrize(
    ("flag", "about", "expected"),
    [
        (None, None, "3x3"),
        ("1x1", None, "1x1"),
        (None, {"preprocessing": "caffe", "options": {"bottleneck_stride": "1x1"}}, "1x1"),
    ],
)
def test_a_run_passes_on_what_its_weights_need(run, flag, about, expected):
    changes = {"model.name": "resnet50", "model.bottleneck_stride": flag}
    if about:
        changes["transfer.weights"] = "imagenet"
    config = experiment.replace(experiment.Experiment(), changes)
    (run / "config.json").write_text(experiment.to_json(config))
    if about:
        (run / "weights.json").write_text(json.dumps(about))
    found = weights.load(str(run), "resnet50")
    assert found.options == {"bottleneck_stride": expected}
    assert found.preprocessing == ("caffe" if about else "unit")


def test_runs_of_another_model_and_other_directories_are_refused(run, tmp_path):
    with pytest.raises(UsageError, match=r"model\.name=lenet5, not vgg16"):
        weights.load(str(run), "vgg16")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="not a run directory"):
        weights.load(str(tmp_path / "empty"), "lenet5")
    (run / "config.json").write_text("{")
    with pytest.raises(RunError, match=r"config\.json does not hold JSON, and no checkpoint"):
        weights.load(str(run), "lenet5")


@pytest.mark.parametrize("content", [None, "", "null", '{"dtype": "float32"}'])
def test_what_says_how_images_are_stored_is_never_guessed(content, run):
    data = run / "data.json"
    data.unlink() if content is None else data.write_text(content)
    with pytest.raises(RunError, match=r"data\.json, which says what images .* damaged or not"):
        weights.load(str(run), "lenet5")


@pytest.mark.parametrize("content", [None, "", "[]"])
def test_what_says_how_images_are_scaled_is_never_guessed(content, run):
    config = experiment.replace(
        experiment.Experiment(), {"model.name": "lenet5", "transfer.weights": "imagenet"}
    )
    (run / "config.json").write_text(experiment.to_json(config))
    if content is not None:
        (run / "weights.json").write_text(content)
    with pytest.raises(RunError, match=r"weights\.json, which says how the images are scaled"):
        weights.load(str(run), "lenet5")
