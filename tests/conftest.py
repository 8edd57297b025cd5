"""What several test files share: the digits prepared once, and a finished run."""

import fcntl
import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from cnn_jax import cpu, data, experiment, losses, models
from cnn_jax.runs import figures
from tests.tiny import SETTINGS

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_finish() -> None:
    """Spares the garbage collector what the imports made, a tenth of the time of all tests.

    JAX makes hundreds of thousands of objects that live to the end.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def places(tmp_path_factory) -> dict[str, str]:
    """The environment variables of a cache and a data directory that all tests share.

    Before the first test, since JAX looks for its compilation cache once.
    """
    base = tmp_path_factory.mktemp("places")
    jax.config.update("jax_compilation_cache_dir", str(base / "cache" / "xla"))
    # Most tests build anew what others have compiled.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.02)
    return {"CNN_JAX_CACHE": str(base / "cache"), "TFDS_DATA_DIR": str(base / "tfds")}


@pytest.fixture(scope="session", autouse=True)
def plain_convolutions():
    """XLA convolves, on every machine, in the tests and fixtures that choose nothing else."""
    with cpu.using("xla"):
        yield


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """What a test registers is forgotten after it: the next test may have the name."""
    registries: list[dict[str, Any]] = [models.REGISTRY, losses.REGISTRY]
    kept = [(registry, dict(registry)) for registry in registries]
    yield
    for registry, entries in kept:
        registry.clear()
        registry.update(entries)


@pytest.fixture(scope="session")
def digits(places) -> data.Data:
    """The digits as stored: 144 to validate on, 360 to test on, 316 to train on."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in places.items():
            patch.setenv(name, value)
        return data.load(experiment.Dataset(name="digits", train_examples=316))


@pytest.fixture(scope="session")
def start(places, digits) -> Callable[..., subprocess.Popen]:
    """Starts launch.py in a process of its own."""
    del digits  # prepared by now

    def start(*arguments: str, cwd: Path, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "launch.py"), *arguments],
            cwd=cwd,
            env={**os.environ, **places, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def cli(start) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs launch.py in a process of its own to its end."""

    def cli(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        process = start(*arguments, cwd=cwd, **environment)
        stdout, stderr = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)

    return cli


@pytest.fixture(scope="session")
def trained(cli, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A finished run, moved away from where it was trained, and what it printed.

    The first of pytest's workers that asks for it makes it for all.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    moved, said = base / "trained", base / "trained.json"
    with (base / "trained.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            result = cli("train", "--workdir=here", *SETTINGS, cwd=base)
            assert result.returncode == 0, result.stderr
            shutil.move(base / "here", moved)
            said.write_text(json.dumps([result.stdout, result.stderr]))
    return moved, subprocess.CompletedProcess((), 0, *json.loads(said.read_text()))


@pytest.fixture
def finished(trained, tmp_path) -> Path:
    """A copy of the finished run, in a folder with a space in its name."""
    return Path(shutil.copytree(trained[0], tmp_path / "a run"))


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Leaves out the figures of the data and of epochs, which take a second a run.

    Runs that `cli` trains have them.
    """
    monkeypatch.setattr(figures, "write_figures", lambda *_: None)


@pytest.fixture
def main(places, digits, undrawn, tmp_path, monkeypatch) -> Callable[..., int]:
    """Runs launch.py's main in this process, in an empty folder, and returns the exit code."""
    del digits, undrawn
    import launch

    for name, value in places.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # an interrupt sets it
    return lambda *arguments: launch.main(list(arguments))


@pytest.fixture(scope="session")
def keras():
    """Keras on its JAX backend, the reference of these tests."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras", reason="Keras is a development dependency")
    rng = np.random.default_rng(1)

    def draw(self, shape, dtype=None):
        scale = (2 / (np.prod(shape[:-1]) + np.prod(shape[:-2]) * shape[-1])) ** 0.5
        return scale * rng.standard_normal(shape, np.float32)

    with pytest.MonkeyPatch.context() as patch:
        # Because JAX would compile Keras' own for every shape of a kernel, for minutes.
        patch.setattr(keras.initializers.VarianceScaling, "__call__", draw)
        yield keras
