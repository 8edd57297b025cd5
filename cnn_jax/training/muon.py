"""Muon: momentum whose update of each filter bank is made nearly orthogonal.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", and
airbench94_muon, which also resets the norm of each filter bank in every step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

# The odd polynomial a x + b x^3 + c x^5 of each Newton-Schulz iteration, steep at 0.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class MuonState(NamedTuple):
    """The state of `scale_by_muon`: the momentum, shaped as the parameters."""

    momentum: Any


def orthogonalise(matrix: jax.Array, steps: int = 3) -> jax.Array:
    """Returns a matrix with the singular vectors of another and singular values near one.

    After three iterations they lie between about 0.3 and 1.3 for all but the smallest of the
    original's; the polynomial is made to lift small ones fast, not to converge to one.

    Args:
        matrix: float32 [rows, columns].
        steps: Newton-Schulz iterations.
    """
    a, b, c = _COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.T


def scale_by_muon(momentum: float = 0.6, steps: int = 3) -> optax.GradientTransformation:
    """Returns Nesterov momentum followed by `orthogonalise`, for kernels [height, width, in, out].

    A kernel is a matrix with a row for each filter.
    """

    def init(params: Any) -> MuonState:
        return MuonState(jax.tree.map(jnp.zeros_like, params))

    def direction(gradient: jax.Array, buffer: jax.Array) -> jax.Array:
        ahead = gradient + momentum * buffer
        rows = ahead.reshape(-1, ahead.shape[-1]).T
        return orthogonalise(rows, steps).T.reshape(ahead.shape)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MuonState]:
        del params
        buffers = jax.tree.map(lambda g, b: momentum * b + g, updates, state.momentum)
        return jax.tree.map(direction, updates, buffers), MuonState(buffers)

    return optax.GradientTransformation(init, update)


def keep_norm() -> optax.GradientTransformation:
    """Rescales each kernel to norm sqrt(filters) before its update.

    It must be the last transformation of a chain.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def move(step: jax.Array, kernel: jax.Array) -> jax.Array:
            scale = jnp.sqrt(kernel.shape[-1]) / (jnp.linalg.norm(kernel) + 1e-12)
            return step + (scale - 1) * kernel

        return jax.tree.map(move, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
