"""Paths that can be none on this machine are one line, wherever they are named."""

import json
import os
import shutil
import sys

import pytest

from cnn_jax import places, runtime, text
from cnn_jax.cli import console, flags
from cnn_jax.errors import UsageError
from cnn_jax.runs import code, weights
from cnn_jax.runs.directory import RunDirectory

WRONG = [
    ("gs://bucket/run", "only folders and files of this machine"),
    ("s3://bucket/run", "only folders and files of this machine"),
    ("hf://datasets/a/b", "only folders and files of this machine"),
    ("file:///tmp/run", "only folders and files of this machine"),
    ("~nosuch_user/run", "nobody knows that home directory"),
    ("loop/run", "symbolic links"),
    ("a\0b", "null"),
    ("x" * 300, "too long"),
]
FLAGS = [
    ("train", "workdir"),
    ("evaluate", "workdir"),
    ("train", "config"),
    ("train", "dataset.path"),
    ("train", "dataset.data_dir"),
    ("train", "transfer.weights"),
]


@pytest.fixture
def loop(tmp_path, monkeypatch):
    """A symbolic link to itself in the current folder."""
    monkeypatch.chdir(tmp_path)
    os.symlink("loop", "loop")


@pytest.mark.parametrize(("path", "message"), WRONG)
@pytest.mark.usefixtures("loop")
def test_a_path_that_can_be_none_here_is_refused_before_anything_is_written(
    path, message, tmp_path, monkeypatch
):
    for command, name in FLAGS:
        if name == "transfer.weights" and path.startswith(places.HUB):
            continue  # weights come from there
        with pytest.raises(UsageError, match=f"(?i){message}") as error:
            flags.parse([command, f"--{name}={path}"])
        assert f"--{name}=" in error.value.for_command_line
    for command in ("compare", "report", "predict"):
        with pytest.raises(UsageError, match=f"(?i){message}"):
            flags.parse([command, path])
    if "\0" not in path:
        monkeypatch.setenv("CNN_JAX_CACHE", path)
        with pytest.raises(UsageError, match=f"(?i)CNN_JAX_CACHE=.*{message}"):
            runtime.cache_dir()
    assert [entry.name for entry in tmp_path.iterdir()] == ["loop"]


def test_paths_that_need_not_exist_are_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert places.place("~/new", "--workdir") == tmp_path / "new"
    for path in ("new/run", "a:b/c", "imagenet", "c:/x", "50:50"):
        assert str(places.place(path, "--workdir")) == path


def test_a_user_without_a_home_is_told_to_name_the_cache(monkeypatch):
    for name in ("HOME", "CNN_JAX_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(UsageError, match="set CNN_JAX_CACHE=DIR"):
        runtime.cache_dir()
    with pytest.raises(UsageError, match="nobody knows that home directory"):
        places.place("~/data", "TFDS_DATA_DIR")


def test_the_command_for_curves_works_where_it_is_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    assert console.tensorboard(tmp_path / "my run") == "tensorboard --logdir 'my run'"
    # The environment is not active, or TensorBoard is not in it.
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(sys, "executable", "/my env/bin/python")
    shows = "'/my env/bin/python' -m tensorboard.main --logdir run"
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    assert console.tensorboard(tmp_path / "run") == shows
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    getting = "'/my env/bin/python' -m pip install tensorboard"
    assert console.tensorboard(tmp_path / "run") == f"{getting} && {shows}"


def test_a_command_is_printed_through_a_link_of_any_name_and_for_any_directory(
    tmp_path, monkeypatch
):
    (tmp_path / "my program").mkdir()
    (tmp_path / "my program" / "launch.py").touch()
    (tmp_path / "go").symlink_to(tmp_path / "my program" / "launch.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["go", "train"])
    monkeypatch.setattr(shutil, "which", lambda _: sys.executable)
    line = text.command_line("evaluate", tmp_path / "~run")
    assert line == "python 'my program/launch.py' evaluate '--workdir=./~run'"
    assert places.place("./~run", "--workdir").resolve() == tmp_path / "~run"
    own = {"model": {"file": "/a b.py"}, "loss": {"file": "/a b.py"}, "dataset": {"file": ""}}
    words = " evaluate --workdir=run '--code=/a b.py'"
    assert code.command_line("evaluate", tmp_path / "run", own).endswith(words)


@pytest.mark.parametrize("command", [("evaluate",), ("predict", "a.png")])
def test_a_preset_that_a_run_cannot_take_is_refused(main, command, capsys):
    assert main(*command, "--workdir=run", "--config=digits_lenet") == 2
    assert "takes no --config=digits_lenet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "library"),
    [
        ({"architecture": "resnet50", "num_classes": 10}, "timm"),
        ({"architectures": ["ResNetForImageClassification"]}, "Hugging Face"),
        ({"model_type": "vit"}, "Hugging Face"),
    ],
)
def test_the_model_folder_of_another_library_is_named(values, library, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(UsageError, match=f"is a model of {library}, not a run directory"):
        weights.load(str(tmp_path), "resnet50")


def test_a_directory_whose_name_is_no_text_here_is_refused(main, tmp_path, capsys):
    assert main("train", "--model.name=mlp", "--workdir=\udcc3\udcbc") == 2
    assert r"\udcc3\udcbc: this process takes file names for ASCII" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_started_from_python_is_refused_there_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="only folders and files of this machine"):
        RunDirectory("gs://bucket/run")
    assert not list(tmp_path.iterdir())
