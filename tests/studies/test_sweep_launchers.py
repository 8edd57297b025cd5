"""Workers by submitit and Ray, with stand-ins for both that start processes here."""

import re
import subprocess
import sys
import time
import types
from typing import Any, ClassVar

import pytest

from cnn_jax.cli import sweep
from cnn_jax.cli.invocation import Invocation
from cnn_jax.errors import RunError, UsageError
from cnn_jax.options import Sweep
from cnn_jax.studies.sweep import launchers, processes, team, worker

WORK = [sys.executable, "-c", "open('done', 'a').write('x')"]
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


class Job:
    def __init__(self, command):
        self.process = subprocess.Popen(command)

    def done(self):
        return self.process.poll() is not None

    def cancel(self):
        self.process.terminate()


class Executor:
    """As much of submitit.AutoExecutor as is used; parameters are checked as submitit does."""

    made: ClassVar[list["Executor"]] = []

    def __init__(self, folder, cluster):
        if cluster != "slurm":
            raise RuntimeError("Could not detect srun")
        self.folder, self.parameters = folder, {}
        Executor.made.append(self)

    def update_parameters(self, **parameters):
        if wrong := set(parameters) - {"timeout_min", "gpus_per_node", "slurm_partition"}:
            raise NameError(f"Unknown argument(s): {wrong}")
        self.parameters |= parameters

    def batch(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, command, check):
        assert function is subprocess.run
        assert not check
        return Job(command)


class Ray(types.ModuleType):
    """As much of Ray as is used."""

    def __init__(self):
        super().__init__("ray")
        self.given: dict = {}

    def init(self, **_):
        pass

    def remote(self, function):
        assert function is launchers._call
        return self

    def options(self, **given):
        if "num_wheels" in given:
            raise ValueError("Invalid option keyword num_wheels")
        self.given = given
        return types.SimpleNamespace(remote=Job)

    def wait(self, tasks, num_returns, timeout):
        assert num_returns == len(tasks)
        assert timeout == 0
        return [t for t in tasks if t.done()], [t for t in tasks if not t.done()]

    def cancel(self, task):
        task.cancel()


@pytest.fixture
def clusters(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    submitit, ray = types.ModuleType("submitit"), Ray()
    failed = types.SimpleNamespace(FailedJobError=OSError)
    submitit.AutoExecutor = Executor  # pyright: ignore[reportAttributeAccessIssue]
    submitit.core = types.SimpleNamespace(utils=failed)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "submitit", submitit)
    monkeypatch.setitem(sys.modules, "ray", ray)
    return ray


def ended(workers):
    end = time.monotonic() + 30
    while workers.alive():
        assert time.monotonic() < end
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("launcher", ["local", "slurm", "ray"])
def test_workers_are_started_counted_and_stopped(clusters, launcher, tmp_path):
    assert ended(launchers.start(launcher, WORK, 2, None, tmp_path / "logs"))
    assert (tmp_path / "done").read_text() == "xx"
    sleeping = launchers.start(launcher, SLEEP, 2, None, tmp_path / "logs")
    assert sleeping.alive() == 2
    sleeping.stop()
    assert ended(sleeping)


def test_resources_reach_the_cluster(clusters, tmp_path):
    text = "slurm_partition=gpu, gpus_per_node=2"
    assert ended(launchers.start("slurm", WORK, 1, text, tmp_path))
    wanted = {"timeout_min": 1440, "slurm_partition": "gpu", "gpus_per_node": 2}
    assert Executor.made[-1].parameters == wanted
    assert ended(launchers.start("ray", WORK, 1, "num_gpus=0.5", tmp_path))
    assert clusters.given == {"max_retries": 0, "num_gpus": 0.5}
    with pytest.raises(UsageError, match=r"submitit says Unknown argument.*gpus_per_machine"):
        launchers.start("slurm", WORK, 1, "gpus_per_machine=1", tmp_path)
    with pytest.raises(UsageError, match="Ray says Invalid option keyword num_wheels"):
        launchers.start("ray", WORK, 1, "num_wheels=1", tmp_path)
    with pytest.raises(UsageError, match="'gpus' is not NAME=VALUE"):
        launchers.start("slurm", WORK, 1, "gpus", tmp_path)
    with pytest.raises(UsageError, match="no effect on this machine's own processes"):
        Sweep(resources="num_gpus=1")


def test_what_is_missing_is_said(monkeypatch, clusters, tmp_path):
    monkeypatch.setattr(launchers, "_CLUSTER", "other")
    with pytest.raises(RunError, match="there is no Slurm here: Could not detect srun"):
        launchers.start("slurm", WORK, 1, None, tmp_path)
    for launcher, module, extra in (("slurm", "submitit", "slurm"), ("ray", "ray", "ray")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UsageError, match=rf"pip install 'cnn_jax\[{extra}\]'"):
            launchers.start(launcher, WORK, 1, None, tmp_path)


def test_waiting_ends_with_the_settings_or_the_workers(tmp_path, monkeypatch):
    left = [2, 1, 0]
    study: Any = types.SimpleNamespace(left=lambda: left.pop(0))
    monkeypatch.setattr(processes, "pause", lambda *_: None)
    assert worker.wait(study, lambda: 1, lambda: False) == 0
    assert left == []
    study = types.SimpleNamespace(left=lambda: 3)
    assert worker.wait(study, lambda: 0, lambda: False) == 3


def test_settings_that_are_left_are_said_with_the_command_to_go_on(tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.setattr(team, "work", lambda *_: 3)
    asked = {"launcher": "slurm", "parallel": 2, "space": "optimizer.learning_rate=[1e-3,1e-2]"}
    options = {"sweep": {**asked, "method": "grid"}, "quiet": True}
    message = "all workers have ended, and 3 settings are left.* --sweep.launcher=slurm"
    with pytest.raises(RunError) as error:
        sweep.run_command(Invocation("sweep", workdir=str(tmp_path / "s"), **options))
    assert re.search(message, error.value.for_command_line)
