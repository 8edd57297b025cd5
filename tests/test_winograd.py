"""Winograd's algorithm against the definition, and where it is chosen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from cnn_jax import cpu, layers
from cnn_jax.cpu import convolution, onednn, winograd, winograd_plan
from cnn_jax.cpu.onednn_settings import Geometry, Kind
from cnn_jax.runs.environment import environment

here = pytest.mark.skipif(onednn.obstacle() is not None, reason=str(onednn.obstacle()))


@pytest.fixture
def chosen(monkeypatch):
    """Winograd's algorithm convolves wherever it can, however small the convolution is."""
    monkeypatch.setattr(winograd_plan, "pays", lambda geometry: geometry.strides == (1, 1))
    with cpu.using("winograd"):
        yield


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


FILTERS = [(m, r) for r in range(1, 6) for m in range(1, 8 - r)]


@pytest.mark.parametrize(("m", "r"), FILTERS)
def test_the_matrices_give_the_outputs_of_a_filter(m, r):
    generator = np.random.default_rng(0)
    x, w = generator.standard_normal(m + r - 1), generator.standard_normal(r)
    found = winograd_plan.transforms(m, r)
    y = found.outputs @ ((found.kernel @ w) * (found.inputs @ x))
    np.testing.assert_allclose(y, np.correlate(x, w, "valid"), rtol=1e-11, atol=1e-11)


TILES = [(32, 3, 4), (6, 3, 3), (3, 3, 3), (7, 3, 4), (9, 4, 3)]


@pytest.mark.parametrize(("size", "r", "m"), TILES)
def test_tiles_are_those_of_the_fewest_products(size, r, m):
    axis = winograd_plan.Axis(size, r)
    assert (axis.m, axis.alpha) == (m, m + r - 1)
    assert axis.tiles * m >= size


CASES = {
    # images, kernel, pads
    "whole tiles": ((2, 8, 12, 3), (3, 3, 3, 5), ((1, 1), (1, 1))),
    "tiles that end outside": ((3, 7, 9, 4), (3, 3, 4, 6), ((1, 1), (1, 1))),
    "one small tile": ((2, 3, 3, 8), (3, 3, 8, 8), ((1, 1), (1, 1))),
    "valid": ((2, 9, 10, 3), (3, 3, 3, 4), ((0, 0), (0, 0))),
    "even and uneven": ((2, 9, 8, 3), (4, 3, 3, 5), ((0, 2), (1, 1))),
    "two taps": ((2, 7, 6, 3), (2, 2, 3, 4), ((0, 0), (0, 1))),
    "five taps": ((1, 11, 8, 2), (5, 5, 2, 3), ((2, 2), (2, 2))),
    "a row": ((2, 6, 9, 3), (1, 3, 3, 4), ((0, 0), (1, 1))),
}


@here
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("parts", [False, True])
def test_values_and_gradients_are_those_of_the_definition(chosen, case, parts, monkeypatch):
    if parts:  # one image at a time
        monkeypatch.setattr(winograd, "_PART_BYTES", 1)
    images, filters, pads = CASES[case]
    x, kernel, bias = draw(*images), draw(*filters, seed=1), draw(filters[-1], seed=2)
    weights = draw(*jax.eval_shape(lambda: convolution.by_xla(x, kernel, bias, (1, 1), pads)).shape)

    def both(convolve: Any, *operands: Any, **more: Any) -> Any:
        def total(x, kernel, bias):
            return jnp.sum(convolve(x, kernel, bias, (1, 1), pads, True, **more) * weights)

        value = convolve(*operands, (1, 1), pads, True, **more)
        return value, *jax.jit(jax.grad(total, (0, 1, 2)))(*operands)

    ours = both(convolution.by_onednn, x, kernel, bias, with_winograd=True)
    with jax.enable_x64(True):
        wide = (jnp.asarray(np.asarray(one), jnp.float64) for one in (x, kernel, bias))
        theirs = [np.asarray(leaf) for leaf in both(convolution.by_xla, *wide)]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.dtype == jnp.float32
        assert np.linalg.norm(np.asarray(mine) - other) < 3e-6 * np.linalg.norm(other)


@here
def test_second_derivatives_and_vmap(chosen):
    x, kernel, bias, pads = draw(2, 6, 6, 3), draw(3, 3, 3, 4), draw(4), ((1, 1), (1, 1))

    def fast(x, kernel, bias):
        return convolution.by_onednn(x, kernel, bias, (1, 1), pads, False, True)

    def plain(x, kernel, bias):
        return convolution.by_xla(x, kernel, bias, (1, 1), pads)

    def steepness(convolve: Any) -> Any:
        def slopes(*leaves):
            total = lambda *leaves: jnp.sum(jnp.sin(convolve(*leaves)))  # noqa: E731
            return jax.grad(total, (0, 1, 2))(*leaves)

        total = lambda *leaves: sum(jnp.sum(s**2) for s in slopes(*leaves))  # noqa: E731
        return jax.grad(total, (0, 1, 2))(x, kernel, bias)

    def mapped(convolve: Any) -> Any:
        one = lambda x, kernel: convolve(x, kernel, bias)  # noqa: E731
        return jax.vmap(one)(jnp.stack([x, 2 * x]), jnp.stack([kernel, -kernel]))

    for f in (steepness, mapped):
        for ours, theirs in zip(
            *(jax.tree.leaves(jax.jit(f, static_argnums=0)(c)) for c in (fast, plain)), strict=True
        ):
            scale = float(jnp.abs(theirs).max())
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * scale)


@here
def test_rounding_errors_are_as_the_module_says():
    x, kernel = draw(2, 12, 12, 512), draw(3, 3, 512, 64, seed=1)
    pads = ((1, 1), (1, 1))
    y = winograd.convolve(x, kernel, None, pads)
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(one), jnp.float64) for one in (x, kernel)]
        exact = np.asarray(convolution.by_xla(wide[0], wide[1], None, (1, 1), pads))
    assert np.abs(np.asarray(y) - exact).max() < 2e-5 * np.abs(exact).max()


def geometry(kind=Kind.RESULT, size=20, channels=256, taps=3, **more):
    images, kernel = (32, size, size, channels), (taps, taps, channels, channels)
    pad = (taps // 2, taps - 1 - taps // 2)
    made = Geometry(
        kind, False, False, False, images, kernel, images, (1, 1), (pad, pad)
    )  # fmt: skip
    return made._replace(**more)


def test_it_is_chosen_where_many_channels_make_it_pay():
    for kind in (Kind.RESULT, Kind.IMAGES_GRADIENT, Kind.KERNEL_GRADIENT):
        assert winograd_plan.pays(geometry(kind))
        assert not winograd_plan.pays(geometry(kind, channels=32))
        assert not winograd_plan.pays(geometry(kind, bfloat16=True))
        assert not winograd_plan.pays(geometry(kind, strides=(2, 2)))
        assert not winograd_plan.pays(geometry(kind, taps=1))
        assert not winograd_plan.pays(geometry(kind, taps=7))


@here
def test_a_layer_uses_it_where_it_was_asked_for():
    x, layer = draw(32, 8, 8, 256), layers.Conv(256, (3, 3), padding="SAME", activation="gelu")
    variables = jax.jit(layer.init)(jax.random.key(0), x[:1])

    def run(variables, x):
        def total(variables, x):
            y: Any = layer.apply(variables, x)
            return jnp.sum(y * jnp.cos(jnp.arange(y.size)).reshape(y.shape))

        return jax.grad(total, (0, 1))(variables, x)

    found = {}
    program = jax.jit(run)
    for who, products in (("winograd", True), ("onednn", False)):
        with cpu.using(who):
            text = program.lower(variables, x).as_text()
            # A call's attribute begins with its kind.
            assert (f"dense<[{int(Kind.PRODUCTS)}, " in text) == products
            found[who] = program(variables, x)
            assert ("by Winograd's algorithm" in cpu.describe()) == products
    with cpu.using("auto"):
        assert cpu.chosen() == "winograd"
        assert "by Winograd's algorithm" in cpu.describe()
        assert environment()["cpu_convolutions"] == "winograd"
    for ours, theirs in zip(*(jax.tree.leaves(one) for one in found.values()), strict=True):
        assert np.linalg.norm(ours - theirs) < 1e-5 * np.linalg.norm(theirs)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_get_plain_convolutions(platform):
    def gradients(x, kernel):
        def y(x, kernel):
            return convolution.by_onednn(x, kernel, None, (1, 1), ((1, 1), (1, 1)), False, True)

        return jax.grad(lambda *leaves: jnp.sum(jnp.sin(y(*leaves))), (0, 1))(x, kernel)

    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((32, 8, 8, 256), (3, 3, 256, 256))]
    exported = export.export(jax.jit(gradients), platforms=[platform])
    text = exported(*shapes).mlir_module()
    assert text.count("stablehlo.convolution") == 3
    assert onednn.TARGET not in text
