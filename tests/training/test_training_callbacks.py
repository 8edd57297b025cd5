"""Callbacks are told the curves of a run, and change nothing in it."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

import cnn_jax
from cnn_jax import experiment, processes
from cnn_jax.errors import UsageError
from cnn_jax.training import start

pytestmark = pytest.mark.usefixtures("undrawn")
CONFIG = experiment.Experiment(
    model=experiment.Model(name="mlp"),
    dataset=experiment.Dataset(batch_size=32),
    train=experiment.Train(epochs=2),
    logging=experiment.Logging(every_steps=4),
)
PRESET = """
import cnn_jax

class Print:
    def log(self, point):
        print("told", point.step, point.epoch, sorted(point.metrics)[0])

CALLBACKS = [Print()]
EXPERIMENT = cnn_jax.Experiment(
    model=cnn_jax.Model(name="mlp"), train=cnn_jax.Train(epochs=1)
)
"""


class Kept:
    def __init__(self):
        self.points: list[cnn_jax.Point] = []

    def log(self, point):
        self.points.append(dataclasses.replace(point, metrics=dict(point.metrics)))
        point.metrics.clear()  # what it does to what it gets does not reach the run


class Breaks(Kept):
    def log(self, point):
        super().log(point)
        if point.step == 14:
            raise ValueError("the server is gone")


class BreaksAtTheEnd(Kept):
    def log(self, point):
        if "result/steps" in point.metrics:
            raise ValueError("the server is gone")


def timeless(points):
    return [
        (point.step, point.epoch, name, value)
        for point in points
        for name, value in point.metrics.items()
        if "second" not in name
    ]


@pytest.fixture(scope="module")
def told(digits, tmp_path_factory):
    """A run with a callback beside one without: (points, run, run without, directory)."""
    path = tmp_path_factory.mktemp("told")
    kept = Kept()
    run = start.train(CONFIG, digits, workdir=path / "with", callbacks=[kept])
    return kept.points, run, start.train(CONFIG, digits), path / "with"


def test_it_is_told_what_tensorboard_shows_and_the_result(told):
    points, _, _, path = told
    events = event_accumulator.EventAccumulator(str(path), {event_accumulator.SCALARS: 0})
    events.Reload()
    shown = [
        (e.step, tag, e.value) for tag in events.Tags()["scalars"] for e in events.Scalars(tag)
    ]
    curves = [
        (point.step, tag, float(np.float32(value)))
        for point in points[:-1]
        for tag, value in point.metrics.items()
    ]
    assert sorted(shown) == sorted(curves)
    assert {"train/loss", "validation/accuracy", "validation/auc"} <= {tag for _, tag, _ in shown}
    assert [(p.step, p.epoch) for p in points] == [
        *[(4, 1), (8, 1), (10, 1), (10, 1), (10, 1)],
        *[(12, 2), (16, 2), (20, 2), (20, 2), (20, 2), (20, 2)],
    ]
    result = json.loads((path / "result.json").read_text())["training"]
    del result["peak_memory_bytes"]
    assert points[-1].metrics == {f"result/{name}": value for name, value in result.items()}
    assert points[0].settings == experiment.flatten(told[1].experiment)
    assert points[0].workdir == str(path)


def test_the_result_does_not_depend_on_it(told):
    _, run, without, _ = told
    jax.tree.map(np.testing.assert_array_equal, run.variables, without.variables)


def test_without_a_directory_it_is_told_the_same(told, digits):
    kept = Kept()
    run = start.train(CONFIG, digits, callbacks=(kept,))
    assert timeless(kept.points) == timeless(told[0])
    assert kept.points[0].workdir is None
    jax.tree.map(np.testing.assert_array_equal, run.variables, told[1].variables)


def test_its_error_is_the_users_and_the_same_call_goes_on(told, digits, tmp_path):
    broken, path = Breaks(), tmp_path / "run"
    config = CONFIG.replace({"logging.every_steps": 2})
    with pytest.raises(ValueError, match="the server is gone") as info:
        start.train(config, digits, workdir=path, callbacks=[broken])
    assert info.value.__notes__ == ["(in Breaks.log, a callback of the run, at step 14)"]
    status = json.loads((path / "status.json").read_text())
    assert (status["status"], status["error"]) == ("failed", "ValueError: the server is gone")
    kept = Kept()
    run = start.train(config, digits, workdir=path, callbacks=[kept])
    assert [point.step for point in kept.points][:3] == [12, 14, 16]  # after the checkpoint
    jax.tree.map(np.testing.assert_array_equal, run.variables, told[1].variables)
    again = Kept()
    start.train(config, digits, workdir=path, callbacks=[again])
    assert not again.points  # it was finished


def test_a_result_that_was_not_told_is_told_by_the_same_call(digits, tmp_path):
    config = CONFIG.replace({"train.epochs": 1})
    with pytest.raises(ValueError, match="the server is gone"):
        start.train(config, digits, workdir=tmp_path / "run", callbacks=[BreaksAtTheEnd()])
    kept = Kept()
    start.train(config, digits, workdir=tmp_path / "run", callbacks=[kept])
    assert [set(point.metrics) >= {"result/steps"} for point in kept.points] == [True]


def test_of_several_processes_the_first_is_told(digits, monkeypatch):
    class Second(processes.Alone):
        is_first = False

    kept = Kept()
    monkeypatch.setattr(processes, "_team", Second())
    start.train(CONFIG.replace({"train.epochs": 1}), digits, callbacks=[kept])
    assert not kept.points


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Kept(), "callbacks is a list of objects with a method log"),
        ([Kept], r"a callback is an object with a method log\(point\), made: MyCallback\(\)"),
        ([print], r"a callback is an object with a method log\(point\); not <built-in"),
        (None, "callbacks is a list"),
    ],
)
def test_what_is_no_callback_is_refused(given, message, digits):
    with pytest.raises(UsageError, match=message):
        cnn_jax.train(digits, model="mlp", callbacks=given)


def test_a_preset_of_ones_own_and_any_file_of_code_have_them(main, tmp_path, capsys):
    Path("own.py").write_text(PRESET)
    Path("track.py").write_text(PRESET.partition("EXPERIMENT")[0].replace("told", "track"))
    assert main("--config=own.py", "--code=track.py", "--workdir=run") == 0
    said = capsys.readouterr().out.splitlines()
    for word in ("told", "track"):
        points = [line for line in said if line.startswith(f"{word} ")]
        assert points[-1] == f"{word} 21 1 result/best_epoch"
    assert main("--workdir=run", "--code=own.py") == 0
    said = capsys.readouterr().out
    assert "told" not in said
    assert f"--code={tmp_path / 'own.py'}" in said.partition("train on:")[2]


def test_callbacks_of_a_file_that_are_none_are_one_line(main, capsys):
    Path("own.py").write_text("CALLBACKS = [print]\n")
    assert main("--code=own.py", "--workdir=run") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: own.py: CALLBACKS: a callback is an object with a method log")
    assert not Path("run").exists()
