"""The command line from end to end, on the embedded digits."""

import csv
import errno
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator

from cnn_jax import data, experiment, models
from cnn_jax.cli import main as program
from cnn_jax.runs import evaluations
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.training import loop
from tests.conftest import ROOT
from tests.tiny import SETTINGS, STEPS


def read(path: Path):
    return json.loads(path.read_text())


def contents(folder: Path) -> dict[str, bytes]:
    """Returns every file below a folder, but for the lock, which every start opens anew."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def events(directory: Path) -> event_accumulator.EventAccumulator:
    sizes = {"scalars": 0, "images": 0, "tensors": 0}
    return event_accumulator.EventAccumulator(str(directory), size_guidance=sizes).Reload()


def curve(directory: Path, tag: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in events(directory).Scalars(tag)]


def without_seconds(history: list[dict]) -> list[dict]:
    return [{k: v for k, v in record.items() if k != "seconds"} for record in history]


def error_line(text: str) -> str:
    """Returns the one line that an error is."""
    lines = [line for line in text.splitlines() if line]
    assert len(lines) == 1, text
    assert lines[0].startswith("error: ")
    return lines[0]


def final_sha256(directory: Path) -> str:
    return read(directory / "checkpoints" / str(STEPS) / "meta" / "metadata")["sha256"]


@pytest.fixture
def images(digits, tmp_path) -> list[str]:
    """Image files, larger than the model's images."""
    names = ["grey.png", "colour.jpg"]
    pixels = digits.splits["test"].images[:2, :, :, 0]
    for image, name, mode in zip(pixels, names, ("L", "RGB"), strict=True):
        Image.fromarray(image).convert(mode).resize((40, 30)).save(tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG and then nonsense")
    return names


# Training


def test_a_run_directory_describes_itself(trained):
    directory, _ = trained
    config = experiment.from_dict(read(directory / "config.json"))
    assert (config.model.name, config.optimizer.ema_decay, config.seed) == ("mlp", 0.9, 7)
    status = read(directory / "status.json")
    assert (status["status"], status["step"]) == ("finished", STEPS)
    (environment,) = read(directory / "environment.json")
    assert environment["command"][-1] == "--seed=7"
    assert {"jax", "flax", "optax", "numpy"} <= set(environment["packages"])
    assert {"python", "git_commit", "devices", "processor", "time"} <= set(environment)
    assert read(directory / "data.json")["sizes"] == {"train": 316, "validation": 144}
    history = read(directory / "history.json")
    assert [(record["epoch"], record["step"]) for record in history] == [(1, 20), (2, 40), (3, 60)]
    result = read(directory / "result.json")["training"]
    assert result["last_validation_accuracy"] == history[-1]["validation_accuracy"]
    assert result["best_validation_accuracy"] == max(r["validation_accuracy"] for r in history)
    assert (result["epochs"], result["steps"]) == (3, STEPS)
    figures = {path.name for path in (directory / "figures").iterdir()}
    assert figures == {"data_images.png", "data_classes.png", "training_curves.png"}


def test_a_checkpoint_says_what_it_holds(trained):
    meta = read(trained[0] / "checkpoints" / str(STEPS) / "meta" / "metadata")
    assert (meta["step"], meta["epoch"], meta["step_in_epoch"]) == (STEPS, 3, 0)
    assert meta["config"] == read(trained[0] / "config.json")
    assert meta["history"] == read(trained[0] / "history.json")
    assert len(meta["sha256"]) == 64


def test_tensorboard_has_the_curves_and_images_of_a_run(trained):
    reader = events(trained[0])
    tags = reader.Tags()
    both = {f"{split}/{name}" for split in ("train", "validation") for name in ("loss", "accuracy")}
    both |= {"train/images_per_second", "validation/images_per_second"}
    both |= {"validation/auc", "validation/average_precision"}
    assert set(tags["scalars"]) == both | {"train/learning_rate", "train/gradient_norm"}
    assert set(tags["images"]) == {
        "data/images",
        "data/classes",
        "validation/confusion_matrix",
        "validation/predictions",
    }
    assert "_hparams_/session_start_info" in reader.summary_metadata
    assert reader.PluginTagToContent("pr_curves").keys() == {f"validation/{i}" for i in range(10)}
    points = curve(trained[0], "train/loss")
    assert [step for step, _ in points] == list(range(1, STEPS + 1))
    assert points[-1][1] < points[0][1]
    rates = [rate for _, rate in curve(trained[0], "train/learning_rate")]
    assert max(rates) == pytest.approx(1e-3)
    assert rates.index(max(rates)) in (9, 10)
    history = read(trained[0] / "history.json")
    assert curve(trained[0], "validation/accuracy") == [
        (record["step"], pytest.approx(record["validation_accuracy"])) for record in history
    ]


def test_what_is_said_goes_to_stdout_and_progress_to_stderr(trained):
    _, result = trained
    assert "devices    cpu, 1 device" in result.stdout
    assert "evaluate --workdir=here" in result.stdout
    assert (
        "--logdir here" in result.stdout
    )  # of the program, or of the module where it is not on PATH
    assert "baseline   0.1" in result.stdout
    assert "epoch 3/3  train loss" in result.stderr
    assert "epoch 3/3" not in result.stdout
    assert "warning" not in result.stderr.lower()


def test_a_finished_run_says_so_and_changes_nothing(main, finished, capsys):
    before = contents(finished)
    assert main("train", f"--workdir={finished}") == 0
    out, err = capsys.readouterr()
    assert "is finished (3 epochs)" in out
    assert "evaluate '--workdir=a run'" in out
    assert err == ""
    assert contents(finished) == before


def test_the_end_of_a_finished_run_is_trained_again_where_its_checkpoint_is_damaged(
    main, finished, capsys, caplog
):
    sha256, history = final_sha256(finished), read(finished / "history.json")
    state = finished / "checkpoints" / str(STEPS) / "state"
    largest = max(state.rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 0xFF
    largest.write_bytes(content)
    assert main("train", f"--workdir={finished}", "--quiet") == 0
    assert f"checkpoint {finished}/checkpoints/{STEPS} is damaged" in caplog.text
    assert final_sha256(finished) == sha256
    assert without_seconds(read(finished / "history.json")) == without_seconds(history)
    assert read(finished / "status.json")["status"] == "finished"
    before = contents(finished)
    assert main("train", f"--workdir={finished}") == 0  # and nothing is left to do
    assert "is finished (3 epochs)" in capsys.readouterr().out
    assert contents(finished) == before


def test_a_changed_configuration_is_refused_with_the_difference(main, finished, capsys):
    before = contents(finished)
    changes = ["--optimizer.learning_rate=0.5", "--dataset.cutout=0", "--train.epochs=2"]
    assert main("train", f"--workdir={finished}", *changes) == 2
    out, err = capsys.readouterr()
    line = error_line(err)
    assert "--optimizer.learning_rate was 0.001 and is now 0.5" in line
    assert "--dataset.cutout was 2 and is now 0" in line
    assert "--train.epochs was 3 and is now 2" in line
    assert out == ""
    assert contents(finished) == before


def test_more_epochs_go_on_and_warn_where_the_schedule_depends_on_them(
    main, finished, capsys, caplog
):
    before = read(finished / "history.json")
    assert main("train", f"--workdir={finished}", "--train.epochs=4", "--quiet") == 0
    assert "goes from 3 to 4: the cosine schedule depends on it" in caplog.text
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch" not in err.replace(caplog.text, "")
    history = read(finished / "history.json")
    assert history[:3] == before
    assert history[3]["step"] == 80
    assert read(finished / "config.json")["train"]["epochs"] == 4
    assert len(read(finished / "environment.json")) == 2
    assert read(finished / "status.json")["status"] == "finished"


def test_other_data_under_the_same_name_are_refused(main, finished, capsys):
    described = read(finished / "data.json")
    (finished / "data.json").write_text(json.dumps({**described, "digest": "0" * 64}))
    for path in (finished / "checkpoints").glob("*/meta/metadata"):
        path.write_text(json.dumps({**read(path), "data_digest": "0" * 64}))
    for command in (["train", "--train.epochs=5"], ["evaluate"]):
        assert main(*command, f"--workdir={finished}") == 1
        assert "the data are not those" in error_line(capsys.readouterr().err)


def test_a_typo_has_exit_code_2_and_writes_nothing(cli, tmp_path):
    result = cli("train", "--workdir=new", "--train.epoch=3", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert "did you mean --train.epochs?" in error_line(result.stderr)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        ["--model.name=vgg16", "--dataset.image_size=none"],
        ["--train.loss=binary_cross_entropy"],
        ["--dataset.train_examples=5"],
        ["--dataset.name=cifar11"],
    ],
)
def test_settings_that_do_not_fit_the_data_write_nothing(main, wrong, tmp_path, capsys):
    assert main("train", "--workdir=new", *wrong) == 2
    error_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_refused(main, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("dear")
    assert main("train", f"--workdir={tmp_path}", *SETTINGS) == 2
    assert "holds other files (thesis.tex)" in error_line(capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_second_process_on_the_same_run_is_refused(main, finished, capsys):
    before = contents(finished)
    with RunDirectory(finished).locked():
        assert main("train", f"--workdir={finished}", "--checkpoint.keep=3", "--debug") == 0
        assert "finished" in capsys.readouterr().out  # reading needs no lock
        (finished / "status.json").write_text('{"status": "running"}')
        assert main("train", f"--workdir={finished}") == 2
    assert "another process is training" in error_line(capsys.readouterr().err)
    before["status.json"] = b'{"status": "running"}'
    assert contents(finished) == before


def test_a_run_killed_after_its_last_checkpoint_finishes_without_training(main, finished):
    """Such a kill leaves history.json one epoch short, and status "running"."""
    history = read(finished / "history.json")
    (finished / "history.json").write_text(json.dumps(history[:2]))
    (finished / "status.json").write_text('{"status": "running"}')
    before = contents(finished / "checkpoints")
    assert main("train", f"--workdir={finished}", "--quiet") == 0
    assert read(finished / "history.json") == history
    assert read(finished / "status.json")["status"] == "finished"
    assert contents(finished / "checkpoints") == before


def test_a_loss_that_is_not_finite_stops_the_run(main, tmp_path, capsys):
    wild = ["--optimizer.name=sgd", "--optimizer.learning_rate=1e30", "--checkpoint.every_steps=1"]
    assert main("train", "--workdir=wild", *SETTINGS[:5], *wild, "--quiet") == 1
    line = error_line(capsys.readouterr().err)
    step = read(tmp_path / "wild" / "status.json")["step"]
    assert f"not finite at step {step} (learning rate 1e+30)" in line
    last = max(int(path.name) for path in (tmp_path / "wild" / "checkpoints").iterdir())
    assert last == step - 1
    assert f"checkpoint of step {last}" in line
    assert read(tmp_path / "wild" / "status.json")["status"] == "diverged"


# Interruptions


def stop_at(process, directory: Path, step: int, number: signal.Signals) -> tuple[str, str]:
    """Sends a signal when this very process has come to a step; an earlier one may be past it."""
    path = directory / "status.json"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        status = read(path) if path.exists() else {}
        if status.get("pid") == process.pid and status.get("step", -1) >= step:
            break
        time.sleep(0.001)
    process.send_signal(number)
    return process.communicate(timeout=60)


def test_stops_and_kills_at_any_moment_change_no_bit(start, trained, tmp_path):
    """SIGKILL, SIGTERM and SIGINT in one run, each at a step drawn at random.

    Checkpoints are two steps apart, so that a kill loses steps. Figures, which are part of no
    result, would take most of the time.
    """
    command = ["train", "--workdir=run", *SETTINGS, "--checkpoint.every_steps=2"]
    command += ["--logging.figures_every=none", "--logging.projector_images=0"]
    directory = tmp_path / "run"
    generator = random.Random()
    at = sorted(generator.sample(range(1, 45), 3))
    numbers = [signal.SIGKILL, signal.SIGTERM, signal.SIGINT]
    generator.shuffle(numbers)
    print("stopped at", at, "by", numbers)  # shown where the test fails
    for step, number in zip(at, numbers, strict=True):
        process = start(*command, cwd=tmp_path)
        out, err = stop_at(process, directory, step, number)
        if number == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL, err
            assert read(directory / "status.json")["status"] == "running"
            continue
        assert process.returncode == 128 + number, err
        assert "Traceback" not in err
        status = read(directory / "status.json")
        assert status["status"] == "interrupted"
        assert step <= status["step"] < STEPS
        assert (directory / "checkpoints" / str(status["step"])).is_dir()
        assert f"stopped at step {status['step']} of {STEPS}; the state is saved" in out
        assert "launch.py train --workdir=run" in out
    process = start("train", "--workdir=run", cwd=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "resumed    at step" in out
    reference = trained[0]
    assert final_sha256(directory) == final_sha256(reference)
    histories = [read(place / "history.json") for place in (directory, reference)]
    assert without_seconds(histories[0]) == without_seconds(histories[1])
    for tag in ("train/loss", "train/learning_rate", "validation/accuracy"):
        assert curve(directory, tag) == curve(reference, tag)


class HalfMade:
    """What an interrupt in its constructor leaves behind, as an event loop does."""

    def __del__(self) -> None:
        raise AttributeError("_ssock")


def test_an_interrupt_before_training_is_one_line(main, tmp_path, capsys, monkeypatch):
    def interrupted(config, **_):
        left = HalfMade()
        raise KeyboardInterrupt(left)

    monkeypatch.setattr(data, "load", interrupted)
    assert main("train", "--workdir=new", *SETTINGS) == 130
    error_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code", "status", "text"),
    [
        (KeyboardInterrupt(), 130, "interrupted", "train --workdir=new"),
        (OSError(errno.ENOSPC, "No space left on device", "f"), 1, "failed", "f: No space left"),
    ],
)
def test_what_ends_a_run_from_outside_is_said_and_written(
    main, error, code, status, text, tmp_path, capsys, monkeypatch
):
    def fail(*arguments, **named):
        raise error

    monkeypatch.setattr(loop, "train", fail)
    assert main("train", "--workdir=new", *SETTINGS) == code
    assert text in capsys.readouterr().err
    assert read(tmp_path / "new" / "status.json")["status"] == status


# Reading a run


def test_evaluate_writes_and_prints_what_it_counted(cli, trained, finished, tmp_path):
    del trained
    result = cli("evaluate", "--workdir=a run", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stderr == ""
    found = read(finished / "result.json")
    assert set(found) == {"training", "evaluation"}
    test = found["evaluation"]["test"]
    confusion = np.array(test["confusion_matrix"])
    assert test["examples"] == confusion.sum() == 360
    assert test["accuracy"] == pytest.approx(np.trace(confusion) / 360, abs=1e-9)
    per_class = np.diag(confusion) / confusion.sum(axis=1)
    assert test["per_class_accuracy"] == pytest.approx(per_class.tolist())
    assert f"test accuracy {test['accuracy']:.4f}, loss {test['loss']:.4f}" in result.stdout
    share = max(confusion.sum(axis=1)) / 360
    assert test["largest_class_share"] == pytest.approx(share)
    assert f"baseline   {share:.4f}: always saying " in result.stdout
    for i, accuracy in enumerate(per_class):
        row = rf"^{i} +{confusion[i].sum()}  {accuracy:.3f} \("
        assert re.search(row, result.stdout, re.MULTILINE)
    for name in ("test_confusion_matrix", "test_predictions", "training_curves"):
        with Image.open(finished / "figures" / f"{name}.png") as figure:
            assert figure.width > 100
    assert "predict '--workdir=a run' IMAGE..." in result.stdout


def test_evaluate_measures_the_checkpoint_that_training_measured(main, finished, capsys):
    history = read(finished / "history.json")
    best = max(history, key=lambda record: record["validation_accuracy"])
    for which, record in (("best", best), (str(STEPS), history[-1])):
        arguments = [f"--workdir={finished}", "--split=validation", f"--checkpoint={which}"]
        assert main("evaluate", *arguments, "--dataset.eval_batch_size=100") == 0
        result = read(finished / "result.json")
        found = evaluations.of_step(result, "validation", record["step"])
        assert found is not None
        assert result["evaluation"]["validation"]["checkpoint_step"] == best["step"]
        assert found["checkpoint_step"] == record["step"]
        assert found["accuracy"] == pytest.approx(record["validation_accuracy"])
        assert found["loss"] == pytest.approx(record["validation_loss"], rel=1e-5)
    assert main("evaluate", f"--workdir={finished}", "--checkpoint=7") == 2
    assert "checkpoint '7' is not among best, last and" in capsys.readouterr().err


def test_predict_prints_json_alone_on_stdout(cli, trained, images, tmp_path):
    arguments = ["--format=json", "--dataset.on_error=skip", "bad.png", *images]
    result = cli("predict", f"--workdir={trained[0]}", *arguments, cwd=tmp_path)
    assert result.returncode == 0
    assert "warning: skipped: bad.png" in result.stderr
    found = json.loads(result.stdout)
    assert [p["image"] for p in found["predictions"]] == images
    assert [skipped["image"] for skipped in found["skipped"]] == ["bad.png"]
    for prediction in found["predictions"]:
        p = prediction["probabilities"]
        assert sorted(p) == [str(i) for i in range(10)]
        assert sum(p.values()) == pytest.approx(1, abs=1e-5)
        assert prediction["class"] == max(p, key=lambda name: p[name]) == next(iter(p))


def test_predict_prints_a_table(main, trained, images, capsys):
    assert main("predict", f"--workdir={trained[0]}", *images) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "first", "second", "third"]
    assert [line.split()[0] for line in lines[2:4]] == images
    assert "the probabilities are not calibrated" in lines[4]
    assert "trust --workdir=" in lines[5]


def test_predict_takes_folders_and_patterns_and_writes_a_table(
    main, trained, images, tmp_path, capsys
):
    """Every image below a folder, once, in the order of names; what is no image is passed over."""
    for name, where in (("x10.png", "a"), ("x9.png", "a"), ("y.PNG", "a/inner"), ("z", "a/inner")):
        (tmp_path / where).mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "grey.png", tmp_path / where / name)  # z: told by its first bytes
    for name in ("notes.txt", ".hidden.png", "Thumbs.db"):
        (tmp_path / "a" / name).write_text("no image")
    expected = ["a/x9.png", "a/x10.png", "a/inner/y.PNG", "a/inner/z", "colour.jpg"]
    words = ["a", "c*r.jpg", "a/x9.png"]
    assert main("predict", f"--workdir={trained[0]}", *words, "--format=json") == 0
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert [each["image"] for each in found] == expected

    assert main("predict", f"--workdir={trained[0]}", *words, "--output=found.csv") == 0
    assert capsys.readouterr().out == "written    found.csv, 5 images\n"
    rows = list(csv.DictReader((tmp_path / "found.csv").read_text().splitlines()))
    for row, each in zip(rows, found, strict=True):
        assert (row["file"], row["class"]) == (each["image"], each["class"])
        assert float(row["probability"]) == max(float(row[f"p_{i}"]) for i in range(10))
        for name, p in each["probabilities"].items():
            assert float(row[f"p_{name}"]) == pytest.approx(p, rel=1e-4)
    assert main("predict", f"--workdir={trained[0]}", *words, "--format=csv") == 0
    assert capsys.readouterr().out == (tmp_path / "found.csv").read_text()

    for word, wrong in (("b*.gif", "b*.gif matches no file"), ("empty", "empty has no images")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert main("predict", f"--workdir={trained[0]}", word) == 1
        assert wrong in error_line(capsys.readouterr().err)
    assert main("predict", f"--workdir={trained[0]}", "a", "--output=found.txt") == 2
    assert "ends in .csv" in error_line(capsys.readouterr().err)


def test_predict_fits_images_as_training_did(main, tmp_path, capsys):
    """A dark image with white sides: cropped it is dark, squashed it would be rather white."""
    for name, value in (("dark", 0), ("light", 255)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(6):
            Image.new("RGB", (9, 9), (value, 0, value)).save(
                tmp_path / "images" / name / f"{i}.png"
            )
    settings = ["--dataset.name=folder", "--dataset.path=images", "--dataset.image_size=9"]
    settings += ["--dataset.batch_size=2", "--model.name=mlp", "--train.epochs=2", "--quiet"]
    assert main("train", "--workdir=run", *settings, "--dataset.resize=crop") == 0
    assert read(tmp_path / "run" / "data.json")["resize"] == "crop"
    wide = Image.new("RGB", (45, 9), (255, 0, 255))
    wide.paste((0, 0, 0), (18, 0, 27, 9))
    wide.save(tmp_path / "wide.png")
    capsys.readouterr()
    assert main("predict", "--workdir=run", "--format=json", "images/dark/0.png", "wide.png") == 0
    small, large = json.loads(capsys.readouterr().out)["predictions"]
    assert large["probabilities"] == small["probabilities"]
    assert main("train", "--workdir=run", "--dataset.resize=squash") == 2
    assert "--dataset.resize was crop" in error_line(capsys.readouterr().err)


@pytest.mark.parametrize("reason", ["Read-only file system", "No space left on device"])
def test_an_evaluation_that_cannot_be_written_is_printed(
    reason, main, finished, capsys, caplog, monkeypatch
):
    def refuse(directory, name, value):
        path = directory.path / f"{name}.json"
        raise OSError(errno.EROFS, reason, str(path))

    monkeypatch.setattr(RunDirectory, "write", refuse)
    before = contents(finished)
    assert main("evaluate", f"--workdir={finished}") == 0
    out = capsys.readouterr().out
    assert "test accuracy" in out
    assert "written" not in out
    assert f"result.json is not written: {reason}" in caplog.text
    assert contents(finished) == before


def test_predict_agrees_with_evaluate(main, finished, digits, tmp_path, capsys):
    """An image of the test split, written to a file, is classified as the split's own."""
    assert main("evaluate", f"--workdir={finished}") == 0
    confusion = np.array(read(finished / "result.json")["evaluation"]["test"]["confusion_matrix"])
    split = digits.splits["test"]
    names = [f"{i}.png" for i in range(len(split.labels))]
    for name, image in zip(names, split.images, strict=True):
        Image.fromarray(image[:, :, 0]).save(tmp_path / name)
    capsys.readouterr()
    assert main("predict", f"--workdir={finished}", "--format=json", *names) == 0
    predictions = json.loads(capsys.readouterr().out)["predictions"]
    found = np.zeros_like(confusion)
    np.add.at(found, (split.labels, [int(p["class"]) for p in predictions]), 1)
    np.testing.assert_array_equal(found, confusion)


def test_predict_resizes_to_the_height_and_width_trained_on(main, tmp_path, capsys):
    for name, value in (("dark", 0), ("light", 255)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(6):
            image = Image.new("RGB", (9, 4), (value, value, value))
            image.save(tmp_path / "images" / name / f"{i}.png")
    settings = ["--dataset.name=folder", "--dataset.path=images", "--dataset.image_size=none"]
    settings += ["--dataset.batch_size=2", "--model.name=mlp", "--train.epochs=2", "--quiet"]
    assert main("train", "--workdir=run", *settings) == 0
    Image.new("RGB", (30, 50), "white").save(tmp_path / "large.png")
    capsys.readouterr()
    arguments = ["--format=json", "images/light/0.png", "large.png"]
    assert main("predict", "--workdir=run", *arguments) == 0
    small, large = json.loads(capsys.readouterr().out)["predictions"]
    assert large["probabilities"] == small["probabilities"]


def test_a_file_that_is_no_image_is_refused_in_one_line(main, trained, images, capsys):
    assert main("predict", f"--workdir={trained[0]}", *images, "bad.png") == 1
    out, err = capsys.readouterr()
    assert "bad.png: not a PNG, JPEG, WebP," in error_line(err)
    assert out == ""
    assert main("predict", f"--workdir={trained[0]}", "nowhere.png") == 1
    assert "nowhere.png: No such file" in error_line(capsys.readouterr().err)


def test_describe_prints_a_run_to_be_and_writes_nothing(main, tmp_path, capsys):
    assert main("describe", "--workdir=new", *SETTINGS) == 0
    out = capsys.readouterr().out
    assert "data       digits 1.0.0: train 316, validation 144, test 360 images of 8 x 8 x 1" in out
    assert re.search(r"^classes    10; 1\.\d+ : 1 in train \(\d 3\d, \d 3\d\)$", out, re.MULTILINE)
    assert re.search(r"^class  train  validation  test$", out, re.MULTILINE)
    assert "optimizer.ema_decay=0.9, " in out
    assert "{" not in out
    assert "steps      20 an epoch, 60 in all" in out
    parameters = 64 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    assert f"{parameters:,}" in out
    assert "MiB" in out
    assert main("describe", "--workdir=new", "--json", *SETTINGS) == 0
    described = json.loads(capsys.readouterr().out)
    assert described["optimizer"]["ema_decay"] == 0.9
    assert main("describe", "--workdir=new") == 2
    assert "not a run directory" in error_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_describe_prints_large_networks_by_their_blocks_or_layers(main, tmp_path, capsys):
    network = ["--model.name=resnet50", "--dataset.image_size=32", "--dataset.train_examples=316"]
    assert main("describe", *network) == 0
    short = capsys.readouterr().out
    assert "6 blocks of 1x1, 3x3, 1x1" in short
    assert "backbone/stage3/block1/conv1/conv" not in short
    assert "--layers prints all" in short
    assert main("describe", *network, "--layers") == 0
    long = capsys.readouterr().out
    assert "backbone/stage3/block1/conv1/conv" in long
    assert "blocks of" not in long
    assert list(tmp_path.iterdir()) == []


def test_describe_saves_a_picture_where_it_is_told(main, tmp_path, capsys):
    arguments = ["describe", "--model.name=mlp", "--dataset.image_size=none"]
    assert main(*arguments, "--output=new/mlp.png") == 0
    assert "picture    new/mlp.png" in capsys.readouterr().out
    with Image.open(tmp_path / "new" / "mlp.png") as picture:
        assert picture.width > 500
    (tmp_path / "file").write_text("")
    assert main(*arguments, "--output=file/mlp.svg") == 1
    assert "file/mlp.svg cannot be written" in error_line(capsys.readouterr().err)


def test_models_lists_every_model_without_building_one(main, tmp_path, capsys, monkeypatch):
    def build(*arguments, **options):
        raise AssertionError("a model was built")

    monkeypatch.setattr(models.Classifier, "__post_init__", build)
    assert main("models") == 0
    out = capsys.readouterr().out
    assert {line.split()[0] for line in out.splitlines() if line[:2] == "  "} == set(
        models.REGISTRY
    )
    assert "describe --model.name=NAME" in out
    assert "--config=cifar10_cnn --model.name=NAME" in out
    assert list(tmp_path.iterdir()) == []
    for flag in ("--model.name=vgg16", "--config=cifar10_cnn", "--workdir=new"):
        assert main("models", flag) == 2
        name = flag.partition("=")[0]
        assert f"takes no {name}; " in error_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("network", "option"),
    [
        ("resnet18", "--model.bottleneck_stride=1x1"),
        ("vgg16", "--model.auxiliary"),
        ("resnet50", "--model.local_response_norm"),
        ("lenet5", "--model.dropout_rate=0.5"),
    ],
)
def test_an_option_that_a_model_has_not_is_refused(main, network, option, tmp_path, capsys):
    arguments = [f"--model.name={network}", "--dataset.image_size=32", option]
    for command in ("train", "describe"):
        assert main(command, *arguments) == 2
        line = error_line(capsys.readouterr().err)
        assert f"{option.partition('=')[0]} has no effect on {network}" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["evaluate"], ["predict", "x.png"]])
def test_reading_needs_the_directory_of_a_run(main, command, tmp_path, capsys):
    assert main(*command) == 2
    assert "needs --workdir=DIR" in error_line(capsys.readouterr().err)
    assert main(*command, "--workdir=nowhere") == 2
    assert "not a run directory" in error_line(capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_checkpoint_cannot_be_read_yet(main, tmp_path, capsys):
    config = experiment.Experiment(model=experiment.Model(name="mlp"))
    (tmp_path / "new").mkdir()
    RunDirectory("new").write("config", experiment.to_dict(config))
    assert main("predict", "--workdir=new", "x.png") == 2
    assert "has not begun to train" in error_line(capsys.readouterr().err)
    assert main("evaluate", "--workdir=new") == 2
    assert "has not begun to train" in error_line(capsys.readouterr().err)


def test_a_configuration_that_is_not_json_is_named(main, finished, capsys, caplog):
    """The newest checkpoint holds it too; without one nothing can stand in."""
    (finished / "config.json").write_text('{"seed": 7,')
    assert main("evaluate", f"--workdir={finished}") == 0
    assert "config.json does not hold JSON: the newest checkpoint's is used" in caplog.text
    capsys.readouterr()
    shutil.rmtree(finished / "checkpoints")
    for command in (["train"], ["evaluate"]):
        assert main(*command, f"--workdir={finished}") == 1
        assert "config.json does not hold JSON" in error_line(capsys.readouterr().err)


# Code of the user's own


@pytest.fixture
def own_preset(tmp_path, monkeypatch):
    """A preset that registers the model tiny_net."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "my_preset.py", tmp_path / "mine.py")
    return tmp_path / "mine.py"


def test_a_file_of_ones_own_serves_every_command(main, cli, own_preset, images, tmp_path, capsys):
    options = ["--train.epochs=1", "--logging.projector_images=0"]
    result = cli("--config=mine.py", "--workdir=run", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    printed = [line for line in result.stdout.splitlines() if line.startswith("evaluate")]
    assert printed[0].endswith(f"evaluate --workdir=run --code={own_preset}")
    kept = read(tmp_path / "run" / "config.json")

    for command in (["evaluate"], ["predict", *images], ["train", "--train.epochs=2"]):
        assert main(*command, "--workdir=run") == 2
        line = error_line(capsys.readouterr().err)
        assert "tiny_net" in line
        assert "mine.py" in line
        assert "--code=FILE.py" in line
    # The file's EXPERIMENT has five epochs, the run one.
    assert main("evaluate", "--workdir=run", "--config=mine.py") == 0
    assert "test accuracy" in capsys.readouterr().out
    assert main("predict", "--workdir=run", "--code=mine.py", *images) == 0
    assert main("models", "--code=mine.py") == 0
    assert "  tiny_net " in capsys.readouterr().out
    assert main("report", "run", "--config=mine.py") == 0
    assert read(tmp_path / "run" / "config.json") == kept
    assert main("train", "--workdir=run", "--code=mine.py", "--train.epochs=2", "--quiet") == 0
    assert len(read(tmp_path / "run" / "history.json")) == 2


def test_a_misspelt_model_of_ones_own_gets_a_suggestion(main, own_preset, capsys):
    del own_preset
    assert main("describe", "--config=mine.py", "--model.name=tiny_nett") == 2
    assert "did you mean" in (line := error_line(capsys.readouterr().err))
    assert "tiny_net?" in line


def test_a_second_ctrl_c_while_the_first_is_answered_prints_no_traceback(monkeypatch):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "main", interrupted)
    monkeypatch.setattr(program.streams, "open_closed", lambda: None)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # it is set; restored here
    with pytest.raises(SystemExit, match="130"):
        program.entry()


def test_ctrl_c_ends_the_process_at_once_until_the_command_runs(main):
    lines = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run detached
from cnn_jax import __main__
from cnn_jax.cli import main
main.main = lambda argv: signal.getsignal(signal.SIGINT) != signal.SIG_DFL
__main__.entry()
"""
    assert subprocess.run([sys.executable, "-c", lines], check=False).returncode == 0
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        assert main("models") == 0
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
