"""Sweep, advise, compare and report with a model, a loss and a data set of the user's own."""

import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("optuna")
OWN = '''"""Which rate does my network want?"""

import flax.linen as nn
import numpy as np
import optax

import cnn_jax
from cnn_jax.experiment import Dataset, Experiment, Logging, Model, Train
from cnn_jax.options import Sweep


@cnn_jax.register_model("own_net", input_shape=(8, 8, 1))
def own_net(num_outputs, dtype):
    return OwnNet(num_outputs)


class OwnNet(nn.Module):
    num_outputs: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3))(x)).reshape(x.shape[0], -1)
        return nn.Dense(self.num_outputs)(x)


@cnn_jax.register_loss("own_loss")
def own_loss(logits, labels):
    return 2 * optax.softmax_cross_entropy_with_integer_labels(logits, labels)


@cnn_jax.register_dataset("own_data")
def own_data():
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = rng.integers(0, 80, (120, 8, 8, 1)) + 80 * labels[:, None, None, None]
    return images.astype(np.uint8), labels


EXPERIMENT = Experiment(
    dataset=Dataset("own_data"),
    model=Model("own_net"),
    train=Train(epochs=1, loss="own_loss"),
    logging=Logging(figures_every=None, projector_images=0),
)
SWEEP = Sweep("optimizer.learning_rate=[1e-2]", "grid")
'''


@pytest.fixture(scope="module")
def swept(cli, tmp_path_factory):
    """A folder with own.py and its sweep, in s, and what the sweep printed."""
    base = tmp_path_factory.mktemp("own")
    (base / "own.py").write_text(OWN)
    result = cli("sweep", "--config=own.py", "--workdir=s", cwd=base)
    assert result.returncode == 0, result.stderr + result.stdout
    return base, result.stdout


def test_a_sweep_trains_what_a_file_registers_and_says_how_to_train_the_best(swept, cli):
    base, output = swept
    assert "1 complete" in output
    records = json.loads((base / "s/sweep.json").read_text())
    assert [record["state"] for record in records] == ["complete"]
    assert (base / "s/trials/0000/seed0/code.json").exists()
    command = shlex.split(re.findall("train best (.*)", output)[0])
    words = command[command.index("train") :]
    assert f"--code={base / 'own.py'}" in words
    result = cli(*words, "--quiet", cwd=base)
    assert result.returncode == 0, result.stderr
    kept = json.loads((base / "s/best/config.json").read_text())
    assert (kept["model"]["name"], kept["train"]["loss"]) == ("own_net", "own_loss")


@pytest.fixture
def here(swept, main, monkeypatch):
    """The program in this process, which does not know what own.py registers."""
    monkeypatch.chdir(swept[0])
    return main


def test_a_sweep_that_goes_on_asks_for_its_code(swept, cli, here, capsys):
    base, _ = swept
    assert here("sweep", "--workdir=s") == 2
    assert "give that file with --code=FILE.py" in capsys.readouterr().err
    result = cli("sweep", "--workdir=s", "--code=own.py", cwd=base)
    assert result.returncode == 0, result.stderr
    assert "1 complete" in result.stdout


def test_runs_are_compared_and_reported_without_the_code(here, capsys):
    assert here("compare", "s/trials", "--format=json") == 0
    assert {group["status"] for group in json.loads(capsys.readouterr().out)} == {"finished"}
    for directory in ("s", "s/trials/0000/seed0"):
        assert here("report", directory) == 0
        assert "own_net" in Path(directory, "report.html").read_text()


def test_advice_on_a_module_in_one_part(swept, cli, here, capsys):
    base, _ = swept
    options = ["--transfer.weights=s/trials/0000/seed0"]
    options += ["--advise.examples=all", "--advise.seeds=1", "--advise.budget=epochs"]
    options += ["--train.epochs=8", "--optimizer.learning_rate=1e-2"]  # or nothing is learned
    result = cli("advise", "--config=own.py", "--workdir=a", *options, cwd=base)
    assert result.returncode == 0, result.stderr + result.stdout
    assert "head is left out: the model has no backbone and head of its own" in result.stdout
    assert f"--code={base / 'own.py'}" in result.stdout.splitlines()[-1]
    cells = json.loads((base / "a/advise.json").read_text())["budgets"]["epochs"]["cells"]
    assert [cell["strategy"] for cell in cells] == ["everything", "scratch"]
    assert all(cell["flops"] > 0 for cell in cells)
    assert here("advise", "--workdir=a") == 2
    assert "give that file with --code=FILE.py" in capsys.readouterr().err
