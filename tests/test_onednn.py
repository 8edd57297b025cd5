"""Convolutions by oneDNN against those of XLA, and what the option does to a process."""

import os
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from cnn_jax import cpu, layers
from cnn_jax.cpu import convolution, normalization, onednn
from cnn_jax.cpu.onednn_settings import Geometry, Kind
from cnn_jax.errors import UsageError
from cnn_jax.models.study_cnn import study_cnn

here = pytest.mark.skipif(onednn.obstacle() is not None, reason=str(onednn.obstacle()))


@pytest.fixture
def chosen():
    """oneDNN convolves, as with `--cpu_convolutions=onednn`."""
    with cpu.using("onednn"):
        yield


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


CASES = {
    # images, kernel, strides, pads
    "same": ((2, 7, 9, 3), (3, 3, 3, 5), (1, 1), ((1, 1), (1, 1))),
    "valid": ((3, 5, 5, 2), (5, 5, 2, 7), (1, 1), ((0, 0), (0, 0))),
    "even and uneven": ((2, 6, 7, 3), (2, 3, 3, 4), (1, 1), ((0, 1), (1, 1))),
    "many channels": ((2, 12, 10, 32), (3, 3, 32, 48), (1, 1), ((1, 1), (1, 1))),
    "strides": ((2, 9, 8, 3), (3, 3, 3, 4), (2, 1), ((1, 1), (0, 1))),
    "depthwise": ((2, 9, 8, 6), (3, 3, 1, 6), (2, 2), ((1, 1), (0, 1))),
    "groups": ((2, 6, 5, 6), (5, 5, 3, 8), (1, 1), ((2, 2), (2, 2))),
    "strides that leave pixels out": ((1, 8, 8, 4), (1, 1, 4, 4), (3, 3), ((0, 0), (0, 0))),
}
ADDED = {"": (False, False), "bias": (True, False), "bias and relu": (True, True)}


@here
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("added", ADDED)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_and_gradients_are_those_of_xla(chosen, case, added, dtype):
    if dtype == jnp.bfloat16 and not onednn.has_bfloat16():
        pytest.skip("this processor has no instructions for bfloat16")
    images, filters, strides, pads = CASES[case]
    has_bias, relu = ADDED[added]
    x, kernel = draw(*images).astype(dtype), draw(*filters, seed=1)
    bias = draw(filters[-1], seed=2) if has_bias else None
    weights = draw(
        *jax.eval_shape(lambda: convolution.by_xla(x, kernel, bias, strides, pads)).shape
    )

    def both(convolve: Any, x: Any) -> Any:
        def total(x, kernel, bias):
            y = convolve(x, kernel, bias, strides, pads, relu)
            return jnp.sum(y.astype(jnp.float32) * weights)

        value = convolve(x, kernel, bias, strides, pads, relu)
        return value, *jax.jit(jax.grad(total, (0, 1, 2)))(x, kernel, bias)

    # What is computed in bfloat16 is compared with float32, as bfloat16 sums differ by themselves.
    ours = jax.tree.leaves(both(convolution.by_onednn, x))
    theirs = jax.tree.leaves(both(convolution.by_xla, x.astype(jnp.float32)))
    assert ours[0].dtype == ours[1].dtype == dtype
    assert all(one.dtype == jnp.float32 for one in ours[2:])
    for mine, other in zip(ours, theirs, strict=True):
        error = np.linalg.norm(mine.astype(jnp.float32) - other) / np.linalg.norm(other)
        # A ReLU's gradient jumps where bfloat16 rounds to the other side of zero.
        assert error < (2e-6 if dtype == jnp.float32 else 0.1 if relu else 0.02)


@here
@pytest.mark.parametrize("shape", [(4, 5, 6, 8), (2, 7, 7, 24), (3, 3, 3, 5)])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_normalisation_and_its_gradients_are_those_of_the_formula(chosen, shape, relu, dtype):
    if dtype == jnp.bfloat16 and not onednn.has_bfloat16():
        pytest.skip("this processor has no instructions for bfloat16")
    x = (2 * draw(*shape) + 1).astype(dtype)
    scale, bias, weights = draw(shape[-1], seed=1), draw(shape[-1], seed=2), draw(*shape, seed=3)

    def both(normalize: Any, x: Any) -> Any:
        def total(x, scale, bias):
            y, mean, var = normalize(x, scale, bias, 1e-3, relu)
            return jnp.sum(y.astype(jnp.float32) * weights) + jnp.sum(0 * mean + 0 * var)

        values = normalize(x, scale, bias, 1e-3, relu)
        return values, jax.jit(jax.grad(total, (0, 1, 2)))(x, scale, bias)

    ours = jax.tree.leaves(both(normalization.by_onednn, x))
    theirs = jax.tree.leaves(both(normalization._with_relu, x.astype(jnp.float32)))
    assert ours[0].dtype == ours[3].dtype == dtype
    for mine, other in zip(ours, theirs, strict=True):
        error = np.linalg.norm(mine.astype(jnp.float32) - other) / np.linalg.norm(other)
        assert error < (2e-6 if dtype == jnp.float32 else 0.01)


@here
@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
def test_a_normalised_layer_is_what_it_is_without(chosen, activation):
    x = draw(3, 7, 7, 4)
    layer = layers.ConvBatchNorm(8, (3, 3), activation=activation)
    variables = jax.tree.map(lambda leaf: leaf + 0.1, layer.init(jax.random.key(0), x, train=True))

    def run(params, x):
        def total(params, x):
            merged = {**variables, "params": params}
            y, updated = layer.apply(merged, x, train=True, mutable=["batch_stats"])
            return jnp.sum(y * jnp.cos(jnp.arange(y.size)).reshape(y.shape)), updated

        return jax.value_and_grad(total, (0, 1), has_aux=True)(params, x)

    def leaves():
        jitted = jax.jit(lambda params, x: run(params, x))
        text = jitted.lower(variables["params"], x).as_text()
        return text.count(f"@{onednn.TARGET}"), jax.tree.leaves(jitted(variables["params"], x))

    calls, by_library = leaves()
    assert calls == 5  # three of the convolution, two of the normalisation
    with cpu.using("xla"):
        calls, by_xla = leaves()
    assert calls == 0
    for ours, theirs in zip(by_library, by_xla, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


@here
def test_second_derivatives_and_vmap(chosen):
    x, kernel, bias, pads = draw(2, 6, 6, 3), draw(3, 3, 3, 4), draw(4), ((1, 1), (1, 1))

    def steepness(convolve: Any) -> Any:
        def slopes(x, kernel, bias):
            def total(x, kernel, bias):
                return jnp.sum(jnp.sin(convolve(x, kernel, bias, (1, 1), pads)))

            return jax.grad(total, (0, 1, 2))(x, kernel, bias)

        def total(*leaves):
            return sum(jnp.sum(slope**2) for slope in slopes(*leaves))

        return jax.grad(total, (0, 1, 2))(x, kernel, bias)

    def mapped(convolve: Any) -> Any:
        one = lambda x, kernel: convolve(x, kernel, bias, (1, 1), pads)  # noqa: E731
        return jax.vmap(one)(jnp.stack([x, 2 * x]), jnp.stack([kernel, -kernel]))

    for f in (steepness, mapped):
        for ours, theirs in zip(*(jax.tree.leaves(f(c)) for c in IMPLEMENTATIONS), strict=True):
            scale = float(jnp.abs(theirs).max())
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * scale)


IMPLEMENTATIONS = (convolution.by_onednn, convolution.by_xla)


@here
def test_a_layer_is_what_it_is_without(chosen):
    x, key = draw(2, 9, 9, 3), jax.random.key(0)
    cases: Any = ((None, "relu"), (None, "gelu"), ((2, 2), "relu"), (None, None))
    for pool, activation in cases:
        layer = layers.Conv(4, (3, 3), padding="SAME", activation=activation, pool=pool)
        variables = jax.tree.map(lambda leaf: leaf + 0.1, layer.init(key, x))

        def run(x, layer=layer, variables=variables):
            y: Any
            y, pull = jax.vjp(lambda v, x: layer.apply(v, x), variables, x)
            return y, pull(jnp.cos(jnp.arange(y.size)).reshape(y.shape))

        by_library = jax.jit(run)(x)
        assert onednn.TARGET in jax.jit(run).lower(x).as_text()
        with cpu.using("xla"):
            by_xla = jax.jit(run)(x)
        for ours, theirs in zip(*map(jax.tree.leaves, (by_library, by_xla)), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


@here
def test_layers_use_it_where_it_can(chosen):
    model = study_cnn(10)
    x = draw(2, 32, 32, 3)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: 0.05 * draw(*leaf.shape), shapes)

    def calls(x):
        text = jax.jit(model.apply).lower(variables, x).as_text()
        return text.count(f"@{onednn.TARGET}"), text.count("stablehlo.convolution")

    assert calls(x) == (4, 0)
    layer = layers.Conv(4, (3, 3), dtype=jnp.bfloat16)
    half = jax.jit(layer.init_with_output).lower(jax.random.key(0), x).as_text()
    assert (onednn.TARGET in half) == onednn.has_bfloat16()
    with jax.enable_x64(True):
        double = layers.Conv(4, (3, 3), dtype=jnp.float64)
        wide = jax.jit(double.init_with_output).lower(jax.random.key(0), x).as_text()
    assert onednn.TARGET not in wide
    assert "convolutions by oneDNN" in cpu.describe()
    by_library = jax.jit(model.apply)(variables, x)
    with cpu.using("xla"):
        assert "convolutions by XLA" in cpu.describe()
        by_xla = jax.jit(model.apply)(variables, x)
    np.testing.assert_allclose(by_xla, by_library, rtol=0, atol=1e-5)


def test_pads_of_the_kernels_size_are_refused():
    with pytest.raises(ValueError, match="not less than the kernel"):
        convolution.by_onednn(draw(1, 4, 4, 2), draw(3, 3, 2, 2), None, (1, 1), ((3, 0), (0, 0)))


@here
def test_what_it_cannot_do_is_an_error_of_the_program(chosen):
    packed = Geometry(
        Kind.RESULT, False, False, False, *((1, 4, 4, 2), (3, 3, 2, 2), (1, 9, 9, 2)),
        *((1, 1), ((0, 0), (0, 0))),
    ).pack()  # fmt: skip
    result = jax.ShapeDtypeStruct((1, 9, 9, 2), jnp.float32)
    call = jax.ffi.ffi_call(onednn.TARGET, [result])
    with pytest.raises(jax.errors.JaxRuntimeError, match="oneDNN's convolution_forward"):
        call(draw(1, 4, 4, 2), draw(3, 3, 2, 2), settings=packed)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_get_plain_convolutions(platform):
    def gradients(x, kernel, bias):
        def total(x, kernel, bias):
            y: Any = convolution.by_onednn(x, kernel, bias, (1, 1), ((1, 1), (1, 1)), True)
            return jnp.sum(jnp.sin(y))

        return jax.grad(total, (0, 1, 2))(x, kernel, bias)

    def text(name):
        shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 8, 8, 3), (3, 3, 3, 4), (4,))]
        checks = [export.DisabledSafetyCheck.custom_call(onednn.TARGET)]
        exported = export.export(jax.jit(gradients), platforms=[name], disabled_checks=checks)
        return exported(*shapes).mlir_module()

    assert onednn.TARGET not in text(platform)
    assert text(platform).count("stablehlo.convolution") == 3
    assert text("cpu").count(f"@{onednn.TARGET}") == 3


def test_without_the_library_it_is_refused_or_left_out(monkeypatch):
    monkeypatch.setattr(onednn, "PACKAGE", "no-such-package")
    for cached in ("obstacle", "_register", "_library"):
        monkeypatch.setattr(onednn, cached, getattr(onednn, cached).__wrapped__)
    with (
        pytest.raises(UsageError, match=r"no-such-package is not installed"),
        cpu.using("onednn"),
    ):
        pass
    assert not cpu.by_onednn()
    with cpu.using("auto"):
        assert not cpu.by_onednn()
        assert "convolutions by XLA (no-such-package is not" in cpu.describe()


@here
def test_auto_uses_it_where_it_is_installed(chosen):
    with cpu.using("auto"):
        assert cpu.by_onednn()
    with cpu.using("xla"):
        assert not cpu.by_onednn()


_TWICE = """
import sys
import jax, jax.numpy as jnp
from cnn_jax import cpu, layers, runtime
runtime.start("cpu")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
layer = layers.Conv(4, (3, 3), padding="SAME", activation="relu")
x = jnp.cos(jnp.arange(2 * 8 * 8 * 3.0)).reshape(2, 8, 8, 3)
variables = {"params": {"kernel": jnp.ones((3, 3, 3, 4)), "bias": jnp.ones(4)}}
def steepness(variables):
    return jnp.sum(layer.apply(variables, x) ** 2)
with cpu.using("onednn"):
    slope = jax.jit(jax.grad(steepness))(variables)
print(float(jnp.sum(slope["params"]["kernel"])), hits.count("/jax/compilation_cache/cache_misses"))
"""


@here
def test_programs_are_kept_in_the_compilation_cache(tmp_path):
    def run():
        done = subprocess.run(
            [sys.executable, "-c", _TWICE],
            env={**os.environ, "CNN_JAX_CACHE": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        value, misses = done.stdout.split()
        return float(value), int(misses)

    (first, compiled), (second, again) = run(), run()
    assert compiled > 0
    assert again == 0
    assert first == second
