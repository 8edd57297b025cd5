"""A user without a home directory: a container that runs under any user id."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnn_jax import experiment, runtime
from cnn_jax.data import prepared

ROOT = Path(__file__).resolve().parent.parent
# Reads what root reads, since the interpreter may be below root's home; writes as nobody we know.
AS_NOBODY = [
    *("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"),
    "--bounding-set=-all,+dac_read_search",
]


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that all may write and reach; pytest's own is for one user."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.fixture
def launch(folder):
    """Runs launch.py in the folder as a user that is not in the list of users."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become another user")
    unset = ("HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TFDS_DATA_DIR")

    def launch(*arguments: str, **environment: str):
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        return subprocess.run(
            [*AS_NOBODY, sys.executable, "-B", str(ROOT / "launch.py"), *arguments],
            cwd=folder,
            env={**kept, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return launch


def test_a_user_without_a_home_trains(launch, folder):
    settings = ("--model.name=mlp", "--train.epochs=1", "--workdir=run", "--cpu_convolutions=xla")
    said = launch("train", *settings, CNN_JAX_CACHE=str(folder / "cache"))
    assert said.returncode == 0, said.stderr
    assert "warning" not in said.stderr  # also not of Matplotlib
    assert (folder / "run" / "result.json").is_file()
    assert any((folder / "cache" / "matplotlib").iterdir())
    assert sorted(path.name for path in folder.iterdir()) == ["cache", "run"]  # nothing in "~"


def test_without_a_cache_the_setting_is_named(launch):
    said = launch("train", "--model.name=mlp", "--workdir=run", CNN_JAX_CACHE="")
    assert said.returncode != 0
    assert said.stderr.startswith("error: ")
    assert "CNN_JAX_CACHE" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_data_sets_of_tfds_are_looked_for_without_a_home(monkeypatch, tmp_path):
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setenv("CNN_JAX_CACHE", str(tmp_path))
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    places = prepared.find_places(experiment.Dataset(name="cifar10"))
    assert places == prepared.Places((tmp_path / "tensorflow_datasets",), ())


@pytest.mark.parametrize("home", [None, "/nowhere", "."])
def test_matplotlib_gets_a_folder_where_its_own_cannot_be_written(home, monkeypatch, tmp_path):
    for name in ("HOME", "MPLCONFIGDIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CNN_JAX_CACHE", str(tmp_path / "cache"))
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr(os, "access", lambda path, mode: path != Path("/"))  # we may be root
    monkeypatch.setattr(os.path, "expanduser", lambda path: path.replace("~", home or "~"))
    runtime.place_matplotlib()
    assert os.environ["MPLCONFIGDIR"] == str(tmp_path / "cache" / "matplotlib")
    monkeypatch.setenv("MPLCONFIGDIR", "mine")
    runtime.place_matplotlib()
    assert os.environ["MPLCONFIGDIR"] == "mine"


def test_matplotlib_keeps_its_own_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    runtime.place_matplotlib()
    assert "MPLCONFIGDIR" not in os.environ
