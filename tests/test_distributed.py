"""Several devices, simulated on the CPU; `test_processes.py` has several processes."""

import json
import os
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


def test_a_process_reads_its_rows_of_a_batch():
    class Device:
        def __init__(self, process_index):
            self.process_index = process_index

    class Mesh:
        size = 4
        devices = np.array([Device(0), Device(0), Device(7), Device(7)])  # this is process 0

    assert distributed.rows_of_process(Mesh(), 12) == slice(0, 6)  # pyright: ignore[reportArgumentType]
    mesh = distributed.make_mesh()
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    assert distributed.rows_of_process(mesh, 6) == slice(0, 6)
    np.testing.assert_array_equal(distributed.put_rows(rows, mesh, 6), rows)
    (local,) = jax.tree.leaves(distributed.on_this_process({"a": jax.numpy.ones(3)}))
    assert local.shape == (3,)
