"""The examples run as they stand, and stay short."""

import ast
import io
import json
import os
import re
import runpy
import subprocess
import sys
import threading
import unittest.mock
import urllib.request
from pathlib import Path
from typing import Any
from wsgiref import simple_server

import numpy as np
import pytest
import scipy.signal
from PIL import Image

import cnn_jax
from cnn_jax.data import fitting

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
RUNNABLE = {path.stem: path for path in EXAMPLES if path.stem != "my_preset"}
TRACKERS = ("mlflow", "trackio", "wandb")


def run(path: Path, places, cwd, *arguments: str, **environment: str) -> str:
    found = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:cnn_jax", str(path), *arguments],
        cwd=cwd,
        env={**os.environ, **places, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def code_lines(path: Path) -> int:
    """Counts lines that hold code: no blank line, comment or docstring."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, ast.stmt) and not is_text:
            body = getattr(node, "body", None)
            end = body[0].lineno if body else (node.end_lineno or node.lineno) + 1
            lines |= set(range(node.lineno, max(end, node.lineno + 1)))
    return len(lines)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(path):
    assert len(path.read_text().splitlines()) <= 40
    imports = path.read_text().count("\nimport ") + path.read_text().count("\nfrom ")
    assert code_lines(path) - imports <= 20


def test_training_on_arrays(places, tmp_path):
    said = run(RUNNABLE["train_on_arrays"], places, tmp_path)
    assert float(said.split("<Evaluation: accuracy ")[1].split()[0]) > 0.8


def test_many_learning_rates(places, tmp_path):
    said = run(RUNNABLE["many_learning_rates"], places, tmp_path)
    accuracies = [float(line.rsplit(" ", 1)[1]) for line in said.splitlines()]
    assert len(accuracies) == 4
    assert max(accuracies) > 0.8


def test_a_network_of_ones_own_takes_fifteen_lines():
    imports = RUNNABLE["own_network"].read_text().count("\nimport ")
    assert code_lines(RUNNABLE["own_network"]) - imports < 15


@pytest.mark.slow
def test_a_network_of_ones_own(places, tmp_path):
    data_dir = os.environ.get("TFDS_DATA_DIR", "")
    if not (Path(data_dir) / "cifar10").is_dir():
        pytest.skip("no prepared CIFAR-10 in $TFDS_DATA_DIR")
    said = run(RUNNABLE["own_network"], places, tmp_path, TFDS_DATA_DIR=data_dir)
    assert float(said.split("accuracy ")[-1].split()[0]) > 0.4


def test_a_finished_run_is_read(places, trained, tmp_path):
    said = run(RUNNABLE["read_a_run"], places, tmp_path, str(trained[0]))
    assert "test accuracy" in said
    assert "features (100, " in said


def test_the_calculations_of_the_guides_are_those_of_scipy(capsys):
    """By correlation and convolution with zeros, the largest of windows, and reshaping."""
    values = runpy.run_path(str(RUNNABLE["convolution"]))
    printed = capsys.readouterr().out

    def numbers(after: str) -> list[float]:
        section = printed.partition(after)[2]
        stop = re.search(r"\n[A-Za-z0-9]", section)
        return [float(x) for x in re.findall(r"-?\d+\.?\d*", section[: stop and stop.start()])]

    def check(after: str, expected) -> None:
        np.testing.assert_allclose(numbers(after), np.ravel(expected))

    image, edge, sobel = values["image"], values["edge"], values["c"].SOBEL_X
    by_hand = scipy.signal.convolve2d(image, edge, mode="valid")
    check("edges of the 5 x 5 image:", by_hand)
    assert by_hand.tolist() == [[0, 0, 8], [-4, 0, 2], [0, -4, 0]]
    small = scipy.signal.convolve2d(values["small"], values["corner"], mode="valid")
    check("3 x 3 with a 2 x 2 kernel:", small)
    assert small.tolist() == [[6, 8], [12, 14]]
    check("as a network computes it:", scipy.signal.correlate2d(image, sobel, mode="valid"))
    check("with the kernel turned:", scipy.signal.convolve2d(image, sobel, mode="valid"))
    same = scipy.signal.correlate2d(np.ones((28, 28)), edge, mode="same")
    check("28 x 28 with padding 1:", same.shape)
    check("a 3 x 3 window has", [3, 5, 5, 3, 2, 0, 1, 1])
    check("28 pixels stay", [28])
    check("with stride 2 there are", [14])
    check("[[1, 1], [5, 6]]:", [6])
    check("flattened, row by row:", [0, -1, 0, -1, 4, -1, 0, -1, 0])
    check("over 3 channels:", 3 * 3 * 3 * 32 + 32)
    assert "sum: 0" in printed


def serving(folder, monkeypatch) -> dict[str, Any]:
    """Returns the names of examples/serve.py, which serves nothing."""
    monkeypatch.setattr(sys, "argv", ["serve.py", str(folder), "0"])
    monkeypatch.setattr(simple_server, "make_server", unittest.mock.MagicMock())
    return runpy.run_path(str(RUNNABLE["serve"]))


@pytest.mark.slow
def test_an_exported_network_is_served(trained, digits, tmp_path, monkeypatch):
    """By the exported folder alone."""
    for package in ("jax2onnx", "onnxruntime"):
        pytest.importorskip(package, reason="an extra")
    made = cnn_jax.export_run(cnn_jax.load(trained[0]), "onnx", tmp_path / "out")
    make_server = simple_server.make_server
    answer = serving(made.folder, monkeypatch)["answer"]
    picture = io.BytesIO()
    Image.fromarray(digits.splits["test"].images[0, :, :, 0]).save(picture, "png")
    with make_server("localhost", 0, answer) as server:
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        address = f"http://localhost:{server.server_port}"
        with urllib.request.urlopen(address, picture.getvalue(), timeout=30) as reply:
            said = json.load(reply)
        thread.join()
    expected = cnn_jax.load(trained[0]).predict(digits.splits["test"].images[:1])
    assert said["class"] == expected.classes[0]
    assert said["probabilities"] == pytest.approx(expected.probabilities[0].tolist(), abs=1e-5)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    ("how", "share"), [("squash", 0.875), ("crop", 0.875), ("pad", 1.0), ("pad_mean", 1.0)]
)
def test_a_server_fits_images_as_the_network_had_them(tmp_path, monkeypatch, how, share, mode):
    size, channels = (32, 24), len(mode)
    takes = {"shape": ["batch", size[1], size[0], channels], "interpolation": "bicubic"}
    takes |= {"other_sizes": how, "crop_share": share}
    (tmp_path / "export.json").write_text(json.dumps({"input": takes, "file": "model.onnx"}))
    monkeypatch.setitem(sys.modules, "onnxruntime", unittest.mock.MagicMock())
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode).resize((90, 41), Image.Resampling.BICUBIC)
    resized = fitting.resize(image, size, how, share=share, interpolation="bicubic")
    expected = np.asarray(fitting.pad(resized, size, how), int)
    found = np.asarray(serving(tmp_path, monkeypatch)["fit"](image), int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1  # rounding


@pytest.mark.parametrize("name", TRACKERS)
def test_numbers_are_kept_elsewhere(name, places, tmp_path):
    """By the trackers themselves, in files below an empty folder and without a network."""
    pytest.importorskip(name, reason="not needed by anything else")
    code = f"--code={RUNNABLE[f'track_{name}']}"
    settings = ("--model.name=mlp", "--train.epochs=1", "--noquiet", "--workdir=run")
    where = {"HOME": str(tmp_path), "WANDB_MODE": "offline", "TRACKIO_DIR": str(tmp_path / "t")}
    where["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run(ROOT / "launch.py", places, tmp_path, "train", code, *settings, **where)
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    before = b"".join(path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())
    assert kept.count(b"best_validation_accuracy") > before.count(b"best_validation_accuracy")


def test_every_example_is_run_here():
    names = {"train_on_arrays", "many_learning_rates", "own_network", "read_a_run", "convolution"}
    assert set(RUNNABLE) == names | {"serve"} | {f"track_{name}" for name in TRACKERS}
