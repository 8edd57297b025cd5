"""Which machine, versions and settings a run was made with; what environment.json holds."""

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import jax

from cnn_jax import cpu, runtime

_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorflow-datasets",
    "numpy",
)


def environment() -> dict[str, Any]:
    """Returns the machine, the versions, the devices and the settings of this process."""
    return {
        "command": [sys.executable, *sys.argv],
        "python": platform.python_version(),
        "packages": versions(_PACKAGES),
        "git_commit": git_commit(),
        "platform": jax.default_backend(),
        "devices": [str(device) for device in jax.devices()],
        "processes": jax.process_count(),
        "processor": runtime.processor(),
        "cores": os.cpu_count(),
        "hostname": platform.node(),
        "compiler_options": cpu.compiler_options(),
        "cpu_convolutions": cpu.chosen(),
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Returns the version of each of these packages that is installed."""
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def git_commit() -> str | None:
    """Returns the commit of this package, with "+changes" if files differ; None outside git."""
    try:
        # An installed package may lie in the directory of another repository, which ignores it.
        _git("ls-files", "--error-unmatch", pathlib.Path(__file__).name)
        commit = _git("rev-parse", "HEAD")
        changes = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+changes" if changes else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
