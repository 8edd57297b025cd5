import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import data, distributed, losses, models, trees
from cnn_jax.assembly import Assembly, assemble, make_preprocess
from cnn_jax.data.batches import Batch
from cnn_jax.describe import layer_table
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment, Model, Optimizer, Train, Transfer
from cnn_jax.layers import BatchNorm
from cnn_jax.models import Classifier
from cnn_jax.models.heads import PooledHead
from cnn_jax.training import costs, freezing, steps
from cnn_jax.training import state as states
from cnn_jax.training.plan import make_plan
from cnn_jax.training.state import initial_state
from tests import tiny

PATHS = [
    "backbone/block1/conv1/kernel",
    "backbone/block1/conv1/bias",
    "backbone/block2/conv1/kernel",
    "backbone/block3/conv1/kernel",
    "head/logits/kernel",
]
STAGES = ("block1", "block2", "block3")


def info(size=32, classes=3):
    counts = (4,) * classes
    return data.DataInfo(
        name="made",
        version="",
        class_names=tuple("abcdefghij"[:classes]),
        image_shape=(size, size, 3),
        mean=(0.5,) * 3,
        std=(0.2,) * 3,
        sizes={"train": 4 * classes},
        class_counts={"train": counts},
        notes=(),
        digest="",
    )


def batch(size=32, n=4, classes=3):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return Batch(jnp.asarray(images), jnp.arange(n) % classes, jnp.ones(n))


def small(cached=False, **transfer):
    """Returns (experiment, plan) of the tiny network; without a cache its steps take images."""
    optimizer = transfer.pop("optimizer", Optimizer())
    config = Experiment(
        model=Model(name="tiny", head="pooled"),
        transfer=Transfer(cache_features=cached, **transfer),
        optimizer=optimizer,
        train=Train(epochs=6),
    )
    return config, make_plan(config, assemble(config, info()), 320)


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
    monkeypatch.setitem(models.REGISTRY, "tiny", tiny.ENTRY)


def whole():
    return distributed.replicated(distributed.make_mesh())


def first_state(config, plan):
    return initial_state(plan, config.seed, whole())


def jitted(plan, **more) -> Any:
    """Returns the compiled train step of a plan."""
    return jax.jit(steps.make_train_step(plan, **more), compiler_options=tiny.UNOPTIMISED)


def phases_of(transfer, paths=PATHS, stages=STAGES):
    return freezing.make_phases(transfer, paths, stages, [f"backbone/{n}/" for n in stages])


def test_without_freezing_everything_is_one_group():
    (phase,) = phases_of(Transfer())
    assert set(phase.groups) == set(PATHS)
    assert set(phase.groups.values()) == {freezing.Group(0, 1.0)}
    assert phase.frozen_stages == 0


def test_a_pattern_freezes_whole_path_parts():
    (phase,) = phases_of(Transfer(freeze="block[1-2]"))
    assert set(phase.groups) == {"backbone/block3/conv1/kernel", "head/logits/kernel"}
    assert phase.frozen_stages == 2


def test_gradual_unfreezing_and_learning_rates():
    transfer = Transfer(
        freeze="backbone", unfreeze="3:block3,6:block2", lr_scale="block3:0.1,backbone:0.5"
    )
    first, second, third = phases_of(transfer)
    assert [p.first_epoch for p in (first, second, third)] == [0, 2, 5]
    assert [p.frozen_stages for p in (first, second, third)] == [3, 2, 1]
    assert set(first.groups) == {"head/logits/kernel"}
    assert second.groups["backbone/block3/conv1/kernel"] == freezing.Group(2, 0.05)
    assert third.groups["backbone/block2/conv1/kernel"] == freezing.Group(5, 0.5)
    phases = [first, second, third]
    assert [freezing.phase_of(phases, epoch) for epoch in range(7)] == [0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("transfer", "said"),
    [
        ({"freeze": "block9"}, "selects no parameter.*backbone/block1"),
        ({"freeze": ".*"}, "leaves nothing to train in epoch 1"),
        ({"freeze": "block1", "unfreeze": "2:block2"}, "is not frozen at epoch 2"),
        ({"lr_scale": "nosuch:0.1"}, "selects no parameter"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(transfer, said):
    with pytest.raises(UsageError, match=said):
        phases_of(Transfer(**transfer))


@pytest.mark.parametrize(
    ("transfer", "said"),
    [
        ({"freeze": "("}, "not a regular expression"),
        ({"freeze": "[[a]"}, "not a regular expression: Possible nested set"),
        ({"unfreeze": f"{'9' * 5000}:head"}, "takes EPOCH:PATTERN"),
        ({"freeze": "backbone", "unfreeze": "block5"}, "EPOCH:PATTERN"),
        ({"freeze": "backbone", "unfreeze": "0:block5"}, "epochs from 1"),
        ({"freeze": "backbone", "unfreeze": "9:block5"}, "goes beyond train.epochs"),
        ({"unfreeze": "2:block5"}, "needs transfer.freeze"),
        ({"lr_scale": "block5:-1"}, "factors above 0"),
        ({"lr_scale": "block5"}, "PATTERN:FACTOR"),
        ({"include": "backbone"}, "needs transfer.weights"),
        ({"cache_views": 2}, "needs augmentation"),
    ],
)
def test_settings_are_checked_before_anything_runs(transfer, said):
    with pytest.raises(UsageError, match=said):
        Experiment(transfer=Transfer(**transfer))


@pytest.mark.parametrize(
    "optimizer",
    [
        Optimizer(name="adam", clip_norm=0.1, ema_decay=0.9),
        Optimizer(name="adamw", weight_decay=0.5),
        Optimizer(name="sgd", weight_decay=0.5, learning_rate=0.1),
    ],
)
def test_frozen_leaves_are_bit_identical_and_cost_no_memory(optimizer):
    config, plan = small(freeze="block[1-4]", optimizer=optimizer)
    state = first_state(config, plan)
    before = jax.device_get(trees.flatten(state.params))
    step = jitted(plan)
    for _ in range(2):
        state = step(state, batch(), steps.Hyperparameters.of(config))
    after = trees.flatten(state.params)
    for path, leaf in before.items():
        same = np.array_equal(leaf.view(np.uint32), np.asarray(after[path]).view(np.uint32))
        assert same == bool("block5" not in path and "head" not in path), path
    trainable, _ = freezing.split(state.params, plan.phases[0])
    kept = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    size = sum(leaf.nbytes for leaf in kept + jax.tree.leaves(state.ema_params))
    assert size == sum(r["optimizer_bytes"] for r in costs.parts(plan))
    assert size == costs.slots(optimizer) * sum(leaf.nbytes for leaf in trainable.values())
    if state.ema_params is not None:
        assert set(state.ema_params) == set(trainable)
        evaluated = trees.flatten(state.variables()["params"])
        frozen = "backbone/block1/conv1/kernel"
        np.testing.assert_array_equal(evaluated[frozen], before[frozen])


def test_learning_rate_scales_are_those_of_a_smaller_rate():
    config, plan = small(lr_scale="head:0.25", optimizer=Optimizer(name="sgd", momentum=0.0))
    plain, plain_plan = small(optimizer=Optimizer(name="sgd", momentum=0.0))
    state = first_state(config, plan)
    hyper = steps.Hyperparameters.of(config)
    scaled = jitted(plan)(state, batch(), hyper)
    usual = jitted(plain_plan)(first_state(plain, plain_plan), batch(), hyper)
    old, a, b = (trees.flatten(s.params) for s in (state, scaled, usual))
    for path in old:
        ratio = 0.25 if path.startswith("head") else 1.0
        np.testing.assert_allclose(
            a[path] - old[path], ratio * (b[path] - old[path]), rtol=1e-3, atol=1e-7
        )


def test_a_group_set_free_later_starts_with_a_fresh_optimizer_state():
    config, plan = small(freeze="backbone", unfreeze="2:block5")
    state = first_state(config, plan)
    hyper = steps.Hyperparameters.of(config)
    state = jitted(plan)(state, batch(), hyper)
    entered = states.enter_phase(plan, state, 1, whole())
    counts = {
        jax.tree_util.keystr(path): int(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(entered.opt_state)
        if not leaf.ndim
    }
    assert sorted(counts.values()) == [0, 1]  # Adam's count: fresh for block5, kept for the head
    after = jitted(plan, phase=1)(entered, batch(), hyper)
    moved = np.abs(
        np.asarray(trees.flatten(after.params)["backbone/block5/conv1/kernel"])
        - np.asarray(trees.flatten(state.params)["backbone/block5/conv1/kernel"])
    )
    assert moved.max() == pytest.approx(1e-3, rel=0.05)  # Adam's first step is the learning rate


class NormBackbone(nn.Module):
    stage_names = ("one", "two")

    @nn.compact
    def __call__(self, x, train=False, start=0, stop=None):
        for name in self.stage_names[start:stop]:
            x = nn.Conv(4, (3, 3), name=name)(x)
            x = BatchNorm(name=f"{name}_norm")(x, train)
        return x


@pytest.mark.parametrize(
    ("freeze", "moves"), [("none", "both"), ("one|one_norm", "two"), ("two_norm", "one")]
)
def test_frozen_batch_norm_is_in_evaluation_mode(freeze, moves):
    model = Classifier(NormBackbone(), PooledHead(3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    config = Experiment(transfer=Transfer(freeze=freeze))
    assembly = Assembly(
        model=model,
        with_dropout=lambda rate: model,
        image_shape=(8, 8, 3),
        image_dtype="uint8",
        shapes=shapes,
        normalize="unit",
        preprocess=make_preprocess(config.dataset, "float32", info(8), "unit"),
        loss=losses.cross_entropy,
    )
    plan = make_plan(config, assembly, 4)
    state = first_state(config, plan)
    after = jitted(plan)(state, batch(8), steps.Hyperparameters.of(config))
    for name in ("one", "two"):
        old = state.batch_stats["backbone"][f"{name}_norm"]["mean"]
        new = after.batch_stats["backbone"][f"{name}_norm"]["mean"]
        assert np.array_equal(old, new) == (moves not in ("both", name))


def test_the_cost_of_a_step_is_told_phase_by_phase():
    _, plan = small(cached=True, freeze="backbone", unfreeze="3:block5")
    assert plan.cached_stages == 4
    first, second = costs.step_costs(plan)
    assert first.startswith("from epoch 1: ")
    assert second.startswith("from epoch 3: ")
    assert "4 of 5 stages cached" in first
    shares = [float(line.split("step, ")[1].split("%")[0]) for line in (first, second)]
    assert 0 < shares[0] < shares[1] < 100
    assert "100.00%" in costs.step_costs(small()[1])[0]
    said = costs.report(plan, Transfer(freeze="backbone"))
    assert said[-2:] == [first, second]
    assert said[0].startswith("part ")
    assert len(said) == 2 + len(costs.parts(plan)) + 1 + 2  # a head, a rule, a total, two phases
    assert not any("\n" in line for line in said)  # each line is printed by itself


def test_auxiliary_classifiers_are_trained_with_the_stages_that_they_serve():
    model = models.create("googlenet", 3)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    paths = list(trees.flatten(jax.eval_shape(model.init, jax.random.key(0), image)["params"]))

    def trained(**transfer):
        phases = phases_of(Transfer(**transfer), paths, model.stage_names)
        names = [{path.split("/")[0] for path in phase.groups} for phase in phases]
        return [sorted(n.removeprefix("auxiliary_inception") for n in of) for of in names]

    assert trained() == [["4a", "4d", "backbone", "head"]]
    assert trained(freeze="backbone") == [["head"]]
    assert trained(freeze="backbone", unfreeze="2:inception4b,4:inception3a") == [
        ["head"],
        ["4d", "backbone", "head"],
        ["4a", "4d", "backbone", "head"],
    ]


def test_the_cost_of_a_run_counts_cached_stages_once_and_each_phase_by_its_epochs():
    config, plan = small(cached=True, freeze="backbone", unfreeze="3:block5")
    size = config.dataset.batch_size
    images = size + 1  # two batches
    plan = dataclasses.replace(plan, num_examples=images)
    table = plan.layers
    names = plan.assembly.model.stage_names
    before = sum(row.flops for row in table if row.name.split("/")[1] in names[:4])
    head, both = (
        layer_table.step_flops(table, phase.groups, plan.prefixes, 4)["total"]
        for phase in plan.phases
    )
    expected = images * before + 2 * size * (2 * head + 3 * both)
    assert costs.run_flops(plan, epochs=5) == expected
    assert costs.run_flops(plan, epochs=1) == images * before + (2 * size * head)


class OwnNet(nn.Module):
    """A user's own network, with Linen's batch normalisation in both of its ways."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.Conv(4, (3, 3), name="first")(x)
        x = nn.BatchNorm(use_running_average=not train, name="first_norm")(x)
        x = nn.Conv(4, (3, 3), name="second")(nn.relu(x))
        x = nn.BatchNorm(name="second_norm")(x, not train)
        x = nn.BatchNorm(use_scale=False, use_bias=False, name="bare_norm")(x, not train)
        return nn.Dense(3, name="logits")(x.mean(axis=(1, 2)))


@pytest.mark.parametrize(
    ("freeze", "moves"),
    [
        ("none", {"first_norm", "second_norm", "bare_norm"}),
        ("first|first_norm", {"second_norm", "bare_norm"}),
        ("second_norm", {"first_norm", "bare_norm"}),
        ("first|second|first_norm|second_norm", {"bare_norm"}),
    ],
)
def test_a_frozen_batch_norm_of_a_users_own_network_stands_still(freeze, moves):
    config = Experiment(transfer=Transfer(freeze=freeze))
    plan = make_plan(config, assemble(config, info(8), model=OwnNet()), 4)
    state = first_state(config, plan)
    after = jitted(plan)(state, batch(8), steps.Hyperparameters.of(config))
    moved = {
        name
        for name, old in state.batch_stats.items()
        if not np.array_equal(old["mean"], after.batch_stats[name]["mean"])
    }
    assert moved == moves
    changed = {
        path.split("/")[0]
        for path, old in trees.flatten(state.params).items()
        if not np.array_equal(old, trees.flatten(after.params)[path])
    }
    named = set() if freeze == "none" else set(freeze.split("|"))
    assert changed == {"first", "first_norm", "second", "second_norm", "logits"} - named
