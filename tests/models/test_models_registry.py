from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from cnn_jax import layers, models
from cnn_jax.describe import layer_rows, layer_table
from cnn_jax.errors import UsageError
from cnn_jax.models import blocks, convnext, efficientnet, googlenet, mobilenet_v3
from tests.tiny import UNOPTIMISED

every_model = pytest.mark.parametrize("name", models.REGISTRY)

# What differs from a quick one in the number or width of its layers alone takes long to compile.
SLOW = {
    # Those with normalisation run the plain ones' blocks too.
    *("vgg11", "vgg13", "vgg16", "vgg19", "vgg13_bn", "vgg16_bn", "vgg19_bn", "study_cnn_wide"),
    *("resnet34", "resnet101", "resnet152", "resnet32", "resnet56"),
    *("densenet121", "densenet169", "densenet201", "densenet_bc100_12"),
    # Their blocks are held against Keras' in tests/pretrained, or are another's here.
    *("inception_v3", "resnet50", "resnet18_cifar", "wide_resnet28_10", "vgg16_bn_cifar"),
    *("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3"),
    *("mobilenet_v3_large", "convnext_small"),
}
run_model = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in models.REGISTRY],
)
# Of GoogLeNet's nine blocks, which differ in their widths alone: one with each pool, and the two
# that feed an auxiliary classifier.
FEW_BLOCKS = ("inception3b", "inception4a", "inception4d", "inception4e")


def shapes(model, shape, batch=1) -> Any:
    """Returns the shapes of the variables, computing nothing."""
    return jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
    )


def images(name, batch):
    """Images of the smallest square that the model takes."""
    entry = models.REGISTRY[name]
    side = max(entry.smallest)
    shape = (batch, side, side, entry.input_shape[2])
    return np.random.default_rng(batch).uniform(size=shape).astype(np.float32)


def draw(shapes):
    """Random variables, drawn by NumPy, as compiling an initialisation takes seconds."""
    rng = np.random.default_rng(0)

    def leaf(path, leaf):
        kind = path[-1].key
        if kind == "kernel":
            fan_in = np.prod(leaf.shape[:-1])
            return rng.standard_normal(leaf.shape, np.float32) * np.float32((2 / fan_in) ** 0.5)
        if kind in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        return 0.1 * rng.standard_normal(leaf.shape, np.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def variables(model, x):
    return draw(shapes(model, x.shape[1:]))


def apply(model, *args, **options) -> Any:
    return model.apply(*args, **options)


def flatten(tree) -> dict[str, Any]:
    return dict(traverse_util.flatten_dict(tree, sep="/"))


@pytest.fixture
def few_blocks(monkeypatch):
    """GoogLeNet has four of its blocks, and newer networks have two."""
    kept = {name: googlenet.GOOGLENET_BLOCKS[name] for name in FEW_BLOCKS}
    monkeypatch.setattr(googlenet, "GOOGLENET_BLOCKS", kept)
    monkeypatch.setattr(efficientnet, "ROWS", efficientnet.ROWS[:2])
    small = mobilenet_v3.STAGES["mobilenet_v3_small"]
    monkeypatch.setitem(mobilenet_v3.STAGES, "mobilenet_v3_small", (small[0], small[1][1:]))
    monkeypatch.setitem(convnext.STAGES, "convnext_tiny", ((1, 1), 0.1))


def cancelled(path):
    """Whether a parameter is the bias that VGG keeps before a normalisation, which takes it out."""
    return path.endswith("/conv/bias")


@run_model
def test_training_and_evaluation(name, few_blocks):
    """Output, gradient, batch statistics and compilations, on the smallest images there may be."""
    del few_blocks
    model, traces = models.create(name, 7), []
    x, labels = images(name, 4), np.array([0, 1, 2, 0])
    v = {"batch_stats": {}, **variables(model, x)}

    def step(v, x):
        traces.append(x.shape)

        def loss(params):
            logits, updated = apply(
                model,
                {**v, "params": params},
                x,
                train=True,
                rngs={"dropout": jax.random.key(0)},
                mutable=["batch_stats", "auxiliary"],
            )
            every = [logits, *jax.tree.leaves(updated.pop("auxiliary", {}))]
            values = [-jnp.mean(nn.log_softmax(each)[np.arange(4), labels]) for each in every]
            return jnp.sum(jnp.stack(values)), updated

        gradient, updated = jax.grad(loss, has_aux=True)(v["params"])
        logits, unchanged = apply(model, v, x, mutable=["batch_stats", "auxiliary"])
        features = apply(model, v, x, method="forward_features")
        halves = apply(model, v, features, method="forward_head")
        return gradient, updated, logits, unchanged, halves

    jitted: Any = jax.jit(step, compiler_options=UNOPTIMISED)
    jitted(v, x + 1)
    gradient, updated, logits, unchanged, halves = jax.device_get(jitted(v, x))
    assert len(traces) == 1
    assert (logits.shape, logits.dtype) == ((4, 7), jnp.float32)
    np.testing.assert_allclose(halves, logits, rtol=1e-5, atol=1e-5)
    assert set(v["params"]) >= {"backbone", "head"}
    for path, leaf in flatten(gradient).items():
        assert np.isfinite(leaf).all(), path
        assert cancelled(path) or np.abs(leaf).max() > 0, path
    before = flatten(v["batch_stats"])
    after = flatten(updated.get("batch_stats", {}))
    still = flatten(unchanged.get("batch_stats", {}))
    assert "auxiliary" not in unchanged
    for path, leaf in before.items():
        np.testing.assert_array_equal(still[path], leaf)
        assert path.startswith("auxiliary") or np.abs(after[path] - leaf).max() > 0, path


@run_model
def test_one_image_in_bfloat16_is_near_float32(name, few_blocks):
    del few_blocks
    x = images(name, 1)
    exact_model = models.create(name, 3)
    v = variables(exact_model, x)

    @jax.jit
    def both(v, x):
        half = models.create(name, 3, dtype=jnp.bfloat16)
        features = apply(half, v, x, method="forward_features")
        return apply(half, v, x), apply(exact_model, v, x), features

    logits, exact, features = both.lower(v, x).compile(compiler_options=UNOPTIMISED)(v, x)
    assert features.dtype == jnp.bfloat16
    assert (logits.shape, logits.dtype) == ((1, 3), jnp.float32)
    assert np.abs(logits - exact).max() > 0  # else it would have been computed in float32
    # Eight bits of a mantissa, over up to 200 layers.
    np.testing.assert_allclose(logits, exact, atol=0.1 * np.abs(exact).max() + 0.05)


@every_model
def test_a_pixel_less_than_the_smallest_is_refused_by_name(name):
    height, width = models.REGISTRY[name].smallest
    models.check_input(name, (height, width, 3))
    for smaller in [(height - 1, width), (height, width - 1)]:
        with pytest.raises(UsageError) as error:
            models.check_input(name, smaller)
        numbers = f"{height} x {width}", f"{smaller[0]} x {smaller[1]}"
        for text in (name, *numbers, "dataset.image_size"):
            assert text in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["lenet5", "mnist_cnn", "study_cnn", "alexnet", "googlenet"])
def test_what_is_smaller_than_the_smallest_leaves_nothing(name, few_blocks):
    del few_blocks
    height, width = models.REGISTRY[name].smallest
    model = models.create(name, 2)
    for shape, empty in [((height, width), False), ((height - 1, width), True)]:
        features: Any = jax.eval_shape(
            lambda x: model.init_with_output(jax.random.key(0), x, method="forward_features")[0],
            jax.ShapeDtypeStruct((1, *shape, 3), jnp.float32),
        )
        assert (features.size == 0) == empty


@pytest.mark.parametrize("name", ["resnet20", "googlenet", "densenet_bc100_12"])
def test_stages_run_one_after_another_make_the_features(name, few_blocks):
    del few_blocks
    model = models.create(name, 2)
    x = images(name, 2)
    v = variables(model, x)

    @jax.jit
    def run(v, x):
        whole = apply(model, v, x, method="forward_features")
        for start in range(len(model.stage_names)):
            x = apply(model, v, x, start=start, stop=start + 1, method="forward_features")
        return whole, x

    whole, piecewise = run.lower(v, x).compile(compiler_options=UNOPTIMISED)(v, x)
    np.testing.assert_allclose(whole, piecewise, rtol=1e-5, atol=1e-5)


def test_auxiliary_classifiers_run_in_training_where_their_stage_is_trained(few_blocks):
    del few_blocks
    model = models.create("googlenet", 2)
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)
    v = shapes(model, (32, 32, 3))
    assert {"auxiliary_inception4a", "auxiliary_inception4d"} < set(v["params"])

    def sown(train, **options):
        _, updated = jax.eval_shape(
            lambda v, x: apply(
                model,
                v,
                x,
                train=train,
                rngs={"dropout": jax.random.key(0)},
                mutable=["batch_stats", "auxiliary"],
                **options,
            ),
            v,
            x,
        )
        return set(updated.get("auxiliary", {}))

    assert sown(False) == set()
    assert sown(True) == {"inception4a", "inception4d"}
    between = model.stage_names.index("inception4d")
    assert sown(True, frozen=between) == {"inception4d"}
    assert sown(True, frozen=len(model.stage_names)) == set()
    plain = models.create("googlenet", 2, auxiliary=False)
    assert set(shapes(plain, (32, 32, 3))["params"]) == {"backbone", "head"}
    pooled = models.create("googlenet", 2, head="pooled")
    assert set(shapes(pooled, (32, 32, 3))["params"]) == {"backbone", "head"}


def test_bottleneck_stride_moves_between_convolutions_without_changing_a_shape():
    v15, v1 = (models.create("resnet50", 2, bottleneck_stride=s) for s in (None, "1x1"))
    (first, *rows), (second, *others) = (
        layer_rows.variables_and_rows(model, (224, 224, 3)) for model in (v15, v1)
    )
    assert first == second
    flops = [layer_table.totals(table).flops for (table,) in (rows, others)]
    # 4.1 and 3.9 G multiply-adds; the paper's table 1 has 3.8 without the projections.
    assert flops[0] > flops[1]
    with pytest.raises(UsageError, match=r"model\.bottleneck_stride has no effect on resnet18"):
        models.create("resnet18", 2, bottleneck_stride="1x1")


def test_local_response_norm_is_the_papers_formula():
    from cnn_jax.models.alexnet import local_response_norm

    x = np.random.default_rng(0).normal(size=(2, 3, 3, 9)).astype(np.float32) * 20
    expected = np.empty_like(x)
    for i in range(9):
        near = x[..., max(0, i - 2) : i + 3]
        expected[..., i] = x[..., i] / (2 + 1e-4 * np.square(near).sum(-1)) ** 0.75
    np.testing.assert_allclose(local_response_norm(jnp.asarray(x)), expected, rtol=1e-5)


def test_batch_norm_is_linens_in_both_modes():
    x = np.random.default_rng(0).normal(3, 2, (4, 5, 6, 7)).astype(np.float32)
    ours, theirs = layers.BatchNorm(), nn.BatchNorm(momentum=0.9)
    v = draw(ours.init(jax.random.key(0), x, False))
    for train in (True, False):
        mine, updated = ours.apply(v, x, train, mutable=["batch_stats"])
        reference, expected = theirs.apply(
            v, x, use_running_average=not train, mutable=["batch_stats"]
        )
        np.testing.assert_allclose(mine, reference, rtol=1e-4, atol=1e-4)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), updated, expected)


def test_initial_kernels_are_glorot_uniform_and_biases_zero():
    model = models.create("lenet5", 10)
    init: Any = jax.jit(model.init, compiler_options=UNOPTIMISED)
    params = init(jax.random.key(1), jnp.zeros((1, 32, 32, 1)))["params"]
    fans = {"conv2": (150, 400), "dense1": (400, 120), "logits": (84, 10)}
    for half in params.values():
        for name, layer in half.items():
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
    with pytest.raises(UsageError, match=r"model.dropout_rate .* study_cnn; .*mlp"):
        models.create("study_cnn", 10, dropout_rate=0.1)


def test_unknown_model_is_refused_with_a_suggestion_and_the_list():
    with pytest.raises(UsageError) as error:
        models.create("lenet_5", 10)
    assert "there is no model.name=lenet_5; did you mean lenet5?" in str(error.value)
    assert all(name in str(error.value) for name in models.REGISTRY)
    with pytest.raises(UsageError, match=r"there is no model.name=qqq\. There are"):
        models.check_input("qqq", (1, 1))


def test_stochastic_depth_leaves_out_whole_images_and_keeps_the_mean():
    layer, x = blocks.StochasticDepth(0.25), np.ones((4000, 2, 2, 1), np.float32)
    y = np.asarray(layer.apply({}, x, True, rngs={"dropout": jax.random.key(0)}))
    assert set(y[:, 0, 0, 0]) == {np.float32(0), np.float32(1 / 0.75)}
    assert (y == y[:, :1, :1]).all()
    assert abs(y.mean() - 1) < 4 * (0.25 / 0.75 / 4000) ** 0.5
    np.testing.assert_array_equal(layer.apply({}, x, False), x)


def test_padding_of_both_worlds_differs_where_the_size_is_even():
    x = jnp.ones((1, 8, 8, 3))
    assert blocks.pads(3, "same") == "SAME"
    conv = layers.Conv(1, (3, 3), (2, 2), blocks.pads(3, "symmetric"), use_bias=False)
    ones = {"params": {"kernel": jnp.ones((3, 3, 3, 1))}}
    first = np.asarray(conv.apply(ones, x))[0, :, :, 0] / 3
    second = np.asarray(conv.clone(padding=blocks.pads(3, "same")).apply(ones, x))[0, :, :, 0] / 3
    # Taps on pixels: symmetric pads the top and the left, "same" the bottom and the right.
    assert first[:, 1].tolist() == [6, 9, 9, 9]
    assert second[:, 1].tolist() == [9, 9, 9, 6]
    with pytest.raises(UsageError, match=r"model\.padding has no effect on resnet18"):
        models.create("resnet18", 2, padding="same")
