"""Settings of the process that make XLA fast on a CPU, and what the process runs on.

Nothing here changes what is computed. A GPU or TPU needs none of the CPU settings and gets none.
"""

import ctypes
import functools
import importlib.metadata
import os
import pathlib
import platform
import resource
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp

from cnn_jax import onednn
from cnn_jax.errors import UsageError

# What makes XLA's CPU programs fast.
_CPU_COMPILER_OPTIONS = {
    # The convolutions of its default are several times slower than those without it.
    "xla_cpu_experimental_ynn_fusion_type": "",
    # That pass takes optimisation barriers away before operations are fused, which is when
    # `layers` needs them.
    "xla_disable_hlo_passes": "cse_barrier_expander",
}

# glibc's mallopt parameters: freed memory stays with the process, because XLA's large temporaries
# otherwise cost a page fault for every 4 KiB in every step.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def cache_dir() -> pathlib.Path:
    """Returns the folder of what can be made anew: $CNN_JAX_CACHE, else ~/.cache/cnn_jax."""
    own = os.environ.get("CNN_JAX_CACHE")
    if own:
        return pathlib.Path(own).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return pathlib.Path(base).expanduser().resolve() / "cnn_jax"


def keep_freed_memory() -> bool:
    """Tells glibc's allocator to keep freed memory; returns whether it is there and agreed."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = [(_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 64 << 20)]
    return all([mallopt(name, value) == 1 for name, value in settings])


# For a program that runs once, which compiles in a tenth of the time for it: LLVM takes long over
# random numbers.
_ONCE = {"xla_backend_optimization_level": 1}

_NAMES = {"xla": "XLA", "onednn": "oneDNN", "winograd": "oneDNN, large ones by Winograd's way"}

_cpu_tuning = True
_convolutions = "xla"
_obstacle: str | None = None  # to oneDNN, where it was looked for


def start(
    platform_name: str | None = None, cpu_tuning: bool = True, cpu_convolutions: str = "xla"
) -> None:
    """Sets up the process; call it once, before the first JAX computation.

    Args:
        platform_name: cpu, gpu or tpu; None leaves the choice to JAX.
        cpu_tuning: whether a CPU gets the compiler options, the allocator settings and the
            dispatch that make it fast.
        cpu_convolutions: who computes them on a CPU: xla; onednn (see `cnn_jax.onednn`); winograd,
            which is onednn with fewer multiplications where that is faster (see
            `cnn_jax.winograd`); or auto, which is winograd where it can be had, else xla.

    Raises:
        UsageError: the platform is not there, or oneDNN cannot be used here.
    """
    global _cpu_tuning, _convolutions, _obstacle
    _cpu_tuning, _convolutions, _obstacle = cpu_tuning, "xla", None
    compiler_options.cache_clear()
    if platform_name is not None:
        jax.config.update("jax_platforms", platform_name)
    if cpu_tuning:
        # A program then runs in the thread that starts it, whose memory `keep_freed_memory` keeps;
        # in others glibc maps what is larger than 64 MiB anew each time, whatever it is told. To
        # be set before the first question for devices; no other platform looks at it.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    try:
        backend = jax.default_backend()
    except RuntimeError as error:
        asked = "JAX" if platform_name is None else f"--platform={platform_name}"
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"{asked} finds no such devices here: {reason}") from error
    if backend == "cpu" and cpu_tuning:
        keep_freed_memory()
    if backend == "cpu" and cpu_convolutions != "xla":
        _obstacle = onednn.obstacle()
        if _obstacle and cpu_convolutions != "auto":
            raise UsageError(f"--cpu_convolutions={cpu_convolutions} cannot be had: {_obstacle}")
        if not _obstacle:
            _convolutions = "winograd" if cpu_convolutions == "auto" else cpu_convolutions


def uses_winograd() -> bool:
    """Whether `start` allowed convolutions with fewer multiplications."""
    return _convolutions == "winograd"


def uses_onednn(dtype: Any = jnp.float32) -> bool:
    """Whether `start` chose oneDNN for the convolutions, and it computes those of this type."""
    if _convolutions == "xla" or dtype not in (jnp.float32, jnp.bfloat16):
        return False
    return dtype == jnp.float32 or onednn.has_bfloat16()


@functools.cache
def compiler_options(once: bool = False) -> dict[str, Any]:
    """Returns the compiler options of this platform that this jaxlib knows.

    Args:
        once: whether the program runs once, so that compiling it counts more than its speed.
    """
    if jax.default_backend() != "cpu" or not _cpu_tuning:
        return {}
    options = {**_CPU_COMPILER_OPTIONS, **(_ONCE if once else {})}
    if _known(options):  # a probe takes a tenth of a second
        return options
    return {name: value for name, value in options.items() if _known({name: value})}


def _known(options: dict[str, Any]) -> bool:
    try:
        jax.jit(lambda x: x + 1, compiler_options=options)(jnp.zeros(()))
    except Exception:  # an option that a jaxlib does not know is an error of its own kind
        return False
    return True


def describe_tuning() -> str:
    """Returns one line: what `start` and `compiler_options` set on this platform."""
    parts = [f"{name}={value or 'none'}" for name, value in compiler_options().items()]
    parts += (
        ["freed memory is kept", "programs run in the thread that starts them"] if parts else []
    )
    if _convolutions != "xla" or parts:
        reason = f" ({_obstacle})" if _obstacle else ""
        parts.append(f"convolutions by {_NAMES[_convolutions]}{reason}")
    return "; ".join(parts) or "none"


def _git_commit() -> str | None:
    here = pathlib.Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changed else "")


def processor() -> str:
    """Returns the processor's name, where the system tells it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "")


def describe_devices() -> str:
    """Returns one line: platform, number and kind of the devices."""
    devices = jax.devices()
    plural = "" if len(devices) == 1 else "s"
    return f"{devices[0].platform}, {len(devices)} device{plural} ({devices[0].device_kind})"


def peak_memory() -> int:
    """Returns the most bytes held so far: by the device where it says so, else by the process."""
    used = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if used is not None:
        return int(used)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def environment() -> dict[str, Any]:
    """Returns what a reader needs to know of the machine and the programs of a run."""
    packages = [
        "jax",
        "jaxlib",
        "flax",
        "optax",
        "orbax-checkpoint",
        "tensorflow-datasets",
        "numpy",
    ]
    return {
        "command": [sys.executable, *sys.argv],
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "git_commit": _git_commit(),
        "platform": jax.default_backend(),
        "devices": [str(device) for device in jax.devices()],
        "processes": jax.process_count(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "hostname": platform.node(),
        "compiler_options": compiler_options(),
        "cpu_convolutions": _convolutions,
    }
