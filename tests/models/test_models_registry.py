from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import models
from cnn_jax.errors import UsageError

# The large ones take minutes here; their own tests run them on small images or as shapes only.
every_model = pytest.mark.parametrize("name", models.REGISTRY)


def shapes(model, shape) -> Any:
    """Returns the shapes of (variables, features, logits) for one image, computing nothing."""

    def run(x):
        logits, variables = model.init_with_output(jax.random.key(0), x)
        return variables, model.apply(variables, x, method="forward_features"), logits

    return jax.eval_shape(run, jax.ShapeDtypeStruct((1, *shape), jnp.float32))


def size(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


# Larger ones have tests of their own, and here those of shapes.
quick_model = pytest.mark.parametrize(
    "name",
    [
        name
        for name, entry in models.REGISTRY.items()
        if size(shapes(models.create(name, 3), entry.input_shape)[0]) < 2e7
    ],
)


def images(name, batch):
    shape = (batch, *models.REGISTRY[name].input_shape)
    return np.random.default_rng(batch).uniform(size=shape).astype(np.float32)


def variables(model, x):
    """Random parameters; NumPy draws them, as compiling an initialisation takes seconds."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape, np.float32) / leaf.size ** (1 / 3),
        shapes(model, x.shape[1:])[0],
    )


def apply(model, *args, **options) -> Any:
    return model.apply(*args, **options)


@quick_model
def test_one_compilation_serves_all_batches_and_the_halves_make_the_whole(name):
    model, traces = models.create(name, 7), []
    x = images(name, 2)
    v = variables(model, x)

    @jax.jit
    def forward(v, x):
        traces.append(x.shape)
        features = apply(model, v, x, method="forward_features")
        return apply(model, v, x), apply(model, v, features, method="forward_head")

    for batch in (x, x + 1):
        whole, halves = forward(v, batch)
        assert whole.shape == (2, 7)
        assert whole.dtype == jnp.float32
        np.testing.assert_array_equal(whole, halves)
    assert len(traces) == 1
    alone = apply(model, v, x[:1])
    np.testing.assert_allclose(alone, forward(v, x)[0][:1], rtol=1e-4, atol=1e-5)
    assert set(v["params"]) == {"backbone", "head"}


@quick_model
def test_gradient_reaches_every_parameter(name):
    model = models.create(name, 3)
    x = images(name, 4)
    v = variables(model, x)
    labels = np.array([0, 1, 2, 0])

    @jax.jit
    @jax.grad
    def gradient(v):
        logits = apply(model, v, x, train=True, rngs={"dropout": jax.random.key(0)})
        return -jnp.mean(nn.log_softmax(logits)[np.arange(4), labels])

    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient(v)):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


@quick_model
def test_bfloat16_is_near_float32(name):
    model = models.create(name, 3, dtype=jnp.bfloat16)
    x = images(name, 1)
    v = variables(model, x)
    logits = apply(model, v, x)
    exact = apply(models.create(name, 3), v, x)
    assert np.abs(logits - exact).max() > 0  # else it would have been computed in float32
    np.testing.assert_allclose(logits, exact, rtol=0.1, atol=0.05 * np.abs(exact).max())


@every_model
def test_smallest_image_fits_and_a_smaller_one_is_refused_by_name(name):
    height, width = models.REGISTRY[name].smallest
    model = models.create(name, 2)
    models.check_input(name, (height, width, 3))
    _, features, logits = shapes(model, (height, width, 3))
    assert features.size > 0
    assert logits.shape == (1, 2)
    for smaller in [(height - 1, width), (height, width - 1)]:
        with pytest.raises(UsageError) as error:
            models.check_input(name, smaller)
        numbers = f"{height} x {width}", f"{smaller[0]} x {smaller[1]}"
        for text in (name, *numbers, "--dataset.image_size"):
            assert text in str(error.value)
        assert "\n" not in str(error.value)
        if min(smaller) > 0:  # the model itself would be left with an empty feature map
            image = jax.ShapeDtypeStruct((1, *smaller, 3), jnp.float32)
            empty: Any = jax.eval_shape(
                lambda x: model.init_with_output(jax.random.key(0), x, method="forward_features")[
                    0
                ],
                image,
            )
            assert empty.size == 0


@every_model
def test_native_images_give_float32_logits_also_in_bfloat16(name):
    shape = models.REGISTRY[name].input_shape
    models.check_input(name, shape)
    v, features, logits = shapes(models.create(name, 5, dtype=jnp.bfloat16), shape)
    assert {leaf.dtype for leaf in jax.tree.leaves(v)} == {jnp.dtype("float32")}
    assert features.dtype == jnp.bfloat16
    assert (logits.shape, logits.dtype) == ((1, 5), jnp.float32)


def test_initial_kernels_are_glorot_uniform_and_biases_zero():
    model = models.create("lenet5", 10)
    params = jax.jit(model.init)(jax.random.key(1), images("lenet5", 1))["params"]
    fans = {"conv2": (150, 400), "dense1": (400, 120), "logits": (84, 10)}
    for layers in params.values():
        for name, layer in layers.items():
            assert not layer["bias"].any()
            if name in fans:
                limit = np.sqrt(6 / sum(fans[name]))
                assert 0.95 * limit < np.abs(layer["kernel"]).max() <= limit
                assert layer["kernel"].std() == pytest.approx(limit / np.sqrt(3), rel=0.1)


def test_dropout_drops_while_training_only():
    x = images("mlp", 1)
    model = models.create("mlp", 5, dropout_rate=0.5)
    v = variables(model, x)
    still = models.create("mlp", 5)
    np.testing.assert_array_equal(apply(model, v, x), apply(still, v, x))
    np.testing.assert_array_equal(apply(still, v, x, train=True), apply(still, v, x))
    first, second = (
        apply(model, v, x, train=True, rngs={"dropout": jax.random.key(i)}) for i in range(2)
    )
    assert np.abs(first - second).max() > 0


def test_dropout_rate_for_a_model_without_dropout_is_refused():
    with pytest.raises(UsageError, match=r"--model.dropout_rate .* study_cnn, .*mlp"):
        models.create("study_cnn", 10, dropout_rate=0.1)


def test_unknown_model_is_refused_with_a_suggestion_and_the_list():
    with pytest.raises(UsageError) as error:
        models.create("lenet_5", 10)
    assert "Did you mean 'lenet5'?" in str(error.value)
    assert all(name in str(error.value) for name in models.REGISTRY)
    with pytest.raises(UsageError, match=r"no model 'qqq'. There are"):
        models.check_input("qqq", (1, 1))
