"""Convolutions by oneDNN against those of XLA, and what the option does to a process."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from cnn_jax import layers, onednn, runtime
from cnn_jax.errors import UsageError
from cnn_jax.models.study_cnn import study_cnn

here = pytest.mark.skipif(onednn.obstacle() is not None, reason=str(onednn.obstacle()))


@pytest.fixture
def chosen():
    """The process as `--cpu_convolutions=onednn` has it."""
    runtime.start("cpu", cpu_convolutions="onednn")
    yield
    runtime.start("cpu")


def draw(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)


CASES = {
    # images, kernel, strides, pads
    "same": ((2, 7, 9, 3), (3, 3, 3, 5), (1, 1), ((1, 1), (1, 1))),
    "valid": ((3, 5, 5, 2), (5, 5, 2, 7), (1, 1), ((0, 0), (0, 0))),
    "even and uneven": ((2, 6, 7, 3), (2, 3, 3, 4), (1, 1), ((0, 1), (1, 1))),
    "padded by more than the kernel": ((2, 6, 7, 3), (3, 2, 3, 4), (1, 1), ((4, 0), (2, 3))),
    "large": ((2, 20, 18, 4), (3, 3, 4, 6), (1, 1), ((1, 1), (1, 1))),
    "strides": ((2, 9, 8, 3), (3, 3, 3, 4), (2, 1), ((1, 1), (0, 1))),
    "strides that leave pixels out": ((1, 8, 8, 4), (1, 1, 4, 4), (3, 3), ((0, 0), (0, 0))),
}


@here
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_xla(chosen, case):
    images, filters, strides, pads = CASES[case]
    x, kernel = draw(*images), draw(*filters)

    def both(convolve: Any) -> Any:
        def total(x, kernel):
            return jnp.sum(jnp.sin(convolve(x, kernel, strides, pads)))

        value = convolve(x, kernel, strides, pads)
        return value, *jax.jit(jax.grad(total, (0, 1)))(x, kernel)

    for ours, theirs in zip(both(onednn.convolve), both(onednn.reference), strict=True):
        scale = float(jnp.abs(theirs).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * scale)


@here
def test_second_derivatives_and_vmap(chosen):
    x, kernel, pads = draw(2, 6, 6, 3), draw(3, 3, 3, 4), ((1, 1), (1, 1))

    def steepness(convolve: Any) -> Any:
        def slope(x):
            return jax.grad(lambda x: jnp.sum(jnp.sin(convolve(x, kernel, (1, 1), pads))))(x)

        return jax.grad(lambda x: jnp.sum(slope(x) ** 2))(x)

    def mapped(convolve: Any) -> Any:
        one = lambda x, kernel: convolve(x, kernel, (1, 1), pads)  # noqa: E731
        return jax.vmap(one)(jnp.stack([x, 2 * x]), jnp.stack([kernel, -kernel]))

    for f in (steepness, mapped):
        np.testing.assert_allclose(f(onednn.convolve), f(onednn.reference), rtol=0, atol=2e-3)


@here
def test_layers_use_it_for_float32_and_nothing_is_stored(chosen):
    model = study_cnn(10)
    x = draw(2, 32, 32, 3)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: 0.05 * draw(*leaf.shape), shapes)

    def calls(x):
        text = jax.jit(model.apply).lower(variables, x).as_text()
        return text.count("__onednn$convolution"), text.count("stablehlo.convolution")

    assert calls(x) == (4, 0)
    layer = layers.Conv(4, (3, 3), dtype=jnp.bfloat16)
    half = jax.jit(layer.init_with_output).lower(jax.random.key(0), x).as_text()
    assert "__onednn" not in half
    assert "convolutions by oneDNN" in runtime.describe_tuning()
    assert jax.config.values["jax_persistent_cache_min_compile_time_secs"] == math.inf
    by_library = jax.jit(model.apply)(variables, x)
    runtime.start("cpu")
    assert jax.config.values["jax_persistent_cache_min_compile_time_secs"] < 1
    np.testing.assert_allclose(jax.jit(model.apply)(variables, x), by_library, rtol=0, atol=1e-5)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_get_plain_convolutions(platform):
    def gradients(x, kernel):
        def total(x, kernel):
            return jnp.sum(jnp.sin(onednn.convolve(x, kernel, (1, 1), ((1, 1), (1, 1)))))

        return jax.grad(total, (0, 1))(x, kernel)

    def text(name):
        shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 8, 8, 3), (3, 3, 3, 4))]
        checks = [export.DisabledSafetyCheck.custom_call("__onednn$convolution")]
        exported = export.export(jax.jit(gradients), platforms=[name], disabled_checks=checks)
        return exported(*shapes).mlir_module()

    assert "__onednn" not in text(platform)
    assert text(platform).count("stablehlo.convolution") == 3
    assert text("cpu").count("__onednn$convolution") == 3


def test_versions_that_it_was_not_tried_with_are_refused(monkeypatch):
    monkeypatch.setattr(onednn, "TRIED_WITH", ("0.0.1",))
    reason = onednn.obstacle()
    assert reason
    try:
        with pytest.raises(UsageError, match="--cpu_convolutions=onednn cannot be had"):
            runtime.start("cpu", cpu_convolutions="onednn")
        assert not runtime.uses_onednn()
    finally:
        runtime.start("cpu")
