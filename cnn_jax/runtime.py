"""The process: the platform, the caches, the memory of a CPU's programs, and the devices.

Nothing here changes what is computed. `cnn_jax/cpu/README.md` says why a CPU needs its settings; a
GPU or TPU gets none of them.
"""

import contextlib
import ctypes
import os
import pathlib
import platform
import shutil
import sys
from typing import Any

import jax

from cnn_jax import extras, places, processes, system
from cnn_jax.errors import UsageError

# Parameters of glibc's mallopt. Without them XLA's large temporaries cost a page fault for every
# 4 KiB in every step.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
# Where the control group of this process, of a container or a Slurm job, says what it may use.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def host_memory() -> int:
    """Returns the bytes of memory that this process may use."""
    sizes = [system.memory_bytes()]
    for path in map(pathlib.Path, _LIMITS):
        value = path.read_text().strip() if path.is_file() else ""
        if value.isdecimal():
            sizes.append(int(value))
    return min(sizes)


def free_disk() -> int:
    """Returns the bytes that are free on the disk of the cache."""
    folder = cache_dir()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def cache_dir() -> pathlib.Path:
    """Returns the folder of files that can be made again: $CNN_JAX_CACHE, else ~/.cache/cnn_jax."""
    own = os.environ.get("CNN_JAX_CACHE")
    if own:
        return places.place(own, "CNN_JAX_CACHE").resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return places.place(base, "XDG_CACHE_HOME").resolve() / "cnn_jax"
    try:
        return pathlib.Path("~/.cache").expanduser().resolve() / "cnn_jax"
    except RuntimeError:
        raise UsageError(
            "this user has no home directory for the cache; set CNN_JAX_CACHE=DIR"
        ) from None


def make_cache_folder(name: str, *below: str) -> pathlib.Path:
    """Makes a folder of the cache, as open to others as the cache itself is; returns its path.

    In a cache that a group or everybody may write, the umask of whoever comes first does not keep
    the others out.

    Raises:
        OSError: it cannot be made.
    """
    path = cache_dir()
    path.mkdir(parents=True, exist_ok=True)
    opened = path.stat().st_mode & 0o3077  # of group and others; setgid and sticky
    for part in (name, *below):
        path = path / part
        if not path.is_dir():
            path.mkdir(exist_ok=True)
            with contextlib.suppress(PermissionError):  # another user has just made it
                path.chmod(path.stat().st_mode | opened)
    return path


def place_matplotlib() -> None:
    """Gives Matplotlib a folder of the cache where its own below the home cannot be written.

    It would make a new one at each start, search all fonts again and warn. Call it before
    Matplotlib is imported. $MPLCONFIGDIR goes before it.
    """
    if os.environ.get("MPLCONFIGDIR"):
        return
    base = pathlib.Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"))
    there = next((x for x in (base / "matplotlib", base, *base.parents) if x.exists()), None)
    if base.is_absolute() and there is not None and os.access(there, os.W_OK):
        return
    with contextlib.suppress(OSError):
        os.environ["MPLCONFIGDIR"] = str(make_cache_folder("matplotlib"))


def keep_freed_memory() -> bool:
    """Tells glibc's allocator to keep freed memory; returns whether it is there and agreed."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = [(_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_TOP_PAD, 64 << 20)]
    return all([mallopt(name, value) == 1 for name, value in settings])


def start(platform_name: str | None = None, cpu_tuning: bool = True) -> None:
    """Sets up the process for fast programs; may be called again, and in a notebook.

    Call it before the first JAX computation where you can: the platform and the dispatch of a CPU's
    programs are fixed then, and a later call leaves them as they are.

    Args:
        platform_name: "cpu", "gpu" or "tpu"; None leaves the choice to JAX.
        cpu_tuning: whether a CPU gets the allocator settings and the dispatch that make it fast.

    Raises:
        UsageError: the platform is not there, or JAX already runs on another one.
        RunError: the devices of several processes do not reach each other.
    """
    if platform_name is not None:
        jax.config.update("jax_platforms", platform_name)
    place_matplotlib()
    if cpu_tuning:
        # With asynchronous dispatch off, programs run on the calling thread. Only the main thread's
        # arena keeps freed blocks above 64 MiB; other threads map them again in every step. JAX
        # reads this when it looks for devices; other platforms ignore it.
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    settings: Any = jax.config
    if settings.jax_compilation_cache_dir is None:  # else the user has chosen one
        programs, seconds = cache_dir() / "xla", 0.2
        with contextlib.suppress(OSError):
            make_cache_folder("xla")
        if not os.access(programs, os.W_OK):  # what another user has put there is read alone
            seconds = 1e9
        jax.config.update("jax_compilation_cache_dir", str(programs))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
    try:
        backend = jax.default_backend()
    except RuntimeError as error:
        raise UsageError(_no_devices(platform_name, error)) from error
    if platform_name not in (None, backend):
        raise UsageError(f"the platform {platform_name}: JAX already runs on {backend} here")
    if backend == "cpu" and cpu_tuning:
        keep_freed_memory()
    processes.meet_on_devices(_machine)


def _machine() -> dict[str, int]:
    return {"devices": jax.local_device_count(), "memory": host_memory(), "disk": free_disk()}


# What JAX needs beside itself for a platform: modules, any one of them, and our extras.
_SUPPORT = {
    "gpu": (("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin"), ("cuda12", "cuda13")),
    "tpu": (("libtpu",), ("tpu",)),
}


def _no_devices(platform_name: str | None, error: RuntimeError) -> str:
    """Returns one line that says why there is no such device and what to do."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if platform_name not in _SUPPORT:
        asked = "JAX" if platform_name is None else f"the platform {platform_name}: JAX"
        return f"{asked} finds no such devices here: {reason}"
    modules, names = _SUPPORT[platform_name]
    otherwise = "or leave the platform out to use what there is"
    if not any(map(extras.has, modules)):
        commands = " or ".join(map(extras.install, names))
        return (
            f"the platform {platform_name}: JAX has no support for a {platform_name.upper()} here: "
            f"{commands}, {otherwise}"
        )
    return (
        f"the platform {platform_name}: JAX finds no {platform_name.upper()} on this machine "
        f"({reason}), {otherwise}"
    )


def processor() -> str:
    """Returns the processor's name, or "" where the system does not tell it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), "")


def describe_devices() -> str:
    """Returns one line: platform, number and kind of the devices, and how many processes."""
    devices, count = jax.devices(), jax.process_count()
    number = f"{len(devices)} device{'' if len(devices) == 1 else 's'}"
    together = f" of {count} processes" if count > 1 else ""
    return f"{devices[0].platform}, {number}{together} ({devices[0].device_kind})"


def peak_memory() -> int:
    """Returns the most bytes in use so far: on the first device if it counts, else here."""
    used = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if used is not None:
        return int(used)
    return system.peak_memory_bytes()
