"""The examples run as they stand, and stay short."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
RUNNABLE = {path.stem: path for path in EXAMPLES if path.stem != "my_preset"}


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


def test_a_network_of_ones_own(places, tmp_path):
    imports = RUNNABLE["own_network"].read_text().count("\nimport ")
    assert code_lines(RUNNABLE["own_network"]) - imports < 15
    data_dir = os.environ.get("TFDS_DATA_DIR", "")
    if not (Path(data_dir) / "cifar10").is_dir():
        pytest.skip("no prepared CIFAR-10 in $TFDS_DATA_DIR")
    said = run(RUNNABLE["own_network"], places, tmp_path, TFDS_DATA_DIR=data_dir)
    assert float(said.split("accuracy ")[-1].split()[0]) > 0.4


def test_a_finished_run_is_read(places, trained, tmp_path):
    said = run(RUNNABLE["read_a_run"], places, tmp_path, str(trained[0]))
    assert "test accuracy" in said
    assert "features (100, " in said


def test_every_example_is_run_here():
    names = {"train_on_arrays", "many_learning_rates", "own_network", "read_a_run"}
    assert set(RUNNABLE) == names
