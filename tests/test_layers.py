import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.test_util import check_grads

from cnn_jax import layers
from cnn_jax.cpu import normalization
from cnn_jax.cpu.pools import max_pool
from cnn_jax.cpu.sums import add_bias


def reference_pool(x, window):
    return nn.max_pool(x, window, strides=window, padding="VALID")


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 7, 9, 2), (3, 2, 5, 1)])
@pytest.mark.parametrize("window", [(2, 2), (2, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("ties", [False, True])
def test_max_pool_and_its_gradient_are_xlas_also_at_ties(shape, window, ties):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    if ties:
        x = np.round(x)  # many equal numbers in a window
    x = jnp.asarray(x, jnp.float32)
    y, pull = jax.vjp(lambda x: max_pool(x, window), x)
    want, want_pull = jax.vjp(lambda x: reference_pool(x, window), x)
    np.testing.assert_array_equal(y, want)
    g = jnp.asarray(rng.normal(size=want.shape), jnp.float32)
    np.testing.assert_array_equal(pull(g)[0], want_pull(g)[0])


@pytest.mark.parametrize("padding", ["VALID", "SAME", ((1, 1), (1, 1)), ((0, 1), (2, 0))])
@pytest.mark.parametrize(
    ("window", "strides"), [((3, 3), (2, 2)), ((3, 2), (1, 2)), ((2, 3), (3, 1)), ((3, 3), (3, 3))]
)
@pytest.mark.parametrize("ties", [False, True])
def test_windows_that_overlap_are_xlas_also_at_ties_and_edges(padding, window, strides, ties):
    x = jax.random.normal(jax.random.key(0), (2, 7, 8, 3)) - 5  # padding is less than any value
    if ties:
        x = jnp.round(x)

    @functools.partial(jax.jit, static_argnums=0)
    def with_gradient(pool, x):
        y, vjp = jax.vjp(lambda x: pool(x, window, strides, padding), x)
        return y, vjp(jnp.cos(jnp.arange(y.size)).reshape(y.shape))[0]

    (ours, our_gradient), (plain, plain_gradient) = (
        with_gradient(pool, x) for pool in (max_pool, nn.max_pool)
    )
    np.testing.assert_array_equal(ours, plain)
    # Sums of the gradients of overlapping windows differ in their order.
    np.testing.assert_allclose(our_gradient, plain_gradient, rtol=1e-6, atol=1e-6)


def test_derivatives_hold_in_float64():
    with jax.enable_x64(True):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 6, 3)))
        bias = jnp.asarray([0.1, -0.2, 0.3])
        assert x.dtype == jnp.float64
        ours = jax.grad(lambda b: jnp.sum(jnp.sin(add_bias(x, b))))(bias)
        plain = jax.grad(lambda b: jnp.sum(jnp.sin(x + b)))(bias)
        np.testing.assert_allclose(ours, plain, rtol=1e-13)
        check_grads(lambda x: max_pool(x, (2, 2)), (x,), 1, modes=["rev"])
        check_grads(lambda x: max_pool(x, (3, 3), (2, 2)), (x,), 1, modes=["rev"])


def plain_normalize(x, scale, bias):
    axes = tuple(range(x.ndim - 1))
    return (x - jnp.mean(x, axes)) / jnp.sqrt(jnp.var(x, axes) + 1e-3) * scale + bias


@pytest.mark.parametrize("shape", [(3, 5, 7, 4), (6, 2), (1, 2, 1, 3)])
@pytest.mark.parametrize("double", [False, True])
def test_normalize_and_its_gradients_are_those_of_the_formula(shape, double):
    with jax.enable_x64(double):
        random = np.random.default_rng(0)
        x, g = (jnp.asarray(random.normal(3, 2, shape)) for _ in range(2))
        scale, bias = (jnp.asarray(random.normal(1, 1, shape[-1])) for _ in range(2))
        if not double:
            x, g, scale, bias = (value.astype(jnp.float32) for value in (x, g, scale, bias))
        tolerance = 1e-11 if double else 2e-5

        def normalize(x, scale, bias):
            outputs: Any = normalization.by_xla(x, scale, bias, 1e-3)
            return outputs[0]

        outputs: Any = normalization.by_xla(x, scale, bias, 1e-3)
        ours, our_gradients = jax.vjp(normalize, x, scale, bias)
        plain, plain_gradients = jax.vjp(plain_normalize, x, scale, bias)
        np.testing.assert_allclose(ours, plain, rtol=tolerance, atol=tolerance)
        for got, want in zip(our_gradients(g), plain_gradients(g), strict=True):
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=10 * tolerance)
        _, mean, var = outputs
        np.testing.assert_allclose(mean, x.reshape(-1, shape[-1]).mean(0), rtol=tolerance)
        np.testing.assert_allclose(var, x.reshape(-1, shape[-1]).var(0), rtol=10 * tolerance)


@pytest.mark.parametrize("strides", [(1, 1), (2, 1)])
@pytest.mark.parametrize("padding", ["VALID", "SAME", ((1, 2), (0, 1))])
def test_conv_is_linens(strides, padding):
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    ours = layers.Conv(5, (3, 2), strides=strides, padding=padding, activation="relu")
    params = jax.jit(ours.init)(jax.random.key(1), x)
    linen = nn.Conv(5, (3, 2), strides=strides, padding=padding)
    linear: Any = linen.apply(params, x)
    want: Any = nn.relu(linear)
    got: Any = ours.apply(params, x)
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("size", [8, 9])
def test_pooling_before_bias_and_relu_is_pooling_after_them(size):
    x = jax.random.normal(jax.random.key(0), (4, size, size, 3))
    pooled = layers.Conv(
        6, (3, 3), activation="relu", pool=(2, 2), bias_init=nn.initializers.normal()
    )
    params = jax.jit(pooled.init)(jax.random.key(1), x)
    usual = layers.Conv(6, (3, 3), activation="relu")

    def loss(model, after):
        return lambda params: jnp.sum(jnp.sin(after(model.apply(params, x))))

    ours, g = jax.value_and_grad(loss(pooled, lambda y: y))(params)
    want, want_g = jax.value_and_grad(loss(usual, lambda y: reference_pool(y, (2, 2))))(params)
    np.testing.assert_allclose(ours, want, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), g, want_g)


def test_parameters_have_linens_names_and_keras_initialisation():
    variables: Any = layers.Conv(4, (3, 3)).init(jax.random.key(0), jnp.zeros((1, 8, 8, 2)))
    params = variables["params"]
    assert {k: v.shape for k, v in params.items()} == {"kernel": (3, 3, 2, 4), "bias": (4,)}
    limit = np.sqrt(6 / (3 * 3 * 2 + 3 * 3 * 4))  # Glorot and Bengio 2010
    assert 0.8 * limit < np.abs(params["kernel"]).max() <= limit
    assert not np.any(params["bias"])


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters():
    model = layers.Conv(4, (3, 3), dtype=jnp.bfloat16, pool=(2, 2))
    x = jnp.ones((1, 8, 8, 2))
    params = jax.jit(model.init)(jax.random.key(0), x)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))

    def out(params) -> Any:
        return model.apply(params, x)

    assert out(params).dtype == jnp.bfloat16
    gradient = jax.grad(lambda p: out(p).astype(jnp.float32).sum())(params)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(gradient))


def test_average_pooling_and_global_pooling():
    x = jnp.arange(2 * 4 * 4 * 1, dtype=jnp.float32).reshape(2, 4, 4, 1)
    averaged: Any = layers.AvgPool((2, 2)).apply({}, x)
    np.testing.assert_allclose(averaged[0, 0, 0, 0], (0 + 1 + 4 + 5) / 4)
    pooled: Any = layers.GlobalAveragePool().apply({}, x)
    np.testing.assert_allclose(pooled[:, 0], [7.5, 23.5])
    same: Any = layers.AvgPool((3, 3), (2, 2), "SAME").apply({}, jnp.ones((1, 5, 5, 1)))
    np.testing.assert_allclose(same, 1)  # padding does not count


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_get_plain_convolutions_and_sums(platform):
    model = layers.ConvBatchNorm(4, (3, 3), use_bias=True)

    def gradient(variables, x):
        def total(variables):
            return jnp.sum(model.apply(variables, x, train=True, mutable=["batch_stats"])[0])

        return jax.grad(total)(variables)

    def text(name):
        x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
        variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=True), x)
        return export.export(jax.jit(gradient), platforms=[name])(variables, x).mlir_module()

    assert text(platform).count("stablehlo.convolution") == 2
    assert "optimization_barrier" not in text(platform)
    assert "optimization_barrier" in text("cpu")


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("strides", [(2, 2), (1, 1)])
def test_other_platforms_get_plain_pooling(platform, strides):
    def gradient(x):
        return jax.grad(lambda x: jnp.sum(jnp.square(max_pool(x, (2, 2), strides))))(x)

    def text(name):
        shape = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
        return export.export(jax.jit(gradient), platforms=[name])(shape).mlir_module()

    assert "select_and_scatter" in text(platform)
    assert "select_and_scatter" not in text("cpu")


def assert_same(one: Any, other: Any, *arguments: Any) -> None:
    """Values and gradients of two functions are the same, up to rounding."""

    def with_gradients(f: Any) -> Any:
        y, pull = jax.vjp(f, *arguments)
        return y, pull(jnp.cos(jnp.arange(y.size)).reshape(y.shape))

    for a, b in zip(*(jax.tree.leaves(with_gradients(f)) for f in (one, other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(9, 9), (10, 7), (8, 6)])
@pytest.mark.parametrize("padding", ["VALID", "SAME", ((0, 3), (2, 1))])
@pytest.mark.parametrize(("strides", "window"), [((1, 1), (2, 2)), ((2, 1), (3, 2))])
def test_what_a_pool_leaves_out_is_not_computed(size, padding, strides, window):
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    layer = layers.Conv(4, (3, 2), strides, padding, pool=window)
    variables = jax.jit(layer.init)(jax.random.key(1), x)

    def whole(variables, x):
        kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
        y = jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return nn.max_pool(y + bias, window, window)

    def positions(x):
        text = jax.jit(layer.apply).lower(variables, x).as_text()
        shape = re.findall(r"stablehlo.convolution.*-> tensor<2x(\d+)x(\d+)x4xf32>", text)[0]
        return tuple(map(int, shape))

    assert_same(layer.apply, whole, variables, x)
    pooled = jax.eval_shape(whole, variables, x).shape[1:3]
    assert positions(x) == tuple(n * w for n, w in zip(pooled, window, strict=True))


def test_pads_may_be_larger_than_the_kernel():
    x, pads = jax.random.normal(jax.random.key(0), (2, 6, 7, 3)), ((4, 0), (2, 3))
    layer = layers.Conv(4, (3, 2), padding=pads)
    variables = jax.jit(layer.init)(jax.random.key(1), x)
    plain = layers.Conv(4, (3, 2))

    def padded(variables, x):
        return plain.apply(variables, jnp.pad(x, ((0, 0), *pads, (0, 0))))

    assert_same(layer.apply, padded, variables, x)
