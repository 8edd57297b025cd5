import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import models
from cnn_jax.errors import UsageError
from cnn_jax.models import vgg

# Parameters with the top of 1000 classes at 224 x 224; D and E as Keras counts them, A and B as
# torchvision does.
PARAMETERS = {
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
}


def shapes(model, size):
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), image)["params"]


def random_params(model, size):
    rng = np.random.default_rng(0)

    def draw(leaf):
        scale = (2 / np.prod(leaf.shape[:-1])) ** 0.5 if leaf.ndim > 1 else 0.1
        return rng.standard_normal(leaf.shape, np.float32) * np.float32(scale)

    return jax.tree.map(draw, shapes(model, size))


@pytest.mark.parametrize("name", vgg.STAGES)
def test_parameters_are_counted_as_published_and_grouped_by_block(name):
    params = shapes(models.create(name, 1000), 224)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[name]
    assert list(params["backbone"]) == [f"block{i}" for i in range(1, 6)]
    for block, convolutions in zip(params["backbone"].values(), vgg.STAGES[name], strict=True):
        assert list(block) == [f"conv{i}" for i in range(1, convolutions + 1)]
    assert params["backbone"]["block1"]["conv1"]["kernel"].shape == (3, 3, 3, 64)
    assert params["head"]["fc1"]["kernel"].shape == (7 * 7 * 512, 4096)


@pytest.mark.parametrize(("size", "side"), [(224, 7), (160, 5), (97, 3), (32, 1)])
def test_feature_map_is_a_32nd_of_the_image(size, side):
    model = models.create("vgg16", 1, head="pooled")
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    features = jax.eval_shape(
        lambda x: model.init_with_output(jax.random.key(0), x, method="forward_features")[0], image
    )
    assert features.shape == (2, side, side, 512)
    models.check_input("vgg16", (size, size, 3))


def test_small_images_are_refused_by_name():
    with pytest.raises(UsageError, match="vgg16 needs images of at least 32 x 32"):
        models.check_input("vgg16", (31, 200, 3))


def test_every_gradient_reaches_through_a_transfer_head_at_any_size():
    model = models.create("vgg11", 3, head="pooled_dense128")
    params = random_params(model, 32)
    assert sorted(params["head"]) == ["dense1", "logits"]
    x = np.random.default_rng(1).normal(size=(2, 40, 70, 3)).astype(np.float32)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        rngs = {"dropout": jax.random.key(0)}
        logits = model.apply({"params": params}, x, train=True, rngs=rngs)
        return jnp.square(jnp.asarray(logits)).mean()

    value, gradients = loss(params)
    assert np.isfinite(value)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path
        assert np.abs(leaf).max() > 0, path


def test_pooled_head_is_the_mean_and_a_dense_layer():
    head = models.create("vgg16", 4, head="pooled", dropout_rate=0.5).head
    features = np.random.default_rng(0).normal(size=(3, 2, 5, 512)).astype(np.float32)
    params = head.init(jax.random.key(0), features)
    layer = params["params"]["logits"]
    logits = np.asarray(head.apply(params, features))
    expected = features.mean((1, 2)) @ layer["kernel"] + layer["bias"]
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    noisy = head.apply(params, features, train=True, rngs={"dropout": jax.random.key(0)})
    assert np.abs(noisy - logits).max() > 1e-3


def test_dropout_rates_are_the_papers_and_the_guides_unless_given():
    def rate(**options):
        return models.create("vgg16", 2, **options).head.dropout_rate  # pyright: ignore

    assert rate() == 0.5
    assert rate(dropout_rate=0.0) == 0.0
    assert rate(head="pooled") == 0.2
    assert rate(head="pooled_dense128") == 0.0
    assert rate(head="pooled", dropout_rate=0.3) == 0.3


def test_bfloat16_features_and_float32_logits():
    model = models.create("vgg11", 2, head="pooled", dtype=jnp.bfloat16)
    params = random_params(model, 32)
    features, logits = (
        jax.eval_shape(
            lambda p, x, m=method: model.apply({"params": p}, x, method=m),
            params,
            jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32),
        )
        for method in ("forward_features", "__call__")
    )
    assert (features.dtype, logits.dtype) == (jnp.bfloat16, jnp.float32)


def test_unknown_heads_and_dense_backbones_are_refused():
    with pytest.raises(UsageError, match="default, pooled, pooled_dense128"):
        models.create("vgg16", 2, head="top")
    with pytest.raises(UsageError, match="feature map"):
        shapes(models.create("mlp", 2, head="pooled"), 32)
