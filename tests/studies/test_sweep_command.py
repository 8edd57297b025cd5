"""The command `sweep` itself, in processes of its own: what it keeps, refuses and goes on with."""

import json
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from cnn_jax import experiment
from cnn_jax.studies.sweep import processes, worker

pytest.importorskip("optuna")
SPACE = "--sweep.space=optimizer.learning_rate=[1e-3,2e-3]"
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
    assert plan["question"] is None  # what the preset asks, it asks of another model
    assert plan["settings"] == 2
    assert not {"parallel", "launcher", "resources"} & plan["sweep"].keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (PLAN[:-1], "sweep needs --sweep.space"),
        ((*PLAN, "--dataset.validation_split=test"), "must not choose by the test split"),
        ((*PLAN, "--sweep.trials=5"), "leave --sweep.trials out"),
        ((*PLAN, "--workdir=full"), "holds other files"),
        ((*PLAN, "--sweep.storage=nonsense://x"), "storage cannot be opened"),
        ((*PLAN, "--sweep.folds=5", "--dataset.fold=1/5"), "leave one of them out"),
        ((*PLAN, "--sweep.folds=5", "--dataset.validation_split=test"), "validation_split out"),
        ((*PLAN[:-1], "--sweep.space=dataset.fold=[1/5,2/5]"), "--sweep.folds=5 trains every"),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_starts(main, capsys, arguments, message):
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    Path("s").mkdir()  # as a start leaves it whose disk was full before the plan was written
    Path("s/events.out.tfevents.1.host").touch()
    Path("s/.plan.json.17").touch()
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


@pytest.fixture
def instant(monkeypatch):
    """Settings end without being trained: diverged where a file says so, else with an accuracy."""

    def work(self):
        while (trial := self.study.take()) is not None:
            if Path("diverge").exists():
                trial.diverge(1.0)
            else:
                trial.finish([0.5 + trial.setting["optimizer.learning_rate"]], 1.0)
            self.study.write_records()
            if Path("stop").exists():
                if number := Path("stop").read_text():
                    signal.raise_signal(int(number))
                raise processes.Stopped

    monkeypatch.setattr(worker.Worker, "work", work)


RANDOM = ("--workdir=r", "--sweep.space=optimizer.learning_rate=log(1e-3,1e-2)")


def test_a_sweep_gets_more_trials_and_not_fewer(main, instant, capsys):
    Path("stop").touch()
    assert main("sweep", *RANDOM, "--sweep.trials=3", "--sweep.parallel=1") == 130
    assert "go on with: " in capsys.readouterr().out
    assert main("report", "r") == 0
    text = Path("r/report.html").read_text()
    assert "It has not ended: 2 settings are left." in text
    assert "1 of 3" in text
    assert main("sweep", "--workdir=r", "--sweep.trials=2") == 2
    assert "has --sweep.trials=3, which can become more and not 2" in capsys.readouterr().err
    assert main("sweep", "--workdir=r", "--sweep.trials=4") == 130
    Path("stop").write_text(str(int(signal.SIGTERM)))
    assert main("sweep", "--workdir=r") == 128 + signal.SIGTERM
    Path("stop").unlink()
    assert main("sweep", "--workdir=r") == 0  # it remembers that there are to be four
    assert "4 complete" in capsys.readouterr().out
    assert json.loads(Path("r/plan.json").read_text())["settings"] == 4


def test_a_sweep_of_an_older_version_goes_on(main, instant, capsys):
    Path("stop").touch()
    assert main("sweep", *RANDOM, "--sweep.trials=3") == 130
    plan = json.loads(Path("r/plan.json").read_text())
    del plan["code"]
    plan["sweep"]["vectorize"] = 4
    Path("r/plan.json").write_text(json.dumps(plan))
    Path("stop").unlink()
    assert main("sweep", "--workdir=r") == 0
    assert "3 complete" in capsys.readouterr().out
    assert "vectorize" not in json.loads(Path("r/plan.json").read_text())["sweep"]


def test_settings_that_all_diverge_are_a_result(main, instant, capsys):
    Path("diverge").touch()
    assert main("sweep", *RANDOM, "--sweep.trials=2") == 0
    output = capsys.readouterr().out
    assert "2 diverged" in output
    assert "train best" not in output
    assert Path("r/figures/sweep.png").exists()
    assert [r["value"] for r in json.loads(Path("r/sweep.json").read_text())] == [None, None]
    assert main("report", "r") == 0


def test_a_sweep_goes_on_as_its_preset_says_and_no_other_way(main, instant, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)  # as where it is not installed
    preset = Path("own.py")
    text = '''"""What?"""
from cnn_jax.experiment import Dataset, Experiment, Model
from cnn_jax.options import Sweep

EXPERIMENT = Experiment(model=Model("mlp"), dataset=Dataset("digits"))
SWEEP = Sweep("optimizer.learning_rate=[VALUES]", "grid", launcher="LAUNCHER")
'''
    preset.write_text(text.replace("VALUES", "0.1").replace("LAUNCHER", "local"))
    assert main("sweep", "--config=own.py", "--workdir=r") == 0
    assert json.loads(Path("r/plan.json").read_text())["question"] == "What?"
    preset.write_text(text.replace("VALUES", "0.1,0.2").replace("LAUNCHER", "local"))
    assert main("sweep", "--config=own.py", "--workdir=r") == 2
    assert "was started with --sweep.space=" in capsys.readouterr().err
    # What a preset says of the launcher goes together with a flag.
    preset.write_text(text.replace("VALUES", "0.1").replace("LAUNCHER", "slurm"))
    assert main("sweep", "--config=own.py", "--workdir=q", "--sweep.resources=a=1") == 2
    assert "needs submitit" in capsys.readouterr().err
    assert main("sweep", "--workdir=q") == 0  # here, which changes nothing of what is tried


def test_settings_on_different_images_are_said_to_be(main, instant, capsys):
    space = "--sweep.space=dataset.validation_fraction=[0.1,0.2] optimizer.learning_rate=[0.1]"
    assert main("sweep", "--workdir=r", "--sweep.method=grid", space) == 0
    output = capsys.readouterr().out
    assert "differ in dataset.validation_fraction are validated on different images" in output


def test_paths_in_a_space_hold_from_another_directory(main, instant, monkeypatch):
    words = ["--config=folder_cnn", "--sweep.method=grid", "--dataset.path=a"]
    words.append("--sweep.space=dataset.path=[a,b] optimizer.learning_rate=[0.1]")
    here = Path.cwd()
    assert main("sweep", *words, "--workdir=r") == 0
    paths = [
        each["setting"]["dataset.path"] for each in json.loads(Path("r/sweep.json").read_text())
    ]
    assert paths == [f"{here}/a", f"{here}/b"]
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert main("sweep", f"--workdir={here}/r") == 0
    monkeypatch.chdir(here)
    assert main("sweep", *words, "--workdir=r") == 0  # the same words once more
    # A sweep of an older version keeps its paths as they were written.
    plan = json.loads(Path("r/plan.json").read_text())
    plan["sweep"]["space"] = plan["sweep"]["space"].replace(f"{here}/", "")
    Path("r/plan.json").write_text(json.dumps(plan))
    assert main("sweep", *words, "--workdir=r") == 0
    assert "=[a,b]" in json.loads(Path("r/plan.json").read_text())["sweep"]["space"]
