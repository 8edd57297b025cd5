"""Who convolves on a CPU: the context, its compiler options, and the plain choice."""

import contextlib
import threading
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from cnn_jax import cpu, layers, models
from cnn_jax.cpu import choice, onednn
from cnn_jax.errors import UsageError
from tests.tiny import UNOPTIMISED


def test_contexts_nest_and_keep_what_they_are_not_told():
    assert cpu.chosen() == "xla"  # the choice of all tests
    with cpu.using("plain", tuning=False):
        assert cpu.chosen() == "plain"
        with cpu.using():
            assert cpu.chosen() == "plain"
            assert cpu.compiler_options() == {}
            with cpu.using(tuning=True):
                assert cpu.compiler_options()
        with contextlib.suppress(ZeroDivisionError), cpu.using("xla"):
            assert cpu.chosen() == "xla"
            raise ZeroDivisionError
        assert cpu.chosen() == "plain"
    assert cpu.chosen() == "xla"


def test_without_a_context_it_is_auto():
    found = []
    thread = threading.Thread(target=lambda: found.append((cpu.chosen(), cpu.compiler_options())))
    thread.start()  # whose context is not ours
    thread.join()
    assert found[0][0] == ("xla" if onednn.obstacle() else "winograd")
    assert found[0][1]


def test_no_such_choice():
    with pytest.raises(UsageError, match="'mkl', which is not one of auto, winograd"):
        cpu.using("mkl").__enter__()


def test_a_jitted_function_is_traced_again_in_another_context():
    traced = []

    @jax.jit
    def f(x):
        traced.append(cpu.chosen())
        return x + 1

    for who in ("xla", "plain", "xla", "plain"):
        with cpu.using(who):
            f(jnp.zeros(3))
    assert traced == ["xla", "plain"]


def test_tuning_of_a_cpu_can_be_switched_off_and_unknown_options_are_left_out(monkeypatch):
    with cpu.using(tuning=False):
        assert cpu.compiler_options() == {}
        assert cpu.describe() == "none"
    options = {"xla_disable_hlo_passes": "cse_barrier_expander", "xla_no_such_option": "1"}
    monkeypatch.setattr(choice, "_COMPILER_OPTIONS", options)
    monkeypatch.setattr(choice, "_known_options", choice._known_options.__wrapped__)
    assert cpu.compiler_options() == {"xla_disable_hlo_passes": "cse_barrier_expander"}
    assert "cse_barrier_expander" in cpu.describe()


# What exporters refuse: choices by platform, foreign calls, barriers and derivative rules.
NOT_PLAIN = ("platform_index", "ffi_call", "custom_call", "optimization_barrier", "custom_vjp")


CLOSED: Any = core.ClosedJaxpr  # pyright: ignore[reportPrivateImportUsage]


def primitives(jaxpr: core.Jaxpr) -> set[str]:
    """Returns the names of the primitives of a jaxpr and of those within it."""
    names = set()
    for equation in jaxpr.eqns:
        names.add(equation.primitive.name)
        for value in jax.tree.leaves(
            list(equation.params.values()),
            is_leaf=lambda x: isinstance(x, (core.Jaxpr, CLOSED)),
        ):
            if isinstance(value, CLOSED):
                names |= primitives(value.jaxpr)
            elif isinstance(value, core.Jaxpr):
                names |= primitives(value)
    return names


def not_plain(f: Any, *arguments: Any) -> set[str]:
    names = primitives(jax.make_jaxpr(f)(*arguments).jaxpr)
    return {name for name in names for word in NOT_PLAIN if word in name}


def families() -> list[str]:
    """Returns the smallest model of each file of models."""
    smallest: dict[str, str] = {}
    for name in sorted(models.REGISTRY, key=lambda name: models.REGISTRY[name].parameters or 0):
        smallest.setdefault(models.REGISTRY[name].builder.__module__, name)
    return [*smallest.values(), "resnet50"]  # the other block of its file


def model_and_input(name: str) -> tuple[Any, Any, Any]:
    """Returns a model, and the shapes of its variables and of its smallest images."""
    entry, model = models.REGISTRY[name], models.create(name, 10)
    x = jax.ShapeDtypeStruct((2, *entry.smallest, entry.input_shape[2]), jnp.float32)
    return model, jax.eval_shape(model.init, jax.random.key(0), x), x


@pytest.mark.parametrize("name", families())
def test_a_plain_model_traces_to_operations_that_exporters_know(name):
    model, variables, x = model_and_input(name)
    assert not_plain(model.apply, variables, x)
    with cpu.using("plain"):
        assert not not_plain(model.apply, variables, x)


class Everything(nn.Module):
    """Every layer that has a form of its own for a CPU."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = layers.Conv(4, (3, 3), padding=((4, 1), (0, 1)), activation="gelu", pool=(2, 2))(x)
        x = layers.ConvBatchNorm(5, (3, 3), use_bias=True)(x, train=True)
        x = layers.MaxPool((3, 3), (2, 2), "SAME")(x)
        x = layers.AvgPool((2, 2), padding=((1, 0), (0, 1)))(x)
        x = layers.Conv(4, (1, 1), activation="relu")(x)
        return layers.Dense(3)(layers.BatchNorm()(layers.Flatten()(x), train=True))


def test_plain_layers_train_alike():
    model = Everything()
    x = np.random.default_rng(0).normal(size=(8, 15, 14, 3)).astype(np.float32)
    init: Any = jax.jit(model.init, compiler_options=UNOPTIMISED)
    variables = init(jax.random.key(1), x)

    def run(params, x):
        y: Any = model.apply({**variables, "params": params}, x, mutable=["batch_stats"])
        return jnp.sum(y[0] * jnp.cos(jnp.arange(y[0].size)).reshape(y[0].shape)), y[1]

    with_gradient = jax.value_and_grad(run, (0, 1), has_aux=True)
    gradient: Any = jax.jit(with_gradient, compiler_options=UNOPTIMISED)
    assert not_plain(with_gradient, variables["params"], x)
    by_xla = gradient(variables["params"], x)
    with cpu.using("plain"):
        assert not not_plain(with_gradient, variables["params"], x)
        plain = gradient(variables["params"], x)
    for ours, theirs in zip(*map(jax.tree.leaves, (by_xla, plain)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["VALID", "SAME", ((0, 0), (0, 0)), ((1, 1), (0, 2))])
@pytest.mark.parametrize("size", [(7, 8), (8, 9)])
@pytest.mark.parametrize("strides", [(2, 2), (1, 2), None])
def test_plain_pools_are_linens_by_keyword_without_explicit_pads(
    padding, size, strides, monkeypatch
):
    pools = [layers.MaxPool((3, 3), strides, padding), layers.AvgPool((3, 3), strides, padding)]
    called = []

    def exporters(name):
        original = getattr(nn, name)

        def pool(x, *, window_shape, strides, padding, **more):
            called.append((name, padding))
            return original(x, window_shape, strides, padding, **more)

        return pool

    def both(x):
        by_xla = [pool.apply({}, x) for pool in pools]
        for name in ("max_pool", "avg_pool"):
            monkeypatch.setattr(nn, name, exporters(name))
        with cpu.using("plain"):
            return by_xla, [pool.apply({}, x) for pool in pools]

    x = np.random.default_rng(0).normal(-3, 1, (2, *size, 3)).astype(np.float32)
    by_xla, plain = jax.jit(both, compiler_options=UNOPTIMISED)(x)
    assert [name for name, _ in called] == ["max_pool", "avg_pool"]
    assert all(pads in ("VALID", "SAME") for _, pads in called)
    for ours, theirs in zip(plain, by_xla, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("name", ["lenet5", "mnist_cnn", "resnet20", "airbench"])
def test_a_plain_model_says_the_same(name):
    model, shapes, x = model_and_input(name)
    random = np.random.default_rng(0)
    images = random.uniform(size=x.shape).astype(np.float32)
    variables = jax.tree.map(lambda leaf: 0.1 * random.random(leaf.shape, np.float32), shapes)
    apply: Any = jax.jit(model.apply, compiler_options=UNOPTIMISED)
    by_xla = apply(variables, images)
    with cpu.using("plain"):
        plain = apply(variables, images)
    np.testing.assert_allclose(plain, by_xla, rtol=1e-5, atol=1e-6)
