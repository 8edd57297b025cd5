from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn_jax.experiment import Optimizer
from cnn_jax.training import muon, optimizers
from cnn_jax.training.freezing import Group


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (5, 5)])
def test_orthogonalise_keeps_singular_vectors_and_evens_out_values(shape):
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    given = np.asarray(muon.orthogonalise(jnp.asarray(matrix)))
    core = u.T @ given @ vt.T
    np.testing.assert_allclose(core, np.diag(np.diag(core)), atol=1e-4)
    values = np.diag(core)
    # The same odd polynomial, applied to each singular value alone.
    x = s / np.linalg.norm(matrix)
    for _ in range(3):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    np.testing.assert_allclose(values, x, rtol=1e-3, atol=1e-4)
    assert values.max() < 1.4
    assert values.max() / values.min() < s.max() / s.min()


def test_momentum_is_nesterovs_and_kernels_are_rows_of_filters():
    rng = np.random.default_rng(0)
    g1, g2 = rng.normal(size=(2, 3, 3, 4, 6)).astype(np.float32)
    transform = muon.scale_by_muon(momentum=0.6)
    state = transform.init({"w": jnp.zeros((3, 3, 4, 6))})
    _, state = transform.update({"w": jnp.asarray(g1)}, state)
    update: Any = transform.update({"w": jnp.asarray(g2)}, state)[0]
    buffer = 0.6 * g1 + g2
    ahead = g2 + 0.6 * buffer
    filters = jnp.asarray(ahead.reshape(36, 6).T)
    expected = np.asarray(muon.orthogonalise(filters)).T.reshape(3, 3, 4, 6)
    np.testing.assert_allclose(update["w"], expected, rtol=1e-4, atol=1e-5)


def test_keep_norm_takes_the_step_from_a_kernel_of_known_norm():
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 4, 16)), jnp.float32)
    chain = optax.chain(optax.sgd(0.1), muon.keep_norm())
    gradient = jnp.ones_like(kernel)
    updates, _ = jax.jit(chain.update)(gradient, chain.init(kernel), kernel)
    moved: Any = optax.apply_updates(kernel, updates)
    assert np.linalg.norm(moved + 0.1) == pytest.approx(4, rel=1e-5)


def test_muon_is_for_filter_banks_and_sgd_for_the_rest():
    rng = np.random.default_rng(0)
    shapes = {"conv/kernel": (3, 3, 4, 6), "bn/bias": (6,), "head/kernel": (6, 2)}
    params = {p: jnp.asarray(rng.normal(size=s), jnp.float32) for p, s in shapes.items()}
    gradients = {p: jnp.asarray(rng.normal(size=s), jnp.float32) for p, s in shapes.items()}
    groups = {p: Group(0, 10.0 if p == "head/kernel" else 1.0) for p in shapes}
    config = Optimizer(name="muon", momentum=0.85)
    optimizer = optimizers.make_optimizer(config, groups, 0.1, 0.01)
    updates: Any = optimizer.update(gradients, optimizer.init(params), params)[0]
    moved: Any = optax.apply_updates(params, updates)
    decayed = gradients["bn/bias"] + 0.01 * params["bn/bias"]
    expected = params["bn/bias"] - 0.1 * 1.85 * decayed  # Nesterov's first step
    np.testing.assert_allclose(moved["bn/bias"], expected, rtol=1e-5)
    decayed = gradients["head/kernel"] + 0.01 / 10 * params["head/kernel"]
    expected = params["head/kernel"] - 10 * 0.1 * 1.85 * decayed
    np.testing.assert_allclose(moved["head/kernel"], expected, rtol=1e-4, atol=1e-6)
    filters = gradients["conv/kernel"].reshape(36, 6).T
    step = 0.1 * np.asarray(muon.orthogonalise(filters)).T.reshape(3, 3, 4, 6)
    kernel = params["conv/kernel"]
    expected = kernel * np.sqrt(6) / np.linalg.norm(kernel) - step
    np.testing.assert_allclose(moved["conv/kernel"], expected, rtol=1e-3, atol=1e-4)
