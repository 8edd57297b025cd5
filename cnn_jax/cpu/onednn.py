"""oneDNN out of XLA's programs: whether it can be used here, and the calls.

PyTorch and TensorFlow compute with oneDNN's kernels too. A wheel (the extra `onednn`) ships it as a
shared object. Two public C interfaces meet here, both through ctypes: XLA's for foreign functions
(`xla_calls.py`) and oneDNN's (`onednn_library.py`, `onednn_primitives.py`). Images are float32 or,
where the processor computes in it, bfloat16; parameters and their gradients are always float32.
"""

import functools
import importlib.metadata
import platform
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax

from cnn_jax.cpu import onednn_library, onednn_primitives, xla_calls
from cnn_jax.cpu.onednn_library import Library
from cnn_jax.cpu.onednn_settings import Geometry, Kind, Normalization, Settings
from cnn_jax.errors import RunError

PACKAGE = "onednn-cpu-gomp"
TARGET = "cnn_jax_onednn"
_FILE = "libdnnl.so.3"

_loading = threading.RLock()  # two threads that trace at once must not register two handlers


@functools.cache
def obstacle() -> str | None:
    """Returns why oneDNN cannot be used in this process, or None."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return f"this is {sys.platform} on {platform.machine()}, not Linux on x86_64"
    if (count := jax.device_count()) > 1:
        return f"there are {count} devices, and XLA does not divide its calls among them"
    try:
        with _loading:
            _register()
    except importlib.metadata.PackageNotFoundError:
        return f"{PACKAGE} is not installed; pip install 'cnn-jax[onednn]'"
    except (OSError, RunError) as error:
        return str(error)
    return None


@functools.cache
def has_bfloat16() -> bool:
    """Whether oneDNN computes convolutions in bfloat16 on this processor."""
    images, kernel, pads = (1, 8, 8, 16), (3, 3, 16, 16), ((1, 1), (1, 1))
    library = _library()
    for kind in (Kind.RESULT, Kind.IMAGES_GRADIENT, Kind.KERNEL_GRADIENT):
        geometry = Geometry(kind, True, False, False, images, kernel, images, (1, 1), pads)
        try:
            with library.lock:
                onednn_primitives.Convolution(library, geometry)
        except RunError:
            return False
    return True


def call(
    operands: Sequence[jax.Array], results: Sequence[Any], settings: Settings
) -> list[jax.Array]:
    """Calls oneDNN; only a CPU can run a program with such a call.

    Args:
        operands: the arrays that the kind of call reads.
        results: arrays or structures with the results' shapes and types.
        settings: which call.
    """
    shapes = [jax.ShapeDtypeStruct(one.shape, one.dtype) for one in results]
    run = jax.ffi.ffi_call(TARGET, shapes, vmap_method="sequential")
    return list(run(*operands, settings=settings.pack()))


def call_on_cpu(
    operands: Sequence[jax.Array],
    results: Sequence[Any],
    settings: Settings,
    elsewhere: Callable[..., list[jax.Array]],
    instead: Callable[..., list[jax.Array]] | None = None,
) -> list[jax.Array]:
    """Calls oneDNN in a program for a CPU; computes the same with XLA in one for another platform.

    Args:
        operands: the arrays that the kind of call reads.
        results: arrays or structures with the results' shapes and types.
        settings: which call.
        elsewhere: computes the results with XLA.
        instead: computes the results on a CPU in place of the call, or None.
    """

    def by_library(*operands: jax.Array) -> list[jax.Array]:
        return call(operands, results, settings)

    return jax.lax.platform_dependent(*operands, cpu=instead or by_library, default=elsewhere)


@functools.cache
def mask_size(settings: Normalization) -> int:
    """Returns the bytes of a normalisation's mask: which values its ReLU lets pass."""
    library = _library()
    with library.lock:
        forward = onednn_primitives.describe_normalization(library, settings)
        return library.size(library.expected(forward, onednn_library.MASK))


@functools.cache
def _library() -> Library:
    files = importlib.metadata.files(PACKAGE) or []
    paths = [str(file.locate()) for file in files if file.name == _FILE]
    if not paths:
        raise RunError(f"{PACKAGE} is installed without its {_FILE}; install it again")
    return Library(paths[0])


@functools.cache
def _register() -> Any:
    """Tells XLA who answers the calls; the cache keeps the handler that XLA needs."""
    library = _library()
    calls: dict[bytes, onednn_primitives.Call] = {}

    def answer(packed: bytes, addresses: list[int]) -> None:
        with library.lock:
            if packed not in calls:
                calls[packed] = onednn_primitives.create(library, packed)
            calls[packed](addresses)

    return xla_calls.register(TARGET, answer)
