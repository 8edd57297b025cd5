"""What the system lets a process have: too little is said beforehand.

JAX and Orbax end in aborts, hang or print tracebacks where they can open no file, or get no
addresses for their threads.
"""

from cnn_jax import system
from cnn_jax.errors import RunError

_FILES = 64
_ADDRESSES = 3 << 30


def check() -> None:
    """Raises the limits of this process as far as it may, where they are too low.

    Raises:
        RunError: one of them stays too low.
    """
    files = system.raise_limit("RLIMIT_NOFILE", _FILES)
    if files < _FILES:
        raise RunError(
            f"this process may open {files} files only, and needs {_FILES}; raise the limit: "
            "ulimit -n 1024"
        )
    addresses = system.raise_limit("RLIMIT_AS", _ADDRESSES)
    if addresses < _ADDRESSES:
        raise RunError(
            f"this process may have {addresses / 2**30:.1f} GiB of addresses, and JAX needs "
            f"{_ADDRESSES / 2**30:.0f} for itself; raise the limit: ulimit -v unlimited"
        )
