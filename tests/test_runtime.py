"""The cache of the process, a late start, and the memory of programs on a CPU."""

import platform
import subprocess
import sys
from typing import Any

import pytest

from cnn_jax import runtime

_TEXT: dict[str, Any] = {"check": True, "capture_output": True, "text": True}


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("CNN_JAX_CACHE", str(tmp_path / "own"))
    assert runtime.cache_dir() == tmp_path / "own"
    monkeypatch.delenv("CNN_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert runtime.cache_dir() == tmp_path / "xdg" / "cnn_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert runtime.cache_dir() == tmp_path / "home" / ".cache" / "cnn_jax"


# A notebook that has used JAX before it starts us, with a cache of the user's own.
_LATE = """
import warnings
warnings.simplefilter("error")
import jax, jax.numpy as jnp
jax.config.update("jax_compilation_cache_dir", {!r})
jnp.zeros(3).block_until_ready()
from cnn_jax import runtime
for _ in range(2):
    runtime.start()
    runtime.start("cpu")
print(jax.config.jax_compilation_cache_dir)
jax.config.update("jax_compilation_cache_dir", None)
runtime.start("cpu")
print(jax.config.jax_compilation_cache_dir)
try:
    runtime.start("tpu")
except Exception as error:
    print(error)
"""


def test_it_starts_again_and_late_and_leaves_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CNN_JAX_CACHE", str(tmp_path))
    late = _LATE.format(str(tmp_path / "own"))
    done = subprocess.run([sys.executable, "-c", late], **_TEXT)
    assert done.stderr == ""
    own, ours, error = done.stdout.splitlines()
    assert own == str(tmp_path / "own")
    assert ours == str(tmp_path / "xla")
    assert error == "the platform tpu: JAX already runs on cpu here"


# Prints how many new pages a program with a temporary of 128 MiB touches when it runs again.
_FAULTS = """
import resource
import jax, jax.numpy as jnp
from cnn_jax import runtime
runtime.start("cpu", cpu_tuning={})
program = jax.jit(lambda x: jax.lax.optimization_barrier(x + 1)[::-1].sum())
x = jnp.zeros(1 << 25)
for _ in range(3):
    program(x).block_until_ready()
touched = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
found = []
for _ in range(5):
    before = touched()
    program(x).block_until_ready()
    found.append(touched() - before)
print(sorted(found)[2])  # now and then a run may still take memory
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_large_temporaries_stay_with_the_process():
    faults = [
        int(subprocess.run([sys.executable, "-c", _FAULTS.format(tuning)], **_TEXT).stdout)
        for tuning in (True, False)
    ]
    assert faults[0] < 1000 < 10_000 < faults[1]
