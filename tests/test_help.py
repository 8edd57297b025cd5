"""The text of --help, whole and of one command."""

import shlex
import sys
from pathlib import Path

import pytest

from cnn_jax import experiment
from cnn_jax.cli import console, flags, help
from cnn_jax.cli.invocation import COMMANDS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cifar10_cnn.py").write_text('"""How well does a small network do?"""\n')
    (tmp_path / "digits_lenet.py").write_text("EXPERIMENT = None\n")
    return tmp_path


def test_help_lists_everything_within_the_width(folder, monkeypatch):
    monkeypatch.setattr(console.text, "program", lambda: ["cnn-jax"])  # else a path of any length
    monkeypatch.setenv("COLUMNS", "70")
    assert max(map(len, help.text(presets_dir=folder).splitlines())) <= 70
    monkeypatch.setenv("COLUMNS", "90")
    text = help.text(presets_dir=folder)
    assert max(map(len, text.splitlines())) <= 90
    for path, _ in experiment.fields():
        assert (f"--{path}=" in text or f"--[no]{path}" in text) == (path != "name")
    for command in COMMANDS:
        assert f"  {command.name}" in text
    assert "cifar10_cnn   How well does a small network do?" in text
    assert "--[no]dataset.flip  (default: false)" in text
    assert "--optimizer.name=adam|adamw|sgd|muon|own  (default: adam)" in text
    assert "--train.label_smoothing=float  (default: 0.0; at least 0, less than 1)" in text
    assert "\nOptimizer: How parameters follow the gradient.\n" in text


def test_help_survives_a_broken_preset(folder):
    (folder / "broken.py").write_text("x = (\n")
    assert "(cannot be read)" in help.text(presets_dir=folder)


def test_help_of_a_command_has_its_flags_alone(folder):
    train, evaluate = help.text("train", folder), help.text("evaluate", folder)
    for path, _ in experiment.fields():
        assert (f"--{path}=" in train or f"--[no]{path}" in train) == (path != "name")
    assert "--profile=FIRST:LAST" in train
    assert "cifar10_cnn   How well does a small network do?" in train
    assert "--split" not in train
    assert "--sweep." not in train
    assert "--split=test|validation|train" in evaluate
    assert "--dataset.eval_batch_size=int  (default: the run's; at least 1)" in evaluate
    for flag in ("  --train.", "  --model.", "--profile", "--config=", "cifar10_cnn"):
        assert flag not in evaluate
    assert "--dataset.on_error=refuse|skip  (default: refuse)" in help.text("predict", folder)
    assert "predict IMAGE... [--flag=value ...]" in help.text("predict", folder)
    assert "--sweep.space=str" in help.text("sweep", folder)
    assert "--advise.seeds=int" in help.text("advise", folder)
    for command in ("models", "compare", "report"):
        text = help.text(command, folder)
        assert "--platform" not in text
        assert "--seed" not in text
        assert "--code=FILE.py" in text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_example_of_a_command_can_be_pasted(command, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["elsewhere/cnn_jax/__main__.py"])
    lines = help.text(command.name).splitlines()
    example = lines[lines.index("Example") + 1].split("-m cnn_jax ")[1]
    assert flags.parse(shlex.split(example)).command == command.name


@pytest.mark.parametrize(
    ("door", "program"),
    [("launch.py", "launch.py"), ("x/cnn_jax/__main__.py", "-m cnn_jax"), ("b/cnn-jax", "cnn-jax")],
)
def test_help_calls_the_program_as_it_was_called(door, program, monkeypatch):
    monkeypatch.setattr(sys, "argv", [door])
    for text in (help.text(), help.text("evaluate")):
        assert f"{program} " in text.splitlines()[0]


def test_help_fits_a_terminal_of_40_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    lines = help.text(None).splitlines()
    # Only a word that cannot be broken, such as a flag with its choices, is longer.
    assert all(len(line) <= 40 or len(line.split()) == 1 for line in lines[1:])
