"""The loop: resuming, extending and stopping, with steps that are exactly where they should be."""

import itertools
import json
import os
import signal
from pathlib import Path

import jax
import pytest

from cnn_jax import distributed, experiment
from cnn_jax.data import batches
from cnn_jax.errors import RunError, UsageError
from cnn_jax.evaluation import evaluator
from cnn_jax.runs import checkpoints, stored
from cnn_jax.runs import figures as run_figures
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.training import loop, start
from cnn_jax.training.signals import Interrupted

pytestmark = pytest.mark.usefixtures("undrawn")
# Everything that a resume could get wrong: augmentation, dropout, a moving average, a schedule, and
# parameters that are set free in the second epoch; classes that are drawn equally often. Ten steps
# an epoch, the last one padded.
CONFIG = experiment.Experiment(
    seed=3,
    dataset=experiment.Dataset(batch_size=32, flip=True, crop_padding=1, cutout=2),
    model=experiment.Model(name="mlp", dropout_rate=0.2),
    transfer=experiment.Transfer(freeze="backbone", unfreeze="2:backbone"),
    optimizer=experiment.Optimizer(schedule="triangular", warmup_epochs=0.5, ema_decay=0.9),
    train=experiment.Train(epochs=3, sampling="balanced", loss="focal"),
    checkpoint=experiment.Checkpoint(every_steps=3, keep=3),
)
STEPS = 30


def train(config, digits, path: Path):
    """Trains to the end and returns the history."""
    return start.train(config, digits, workdir=path).history


def final_sha256(path: Path) -> str:
    folders = [x for x in (path / "checkpoints").iterdir() if x.name.isdecimal()]
    newest = max(folders, key=lambda folder: int(folder.name))
    return json.loads((newest / "meta" / "metadata").read_text())["sha256"]


def without_seconds(history):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


@pytest.fixture(scope="module")
def straight(digits, tmp_path_factory) -> Path:
    """The run that nothing interrupts."""
    path = tmp_path_factory.mktemp("straight") / "run"
    train(CONFIG, digits, path)
    return path


def outcome(path: Path):
    """Returns (history, sha256 of the final state) of a run."""
    return without_seconds(RunDirectory(path).read("history")), final_sha256(path)


class Killed(BaseException):
    """Ends a run where a test wants it to end."""


def killed_at(step: int, saves: bool, save):
    """Returns a save that stops the run at a step, before or after it has saved."""

    def save_until(self, at, state, meta):
        if at != step or saves:
            save(self, at, state, meta)
        if at == step:
            raise Killed

    return save_until


def test_the_history_is_one_record_an_epoch(straight):
    history, _ = outcome(straight)
    assert [(record["epoch"], record["step"]) for record in history] == [(1, 10), (2, 20), (3, 30)]
    rates = [record["learning_rate"] for record in history]
    assert rates == pytest.approx([1e-3 * share for share in (21 / 25, 11 / 25, 1 / 25)])
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert history[-1]["validation_accuracy"] > 0.2


def test_a_run_that_ends_anywhere_goes_on_to_the_same_bits(straight, digits, tmp_path, monkeypatch):
    """The state is lost before or after a save: within an epoch, at its end, at a new phase."""
    save = checkpoints.Checkpoints.save
    path = tmp_path / "run"
    for step, saves in [(9, True), (10, False), (18, True), (30, False)]:
        monkeypatch.setattr(checkpoints.Checkpoints, "save", killed_at(step, saves, save))
        with pytest.raises(Killed):
            train(CONFIG, digits, path)
    monkeypatch.setattr(checkpoints.Checkpoints, "save", save)
    history = train(CONFIG, digits, path)
    assert outcome(path) == outcome(straight)
    assert RunDirectory(path).read("history") == history


def test_a_finished_run_trains_no_more(straight, digits, monkeypatch):
    before = sorted(str(x) for x in straight.rglob("*"))
    monkeypatch.setattr(loop, "train", None)
    assert without_seconds(train(CONFIG, digits, straight)) == outcome(straight)[0]
    assert sorted(str(x) for x in straight.rglob("*")) == before


def plain(epochs: int, **changes) -> experiment.Experiment:
    """Returns an experiment that depends on the number of epochs in nothing."""
    config = experiment.Experiment(
        dataset=experiment.Dataset(batch_size=32),
        model=experiment.Model(name="mlp"),
        train=experiment.Train(epochs=epochs),
    )
    return experiment.replace(config, changes)


def test_an_extended_run_is_the_longer_run_also_with_streamed_data(digits, tmp_path):
    train(plain(1), digits, tmp_path / "extended")
    streamed = plain(2, **{"dataset.resident_limit": 0})
    train(streamed, digits, tmp_path / "extended")
    train(plain(2), digits, tmp_path / "straight")
    assert outcome(tmp_path / "extended") == outcome(tmp_path / "straight")


def test_a_signal_in_an_evaluation_stops_after_it(digits, tmp_path, monkeypatch):
    number = signal.SIGTERM
    evaluate = evaluator.Evaluator.__call__

    def evaluate_and_signal(self, variables, feed):
        os.kill(os.getpid(), number)
        return evaluate(self, variables, feed)

    before = signal.getsignal(number)
    monkeypatch.setattr(evaluator.Evaluator, "__call__", evaluate_and_signal)
    with pytest.raises(Interrupted) as stop:
        train(plain(2), digits, tmp_path / "run")
    assert (stop.value.signal_number, stop.value.step) == (number, 10)
    assert signal.getsignal(number) == before
    directory = RunDirectory(tmp_path / "run")
    assert [record["step"] for record in directory.read("history")] == [10]
    # A signal in the last evaluation comes too late to stop anything.
    assert len(train(plain(2), digits, tmp_path / "run")) == 2


def test_the_last_update_is_not_finite(digits, tmp_path):
    """No step follows that would see it, and it must not become a checkpoint."""
    changes = {
        "dataset.batch_size": 316,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 1e38,
    }
    with pytest.raises(RunError, match=r"validation loss is not finite at step 1 .*1e\+38"):
        train(plain(1, **changes), digits, tmp_path / "run")
    assert RunDirectory(tmp_path / "run").status() == "diverged"
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_batch_that_the_devices_cannot_share_is_refused(digits, tmp_path, monkeypatch):
    mesh = jax.sharding.AbstractMesh((3,), ("data",))
    monkeypatch.setattr(distributed, "make_mesh", lambda: mesh)
    with pytest.raises(UsageError, match=r"batch_size=32 cannot be split .* such as 30 or 33"):
        train(plain(1), digits, tmp_path / "run")


def test_the_order_of_examples_goes_on_where_a_run_resumes():
    whole = list(itertools.islice(batches.TrainBatches(9, 316, 32), 25))
    for first in (1, 10, 17):
        part = list(itertools.islice(batches.TrainBatches(9, 316, 32, first), 25 - first))
        for a, b in zip(part, whole[first:], strict=True):
            assert (a.positions == b.positions).all()
            assert (a.weights == b.weights).all()
    seen = [int(p) for b in whole[:10] for p, w in zip(*b, strict=True) if w]
    assert sorted(seen) == list(range(316))


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3]), (2, [2, 3]), (None, [])])
def test_figures_are_drawn_as_often_as_asked_for(digits, tmp_path, monkeypatch, every, expected):
    drawn = []
    monkeypatch.setattr(run_figures, "write_figures", lambda step, *_: drawn.append(step))
    config = plain(3, **{"logging.figures_every": every})
    train(config, digits, tmp_path / "run")
    assert [step // 10 for step in drawn] == [0, *expected]  # the first are those of the data


def test_a_run_ends_with_features_for_the_projector_also_when_killed_right_before(
    digits, tmp_path, monkeypatch
):
    config = plain(1, **{"logging.projector_images": 50})
    monkeypatch.setattr(start, "_project", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        train(config, digits, tmp_path / "run")
    assert not (tmp_path / "run" / "projector").exists()
    monkeypatch.undo()
    train(config, digits, tmp_path / "run")
    rows = (tmp_path / "run/projector/metadata.tsv").read_text().splitlines()
    assert rows[0].split("\t") == ["id", "label", "predicted", "confidence", "outcome"]
    assert len(rows) == 51
    for row in rows[1:]:
        _, label, predicted, confidence, found = row.split("\t")
        assert found == ("right" if label == predicted else "wrong")
        assert 0.1 <= float(confidence) <= 1
    # The first and the last of the split are among them.
    names, labels = digits.info.class_names, digits.splits["validation"].labels
    ends = [rows[i].split("\t")[1] for i in (1, -1)]
    assert ends == [names[labels[0]], names[labels[-1]]]


def test_no_images_for_the_projector_are_no_files(digits, tmp_path):
    train(plain(1, **{"logging.projector_images": 0}), digits, tmp_path / "run")
    assert not list((tmp_path / "run").glob("projector*"))


PATIENT = {"train.select": "auc", "train.patience": 2, "optimizer.learning_rate": 0.1}


def test_a_run_that_stops_early_does_so_at_the_same_epoch_after_a_kill(
    digits, tmp_path, monkeypatch
):
    """Its rate is too high for the AUC to rise for long; killed before and after the last save."""
    config = plain(30, **PATIENT)
    straight = train(config, digits, tmp_path / "straight")
    assert 3 <= len(straight) < 30
    scores = [record["validation_auc"] for record in straight]
    assert scores.index(max(scores)) == len(scores) - 3
    assert {record["select"] for record in straight} == {"auc"}
    directory = RunDirectory(tmp_path / "straight")
    status = directory.read("status")
    assert status["status"] == "finished"
    assert f"stopped early after epoch {len(straight)}: validation AUC" in status["reason"]
    best = stored.best_step(directory.checkpoints)
    assert best == straight[-3]["step"]

    save, last = checkpoints.Checkpoints.save, straight[-1]["step"]
    for step, saves in [(last - 10, True), (last, False), (last, True)]:
        monkeypatch.setattr(checkpoints.Checkpoints, "save", killed_at(step, saves, save))
        with pytest.raises(Killed):
            train(config, digits, tmp_path / "killed")
    monkeypatch.setattr(checkpoints.Checkpoints, "save", save)
    train(config, digits, tmp_path / "killed")
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "straight")
    # It is finished, and trains no more, whatever the number of epochs.
    monkeypatch.setattr(loop, "train", None)
    longer = experiment.replace(config, {"train.epochs": 40})
    assert len(train(longer, digits, tmp_path / "killed")) == len(straight)
