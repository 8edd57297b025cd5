"""Workers by submitit and Ray, with stand-ins for both that start processes here."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import types
from typing import Any, ClassVar

import pytest

from cnn_jax.cli import sweep
from cnn_jax.cli.invocation import Invocation
from cnn_jax.errors import RunError, UsageError
from cnn_jax.options import Sweep
from cnn_jax.studies.sweep import engines, launchers, processes, team, worker

WORK = [sys.executable, "-c", "open('done', 'a').write('x')"]
SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
# Does what a run does: the same signal a second time ends it at once, another one after a moment.
PATIENT = (
    "trap 'trap - TERM; again=1' TERM; trap 'sleep 0.2; echo saved >>log; exit 130' INT; "
    "trap 'sleep 0.2; echo saved >>log; exit 140' USR2; echo on >>log; "
    "while :; do sleep 0.05; done"
)


@pytest.fixture(autouse=True)
def interruptible():
    """SIGINT is heard here and by what is started, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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

    def __init__(self, folder, cluster, slurm_max_num_timeout):
        assert slurm_max_num_timeout > 3  # submitit's own, after which a long sweep would stop
        if cluster != "slurm":
            raise RuntimeError("Could not detect srun")
        self.folder, self.parameters, self.jobs = folder, {}, []
        Executor.made.append(self)

    def update_parameters(self, **parameters):
        known = {"timeout_min", "gpus_per_node", "slurm_partition", "slurm_setup"}
        if wrong := set(parameters) - known:
            raise NameError(f"Unknown argument(s): {wrong}")
        self.parameters |= parameters

    def batch(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function):
        job: Any = Job(function._command)
        job.job_id = f"7_{len(self.jobs)}"
        self.jobs.append(job)
        return job

    @classmethod
    def slurm(cls, *command):
        """Does what the programs `squeue` and `scancel` do, for the jobs of the last executor."""
        jobs = {job.job_id: job for job in cls.made[-1].jobs if not job.done()}
        if command[0] == "scancel":
            for name in jobs.keys() & set(command):
                jobs[name].cancel()
        if not jobs:
            error = "slurm_load_jobs error: Invalid job id specified"
            return subprocess.CompletedProcess(command, 1, "", error)
        return subprocess.CompletedProcess(command, 0, "\n".join(jobs), "")


class Ray(types.ModuleType):
    """As much of Ray as is used."""

    def __init__(self):
        super().__init__("ray")
        self.given: dict = {}
        self.exceptions = types.SimpleNamespace(RayError=ZeroDivisionError)

    def init(self, **_):
        # Ray's own handler, in C++, is one that Python does not see.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def remote(self, function):
        assert function is engines.run_under_ray
        return self

    def options(self, **given):
        if "num_wheels" in given:
            raise ValueError("Invalid option keyword num_wheels")
        self.given = given
        return types.SimpleNamespace(remote=self.start)

    def start(self, command, gpus):
        assert gpus == self.given.get("num_gpus", 1)
        return Job(command)

    def wait(self, tasks, num_returns, timeout):
        assert num_returns == len(tasks)
        end = time.monotonic() + timeout
        while time.monotonic() < end and not all(t.done() for t in tasks):
            time.sleep(0.02)
        return [t for t in tasks if t.done()], [t for t in tasks if not t.done()]

    def cancel(self, task):
        task.cancel()


@pytest.fixture
def stand_ins(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    submitit, ray = types.ModuleType("submitit"), Ray()
    failed = types.SimpleNamespace(FailedJobError=OSError)
    submitit.AutoExecutor = Executor  # pyright: ignore[reportAttributeAccessIssue]
    submitit.core = types.SimpleNamespace(utils=failed)  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "submitit", submitit)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(engines, "_slurm", Executor.slurm)
    monkeypatch.setattr(engines, "_ASK_SECONDS", 0.0)
    return ray


def ended(workers):
    end = time.monotonic() + 30
    while workers.alive():
        assert time.monotonic() < end
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("launcher", ["local", "slurm", "ray"])
def test_workers_are_started_counted_and_stopped(stand_ins, launcher, tmp_path):
    assert ended(launchers.start(launcher, WORK, 2, None, tmp_path / "logs"))
    assert (tmp_path / "done").read_text() == "xx"
    sleeping = launchers.start(launcher, SLEEP, 2, None, tmp_path / "logs")
    assert sleeping.alive() == 2
    handler = signal.getsignal(signal.SIGTERM)
    sleeping.stop(signal.SIGTERM)
    assert sleeping.alive() == 0  # `stop` waits for them
    assert signal.getsignal(signal.SIGTERM) is handler


def patient(tmp_path, start):
    """Starts PATIENT and waits until it handles signals."""
    started = start(["bash", "-c", PATIENT])
    end = time.monotonic() + 30
    while not (tmp_path / "log").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    return started


def test_a_run_that_the_scheduler_told_as_well_is_not_told_the_same_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process = patient(tmp_path, processes.start)
    process.send_signal(signal.SIGTERM)  # as Slurm does to all processes of a job
    processes.ask_to_stop(process, signal.SIGTERM)
    assert process.wait(30) == 130
    assert (tmp_path / "log").read_text() == "on\nsaved\n"


@pytest.mark.parametrize("code", [0, 1, 140])
def test_a_job_near_its_time_limit_waits_for_its_worker_and_is_queued_again(
    tmp_path, monkeypatch, code
):
    monkeypatch.chdir(tmp_path)
    submitit = types.ModuleType("submitit")
    helpers = types.SimpleNamespace(DelayedSubmission=lambda function: function)
    submitit.helpers = helpers  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "submitit", submitit)
    script = PATIENT.replace("exit 140", f"exit {code}").replace("again=1", ":")
    job, again = engines.SlurmWorker(["bash", "-c", script]), []
    before = signal.signal(signal.SIGUSR2, lambda *_: again.append(job.checkpoint()))

    def announce():
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if (tmp_path / "log").exists() and job._process is not None:
                break
            time.sleep(0.02)
        assert job._process is not None
        job._process.send_signal(signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGUSR2)

    thread = threading.Thread(target=announce)
    thread.start()
    try:
        assert job() == code
    finally:
        signal.signal(signal.SIGUSR2, before)
        thread.join()
    assert (tmp_path / "log").read_text() == "on\nsaved\n"
    # Where nothing is left to do, or the worker has failed, there is no reason to run again.
    assert [type(one) for one in again] == [engines.SlurmWorker if code == 140 else type(None)]


def test_a_cancelled_task_of_ray_waits_for_its_worker(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = PATIENT.replace("trap - TERM; again=1", "echo saved >>log; exit 143")

    def cancel():
        end = time.monotonic() + 30
        while not pathlib.Path("log").exists() and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.5)  # until it is waited for, too
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        engines.run_under_ray(["bash", "-c", script])
    thread.join()
    assert pathlib.Path("log").read_text() == "on\nsaved\n"


@pytest.mark.parametrize(
    ("gpus", "given", "memory"), [(1, "", ""), (0.5, "", "0.375"), (0.5, "0.2", "0.2")]
)
def test_workers_that_share_a_gpu_share_its_memory(tmp_path, monkeypatch, gpus, given, memory):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", given)
    if not given:
        monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION")
    command = ["bash", "-c", "printf %s $XLA_PYTHON_CLIENT_MEM_FRACTION >memory"]
    assert engines.run_under_ray(command, gpus) == 0
    assert (tmp_path / "memory").read_text() == memory


def test_a_controller_that_does_not_answer_ends_no_job(stand_ins, monkeypatch, tmp_path):
    workers = launchers.start("slurm", SLEEP, 2, None, tmp_path / "logs")
    answer = subprocess.CompletedProcess(
        [], 1, "", "slurm_load_jobs error: Unable to contact slurm"
    )
    with monkeypatch.context() as patch:
        patch.setattr(engines, "_slurm", lambda *_: answer)
        assert workers.alive() == 2
    workers.stop()
    assert workers.alive() == 0


def test_resources_reach_the_cluster(stand_ins, tmp_path):
    text = "slurm_partition=gpu, gpus_per_node=2"
    assert ended(launchers.start("slurm", WORK, 1, text, tmp_path))
    given = Executor.made[-1].parameters
    assert re.match(r"export '?PYTHONPATH=", given.pop("slurm_setup")[0])
    assert given == {"timeout_min": 1440, "slurm_partition": "gpu", "gpus_per_node": 2}
    assert ended(launchers.start("ray", WORK, 1, "num_gpus=0.5", tmp_path))
    assert stand_ins.given == {"max_retries": 3, "num_gpus": 0.5}
    with pytest.raises(UsageError, match=r"submitit says Unknown argument.*gpus_per_machine"):
        launchers.start("slurm", WORK, 1, "gpus_per_machine=1", tmp_path)
    with pytest.raises(UsageError, match="Ray says Invalid option keyword num_wheels"):
        launchers.start("ray", WORK, 1, "num_wheels=1", tmp_path)
    with pytest.raises(UsageError, match="'gpus' is not NAME=VALUE"):
        launchers.start("slurm", WORK, 1, "gpus", tmp_path)
    with pytest.raises(UsageError, match="no effect on this machine's own processes"):
        Sweep(resources="num_gpus=1")


def test_what_is_missing_is_said(monkeypatch, stand_ins, tmp_path):
    monkeypatch.setattr(engines, "_CLUSTER", "other")
    with pytest.raises(RunError, match="there is no Slurm here: Could not detect srun"):
        launchers.start("slurm", WORK, 1, None, tmp_path)
    for launcher, module, extra in (("slurm", "submitit", "slurm"), ("ray", "ray", "ray")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(UsageError, match=rf"pip install 'cnn-jax\[{extra}\]'"):
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
