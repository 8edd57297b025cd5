"""What a step costs when something is frozen, counted by XLA in the compiled step."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest

from cnn_jax import cpu, data, models
from cnn_jax.assembly import assemble
from cnn_jax.data.batches import Batch
from cnn_jax.describe import layer_table
from cnn_jax.experiment import Experiment, Model, Optimizer, Transfer
from cnn_jax.training import steps
from cnn_jax.training.plan import make_plan
from cnn_jax.training.state import abstract_state
from cnn_jax.trees import flatten

SHAPE = (32, 32, 3)
BATCH = 4
# More than Adam, clipping, the gradient's norm and the moving average do for one parameter.
OPTIMIZER_OPERATIONS = 30


def prepare(**settings):
    config = Experiment(model=Model(name="vgg11", head="pooled"), **settings)
    info = data.DataInfo("made", "", ("a", "b", "c"), SHAPE, (0.5,) * 3, (0.2,) * 3, {}, {}, (), "")
    return config, make_plan(config, assemble(config, info), 10 * config.dataset.batch_size)


def counted_by_xla(config, plan, start=0, features=None):
    plan = dataclasses.replace(plan, cached_stages=start)
    step = steps.make_train_step(plan)
    state = abstract_state(plan, {"phase": 0})
    images = jax.ShapeDtypeStruct((BATCH, *SHAPE), jnp.uint8) if features is None else features
    numbers = jax.ShapeDtypeStruct((BATCH,), jnp.float32)
    batch = Batch(images, jax.ShapeDtypeStruct((BATCH,), jnp.int32), numbers)
    jitted = jax.jit(step, compiler_options=cpu.compiler_options())
    compiled = jitted.lower(state, batch, steps.Hyperparameters.of(config)).compile()
    costs = compiled.cost_analysis()
    assert costs is not None
    return costs["flops"]


def without_padding(row):
    """The table counts products with padding; XLA does not."""
    if row.window is None:
        return row
    inside = 1.0
    for before, after, window, stride, padding in zip(
        row.input_shape, row.output_shape, row.window, row.stride, row.padding, strict=False
    ):
        places = [i * stride - padding[0] + k for i in range(after) for k in range(window)]
        inside *= sum(0 <= place < before for place in places) / len(places)
    return dataclasses.replace(row, flops=round(row.flops * inside))


def rows_of(plan):
    return [without_padding(row) for row in layer_table.layer_table(plan.assembly.model, SHAPE)]


CLIPPED = {"optimizer": Optimizer(clip_norm=0.1)}
EVERYTHING_ON = {
    "optimizer": Optimizer(name="adamw", clip_norm=0.1, weight_decay=0.1, ema_decay=0.9)
}


@pytest.mark.parametrize("settings", [{}, EVERYTHING_ON], ids=["plain", "clipped_averaged"])
def test_a_frozen_backbone_costs_its_forward_pass_and_no_more(settings):
    config, plan = prepare(transfer=Transfer(freeze="backbone"), **settings)
    rows = rows_of(plan)
    forward = BATCH * sum(row.flops for row in rows)
    assert counted_by_xla(config, plan) == pytest.approx(forward, rel=0.002)
    cost = layer_table.step_flops(rows, plan.phases[0].groups, plan.prefixes)
    head = 2 * 512 * 3
    assert BATCH * cost["forward"] == forward
    assert cost["backward"] == head


@pytest.mark.parametrize(
    ("freeze", "settings"), [("block[1-4]", EVERYTHING_ON), ("block5", CLIPPED), ("none", {})]
)
def test_what_is_trained_costs_what_the_table_says(freeze, settings):
    config, plan = prepare(transfer=Transfer(freeze=freeze), **settings)
    groups = plan.phases[0].groups
    cost = layer_table.step_flops(rows_of(plan), groups)["total"] * BATCH
    shapes = flatten(plan.assembly.shapes["params"])
    trained = sum(math.prod(shapes[path].shape) for path in groups)
    found = counted_by_xla(config, plan)
    assert 0.99 * cost < found < 1.01 * cost + OPTIMIZER_OPERATIONS * trained


def test_cached_stages_cost_nothing():
    config, plan = prepare(transfer=Transfer(freeze="block[1-4]"))
    groups, names = plan.phases[0].groups, plan.prefixes
    rows = rows_of(plan)
    last = [row.flops for row in rows if row.name.startswith("backbone/block5")]
    cost = layer_table.step_flops(rows, groups, names, cut=4)
    assert cost["forward"] == sum(last) + 2 * 512 * 3
    assert cost["total"] == 3 * cost["forward"] - last[0]
    features = jax.ShapeDtypeStruct((BATCH, 2, 2, 512), jnp.float32)
    trained = sum(
        row.parameters for row in rows if row.name in {p.rpartition("/")[0] for p in groups}
    )
    found = counted_by_xla(config, plan, 4, features) - OPTIMIZER_OPERATIONS / 2 * trained
    assert abs(found - BATCH * cost["total"]) < OPTIMIZER_OPERATIONS / 2 * trained
    config, plan = prepare(transfer=Transfer(freeze="backbone"))
    cost = layer_table.step_flops(rows, plan.phases[0].groups, names, cut=5)
    assert cost == {"forward": 3072, "backward": 3072, "total": 6144}


@pytest.mark.parametrize("name", ["vgg11", "lenet5", "mlp"])
def test_all_trained_is_what_the_layer_table_says(name):
    model = models.create(name, 10)
    rows = layer_table.layer_table(model, SHAPE)
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *SHAPE)))["params"]
    cost = layer_table.step_flops(rows, flatten(params))
    assert cost["total"] == layer_table.totals(rows).training_flops
    assert cost["forward"] == layer_table.totals(rows).flops


def test_a_trained_bias_passes_the_gradient_on_without_a_product_of_its_own():
    rows = layer_table.layer_table(models.create("mlp", 10), (4, 4, 3))
    products = [row.flops for row in rows if row.flops]
    first = next(row.name for row in rows if row.flops)
    cost = layer_table.step_flops(rows, {f"{first}/bias"})
    assert cost["backward"] == sum(products[1:])
