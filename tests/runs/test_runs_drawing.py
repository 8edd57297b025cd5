"""Figures are drawn on a thread beside the training."""

import threading
from pathlib import Path

import pytest

from cnn_jax import data, experiment
from cnn_jax.runs import checkpoints, drawing, figures, recorder
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.training import start


def train(epochs: int, given: data.Data, path: Path) -> None:
    """Trains a small network, of which an epoch has 10 steps."""
    settings = {"dataset.batch_size": 32, "model.name": "mlp", "train.epochs": epochs}
    start.train(experiment.Experiment().replace(settings), given, workdir=path)


class Killed(BaseException):
    """Ends a run where a test wants it to end."""


def test_figures_are_drawn_beside_the_training_and_all_before_its_end(
    digits, tmp_path, monkeypatch
):
    """Training waits where many are to be drawn, and with the last save for all of them."""
    drawn, goes_on = [], threading.Event()
    monkeypatch.setattr(drawing, "_MOST", 2)

    def draw(step, drawings, *_):
        assert threading.current_thread() is not threading.main_thread()
        assert goes_on.wait(60)
        drawn.append((step // 10, sorted(drawings)))

    point, save = recorder.Recorder.point, checkpoints.Checkpoints.save

    def told(self, step, values):
        if step == 20 and "validation/loss" in values:
            assert not drawn  # those of the data and of an epoch wait
            goes_on.set()
        point(self, step, values)

    def saved(self, step, *rest):
        if step == 40:
            assert len(drawn) == 5
        save(self, step, *rest)

    monkeypatch.setattr(figures, "write_figures", draw)
    monkeypatch.setattr(recorder.Recorder, "point", told)
    monkeypatch.setattr(checkpoints.Checkpoints, "save", saved)
    train(4, digits, tmp_path / "run")
    of_epoch = ["validation/confusion_matrix", "validation/predictions"]
    expected = [(0, ["data/classes", "data/images"])] + [(n, of_epoch) for n in range(1, 5)]
    assert drawn == expected
    assert not [each for each in threading.enumerate() if each.name.startswith("figures")]


def test_figures_of_the_data_that_a_kill_prevented_are_drawn_by_the_next_start(
    digits, tmp_path, monkeypatch
):
    save = checkpoints.Checkpoints.save

    def save_once(self, *state):
        save(self, *state)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(figures, "write_figures", lambda *_: None)
        patch.setattr(checkpoints.Checkpoints, "save", save_once)
        with pytest.raises(Killed):
            train(2, digits, tmp_path / "run")
    steps = []
    monkeypatch.setattr(figures, "write_figures", lambda step, *_: steps.append(step))
    train(2, digits, tmp_path / "run")
    assert steps == [0, 20]


@pytest.mark.parametrize("at", [0, 10, 30])
def test_an_error_of_a_drawing_ends_the_run(digits, tmp_path, monkeypatch, at):
    def draw(step, *_):
        if step == at:
            raise OSError(28, "No space left on device", "figure.png")

    monkeypatch.setattr(figures, "write_figures", draw)
    with pytest.raises(OSError, match="No space"):
        train(3, digits, tmp_path / "run")
    assert RunDirectory(tmp_path / "run").status() == "failed"
