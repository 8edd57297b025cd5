"""Who convolves on a CPU, as a context, and the compiler options that go with it.

The choice is a JAX user context: it is part of the cache key of `jax.jit`, so a function that was
jitted outside is traced again inside, and two choices in one process never share a program.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cnn_jax import runtime
from cnn_jax.cpu import onednn
from cnn_jax.errors import UsageError

# What each value means is in the docstring of `using`; this is how `describe` puts it.
CHOICES = {
    "auto": "",
    "winograd": "oneDNN, large ones by Winograd's algorithm",
    "onednn": "oneDNN",
    "xla": "XLA",
    "plain": "XLA, without the forms that are fast on a CPU",
}

_COMPILER_OPTIONS = {
    # With XLA's default value in jax 0.10.2 convolutions take several times as long.
    "xla_cpu_experimental_ynn_fusion_type": "",
    # This pass removes optimisation barriers before operations are fused; the fusion is what the
    # barriers in this package are there to prevent.
    "xla_disable_hlo_passes": "cse_barrier_expander",
}
# For a program that runs once. LLVM spends most of the compilation on its random numbers.
_ONCE = {"xla_backend_optimization_level": 1}


class _Choice(NamedTuple):
    convolutions: str
    tuning: bool


_context = jax.make_user_context(_Choice("auto", True))


@contextlib.contextmanager
def using(convolutions: str | None = None, tuning: bool | None = None) -> Iterator[None]:
    """Chooses, for the code inside the `with`, who convolves and normalises batches on a CPU.

    Without it the choice is `using("auto", tuning=True)`. Contexts nest. A choice holds in the
    thread that enters it; other threads keep the default. Programs for a GPU or TPU are the same
    under every choice but "plain", which leaves out our derivative rules there too.

    Args:
        convolutions: None keeps the choice outside.
            "auto": "winograd" where oneDNN can be used and there is one device, else "xla".
            "winograd": oneDNN, and Winograd's algorithm where it is faster (see `winograd.pays`).
            "onednn": oneDNN alone.
            "xla": XLA, in the forms that are fast on a CPU.
            "plain": XLA, and nothing but `jax.lax` operations and Linen's pools in the trace, with
            no choice by platform, custom call, barrier or derivative rule of ours; for exporters.
            JAX's own `relu`, which has a derivative rule, stays as exporters know it.
        tuning: whether `compiler_options` returns any; None keeps the choice outside.

    Raises:
        UsageError: there is no such choice, or oneDNN is asked for and cannot be used here.
    """
    outside = _context.value
    asked = outside.convolutions if convolutions is None else convolutions
    if asked not in CHOICES:
        raise UsageError(
            f"who convolves on a CPU is {asked!r}, which is not one of {', '.join(CHOICES)}"
        )
    tuned = outside.tuning if tuning is None else tuning
    if convolutions in ("winograd", "onednn"):
        # The next question makes JAX look for devices, and fixes how a CPU's programs are run.
        runtime.start(cpu_tuning=tuned)
        if jax.default_backend() == "cpu" and (obstacle := onednn.obstacle()):
            raise UsageError(f"{convolutions!r} cannot convolve on this CPU: {obstacle}")
    with _context(_Choice(asked, tuned)):
        yield


def is_plain() -> bool:
    """Whether nothing but plain operations may be traced."""
    return _context.value.convolutions == "plain"


def chosen(dtype: Any = jnp.float32) -> str:
    """Returns who convolves here: "winograd", "onednn", "xla" or "plain".

    It is "xla" where the default platform is not a CPU, and for types that oneDNN does not compute
    on this processor.

    Args:
        dtype: the type of the images.
    """
    asked = _context.value.convolutions
    if asked in ("xla", "plain"):
        return asked
    if jax.default_backend() != "cpu" or (asked == "auto" and onednn.obstacle()):
        return "xla"
    if dtype != jnp.float32 and not (dtype == jnp.bfloat16 and onednn.has_bfloat16()):
        return "xla"
    return "winograd" if asked == "auto" else asked


def by_onednn(dtype: Any = jnp.float32) -> bool:
    """Whether oneDNN convolves images of this type here, with Winograd's algorithm or without."""
    return chosen(dtype) in ("winograd", "onednn")


def compiler_options(once: bool = False) -> dict[str, Any]:
    """Returns the options for `jax.jit` that make programs fast on this platform.

    They are the ones that this jaxlib knows; none where the platform is not a CPU or where
    `using(tuning=False)` leaves them out.

    Args:
        once: whether the program runs once, so that compiling it costs more than running it. With
            it a program compiles in a tenth of the time.
    """
    if jax.default_backend() != "cpu" or not _context.value.tuning:
        return {}
    return dict(_known_options(once))


@functools.cache
def _known_options(once: bool) -> dict[str, Any]:
    options = {**_COMPILER_OPTIONS, **(_ONCE if once else {})}
    if _known(options):  # one probe takes a tenth of a second
        return options
    return {name: value for name, value in options.items() if _known({name: value})}


def _known(options: dict[str, Any]) -> bool:
    try:
        jax.jit(lambda x: x + 1, compiler_options=options)(jnp.zeros(()))
    except Exception:  # jaxlib has an error type of its own for an option that it does not know
        return False
    return True


def describe() -> str:
    """Returns one line: the settings that make a CPU fast, and who convolves."""
    parts = [f"{name}={value or 'none'}" for name, value in compiler_options().items()]
    # `runtime.start` sets both of these or neither.
    if parts and not jax.config.read("jax_cpu_enable_async_dispatch"):
        parts += ["freed memory is kept", "programs run on the calling thread"]
    who, reason = chosen(), None
    if who == "xla" and _context.value.convolutions == "auto" and jax.default_backend() == "cpu":
        reason = onednn.obstacle()
    if who != "xla" or parts:
        parts.append(f"convolutions by {CHOICES[who]}{f' ({reason})' if reason else ''}")
    return "; ".join(parts) or "none"
