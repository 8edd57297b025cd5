"""Sums over all pixels of each channel, which XLA's CPU backend computes on one thread."""

import math

import jax
import jax.numpy as jnp

from cnn_jax.cpu import choice

_PARTS = 32  # enough for the threads of a CPU, and for small rounding errors


def channel_sum(x: jax.Array) -> jax.Array:
    """Sums `x [..., channels]` to `[channels]`, in the type of x."""
    count = math.prod(x.shape[:-1])
    parts = math.gcd(count, _PARTS) if count else 1

    def in_parts(x: jax.Array) -> jax.Array:
        """Sums each part by itself, since XLA divides a program's results among threads."""
        if parts == 1:  # a matrix product is faster then
            return (jnp.ones((1, count), x.dtype) @ x.reshape(count, x.shape[-1]))[0]
        sums = jnp.sum(x.reshape(parts, count // parts, x.shape[-1]), axis=1)
        return jnp.sum(jax.lax.optimization_barrier(sums), axis=0)

    def whole(x: jax.Array) -> jax.Array:
        return jnp.sum(x, axis=tuple(range(x.ndim - 1)))

    if choice.is_plain():
        return whole(x)
    return jax.lax.platform_dependent(x, cpu=in_parts, default=whole)


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Returns `x [..., channels] + bias [channels]`; dL/dbias is a `channel_sum`."""
    return x + bias if choice.is_plain() else _add_bias(x, bias)


@jax.custom_vjp
def _add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    return x + bias


def _add_bias_backward(bias: jax.Array, g: jax.Array):
    return g, channel_sum(g).astype(bias.dtype)


_add_bias.defvjp(lambda x, bias: (x + bias, bias), _add_bias_backward)
