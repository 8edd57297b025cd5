import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from cnn_jax import layers, models
from cnn_jax.convolution import output_size
from cnn_jax.describe import layer_table
from cnn_jax.models import Classifier
from cnn_jax.models.classifier import DenseHead, stage_prefixes

# Models of one layer after another, with few multiplications by padding, which XLA does not count.
# Tests of the registry compare the FLOPs of all models with published ones.
PLAIN = ("lenet5", "mlp", "mnist_cnn", "study_cnn", "study_cnn_wide", "vgg11", "vgg16")
every_model = pytest.mark.parametrize("name", PLAIN)


class Mixed(nn.Module):
    """One of each layer, with strides and padding that differ between the axes."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = layers.Conv(8, (3, 5), strides=(2, 1), padding="SAME", use_bias=False, name="conv")(x)
        x = layers.BatchNorm(name="norm")(x, train)
        x = layers.MaxPool((3, 3), strides=(2, 2), padding="SAME", name="max")(x)
        x = layers.AvgPool((2, 2), name="average")(x)
        x = layers.Conv(6, (2, 2), padding=((1, 0), (2, 1)), activation="relu", name="last")(x)
        x = layers.Dropout(0.5, name="dropout")(x, deterministic=not train)
        return layers.GlobalAveragePool(name="mean")(x)


MIXED = Classifier(Mixed(), DenseHead(3))
MIXED_SHAPE = (21, 18, 3)


def outputs(model: Classifier, shape) -> tuple[Any, dict[str, tuple[int, ...]]]:
    """Returns the model's variables, and the output shape of each module as JAX infers it."""

    def run(image):
        variables = model.init(jax.random.key(0), image)
        options: Any = {"capture_intermediates": True, "mutable": ["intermediates"]}
        return variables, model.apply(variables, image, **options)[1]["intermediates"]

    variables, given = jax.eval_shape(run, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    leaves = jax.tree_util.tree_leaves_with_path(given)
    names = ["/".join(key.key for key in path[:-2]) for path, _ in leaves]
    return variables, {name: leaf.shape[1:] for name, (_, leaf) in zip(names, leaves, strict=True)}


@pytest.mark.parametrize("name", [*PLAIN, "mixed"])
def test_shapes_and_parameters_are_the_real_ones(name):
    model = MIXED if name == "mixed" else models.create(name, 10)
    shape = MIXED_SHAPE if name == "mixed" else models.REGISTRY[name].input_shape
    rows = layer_table.layer_table(model, shape)
    variables, real = outputs(model, shape)

    assert rows[0].input_shape == shape
    for before, after in itertools.pairwise(rows):
        assert before.output_shape == after.input_shape
    by_name = {row.name: row for row in rows}
    assert len(by_name) == len(rows)
    for row in rows:
        last = by_name.get(f"{row.name}/pool", row)  # a pool's output is its module's
        if not row.name.endswith("/pool"):
            assert last.output_shape == real[row.name]

    for row in rows:
        leaves: Any = variables["params"]
        for key in row.name.split("/"):
            leaves = leaves.get(key, {})
        assert row.parameters == sum(leaf.size for leaf in jax.tree.leaves(leaves))
    total = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert layer_table.totals(rows).parameters == total


@pytest.mark.parametrize("name", [*PLAIN, "googlenet", "mixed"])
def test_terms_give_the_output_size(name):
    model = MIXED if name == "mixed" else models.create(name, 10)
    shape = MIXED_SHAPE if name == "mixed" else models.REGISTRY[name].input_shape
    windowed = 0
    for row in layer_table.layer_table(model, shape):
        if row.window is not None:
            assert row.stride is not None
            assert row.padding is not None
            windowed += 1
            for axis in range(2):
                terms = row.window[axis], row.stride[axis], row.padding[axis]
                assert output_size(row.input_shape[axis], *terms) == row.output_shape[axis]
    assert (windowed > 0) == (name != "mlp")


def test_a_pooling_convolution_is_two_rows_in_order():
    rows = layer_table.layer_table(models.create("lenet5", 10), (32, 32, 1))
    assert [(row.name, row.kind, row.output_shape, row.flops) for row in rows[:2]] == [
        ("backbone/conv1", "Conv + relu", (28, 28, 6), 2 * 28 * 28 * 6 * 25),
        ("backbone/conv1/pool", "MaxPool", (14, 14, 6), 0),
    ]


def test_every_kind_of_layer_has_a_row():
    rows = layer_table.layer_table(MIXED, MIXED_SHAPE)
    assert [row.kind for row in rows] == [
        "Conv",
        "BatchNorm",
        "MaxPool",
        "AvgPool",
        "Conv + relu",
        "Dropout",
        "GlobalAveragePool",
        "Dense",
    ]
    flat = layer_table.layer_table(models.create("mnist_cnn", 10), (28, 28, 1))
    assert [row.kind for row in flat].count("Flatten") == 1


@every_model
def test_flops_agree_with_xlas_count(name):
    model, shape = models.create(name, 10), models.REGISTRY[name].input_shape
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    analysis = jax.jit(model.apply).lower(variables, image).cost_analysis()
    assert isinstance(analysis, dict)
    ours = layer_table.totals(layer_table.layer_table(model, shape)).flops
    # XLA counts bias and pooling too, and leaves out multiplications by padding.
    assert ours == pytest.approx(analysis["flops"], rel=0.05)


def test_flops_of_the_study_cnns_training():
    rows = layer_table.layer_table(models.create("study_cnn", 10), (32, 32, 3))
    assert layer_table.totals(rows) == (58_389, 32_343_440, 96_292_272)
    rows = layer_table.layer_table(models.create("study_cnn_wide", 10), (32, 32, 3))
    assert layer_table.totals(rows).training_flops == 267_935_088


def test_nothing_is_allocated():
    # 4096 x 4096 pixels: the first dense layer alone would take 400 GB.
    rows = layer_table.layer_table(models.create("lenet5", 10), (4096, 4096, 3))
    assert layer_table.totals(rows).parameters > 10**9


def test_an_image_too_small_is_an_error_of_the_formula():
    with pytest.raises(ValueError, match="does not fit"):
        layer_table.layer_table(models.create("lenet5", 10), (15, 15, 1))


def test_auxiliary_classifiers_cost_a_step_where_their_stage_is_trained():
    model = models.create("googlenet", 10)
    rows = layer_table.layer_table(model, (64, 64, 3))
    flops = {
        name: sum(
            row.flops for row in rows if row.name.startswith(f"{layer_table.AUXILIARY}{name}/")
        )
        for name in ("inception4a", "inception4d")
    }
    assert min(flops.values()) > 0
    whole = sum(row.flops for row in rows)
    head = [f"{row.name}/kernel" for row in rows if row.name == "head/logits"]
    convolutions = [f"{row.name}/kernel" for row in rows if row.kind == "Conv"]

    def forward(*stages: str, cut: int = 0) -> int:
        trained = [path for path in convolutions if path.split("/")[1] in stages]
        return layer_table.step_flops(rows, [*head, *trained], stage_prefixes(model), cut)[
            "forward"
        ]

    assert forward() == whole - sum(flops.values())
    assert forward("inception4e") == forward()
    assert forward("inception4b") == whole - flops["inception4a"]
    assert forward("stem") == whole
    everything = len(model.stage_names)
    assert forward(cut=everything) == next(r.flops for r in rows if r.name == "head/logits")


def test_render_shows_the_formulas_terms_and_the_totals():
    rows = layer_table.layer_table(models.create("study_cnn", 10), (32, 32, 3))
    lines = layer_table.render(rows).splitlines()
    conv3 = next(line for line in lines if "conv3" in line)
    for text in ("14 x 14 x 64", "2 x 3", "13 x 12 x 17", "6,545"):
        assert text in conv3
    assert "58,389" in lines[-1]
    assert "32,343,440" in lines[-1]
    mixed = layer_table.render(layer_table.layer_table(MIXED, MIXED_SHAPE))
    for text in ("2 x 1", "1 x 2", "1+0 x 2+1"):
        assert text in mixed
