"""Nothing that a start imports is Unix's alone: its modules are hidden, as on Windows."""

import os
import subprocess
import sys
from pathlib import Path

from cnn_jax import system

ROOT = Path(__file__).resolve().parent.parent

# What Windows has in their place: `msvcrt`, which is played here by flock.
HIDDEN = """
import fcntl, os, signal, subprocess, sys, types  # subprocess tells Windows by its msvcrt

unix = fcntl
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "grp", "pwd", "resource", "termios"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
for name in ("fcntl", "grp", "pwd", "resource", "termios"):
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Hide())
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):
    delattr(signal, name)
for name in ("O_CLOEXEC", "O_NONBLOCK"):
    delattr(os, name)

def locking(descriptor, mode, count):
    assert os.lseek(descriptor, 0, os.SEEK_CUR) == 1 << 30 and count == 1
    unix.flock(descriptor, unix.LOCK_EX | (unix.LOCK_NB if mode == 2 else 0))
sys.modules["msvcrt"] = types.SimpleNamespace(LK_LOCK=1, LK_NBLCK=2, locking=locking)
"""


def run(code: str, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN + code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_trains_and_predicts_without_them(places, tmp_path):
    code = """
from cnn_jax import system
from cnn_jax.cli.main import main
assert system.fcntl is None and system.resource is None
from cnn_jax.pretrained import hdf5
from cnn_jax.processes import star
from cnn_jax.studies.sweep import study
system.peak_memory_bytes = lambda: 1 << 30  # Windows counts it otherwise than psutil does here
settings = ["--model.name=mlp", "--dataset.train_examples=64", "--train.epochs=1"]
assert main([*settings, "--logging.figures_every=none", "--workdir=" + sys.argv[1]]) == 0
assert main(["evaluate", "--workdir=" + sys.argv[1]]) == 0
"""
    assert "test accuracy" in run(code, str(tmp_path / "run"), **places)


def test_locks_hold_without_flock(tmp_path):
    code = """
import sys
from cnn_jax import locks
path = sys.argv[1]
with locks.FileLock(path), locks.FileLock(path + "2"), open(path) as file:
    print(locks.take(file))
with open(path) as file:
    print(file.tell(), locks.take(file), file.tell())
"""
    path = tmp_path / "lock"
    path.write_text("held")
    assert run(code, str(path)).split() == ["False", "0", "True", "0"]


def test_a_process_is_alive_until_it_ends():
    assert system.is_alive(os.getpid())
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert not system.is_alive(done.pid)
