"""Several devices, simulated on the CPU, and two processes that talk over the loopback."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from cnn_jax import distributed
from cnn_jax.errors import UsageError

# 316 examples: the last batch of an epoch is padded; 144 to validate on, in batches of 56 where
# 50 is asked for of eight devices.
SETTINGS = (
    "--model.name=mlp",
    "--dataset.image_size=none",
    "--dataset.train_examples=316",
    "--dataset.batch_size=32",
    "--dataset.eval_batch_size=50",
    "--optimizer.ema_decay=0.9",
    "--logging.figures_every=none",
    "--logging.projector_images=0",
    "--quiet",
)
SCRIPT = """
import sys
import launch
for arguments in sys.argv[1:]:
    code = launch.main(arguments.split())
    print(code, flush=True)
"""


def devices(number: int) -> dict[str, str]:
    flags = f"--xla_force_host_platform_device_count={number}"
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}


@pytest.fixture
def launch_on(places, digits, tmp_path):
    """Runs command lines one after the other in a process of so many devices."""
    del digits
    root = str(Path(__file__).resolve().parent.parent)

    def launch_on(number: int, *commands: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", SCRIPT, *commands],
            cwd=tmp_path,
            env={**devices(number), **places, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            timeout=180,
        )

    return launch_on


def read(path: Path):
    return json.loads(path.read_text())


def test_devices_share_a_batch_and_checkpoints_fit_any_number_of_them(launch_on, main, tmp_path):
    train = " ".join(["train", *SETTINGS])
    eight = launch_on(
        8,
        f"{train} --workdir=refused --dataset.batch_size=12",
        f"{train} --workdir=eight --train.epochs=1",
        "evaluate --workdir=eight",
    )
    codes = [line for line in eight.stdout.splitlines() if line.isdecimal()]
    assert codes == ["2", "0", "0"], eight.stderr
    assert eight.stderr.splitlines() == [
        "error: --dataset.batch_size=12 cannot be split evenly over 8 devices; "
        "use a multiple of 8, such as 8 or 16"
    ]
    assert not (tmp_path / "refused").exists()
    (environment,) = read(tmp_path / "eight" / "environment.json")
    assert len(environment["devices"]) == 8
    assert read(tmp_path / "eight" / "result.json")["evaluation"]["test"]["examples"] == 360

    # One device goes on where eight stopped, to what two devices come to from the start. And two
    # devices go on where one stopped.
    assert main("train", "--workdir=eight", "--train.epochs=2", "--quiet") == 0
    one = read(tmp_path / "eight" / "history.json")
    two = launch_on(
        2,
        f"{train} --workdir=two --train.epochs=2",
        "train --workdir=eight --train.epochs=3 --quiet",
    )
    codes = [line for line in two.stdout.splitlines() if line.isdecimal()]
    assert codes == ["0", "0"], two.stderr
    for a, b in zip(one, read(tmp_path / "two" / "history.json"), strict=True):
        for name in ("train_loss", "validation_loss"):
            assert a[name] == pytest.approx(b[name], rel=1e-4)
        for name in ("train_accuracy", "validation_accuracy"):
            assert a[name] == pytest.approx(b[name], abs=0.01)
    assert len(read(tmp_path / "eight" / "history.json")) == 3


def test_arrays_are_split_or_whole(tmp_path):
    mesh = distributed.make_mesh()
    assert mesh.axis_names == ("data",)
    np.save(tmp_path / "x.npy", np.arange(12, dtype=np.uint8).reshape(4, 3))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    tree = {"mapped": mapped, "scalar": np.float32(2)}
    put = distributed.put(tree, distributed.replicated(mesh))
    np.testing.assert_array_equal(put["mapped"], mapped)
    assert put["mapped"].dtype == np.uint8
    assert put["scalar"].shape == ()
    batch = distributed.put(mapped, distributed.over_batch(mesh))
    assert batch.sharding.spec == jax.sharding.PartitionSpec("data")


def test_batches_that_devices_cannot_share():
    mesh = jax.sharding.AbstractMesh((8,), ("data",))
    distributed.check_batch_size("dataset.batch_size", 16, mesh)  # pyright: ignore[reportArgumentType]
    for size, near in ((12, "8 or 16"), (4, "such as 8")):
        with pytest.raises(UsageError, match=f"dataset.batch_size={size} .*{near}"):
            distributed.check_batch_size("dataset.batch_size", size, mesh)  # pyright: ignore[reportArgumentType]


TWO_PROCESSES = """
import sys
import jax
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", num_processes=2, process_id=int(sys.argv[2]))
import numpy as np
from cnn_jax import data, distributed, experiment
from cnn_jax.assembly import assemble
from cnn_jax.data import batches
from cnn_jax.data.feeding import Feed
from cnn_jax.evaluation.evaluator import Evaluator
from cnn_jax.runs import leaves
from cnn_jax.training import steps
from cnn_jax.training.plan import make_plan
from cnn_jax.training.state import initial_state

config = experiment.Experiment(model=experiment.Model(name="mlp"))
generator = np.random.default_rng(0)
split = data.Split(
    generator.integers(0, 256, (20, 8, 8, 1), np.uint8),
    generator.integers(0, 10, 20, np.int32),
    [str(i) for i in range(20)],
)
info = data.DataInfo(
    name="x", version="1", class_names=tuple("0123456789"), image_shape=(8, 8, 1), mean=(0.5,),
    std=(0.3,), sizes={}, class_counts={}, notes=(), digest="",
)
mesh = distributed.make_mesh()
whole = distributed.replicated(mesh)
assembly = assemble(config, info)
plan = make_plan(config, assembly, 20)
state = initial_state(plan, config.seed, whole)
step = jax.jit(steps.make_train_step(plan), out_shardings=whole)
hyper = distributed.put(jax.tree.map(np.asarray, steps.Hyperparameters.of(config)), whole)
feed = Feed(split, mesh, 1.0)
order = batches.epoch_order(0, 0, 20)
for batch in feed.batches(iter([batches.take_batch(order, 8, i) for i in range(3)])):
    state = step(state, batch, hyper)
found = Evaluator(assembly, 500, mesh)(state.variables(), feed)
print(jax.process_count(), jax.device_count(), jax.process_index() == 0, leaves.digest(state))
print(found.examples, found.loss)
"""


def test_two_processes_train_and_evaluate_as_one(places):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    alone = "\n".join(x for x in TWO_PROCESSES.splitlines() if "distributed.init" not in x)
    root = str(Path(__file__).resolve().parent.parent)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(port), rank],
            env={**devices(number), **places, "PYTHONPATH": root},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for script, rank, number in (
            (TWO_PROCESSES, "0", 1),
            (TWO_PROCESSES, "1", 1),
            (alone, "", 2),
        )
    ]
    outputs = [process.communicate(timeout=180) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    last = [output.splitlines()[-2:] for output, _ in outputs]  # Gloo says its own before
    first, second, one = (" ".join(lines).split() for lines in last)
    assert first[:3] == ["2", "2", "True"]
    assert second[:3] == ["2", "2", "False"]
    assert one[:3] == ["1", "2", "True"]
    assert first[3:] == second[3:]
    assert first[4] == one[4] == "20"
    assert float(first[5]) == pytest.approx(float(one[5]), rel=1e-5)
