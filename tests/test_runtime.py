"""Where the process keeps what can be made anew, and how it runs programs on a CPU."""

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


def test_tuning_of_a_cpu_can_be_switched_off_and_unknown_options_are_left_out(monkeypatch):
    try:
        runtime.start("cpu", cpu_tuning=False)
        assert runtime.compiler_options() == {}
        assert runtime.describe_tuning() == "none"
        options = {"xla_disable_hlo_passes": "cse_barrier_expander", "xla_no_such_option": "1"}
        monkeypatch.setattr(runtime, "_CPU_COMPILER_OPTIONS", options)
        runtime.start("cpu")
        assert runtime.compiler_options() == {"xla_disable_hlo_passes": "cse_barrier_expander"}
        assert "cse_barrier_expander" in runtime.describe_tuning()
    finally:
        monkeypatch.undo()
        runtime.start("cpu")


# Prints how many pages a program with a temporary of 128 MiB touches anew when it runs again.
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
print(sorted(found)[2])  # a run now and then may still take memory
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_large_temporaries_stay_with_the_process():
    faults = [
        int(subprocess.run([sys.executable, "-c", _FAULTS.format(tuning)], **_TEXT).stdout)
        for tuning in (True, False)
    ]
    assert faults[0] < 1000 < 10_000 < faults[1]
