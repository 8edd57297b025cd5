"""A run directory made at commit 8d6aa3c, stopped within its second epoch, still serves.

It is airbench, a twentieth of its width, on digits of 25 x 25, with Muon and a moving average;
`expected_history.json` is the history of the same run uninterrupted, as that commit wrote it.
"""

import json
import shutil
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import cnn_jax

ARCHIVE = Path(__file__).resolve().parent.parent / "fixtures" / "run_8d6aa3c.tar.xz"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder / "old_run"


@pytest.fixture
def old(unpacked, tmp_path) -> Path:
    return Path(shutil.copytree(unpacked, tmp_path / "run"))


def test_it_loads_predicts_and_evaluates(old, digits):
    run = cnn_jax.load(old)
    assert (run.step, len(run.history)) == (10, 1)
    assert run.experiment.model.width == 0.05
    images = digits.splits["test"].images
    with pytest.raises(cnn_jax.UsageError, match=r"takes uint8 images of 25 x 25 with 1 channels"):
        run.predict(images)
    validation = run.evaluate("validation")
    assert validation.accuracy == pytest.approx(run.history[0]["validation_accuracy"])
    assert validation.loss == pytest.approx(run.history[0]["validation_loss"], rel=1e-4)
    found = run.predict(run.split("validation").images[:16])
    np.testing.assert_array_equal(found.probabilities, validation.probabilities[:16])
    assert found.classes == tuple(run.class_names[i] for i in found.labels)
    assert cnn_jax.load(old, "last").step == 15


def test_the_command_line_resumes_evaluates_and_reports_it(old, main, capsys):
    expected = json.loads((old / "expected_history.json").read_text())
    assert main("train", f"--workdir={old}", "--cpu_convolutions=xla") == 0
    said = capsys.readouterr().out
    assert "resumed    at step 15 of 30" in said
    history = json.loads((old / "history.json").read_text())
    assert [record["step"] for record in history] == [10, 20, 30]
    # XLA convolved both, so they agree to the bit where it is the same version.
    tolerance = 0 if jax.__version__ == "0.10.2" else 1e-4
    for before, after in zip(expected, history, strict=True):
        before["seconds"] = after["seconds"]
        assert {key: after[key] for key in before} == pytest.approx(before, rel=tolerance, abs=0)
    assert main("evaluate", f"--workdir={old}") == 0
    assert "test accuracy" in capsys.readouterr().out
    Image.new("L", (25, 25), 100).save(old / "figures" / "grey.png")
    assert main("predict", f"--workdir={old}", str(old / "figures" / "grey.png")) == 0
    assert "grey.png" in capsys.readouterr().out
    assert main("report", str(old)) == 0
    assert (old / "report.html").stat().st_size > 10_000
    assert main("compare", str(old)) == 0
    assert "airbench" in (old / "config.json").read_text()
