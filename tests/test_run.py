"""The run directory: its files, its lock, and the names it shows."""

import json
import multiprocessing
import shlex
import sys
from pathlib import Path

import pytest

from cnn_jax import experiment, files, runtime, text
from cnn_jax.errors import RunError, UsageError
from cnn_jax.runs import recorder
from cnn_jax.runs.directory import RunDirectory, new_directory
from cnn_jax.runs.environment import environment


def test_json_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "status.json"
    files.write_json(path, {"step": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"step": object()})
    assert files.read_json(path) == {"step": 1}
    files.write_json(path, {"step": 2})
    assert json.loads(path.read_text()) == {"step": 2}
    assert [x.name for x in tmp_path.iterdir()] == ["status.json"]


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(RunError, match=r"cannot read .*gone.json: No such file"):
        files.read_json(tmp_path / "gone.json")
    (tmp_path / "half.json").write_text('{"a":')
    with pytest.raises(RunError, match=r"half.json does not hold JSON"):
        files.read_json(tmp_path / "half.json")


def test_a_directory_keeps_config_status_and_results(tmp_path):
    directory = RunDirectory(tmp_path / "a" / "b")
    assert not directory.exists()
    assert directory.status() is None
    directory.create()
    config = experiment.Experiment(seed=5)
    directory.write("config", experiment.to_dict(config))
    assert directory.exists()
    assert directory.config() == config
    recorder.set_status(directory, "running", step=3)
    assert directory.read("status")["step"] == 3
    assert directory.status() == "running"
    recorder.update_result(directory, "training", {"epochs": 1})
    recorder.update_result(directory, "evaluation", {"test": {"accuracy": 0.5}})
    recorder.update_result(directory, "training", {"epochs": 2})
    assert directory.read("result") == {
        "training": {"epochs": 2},
        "evaluation": {"test": {"accuracy": 0.5}},
    }
    directory.create()  # a run's own files are no others


def test_a_configuration_with_an_unknown_setting_is_named(tmp_path):
    (tmp_path / "config.json").write_text('{"train": {"epoch": 3}}')
    with pytest.raises(RunError, match=r"config.json: .* train.epoch"):
        RunDirectory(tmp_path).config()


def test_directories_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        assert not RunDirectory(path).exists()
        with pytest.raises(UsageError, match="cannot be used"):
            RunDirectory(path).create()
    with pytest.raises(UsageError, match=r"holds other files \(file\)"):
        RunDirectory(tmp_path).create()
    with pytest.raises(UsageError, match="is not a run directory"):
        RunDirectory(tmp_path).check_exists()


def test_what_may_not_be_read_is_refused(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(UsageError, match="cannot be used: Permission denied"):
        RunDirectory(tmp_path).exists()


def hold(path, held, release):
    with RunDirectory(path).locked():
        held.set()
        release.wait(30)


def test_the_lock_is_held_against_others_and_ends_with_its_process(tmp_path):
    directory = RunDirectory(tmp_path)
    with directory.locked(), pytest.raises(UsageError, match="another process"), directory.locked():
        pass
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, held, release))
    process.start()
    assert held.wait(30)
    with pytest.raises(UsageError, match="another process"), directory.locked():
        pass
    process.kill()
    process.join()
    with directory.locked():
        pass


def test_new_directories_have_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = new_directory("digits")
    one.create()
    two = new_directory("digits")
    assert one.path != two.path
    assert one.path.parent == tmp_path / "runs"
    assert one.path.name.startswith("digits-")


def test_paths_and_commands_are_shown_as_one_would_type_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert text.shown(tmp_path / "runs" / "a") == "runs/a"
    assert text.shown(tmp_path.parent) == str(tmp_path.parent)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "launch.py"), "train"])
    monkeypatch.setattr(text.shutil, "which", lambda name: sys.executable)
    path = tmp_path / "my $run"
    command = text.command_line("evaluate", path, "--split=test")
    assert command == "python launch.py evaluate '--workdir=my $run' --split=test"
    # Without an active virtual environment `python` would be another one.
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.setattr(text.shutil, "which", lambda name: "/usr/bin/python")
    words = shlex.split(text.command_line("train", path))
    assert words == [".venv/bin/python", "launch.py", "train", "--workdir=my $run"]


def test_a_platform_that_is_not_there_is_one_line(monkeypatch, places):
    for name, value in places.items():
        monkeypatch.setenv(name, value)

    def fail():
        raise RuntimeError("Unable to initialize backend 'tpu':\nno libtpu")

    monkeypatch.setattr(runtime.jax, "default_backend", fail)
    with pytest.raises(UsageError, match="finds no such devices here: Unable") as error:
        runtime.start()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "extra"), [("gpu", "cuda12"), ("gpu", "cuda13"), ("tpu", "tpu")])
@pytest.mark.parametrize("installed", [False, True])
def test_a_platform_without_support_names_the_extra(name, extra, installed, monkeypatch):
    def fail():
        raise RuntimeError("Unable to initialize backend 'rocm'")

    monkeypatch.setattr(runtime.jax, "default_backend", fail)
    monkeypatch.setattr(runtime.jax.config, "update", lambda *_: None)
    monkeypatch.setattr(runtime.extras, "has", lambda _: installed)
    with pytest.raises(UsageError, match=f"^the platform {name}: ") as error:
        runtime.start(name)
    assert (f"pip install 'cnn-jax[{extra}]'" in str(error.value)) is not installed
    assert ("finds no" in str(error.value)) is installed
    assert "\n" not in str(error.value)
    assert installed or "rocm" not in str(error.value)


def test_the_environment_says_what_ran_where():
    written = environment()
    assert written["command"][0] == sys.executable
    assert written["platform"] == "cpu"
    assert written["processes"] == 1
    assert len(written["devices"]) >= 1
    json.dumps(written)
