"""Saving, choosing and distrusting checkpoints."""

import errno
import gc
import json
import os
import resource
import shutil
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from cnn_jax import distributed, experiment
from cnn_jax.assembly import assemble
from cnn_jax.errors import RunError, UsageError
from cnn_jax.evaluation import selection
from cnn_jax.runs import callbacks, leaves, stored
from cnn_jax.runs.checkpoints import Checkpoints
from cnn_jax.runs.unrecorded import Unrecorded
from cnn_jax.training.plan import make_plan
from cnn_jax.training.state import abstract_state, initial_state


def sharding():
    return distributed.replicated(distributed.make_mesh())


@pytest.fixture(scope="module")
def config() -> experiment.Experiment:
    return experiment.Experiment(
        model=experiment.Model(name="mlp"), optimizer=experiment.Optimizer(ema_decay=0.9)
    )


@pytest.fixture(scope="module")
def plan(config, digits):
    return make_plan(config, assemble(config, digits.info), 316)


@pytest.fixture(scope="module")
def first(plan):
    return initial_state(plan, 0, sharding())


def at(first, step: int):
    """Returns a state that another one cannot be taken for."""
    first = jax.tree.map(jnp.copy, first)
    params = jax.tree.map(lambda leaf: leaf + step, first.params)
    return first.replace(step=jnp.asarray(step, jnp.int32), params=params)


@pytest.fixture(scope="module")
def three(first, config, tmp_path_factory) -> Path:
    """Checkpoints of steps 1, 2 and 3, of which that of step 2 is the best."""
    folder = tmp_path_factory.mktemp("checkpoints") / "checkpoints"
    with Checkpoints(folder, keep=3) as saved:
        for step, accuracy in ((1, 0.5), (2, 0.75), (3, 0.25)):
            meta = {"validation_accuracy": accuracy, "phase": 0, "averages_statistics": True}
            meta["config"] = experiment.to_dict(config)
            saved.save(step, at(first, step), meta)
    return folder


@pytest.fixture
def folder(three, tmp_path) -> Path:
    return Path(shutil.copytree(three, tmp_path / "checkpoints"))


@pytest.fixture
def restore(plan, config):
    def restore(folder: Path):
        with Checkpoints(folder, keep=3, config=config) as saved:
            return saved.restore_latest(lambda meta: abstract_state(plan, meta), sharding())

    return restore


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def flip_bytes(folder: Path) -> None:
    largest = max((folder / "state").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4] = (byte ^ 0xFF for byte in content[middle : middle + 4])
    largest.write_bytes(content)


def remove_data(folder: Path) -> None:
    max((folder / "state").rglob("*"), key=lambda path: path.stat().st_size).unlink()


def remove_state(folder: Path) -> None:
    shutil.rmtree(folder / "state")


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def truncate_meta(folder: Path) -> None:
    path = folder / "meta" / "metadata"
    path.write_bytes(path.read_bytes()[:-40])


def empty_meta(folder: Path) -> None:
    (folder / "meta" / "metadata").write_text("{}")


def rename(folder: Path) -> None:
    """Puts the state of step 1 in its place."""
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("1"), folder)


def of_another_run(folder: Path) -> None:
    """Gives it the configuration of a run with another seed."""
    path = folder / "meta" / "metadata"
    meta = json.loads(path.read_text())
    meta["config"]["seed"] = 5
    path.write_text(json.dumps(meta))


def of_a_later_version(folder: Path) -> None:
    path = folder / "meta" / "metadata"
    meta = json.loads(path.read_text())
    meta["phase"] = 7
    path.write_text(json.dumps(meta))


REASONS = {
    flip_bytes: "the sha256 of its state is not the one that was saved",
    remove_data: "a file in its state is damaged or missing",
    truncate_meta: "a file in it is damaged: meta/metadata",
    rename: "it holds the state of step 1",
    of_another_run: "it is of another run: --seed is 0 and the checkpoint's is 5",
    of_a_later_version: "a file in it is damaged: meta/metadata",
}
DAMAGES = [flip_bytes, remove_data, remove_state, empty, truncate_meta, empty_meta]
DAMAGES += [rename, of_another_run, of_a_later_version]


def test_what_is_saved_comes_back_bit_for_bit(first, folder, restore):
    state, meta = restore(folder)
    want = at(first, 3)
    assert meta["sha256"] == leaves.digest(want) == leaves.digest(state)
    assert jax.tree.structure(state) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        assert a.sharding.is_equivalent_to(sharding(), a.ndim)
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


def test_a_save_does_not_see_what_becomes_of_the_buffers(first, tmp_path, restore):
    state = at(first, 1)
    step = jax.jit(lambda s: jax.tree.map(lambda x: x, s), donate_argnums=0)
    with Checkpoints(tmp_path / "checkpoints", keep=1) as saved:
        saved.save(1, state, {"phase": 0})
        step(state)
    restored, _ = restore(tmp_path / "checkpoints")
    assert leaves.digest(restored) == leaves.digest(at(first, 1))


def test_there_is_nothing_to_restore_before_the_first_save(tmp_path, restore):
    assert restore(tmp_path / "checkpoints") is None
    (tmp_path / "checkpoints").mkdir()
    assert restore(tmp_path / "checkpoints") is None


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    damage, first, folder, restore, caplog
):
    damage(folder / "3")
    before = {p.relative_to(folder / "3") for p in (folder / "3").rglob("*")}
    state, _ = restore(folder)
    assert int(state.step) == 2
    assert leaves.digest(state) == leaves.digest(at(first, 2))
    (record,) = caplog.records
    assert f"checkpoint {folder / '3'} is damaged" in record.getMessage()
    assert REASONS.get(damage, "") in record.getMessage()
    assert "Error" not in record.getMessage()
    assert steps(folder) == [1, 2]
    aside = folder / "damaged" / "3"
    assert {p.relative_to(aside) for p in aside.rglob("*")} == before


def test_a_run_goes_on_over_damaged_checkpoints(first, folder, restore):
    """Its step is saved again, damaged a second time, and both are kept aside."""
    for _ in range(2):
        flip_bytes(folder / "3")
        restore(folder)
        with Checkpoints(folder, keep=3) as saved:
            saved.save(3, at(first, 3), {"phase": 0})
        assert steps(folder) == [1, 2, 3]
    assert sorted(p.name for p in (folder / "damaged").iterdir()) == ["3", "3-2"]
    state, _ = restore(folder)
    assert int(state.step) == 3


def test_an_older_damaged_checkpoint_does_not_stop_a_run(first, folder):
    empty(folder / "1")
    remove_state(folder / "2")
    with Checkpoints(folder, keep=2) as saved:
        saved.save(4, at(first, 4), {"phase": 0})
        saved.save(5, at(first, 5), {"phase": 0})
    assert {4, 5} <= set(steps(folder))


def test_where_all_are_damaged_the_run_is_refused_and_nothing_moved(folder, restore):
    for step, damage in zip((1, 2, 3), DAMAGES, strict=False):
        damage(folder / str(step))
    for _ in range(2):  # the second start must not begin the run anew
        with pytest.raises(RunError, match=r"can be used, the newest, 3, because it has no") as e:
            restore(folder)
        assert "\n" not in str(e.value)
    assert steps(folder) == [1, 2, 3]


def test_the_newest_and_the_best_are_kept(first, tmp_path):
    folder = tmp_path / "checkpoints"
    accuracies = [0.1, 0.9, None, 0.9, None, 0.3, None]
    with Checkpoints(folder, keep=2) as saved:
        for step, accuracy in enumerate(accuracies, start=1):
            saved.save(step, first, {"validation_accuracy": accuracy})
    assert steps(folder) == [4, 6, 7]
    assert stored.best_step(folder) == 4


def test_of_equal_accuracies_the_smaller_loss_is_the_best(first, digits, tmp_path):
    folder = tmp_path / "checkpoints"
    history = []
    with Checkpoints(folder, keep=1) as saved:
        for step, (accuracy, loss) in enumerate(
            [(0.5, 2.0), (0.9, 0.4), (0.9, 0.3), (0.9, 0.3), (0.9, 0.5)], start=1
        ):
            record = {"step": step, "validation_accuracy": accuracy, "validation_loss": loss}
            history.append(record)
            meta = {"validation_accuracy": accuracy, "history": history}
            saved.save(step, first, meta)
    assert steps(folder) == [4, 5]
    assert stored.best_step(folder) == 4
    assert selection.best_of(history)["step"] == 4
    without = Unrecorded(digits.info, None, callbacks.Callbacks())
    for record in history:
        state = first.replace(step=jnp.asarray(record["step"], jnp.int32))
        upto = history[: record["step"]]
        accuracy = record["validation_accuracy"]
        without.save(record["step"], state, {"validation_accuracy": accuracy, "history": upto}, 9)
    assert without.best_variables()[1] == 4


def test_the_best_is_kept_over_a_resume_and_replaced_by_a_better_one(first, tmp_path):
    folder = tmp_path / "checkpoints"
    for part in ([(1, 0.5), (2, 0.1)], [(3, 0.2), (4, 0.3)], [(5, 0.6), (6, 0.4), (7, 0.5)]):
        with Checkpoints(folder, keep=1) as saved:
            for step, accuracy in part:
                saved.save(step, first, {"validation_accuracy": accuracy})
        best = 5 if part[-1][0] == 7 else 1
        assert stored.best_step(folder) == best
        assert steps(folder) == [best, part[-1][0]]


def test_a_half_written_checkpoint_is_none(first, folder, restore):
    """What SIGKILL leaves of a save has another name until it is whole."""
    shutil.copytree(folder / "3", folder / "4.orbax-checkpoint-tmp")
    state, _ = restore(folder)
    assert int(state.step) == 3
    with Checkpoints(folder, keep=3) as saved:
        saved.save(4, at(first, 4), {"phase": 0})
    state, _ = restore(folder)
    assert int(state.step) == 4


def test_variables_of_best_last_and_a_step(first, folder):
    for which, step in (("best", 2), ("last", 3), ("1", 1)):
        variables, found = stored.load_variables(folder, which)
        assert found == step
        want = first.ema_params  # which `at` has left alone
        got = variables["params"]["backbone"]["dense1"]["kernel"]
        np.testing.assert_array_equal(got, want["backbone/dense1/kernel"])
        assert jax.tree.structure(variables["params"]) == jax.tree.structure(first.params)
    with pytest.raises(UsageError, match=r"checkpoint '4' is not among best, last and .* 1, 2, 3"):
        stored.load_variables(folder, "4")


def test_variables_without_a_moving_average_are_the_parameters(first, tmp_path):
    state = at(first, 1).replace(ema_params=None)
    with Checkpoints(tmp_path / "checkpoints", keep=1) as saved:
        saved.save(1, state, {})
    variables, _ = stored.load_variables(tmp_path / "checkpoints", "last")
    jax.tree.map(np.testing.assert_array_equal, variables["params"], state.params)


def test_the_best_is_damaged(folder, caplog):
    flip_bytes(folder / "2")
    _, step = stored.load_variables(folder, "best")
    assert step == 3
    assert f"{folder / '2'} is damaged" in caplog.text
    assert steps(folder) == [1, 2, 3]  # reading moves nothing
    with pytest.raises(RunError, match=r"no checkpoint in .* could be read"):
        stored.load_variables(folder, "2")


def test_variables_where_nothing_was_saved(tmp_path):
    with pytest.raises(UsageError, match="there is no checkpoint in"):
        stored.load_variables(tmp_path / "checkpoints", "best")


def test_what_cannot_be_saved_is_one_line(first, tmp_path, monkeypatch):
    def full(*arguments, **named):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing x:\n No space left on device")

    def save_two():
        with Checkpoints(tmp_path / "checkpoints", keep=1) as saved:
            saved.save(1, first, {})
            saved.wait()
            monkeypatch.setattr(saved._manager, "save", full)
            saved.save(2, first, {})

    with pytest.raises(RunError, match=r"cannot be saved in .*: No space left on device; ") as e:
        save_two()
    assert "\n" not in str(e.value)
    assert json.loads((tmp_path / "checkpoints" / "1" / "meta" / "metadata").read_text())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_is_one_line_without_noise_and_leaves_nothing(
    first, tmp_path, capfd, caplog, monkeypatch
):
    folder = tmp_path / "checkpoints"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill():
        with Checkpoints(folder, keep=1) as saved:
            saved.save(1, first, {})
            saved.wait()
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
            saved.save(2, first, {})

    try:
        with pytest.raises(RunError, match=r"a checkpoint cannot be saved in .*; the same command"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [path.name for path in folder.iterdir()] == ["1"]
    assert caplog.text == ""
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    gc.collect()  # writes that were broken off: here, and not in another test


def test_a_folder_that_may_not_be_written_is_found_at_once(first, tmp_path, monkeypatch):
    made = epath.Path("/").__class__.mkdir

    def refuse(path, *arguments, **named):
        if "orbax-checkpoint-tmp" in os.fspath(path):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return made(path, *arguments, **named)

    before = set(threading.enumerate())
    monkeypatch.setattr(epath.Path("/").__class__, "mkdir", refuse)
    refused = pytest.raises(RunError, match="Permission denied; the same command")
    with Checkpoints(tmp_path / "checkpoints", keep=1) as saved, refused:
        saved.save(1, first, {})
    for thread in set(threading.enumerate()) - before:  # Orbax's, which end by themselves
        thread.join(10)
        assert not thread.is_alive()


def test_what_the_machine_forbids_is_no_damage(folder, restore, monkeypatch):
    """Nothing is moved, and no older state is taken, where a process may open no more files."""

    def refuse(folder):
        raise ValueError("NOT_FOUND: Error opening x [OS error 24: EMFILE Too many open files]")

    monkeypatch.setattr(stored, "_read_state", refuse)
    for read in (lambda: restore(folder), lambda: stored.load_variables(folder)):
        with pytest.raises(RunError, match=r"3 cannot be read: Too many open files|2 cannot be"):
            read()
    assert steps(folder) == [1, 2, 3]


@pytest.mark.parametrize("name", ["007", "٣", "1e3", "9" * 30, "3.orbax-checkpoint-tmp"])
def test_folders_with_odd_names_are_no_checkpoints(name, folder):
    shutil.copytree(folder / "3", folder / name)
    assert [path.name for path in stored.step_folders(folder)] == ["1", "2", "3"]


def test_the_digest_is_of_names_dtypes_shapes_and_values():
    tree = {"a": np.zeros((2, 3), np.float32), "b": np.arange(3)}
    others = [
        {"a": np.zeros((3, 2), np.float32), "b": np.arange(3)},
        {"a": np.zeros((2, 3), np.int32), "b": np.arange(3)},
        {"a": np.zeros((2, 3), np.float32), "c": np.arange(3)},
        {"a": np.zeros((2, 3), np.float32), "b": np.arange(3)[::-1]},
        {"a": np.full((2, 3), -0.0, np.float32), "b": np.arange(3)},
    ]
    digests = [leaves.digest(other) for other in (tree, *others)]
    assert len(set(digests)) == len(digests)
    assert leaves.digest({"b": np.arange(3), "a": jnp.zeros((2, 3))}) == digests[0]
    keys = [leaves.digest({"key": jax.random.key(seed)}) for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
