"""FLOPs and rows of modules that a user wrote, by hand and by XLA's count."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import layers
from cnn_jax.describe import block_diagram, block_picture, flops, layer_table
from cnn_jax.describe.layer_rows import LayerRow
from cnn_jax.models import Classifier, own
from cnn_jax.models.classifier import DenseHead, stage_prefixes

SHAPE = (12, 16, 8)


class Convolutions(nn.Module):
    """Linen's convolutions: grouped with strides, dilated, transposed, circular."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(12, (3, 5), strides=(2, 1), feature_group_count=4, padding="VALID")(x)
        x = nn.relu(nn.Conv(6, (3, 3), kernel_dilation=2, padding="SAME", name="dilated")(x))
        x = nn.ConvTranspose(4, (3, 3), strides=(2, 2), padding="VALID", name="transposed")(x)
        x = nn.BatchNorm(use_running_average=True)(x)
        x = nn.Conv(5, (3, 3), padding="CIRCULAR", name="circular")(x)
        return nn.Dense(3)(x.mean((1, 2)))


class Products(nn.Module):
    """A product with a parameter of the module itself, attention, and a dense layer on a map."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        x = jnp.einsum("btc,cd->btd", x, self.param("embed", nn.initializers.normal(), (8, 16)))
        x = x + nn.MultiHeadDotProductAttention(4, qkv_features=128, name="attention")(x, x)
        x = nn.Dropout(0.5, deterministic=not train)(nn.Dense(32)(x))
        return nn.DenseGeneral((3, 1))(x.mean(1))[..., 0]


class Step(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return x + nn.relu(nn.Dense(8, name="dense")(x)), None


class Scanned(nn.Module):
    """A scan over six dense layers, one of them called again, a remat and a vmap."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.mean((1, 2))
        steps = nn.scan(Step, {"params": 0}, split_rngs={"params": True}, length=6)
        x, _ = steps(name="steps")(x, None)
        again = nn.Dense(8, name="again")
        x = again(again(x))
        x = nn.remat(nn.Dense)(8, name="remat")(x)
        alike: Any = {"in_axes": None, "axis_size": 5}
        heads = nn.vmap(nn.Dense, {"params": 0}, split_rngs={"params": True}, **alike)
        return heads(3, name="heads")(x).mean(0)


def rows_of(module: nn.Module, shape: tuple[int, ...] = SHAPE) -> dict[str, LayerRow]:
    return {row.name: row for row in layer_table.layer_table(own.adapt(module), shape)}


def by_xla(module: nn.Module, shape: tuple[int, ...] = SHAPE) -> tuple[float, Any]:
    """Returns XLA's count for one image, and the module's variables."""
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), image)
    analysis = jax.jit(module.apply).lower(variables, image).cost_analysis()
    assert isinstance(analysis, dict)
    return analysis["flops"], variables


def test_convolutions_of_linen():
    rows = rows_of(Convolutions())
    grouped, dilated = rows["Conv_0"], rows["dilated"]
    assert (grouped.kind, grouped.input_shape, grouped.output_shape) == ("Conv", SHAPE, (5, 12, 12))
    assert grouped.flops == 2 * (5 * 12 * 12) * (3 * 5 * 8 // 4)
    assert grouped.window, grouped.stride == ((3, 5), (2, 1))
    assert grouped.padding == ((0, 0), (0, 0))
    assert grouped.parameters == 3 * 5 * 2 * 12 + 12
    assert dilated.flops == 2 * (5 * 12 * 6) * (3 * 3 * 12)
    assert (dilated.window, dilated.padding) == ((5, 5), ((2, 2), (2, 2)))
    # Each pixel of the input meets each tap once.
    transposed = rows["transposed"]
    assert transposed.output_shape == (11, 25, 4)
    assert transposed.flops == 2 * (5 * 12 * 6) * (3 * 3 * 4)
    assert (transposed.window, transposed.stride, transposed.padding) == ((3, 3), (2, 2), None)
    assert (rows["BatchNorm_0"].flops, rows["BatchNorm_0"].parameters) == (0, 8)
    # It pads before it convolves, so that no padding of the formula gives its output.
    assert rows["circular"].flops == 2 * (11 * 25 * 5) * (3 * 3 * 4)
    assert rows["circular"].padding is None
    assert (rows["Dense_0"].flops, rows["Dense_0"].output_shape) == (2 * 5 * 3, (3,))
    assert list(rows) == ["Conv_0", "dilated", "transposed", "BatchNorm_0", "circular", "Dense_0"]


def test_products_of_a_module_itself_and_attention():
    rows = rows_of(Products())
    tokens = 12 * 16
    assert [(row.name, row.kind, row.flops) for row in rows.values()] == [
        ("", "Products", 2 * tokens * 8 * 16),
        *(
            (f"attention/{name}", "DenseGeneral", 2 * tokens * 16 * 128)
            for name in ("query", "key", "value")
        ),
        ("attention", "MultiHeadDotProductAttention", 2 * 2 * tokens * tokens * 128),
        ("attention/out", "DenseGeneral", 2 * tokens * 128 * 16),
        ("Dense_0", "Dense", 2 * tokens * 16 * 32),
        ("DenseGeneral_0", "DenseGeneral", 2 * 32 * 3),
    ]
    assert rows[""].parameters == 8 * 16
    assert rows["attention"].parameters == 0
    # DenseGeneral's bias has an axis for the heads.
    assert set(rows["attention/query"].weights) == {
        "attention/query/kernel",
        "attention/query/bias",
    }


def test_a_scan_counts_every_iteration_and_a_shared_layer_every_call():
    rows = rows_of(Scanned())
    assert {name: (row.flops, row.parameters, row.times) for name, row in rows.items()} == {
        "steps/dense": (6 * 2 * 8 * 8, 6 * (8 * 8 + 8), 6),
        "again": (2 * 2 * 8 * 8, 8 * 8 + 8, 2),
        "remat": (2 * 8 * 8, 8 * 8 + 8, 1),
        "heads": (5 * 2 * 8 * 3, 5 * (8 * 3 + 3), 1),
    }
    assert rows["steps/dense"].biases == ("steps/dense/bias",)  # of two axes in the tree


@pytest.mark.parametrize("module", [Convolutions(), Products(), Scanned()])
def test_the_sums_are_xlas_and_flaxs(module):
    rows = list(rows_of(module).values())
    counted, variables = by_xla(module)
    sums = layer_table.totals(rows)
    leaves = jax.tree.leaves(variables["params"])
    assert sums.parameters == sum(leaf.size for leaf in leaves)
    if not isinstance(module, Scanned):  # XLA counts the body of a loop once
        # XLA adds what counts nothing here, and leaves out the products with padding.
        assert sums.flops == pytest.approx(counted, rel=0.1)
    for text in (
        layer_table.render(rows),
        block_diagram.render(block_diagram.blocks(rows)),
    ):
        assert f"{sums.flops:,}" in text.splitlines()[-1]


def test_branches_loops_and_inner_functions():
    kernel = jnp.ones((4, 4))
    inner = jax.custom_jvp(lambda x: x @ kernel)
    inner.defjvp(lambda x, dx: (x[0] @ kernel, dx[0] @ kernel))

    def function(x: jax.Array) -> jax.Array:
        x = jax.lax.cond(x.sum() > 0, lambda x: x @ kernel @ kernel, lambda x: x @ kernel, x)
        x = jax.lax.fori_loop(0, 7, lambda _, x: x @ kernel, x)  # a scan
        x = jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ kernel, x)
        x = jax.jit(lambda x: x @ kernel)(x)
        return inner(x)

    jaxpr = jax.make_jaxpr(function)(jnp.ones((1, 4))).jaxpr
    products = [each for each in flops.equations(jaxpr) if each.flops]
    assert sum(each.flops for each in products) == (2 + 7 + 1 + 1 + 1) * 2 * 4 * 4
    assert sorted(each.times for each in products) == [1, 1, 1, 1, 1, 7]


@pytest.mark.parametrize(("stride", "padding"), [(1, "SAME"), (2, "SAME"), (3, "VALID")])
def test_convolutions_of_one_and_three_axes(stride, padding):
    class Both(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            y = nn.Conv(6, (4, 4, 4), stride, padding, name="three")(x[..., None])
            return nn.Conv(2, (3,), stride, padding, name="one")(x.mean(1)).mean(1) + y.mean()

    module = Both()
    rows = rows_of(module)
    (height, width, depth, features) = rows["three"].output_shape
    assert rows["three"].flops == 2 * height * width * depth * features * 4**3
    assert rows["three"].window == (4, 4, 4)
    assert rows["one"].flops == 2 * rows["one"].output_shape[0] * 3 * 8 * 2
    assert layer_table.render(list(rows.values()))


def test_a_step_of_a_users_module():
    """Attention repeats its products for both factors; layers before the first trained, none."""
    rows = list(rows_of(Products()).values())
    by_name = {row.name: row.flops for row in rows}
    forward = sum(by_name.values())
    everything = {path for row in rows for path in row.weights + row.biases}
    prefixes = stage_prefixes(own.adapt(Products()))
    assert prefixes == ("",)
    for some in (everything, everything - {"DenseGeneral_0/bias"}):
        whole = layer_table.step_flops(rows, some, prefixes)
        assert whole == {
            "forward": forward,
            "backward": 2 * forward - by_name[""],
            "total": layer_table.totals(rows).training_flops,
        }
    last = layer_table.step_flops(rows, {"DenseGeneral_0/kernel"}, prefixes)
    assert last["backward"] == by_name["DenseGeneral_0"]
    query = layer_table.step_flops(rows, {"attention/query/kernel"}, prefixes)
    behind = ["attention/key", "attention/value", "attention/out", "Dense_0", "DenseGeneral_0"]
    assert query["backward"] == (
        by_name["attention/query"]
        + sum(by_name[name] for name in behind)
        + 2 * by_name["attention"]
    )


def test_a_users_backbone_in_a_classifier():
    class Backbone(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
            x = nn.relu(nn.Conv(4, (3, 3), padding="VALID", name="own")(x))
            return layers.MaxPool(name="pool")(layers.Conv(6, (3, 3), pool=(2, 2), name="ours")(x))

    rows = layer_table.layer_table(Classifier(Backbone(), DenseHead(3)), SHAPE)
    assert [(row.name, row.kind, row.output_shape) for row in rows] == [
        ("backbone/own", "Conv", (10, 14, 4)),
        ("backbone/ours", "Conv", (8, 12, 6)),
        ("backbone/ours/pool", "MaxPool", (4, 6, 6)),
        ("backbone/pool", "MaxPool", (2, 3, 6)),
        ("head/flatten", "Flatten", (36,)),
        ("head/logits", "Dense", (3,)),
    ]
    assert rows[0].flops == 2 * (10 * 14 * 4) * (3 * 3 * 8)
    assert {block.name for block in block_diagram.blocks(rows)} == {
        "backbone/own",
        "backbone/ours",
        "head/logits",
    }


@pytest.mark.parametrize("module", [Convolutions(), Products(), Scanned()])
def test_blocks_and_pictures_of_a_users_module(module):
    rows = list(rows_of(module).values())
    parts = block_diagram.blocks(rows, ("",))
    assert sum(part.layers for part in parts) == len(rows)
    assert [part.name.count("/") for part in parts] == [0] * len(parts)
    shown = {part.name: part.contents for part in parts}
    if isinstance(module, Convolutions):
        assert shown["transposed"] == "3x3 transposed"
        assert parts[0].output_shape == (5, 12, 12)
    figure = block_picture.draw("own", SHAPE, parts)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert any(np.char.startswith(texts, "own"))


def test_modules_that_draw_numbers_or_count_in_evaluation_are_traced():
    class Noisy(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            x = nn.BatchNorm(use_running_average=False)(x)
            x = nn.Dropout(0.5, deterministic=False)(nn.Dense(4)(x.mean((1, 2))))
            x = x.astype(jnp.bfloat16)
            self.sow("intermediates", "x", x)
            return nn.Dense(3, dtype=jnp.bfloat16)(x)

    assert [row.flops for row in rows_of(Noisy()).values()] == [0, 2 * 8 * 4, 2 * 4 * 3]
