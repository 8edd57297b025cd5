"""What several test files share: the digits prepared once, and a finished run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import pytest

from cnn_jax import cpu, data, experiment
from tests.tiny import SETTINGS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def places(tmp_path_factory) -> dict[str, str]:
    """The environment variables of a cache and a data directory that all tests share.

    Before the first test, since JAX looks for its compilation cache once.
    """
    base = tmp_path_factory.mktemp("places")
    jax.config.update("jax_compilation_cache_dir", str(base / "cache" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return {"CNN_JAX_CACHE": str(base / "cache"), "TFDS_DATA_DIR": str(base / "tfds")}


@pytest.fixture(scope="session", autouse=True)
def plain_convolutions():
    """XLA convolves, on every machine, in the tests and fixtures that choose nothing else."""
    with cpu.using("xla"):
        yield


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
    """A finished run, moved away from where it was trained, and what it printed."""
    base = tmp_path_factory.mktemp("trained")
    result = cli("train", "--workdir=here", *SETTINGS, cwd=base)
    assert result.returncode == 0, result.stderr
    shutil.move(base / "here", base / "moved")
    return base / "moved", result


@pytest.fixture
def finished(trained, tmp_path) -> Path:
    """A copy of the finished run, in a folder with a space in its name."""
    return Path(shutil.copytree(trained[0], tmp_path / "a run"))


@pytest.fixture
def main(places, digits, tmp_path, monkeypatch) -> Callable[..., int]:
    """Runs launch.py's main in this process, in an empty folder, and returns the exit code."""
    del digits
    import launch

    for name, value in places.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: launch.main(list(arguments))
