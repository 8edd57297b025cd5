"""The parameters that a run never trains stand once beside its checkpoints."""

import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import distributed, experiment, files
from cnn_jax.assembly import assemble
from cnn_jax.errors import RunError
from cnn_jax.runs import frozen, leaves, stored
from cnn_jax.runs.checkpoints import Checkpoints
from cnn_jax.training import freezing
from cnn_jax.training.plan import make_plan
from cnn_jax.training.state import abstract_state, initial_state
from cnn_jax.trees import flatten

META = {"phase": 0, "averages_statistics": False}


def sharding():
    return distributed.replicated(distributed.make_mesh())


@pytest.fixture(scope="module")
def plan(digits):
    config = experiment.Experiment(
        model=experiment.Model(name="mlp"), transfer=experiment.Transfer(freeze="backbone")
    )
    return make_plan(config, assemble(config, digits.info), 316)


@pytest.fixture(scope="module")
def state(plan):
    return initial_state(plan, 0, sharding())


@pytest.fixture(scope="module")
def untrained(plan):
    return freezing.untrained(plan.assembly.shapes["params"], plan.phases)


@pytest.fixture(scope="module")
def two(state, untrained, tmp_path_factory) -> Path:
    """Checkpoint 1 as it was saved before frozen parameters stood by themselves, and 2, 3."""
    folder = tmp_path_factory.mktemp("frozen") / "checkpoints"
    for step, paths in ((1, ()), (2, untrained), (3, untrained)):
        with Checkpoints(folder, keep=2, untrained=paths) as saved:
            at = state.replace(step=np.asarray(step, np.int32))
            saved.save(step, at, {**META, "validation_accuracy": 0.9 - step / 10})
    return folder


@pytest.fixture
def folder(two, tmp_path) -> Path:
    return Path(shutil.copytree(two, tmp_path / "checkpoints"))


@pytest.fixture
def restore(plan):
    def restore(folder: Path):
        with Checkpoints(folder, keep=3) as saved:
            return saved.restore_latest(lambda meta: abstract_state(plan, meta), sharding())

    return restore


def file_of(folder: Path) -> Path:
    (path,) = folder.glob("frozen-*.npz")
    return path


def test_one_file_serves_all_checkpoints_to_the_bit(state, untrained, folder, restore):
    flat = flatten(state.params)
    size = sum(flat[path].nbytes for path in untrained)
    assert 0 < size <= file_of(folder).stat().st_size < 1.1 * size + 2000
    for step in (3, 2, 1):  # the newest of those that are left
        restored, meta = restore(folder)
        assert int(restored.step) == step
        assert ("frozen" in meta) == (step > 1)
        assert leaves.digest(restored.params) == leaves.digest(state.params)
        variables, found = stored.load_variables(folder, "last")
        assert found == step
        assert leaves.digest(variables["params"]) == leaves.digest(state.params)
        shutil.rmtree(folder / str(step))


def test_another_start_leaves_the_file_as_it_is(state, untrained, folder):
    before = file_of(folder).stat()
    with Checkpoints(folder, keep=1, untrained=untrained) as saved:
        saved.save(4, state, META)
    after = file_of(folder).stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert [path.name for path in stored.step_folders(folder)] == ["1", "4"]  # the best, the newest


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def put_another(path: Path) -> None:
    arrays: dict[str, Any] = {"params/backbone/dense1/kernel": np.zeros(3, np.float32)}
    np.savez(path, **arrays)


@pytest.mark.parametrize("damage", [tear, flip, empty, put_another, Path.unlink])
def test_a_damaged_file_is_named_in_one_line(damage, folder, restore):
    path = file_of(folder)
    damage(path)
    shutil.rmtree(folder / "1")
    with pytest.raises(RunError, match=r"no checkpoint in .* the frozen parameters") as caught:
        restore(folder)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Error" not in str(caught.value)
    with pytest.raises(RunError, match="the frozen parameters"):
        stored.load_variables(folder, "last")


def test_a_damaged_file_is_written_anew_by_a_run_that_goes_on(
    state, untrained, folder, restore, caplog
):
    """It goes on from a checkpoint that holds all parameters."""
    tear(file_of(folder))
    restored, _ = restore(folder)
    assert int(restored.step) == 1
    assert "the sha256 of the frozen parameters" in caplog.text
    with Checkpoints(folder, keep=1, untrained=untrained) as saved:
        saved.save(2, restored.replace(step=np.asarray(2, np.int32)), META)
    again, _ = restore(folder)
    assert int(again.step) == 2
    assert leaves.digest(again.params) == leaves.digest(state.params)


def test_arrays_that_numpy_has_no_name_for_stay_in_the_state():
    params = {"a": jnp.ones(3, jnp.bfloat16), "b": {"c": jnp.ones(3), "d": jnp.ones(3)}}
    rest, taken = frozen.split(params, ["a", "b/c"])
    assert set(taken) == {("params", "b", "c")}
    assert set(flatten(rest)) == {"a", "b/d"}


def test_a_full_disk_leaves_nothing(state, untrained, tmp_path, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with (
        pytest.raises(RunError, match=r"cannot be saved in .*: No space left on device"),
        Checkpoints(tmp_path / "checkpoints", keep=1, untrained=untrained) as saved,
    ):
        saved.save(1, state, META)
    assert list((tmp_path / "checkpoints").iterdir()) == []
