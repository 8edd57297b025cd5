"""Convolutions by oneDNN, the library of kernels that jaxlib's wheels for x86 processors contain.

XLA's CPU backend reaches it only behind flags that the wheels' builds leave without effect, but its
runtime executes a call of it that a program names. This module writes that call. It is no public
interface: what it says to the runtime holds for the versions of jaxlib it was tried with, others
are refused, and XLA cannot store programs with such calls in its compilation cache. Therefore it is
an option, `--cpu_convolutions=onednn`, which `runtime.start` switches on.

The fields of the message are those of OneDnnConvolutionConfig in XLA's source,
xla/service/cpu/onednn_config.proto.
"""

import functools
import importlib.metadata
import json
import math
import platform
import sys
from typing import Any

import jax
import jax.numpy as jnp

TRIED_WITH = ("0.10.2",)
# Images x height x width of the outputs that a kernel's gradient is summed over by oneDNN.
_LARGEST_SUM = 8192
_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

Pads = tuple[tuple[int, int], tuple[int, int]]


def obstacle() -> str | None:
    """Returns why it cannot be used here, or None."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return f"this is {sys.platform} on {platform.machine()}, not Linux on x86_64"
    if (version := importlib.metadata.version("jaxlib")) not in TRIED_WITH:
        return f"jaxlib is {version}, not {' or '.join(TRIED_WITH)}"
    if (count := jax.device_count()) > 1:
        return f"there are {count} devices, over which XLA does not divide it"
    return None


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], pads: Pads) -> jax.Array:
    """Convolves x with the kernel, on a CPU by oneDNN, elsewhere as `jax.lax` does.

    Args:
        x: float32 `[batch, height, width, in]`.
        kernel: float32 `[height, width, in, out]`.
        strides: (vertical, horizontal).
        pads: ((top, bottom), (left, right)) pixels of zeros.

    Returns:
        `[batch, height', width', out]`.
    """
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: _call(x, kernel, strides, pads),
        default=lambda x, kernel: reference(x, kernel, strides, pads),
    )


def reference(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], pads: Pads) -> jax.Array:
    """Convolves as `convolve` does, by XLA."""
    return jax.lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=_DIMENSIONS)


def _forward(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], pads: Pads):
    return convolve(x, kernel, strides, pads), (x, kernel)


def _backward(strides: tuple[int, int], pads: Pads, residuals, g: jax.Array):
    x, kernel = residuals
    # The gradient of the input is a convolution of g with the kernel turned round, padded to every
    # output that a pixel had a part in; with strides, of g with zeros in between.
    around = tuple(
        (size - 1 - before, full - part + before)
        for size, full, part, (before, _) in zip(
            kernel.shape[:2], x.shape[1:3], g.shape[1:3], pads, strict=True
        )
    )
    turns = strides == (1, 1) and min(map(min, around)) >= 0
    # That of the kernel is one of x with g, whose roles of image and channel are exchanged. Over
    # many values of g oneDNN is slower at it than XLA, by half at 100,000, measured with AVX2.
    exchanges = strides == (1, 1) and math.prod(g.shape[:3]) <= _LARGEST_SUM

    def by_library(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[Any, Any]:
        dx, dkernel = by_xla(x, kernel, g)  # of which what is not used is not computed
        if turns:
            dx = convolve(g, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), strides, around)
        if exchanges:
            exchanged = x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3)
            dkernel = jnp.transpose(convolve(*exchanged, strides, pads), (1, 2, 0, 3))
        return dx, dkernel

    def by_xla(x: jax.Array, kernel: jax.Array, g: jax.Array) -> tuple[Any, Any]:
        return jax.vjp(lambda x, kernel: reference(x, kernel, strides, pads), x, kernel)[1](g)

    return jax.lax.platform_dependent(x, kernel, g, cpu=by_library, default=by_xla)


convolve.defvjp(_forward, _backward)


def _call(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], pads: Pads) -> jax.Array:
    images = {"dims": 4, "data": {"batch_dim": 0, "feature_dim": 3, "spatial_dims": [1, 2]}}
    filters = {"input_feature_dim": 2, "output_feature_dim": 3, "spatial_dims": [0, 1]}
    (top, bottom), (left, right) = pads
    config = {
        "dims": 4,
        "feature_groups": 1,
        "input": images,
        "kernel": {"dims": 4, "filter": filters},
        "output": images,
        "window": {
            "strides": strides,
            "pad_left": [top, left],
            "pad_right": [bottom, right],
            "window_dilations": [1, 1],
        },
    }
    height, width = (
        (size + before + after - window) // stride + 1
        for size, window, stride, (before, after) in zip(
            x.shape[1:3], kernel.shape[:2], strides, pads, strict=True
        )
    )
    result = jax.ShapeDtypeStruct((x.shape[0], height, width, kernel.shape[3]), x.dtype)
    call = jax.ffi.ffi_call(
        "__onednn$convolution",
        result,
        vmap_method="sequential",
        custom_call_api_version=2,
        legacy_backend_config=json.dumps({"onednn_conv_config": config}),
    )
    return call(x, kernel)
