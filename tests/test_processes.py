"""Several processes: found, met, agreed, stopped together, and ended where one is lost."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from cnn_jax import processes
from cnn_jax.errors import RunError, UsageError
from cnn_jax.processes import clusters, star
from cnn_jax.processes.clusters import Place
from cnn_jax.processes.stopping import Stop
from cnn_jax.processes.team import Team
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.training import together

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# Where processes are found.

SLURM = {
    "SLURM_JOB_ID": "70",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "0",
    "SLURM_STEP_NODELIST": "gpu[007,009-010]",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
    "SLURM_NTASKS": "8",
}


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("gpu[007,009-010]", "gpu007"),
        ("n1", "n1"),
        ("a,b", "a"),
        ("n[1-2]-ib,m", "n1-ib"),
        ("rack-3-n12", "rack-3-n12"),
    ],
)
def test_slurm_says_where_process_0_is(nodes, host):
    assert clusters.of_slurm(SLURM | {"SLURM_STEP_NODELIST": nodes}).host == host


def test_tasks_of_a_step_belong_together_and_other_steps_do_not():
    place = clusters.of_slurm(SLURM)
    assert (place.count, place.index, place.key) == (3, 2, "slurm 70.2")
    other = clusters.of_slurm(SLURM | {"SLURM_STEP_ID": "3"})
    assert other.key != place.key
    assert other.port != place.port


@pytest.mark.parametrize(
    ("env", "devices"),
    [
        ({}, None),  # no GPU is seen
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_GPUS_ON_NODE": "4"}, (2, 3)),
        ({"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_GPUS_ON_NODE": "2"}, (1,)),
        # Slurm has given each task GPUs of its own.
        ({"CUDA_VISIBLE_DEVICES": "0,1", "SLURM_GPUS_ON_NODE": "4"}, None),
        ({"CUDA_VISIBLE_DEVICES": "3", "SLURM_GPUS_ON_NODE": "4"}, None),
        # A task that has its node for itself takes all GPUs of the node.
        ({"CUDA_VISIBLE_DEVICES": "0,1,2,3", "SLURM_NODEID": "1", "SLURM_LOCALID": "0"}, None),
    ],
)
def test_tasks_share_the_gpus_of_a_node(env, devices):
    assert clusters.of_slurm(SLURM | env).devices == devices


def test_a_batch_script_and_a_step_of_one_task_work_alone(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SLURM_NTASKS", "8")  # as in a batch script, outside srun
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert clusters.find("auto") is None
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert clusters.find("auto") is None
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    place = clusters.find("auto")
    assert place is not None
    assert place.count == 2
    assert clusters.find("off") is None
    with processes.joined("off") as team:
        assert team.count == 1
        assert team.agree(lambda: 3) == 3
        assert team.gather(4) == [4]


def test_open_mpi_on_one_machine_and_on_several():
    env = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "PMIX_NAMESPACE": "a"}
    place = clusters.of_open_mpi(env | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"})
    assert place is not None
    assert (place.host, place.count, place.index) == ("localhost", 4, 3)
    with pytest.raises(RunError, match="OMPI_COMM_WORLD_RANK"):
        clusters.of_open_mpi(env | {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"})


def test_a_kubernetes_job_needs_its_client(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert clusters.find("auto") is None  # an ordinary pod
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    with (
        pytest.warns(UserWarning, match="package"),
        pytest.raises(RunError, match="pip install kubernetes"),
    ):
        clusters.find("auto")


@pytest.mark.parametrize(
    "value", ["on", "host:1,2", "host:0,2,1", "host:99999,2,1", "host:10,2,2", "host,2,1"]
)
def test_a_place_that_is_none_is_refused(main, value, capsys):
    assert main("train", f"--distributed={value}") == 2
    assert capsys.readouterr().err.startswith("error: --distributed")


def test_what_is_the_work_of_one_process_says_so(main, monkeypatch, capsys):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    assert main("predict", "--workdir=run", "x.png") == 2
    assert capsys.readouterr().err == ""  # process 0 says it
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert main("predict", "--workdir=run", "x.png") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: predict is the work of one process, and these are 3: start one")
    for command in ("trust", "advise", "explain"):
        assert main(command, "--workdir=run") == 2
        assert f"error: {command} is the work of one process" in capsys.readouterr().err
    assert main("sweep", "--workdir=run") == 2  # a worker, which misses its space
    assert "the work of one" not in capsys.readouterr().err
    assert main("predict", "--workdir=run", "x.png", "--distributed=off") == 2
    assert "is not a run directory" in capsys.readouterr().err


# What they say to each other, without JAX.


def meet(count: int, port: int, limit: float = 10.0, **changed) -> list:
    """Returns what each of some processes, here threads, gets of `star.meet`, or its error."""
    results: list = [None] * count

    def one(index: int) -> None:
        place = clusters.Place("127.0.0.1", port, count, index)
        if index:
            place = clusters.Place("127.0.0.1", port, count, index, **changed)
        try:
            results[index] = star.meet(place, limit, lambda line: None)
        except (RunError, UsageError) as error:
            results[index] = error

    threads = [threading.Thread(target=one, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_all_meet_and_agree():
    met = meet(3, free_port())
    teams = [
        processes.Team(clusters.Place("127.0.0.1", 1, 3, i), links, told["nodes"])
        for i, (links, told) in enumerate(met)
    ]
    values: list = [None] * 3

    def use(index: int) -> None:
        team = teams[index]
        with team.first():
            began = team.index
        values[index] = (team.agree(lambda: "name"), team.gather(index * index), began)

    threads = [threading.Thread(target=use, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == [("name", [0, 1, 4], 0), ("name", [0, 1, 4], 1), ("name", [0, 1, 4], 2)]
    for team in teams:
        team.leave()


def test_who_does_not_come_is_named():
    port = free_port()
    with pytest.raises(RunError, match="processes 1, 2 of 3 did not come within 0 s"):
        star.meet(clusters.Place("127.0.0.1", port, 3, 0), 0.3, lambda line: None)
    with pytest.raises(
        RunError, match=r"process 1 of 3 .* did not reach process 0 at 127.*refused"
    ):
        star.meet(clusters.Place("127.0.0.1", port, 3, 1), 0.3, lambda line: None)


def test_processes_of_another_job_are_not_taken_in():
    zero, one = meet(2, free_port(), 0.5, key="slurm 3.0")
    assert "did not come" in str(zero)
    assert "is of other processes" in str(one)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = clusters.Place("127.0.0.1", server.getsockname()[1], 2, 0)
        with pytest.raises(RunError, match="another program listens there; give another one"):
            star.meet(place, 1, lambda line: None)


def stops(count: int) -> list[Stop]:
    """Returns the stops of some processes whose messages arrive at once."""
    made: list[Stop] = []

    def sender(index: int):
        return lambda message: made[0].hear(index, message)

    def tell(message) -> None:
        for stop in made[1:]:
            stop.hear(0, message)

    made += [Stop(count, i == 0, sender(i), tell) for i in range(count)]
    return made


@pytest.mark.parametrize("asked", [0, 1, 2])
def test_all_stop_after_the_furthest(asked):
    made = stops(3)
    for stop, steps in zip(made, (4, 6, 5), strict=True):
        assert all(stop.at(step) is None for step in range(1, steps + 1))
    with contextlib.ExitStack() as stack:
        for i, stop in enumerate(made):
            number = int(signal.SIGTERM) if i == asked else None
            before = stop._step
            stack.enter_context(stop.listening(lambda number=number: number))
            stop._step = before
        made[asked].look()
        made[asked].look()
    for stop, steps in zip(made, (4, 6, 5), strict=True):
        found = [stop.at(step) for step in range(steps, 9)]
        assert found.index(signal.SIGTERM) + steps == 7


# What they must have in common.


class Seen:
    """A team of two whose process 1 sees, or has, something else."""

    count, index, is_first = 2, 0, True

    def __init__(self, other):
        self._other = other

    def agree(self, make):
        return make()

    def gather(self, value):
        return [value, self._other]

    def name_of(self, index):
        return f"process {index} of 2 (n{index})"


def test_a_directory_that_not_all_see_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "_team", Seen(False))
    with pytest.raises(UsageError, match=r"process 1 of 2 \(n1\) does not see the directory"):
        together.check_directory(RunDirectory(tmp_path / "a" / "b"))
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(processes, "_team", Seen(True))
    together.check_directory(RunDirectory(tmp_path / "a" / "b"))
    assert not list(tmp_path.iterdir())


# With JAX's runtime.

LOST = """
import os, sys, time
from cnn_jax import processes
with processes.joined(sys.argv[1], 60) as team:
    processes.meet_on_devices(lambda: {"devices": 1})
    team.gather(0)
    print("met", flush=True)
    if team.index == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    from jax.experimental import multihost_utils
    multihost_utils.process_allgather(1.0)
    time.sleep(30)
"""


def start_all(script: str, count: int, environment: dict[str, str], *arguments: str, cwd: Path):
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, "-c", script, f"127.0.0.1:{port},{count},{index}", *arguments],
            cwd=cwd,
            env={**os.environ, **environment, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]


@pytest.mark.parametrize("lost", [0, 1])
def test_where_one_is_killed_the_other_says_so_and_ends(places, lost, tmp_path):
    started = start_all(LOST, 2, places, str(lost), cwd=tmp_path)
    outputs = [process.communicate(timeout=100) for process in started]
    codes = [process.returncode for process in started]
    assert codes[lost] == -signal.SIGKILL
    assert codes[1 - lost] == 1
    out, error = outputs[1 - lost]
    assert out == "met\n"
    (line,) = error.splitlines()
    name = f"process {lost} of 2 ({clusters.node()})"
    assert line == (
        f"error: {name} was killed, or its machine has failed; the same command goes on from the "
        "last checkpoint"
    )


# Process 1 gets a signal after its first epoch.
STOPPED = """
import os, signal, sys, time
import launch
from cnn_jax import processes
from cnn_jax.runs.recorder import Recorder
save = Recorder.save
def save_and_stop(self, step, *rest):
    save(self, step, *rest)
    if not self.writes and step == 10:
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(1)
Recorder.save = save_and_stop
with processes.joined(sys.argv[1], 60):
    code = launch.main(sys.argv[2].split())
    assert launch.main(["evaluate", "--workdir=two"]) == 0
sys.exit(code)
"""
TRAIN = (
    "train",
    "--model.name=mlp",
    "--dataset.image_size=none",
    "--dataset.train_examples=316",
    "--dataset.batch_size=32",
    "--train.epochs=3",
    "--dataset.resident_limit=0.0001",  # streamed: each process reads its own rows
    "--logging.projector_images=0",
)


def test_two_processes_stop_at_one_step_and_one_goes_on(places, digits, main, tmp_path):
    del digits
    command = " ".join([*TRAIN, "--workdir=two"])
    started = start_all(STOPPED, 2, places, command, cwd=tmp_path)
    outputs = [process.communicate(timeout=200) for process in started]
    assert [p.returncode for p in started] == [128 + signal.SIGUSR1] * 2, outputs
    assert outputs[1] == ("", "")
    out, error = outputs[0]
    assert "cpu, 2 devices of 2 processes" in out
    assert "epoch 1/3  train loss" in error
    lines = out.splitlines()
    (stop,) = (i for i, line in enumerate(lines) if line.startswith("stopped at"))
    step = int(lines[stop].split()[3])
    assert 10 < step < 30
    assert lines[stop + 1].startswith("go on with: ")
    assert any(line.startswith("test accuracy") for line in lines[stop:])
    run = tmp_path / "two"
    by_two = RunDirectory(run).read("result")["evaluation"]["test"]
    assert main("evaluate", "--workdir=two") == 0
    by_one = RunDirectory(run).read("result")["evaluation"]["test"]
    assert by_two["confusion_matrix"] == by_one["confusion_matrix"]
    assert by_two["loss"] == pytest.approx(by_one["loss"], rel=1e-5)
    assert (run / "checkpoints" / str(step) / "state").is_dir()
    assert len(list(run.glob("events.out.*"))) == 1

    assert main("train", "--workdir=two", "--quiet") == 0
    assert main(*TRAIN, "--workdir=one", "--quiet") == 0
    two, one = (RunDirectory(tmp_path / name).read("history") for name in ("two", "one"))
    for a, b in zip(two, one, strict=True):
        assert a["step"] == b["step"]
        for name in ("train_loss", "validation_loss"):
            np.testing.assert_allclose(a[name], b[name], rtol=1e-4)
        for name in ("train_accuracy", "validation_accuracy"):
            np.testing.assert_allclose(a[name], b[name], atol=0.01)


def test_a_process_that_has_caught_its_error_is_not_ended_by_it():
    team = Team(Place("here", 0, 1, 0), [], ["here"])
    try:
        team.expect_end(RunError("training diverged"))
        first = team._failing._timer
        assert first is not None
        assert team.agree(lambda: 7) == 7
        assert first.finished.is_set()
        team.expect_end(RunError("training diverged"))
        second = team._failing._timer
        assert second is not None
    finally:
        team.leave()
    assert second.finished.is_set()
