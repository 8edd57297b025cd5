"""The relative paths of a run also hold in another working directory, and data may move."""

import json

import numpy as np
import pytest
from PIL import Image

from cnn_jax import experiment
from cnn_jax.errors import UsageError
from cnn_jax.runs import changes
from cnn_jax.runs.directory import RunDirectory

SETTINGS = (
    "--dataset.name=folder",
    "--dataset.path=photos",
    "--dataset.batch_size=8",
    "--model.name=mlp",
    "--train.epochs=1",
    "--logging.projector_images=0",
    "--logging.figures_every=none",
)


def test_a_run_goes_on_and_is_evaluated_from_elsewhere(main, tmp_path, capsys, monkeypatch):
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            pixels = generator.integers(256, size=(4, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    assert main("train", "--workdir=run", *SETTINGS) == 0
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["dataset"]["path"] == str(tmp_path / "photos")
    # As runs were stored before.
    stored["dataset"]["path"] = "photos"
    (tmp_path / "run" / "config.json").write_text(json.dumps(stored))
    assert main("train", "--workdir=run", *SETTINGS, "--train.epochs=2") == 0

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main("evaluate", "--workdir=../run") == 0
    (tmp_path / "photos").rename(tmp_path / "moved")
    capsys.readouterr()
    for command in (["evaluate"], ["train", "--train.epochs=4"]):
        assert main(*command, "--workdir=../run") == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"--dataset.path={tmp_path}/photos does not exist" in line
        assert "say where to: --dataset.path=DIR" in line
    assert main("train", "--workdir=../run", "--train.epochs=4", "--dataset.path=../moved") == 0
    stored = json.loads((tmp_path / "run" / "config.json").read_text())
    assert stored["dataset"]["path"] == f"{tmp_path}/elsewhere/../moved"


def test_weights_by_another_name_of_their_path_are_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    before = experiment.replace(experiment.Experiment(), {"transfer.weights": "w.h5"})
    directory.write("config", experiment.to_dict(before))
    now = experiment.with_absolute_paths(before)
    assert now.transfer.weights == f"{tmp_path}/w.h5"
    changes.check_unchanged(directory, now)
    with pytest.raises(UsageError, match="another configuration"):
        changes.check_unchanged(
            directory, experiment.replace(now, {"transfer.weights": "other/w.h5"})
        )


def test_a_run_chosen_by_one_kappa_does_not_go_on_with_the_other(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    for select in ("accuracy", "kappa"):
        before = experiment.replace(experiment.Experiment(), {"train.select": select})
        directory.write("config", experiment.to_dict(before))
        graded = experiment.replace(before, {"dataset.ordered": True})
        changes.check_unchanged(directory, graded, trains=False)
        if select == "accuracy":
            changes.check_unchanged(directory, graded)
    with pytest.raises(UsageError, match=r"dataset.ordered was False and is now True"):
        changes.check_unchanged(directory, graded)


def test_the_command_of_a_run_from_before_a_setting_goes_on_with_it(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    now = experiment.Experiment()
    stored = experiment.to_dict(now)
    del stored["dataset"]["bit_depth"]
    directory.write("config", stored)
    assert now.dataset.bit_depth == "auto"
    assert changes.check_unchanged(directory, now).dataset.bit_depth == "16"
    other = experiment.replace(now, {"dataset.bit_depth": "12"})
    with pytest.raises(UsageError, match=r"dataset.bit_depth was 16 and is now 12"):
        changes.check_unchanged(directory, other)


def test_names_that_are_no_paths_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()
    base = experiment.Experiment()
    named = experiment.replace(base, {"transfer.weights": "imagenet"})
    assert experiment.with_absolute_paths(named) == named
    assert experiment.with_absolute_paths(base) == base
