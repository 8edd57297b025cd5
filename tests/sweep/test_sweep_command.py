"""The command `sweep` itself, in processes of its own: what it keeps, refuses and goes on with."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest

from cnn_jax import experiment

pytest.importorskip("optuna")
SPACE = "--sweep.space=optimizer.learning_rate=[1e-3,1e-2]"
PLAN = (
    *("--model.name=mlp", "--train.epochs=1", "--dataset.train_examples=100"),
    *("--logging.figures_every=none", "--logging.projector_images=0", "--sweep.method=grid", SPACE),
)


def test_a_sweep_is_stopped_goes_on_with_two_workers_and_keeps_the_best(start, cli, tmp_path):
    process = start("sweep", "--workdir=s", *PLAN, cwd=tmp_path)
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("s/trials/*/seed0/history.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with: " in output
    assert not (tmp_path / "s" / "best.json").exists()

    again = cli("sweep", "--workdir=s", "--sweep.parallel=2", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "2 complete" in again.stdout
    records = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert [record["state"] for record in records] == ["complete"] * 2
    best = max(records, key=lambda record: record["value"])
    kept = experiment.from_dict(json.loads((tmp_path / "s" / "best.json").read_text()))
    assert kept.optimizer.learning_rate == best["setting"]["optimizer.learning_rate"]
    assert (tmp_path / "s" / "figures" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    for path in tmp_path.glob("s/trials/*/seed0"):
        config = json.loads((path / "config.json").read_text())
        assert config["name"] == f"{path.parent.name}-s"
        assert len(json.loads((path / "history.json").read_text())) == 1

    plan = json.loads((tmp_path / "s" / "plan.json").read_text())
    assert plan["question"].startswith("Does everything work here?")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (PLAN[:-1], "sweep needs --sweep.space"),
        ((*PLAN, "--dataset.validation_split=test"), "must not choose by the test split"),
        ((*PLAN, "--sweep.trials=5"), "leave --sweep.trials out"),
        ((*PLAN, "--workdir=full"), "holds other files"),
        ((*PLAN, "--sweep.storage=nonsense://x"), "storage cannot be opened"),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_starts(main, capsys, arguments, message):
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    workdir = [] if any("--workdir" in argument for argument in arguments) else ["--workdir=s"]
    assert main("sweep", *arguments, *workdir) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not list(Path().glob("*/trials"))
    if Path("s").exists():  # a start that failed leaves nothing in the way of the next
        assert main("sweep", *PLAN[:-1], *workdir) == 2
        assert "sweep needs --sweep.space" in capsys.readouterr().err
        shutil.rmtree("s")
