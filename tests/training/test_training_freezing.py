import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import build, data, distributed, models
from cnn_jax.data.batches import Batch
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment, Model, Optimizer, Train, Transfer
from cnn_jax.layers import BatchNorm
from cnn_jax.models import Classifier
from cnn_jax.models.heads import PooledHead
from cnn_jax.reporting import groups, summary
from cnn_jax.training import freezing, optimizers, steps
from cnn_jax.training import state as states
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


def small(**transfer):
    optimizer = transfer.pop("optimizer", Optimizer())
    config = Experiment(
        model=Model(name="tiny", head="pooled"),
        transfer=Transfer(**transfer),
        optimizer=optimizer,
        train=Train(epochs=6),
    )
    return config, build.assemble(config, info())


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
    monkeypatch.setitem(models.REGISTRY, "tiny", tiny.ENTRY)


def first_state(config, assembly):
    return build.initial_state(
        assembly, config, None, distributed.replicated(distributed.make_mesh())
    )


def test_without_freezing_everything_is_one_group():
    (phase,) = freezing.plan(Transfer(), PATHS, STAGES)
    assert set(phase.groups) == set(PATHS)
    assert set(phase.groups.values()) == {freezing.Group(0, 1.0)}
    assert phase.frozen_stages == 0


def test_a_pattern_freezes_whole_path_parts():
    (phase,) = freezing.plan(Transfer(freeze="block[1-2]"), PATHS, STAGES)
    assert set(phase.groups) == {"backbone/block3/conv1/kernel", "head/logits/kernel"}
    assert phase.frozen_stages == 2


def test_gradual_unfreezing_and_learning_rates():
    transfer = Transfer(
        freeze="backbone", unfreeze="3:block3,6:block2", lr_scale="block3:0.1,backbone:0.5"
    )
    first, second, third = freezing.plan(transfer, PATHS, STAGES)
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
        freezing.plan(Transfer(**transfer), PATHS, STAGES)


@pytest.mark.parametrize(
    ("transfer", "said"),
    [
        ({"freeze": "("}, "not a regular expression"),
        ({"freeze": "backbone", "unfreeze": "block5"}, "EPOCH:PATTERN"),
        ({"freeze": "backbone", "unfreeze": "0:block5"}, "epochs from 1"),
        ({"freeze": "backbone", "unfreeze": "9:block5"}, "goes beyond --train.epochs"),
        ({"unfreeze": "2:block5"}, "needs --transfer.freeze"),
        ({"lr_scale": "block5:-1"}, "factors above 0"),
        ({"lr_scale": "block5"}, "PATTERN:FACTOR"),
        ({"include": "backbone"}, "needs --transfer.weights"),
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
    config, assembly = small(freeze="block[1-4]", optimizer=optimizer)
    state = first_state(config, assembly)
    before = jax.device_get(freezing.flatten(state.params))
    step = jax.jit(steps.make_train_step(assembly, config, 10))
    for _ in range(2):
        state = step(state, batch(), steps.Hyperparameters.of(config))
    after = freezing.flatten(state.params)
    for path, leaf in before.items():
        same = np.array_equal(leaf.view(np.uint32), np.asarray(after[path]).view(np.uint32))
        assert same == bool("block5" not in path and "head" not in path), path
    trainable, _ = freezing.split(state.params, assembly.phases[0])
    kept = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim]
    size = sum(leaf.nbytes for leaf in kept + jax.tree.leaves(state.ema_params))
    assert size == sum(r["optimizer_bytes"] for r in groups.rows(assembly, config))
    assert size == groups.slots(optimizer) * sum(leaf.nbytes for leaf in trainable.values())
    if state.ema_params is not None:
        assert set(state.ema_params) == set(trainable)
        evaluated = freezing.flatten(state.variables()["params"])
        frozen = "backbone/block1/conv1/kernel"
        np.testing.assert_array_equal(evaluated[frozen], before[frozen])


def test_learning_rate_scales_are_those_of_a_smaller_rate():
    config, assembly = small(lr_scale="head:0.25", optimizer=Optimizer(name="sgd", momentum=0.0))
    plain, plain_assembly = small(optimizer=Optimizer(name="sgd", momentum=0.0))
    state = first_state(config, assembly)
    hyper = steps.Hyperparameters.of(config)
    scaled = jax.jit(steps.make_train_step(assembly, config, 10))(state, batch(), hyper)
    usual = jax.jit(steps.make_train_step(plain_assembly, plain, 10))(
        first_state(plain, plain_assembly), batch(), hyper
    )
    old, a, b = (freezing.flatten(s.params) for s in (state, scaled, usual))
    for path in old:
        ratio = 0.25 if path.startswith("head") else 1.0
        np.testing.assert_allclose(
            a[path] - old[path], ratio * (b[path] - old[path]), rtol=1e-3, atol=1e-7
        )


def test_a_group_set_free_later_starts_with_a_fresh_optimizer_state():
    config, assembly = small(freeze="backbone", unfreeze="2:block5")
    state = first_state(config, assembly)
    hyper = steps.Hyperparameters.of(config)
    state = jax.jit(steps.make_train_step(assembly, config, 1))(state, batch(), hyper)
    this = assembly.phases[1]
    entered = states.enter_phase(
        state, optimizers.make_optimizer(config.optimizer, this.groups), this
    )
    counts = {
        jax.tree_util.keystr(path): int(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(entered.opt_state)
        if not leaf.ndim
    }
    assert sorted(counts.values()) == [0, 1]  # Adam's count: fresh for block5, kept for the head
    after = jax.jit(steps.make_train_step(assembly, config, 1, phase=1))(entered, batch(), hyper)
    moved = np.abs(
        np.asarray(freezing.flatten(after.params)["backbone/block5/conv1/kernel"])
        - np.asarray(freezing.flatten(state.params)["backbone/block5/conv1/kernel"])
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
    assembly = build.Assembly(
        model=model,
        with_dropout=lambda rate: model,
        image_shape=(8, 8, 3),
        shapes=shapes,
        phases=freezing.plan(
            config.transfer, list(freezing.flatten(shapes["params"])), model.stage_names
        ),
        normalize="unit",
        preprocess=build.make_preprocess(config, info(8), "unit"),
    )
    state = first_state(config, assembly)
    after = jax.jit(steps.make_train_step(assembly, config, 1))(
        state, batch(8), steps.Hyperparameters.of(config)
    )
    for name in ("one", "two"):
        old = state.batch_stats["backbone"][f"{name}_norm"]["mean"]
        new = after.batch_stats["backbone"][f"{name}_norm"]["mean"]
        assert np.array_equal(old, new) == (moves not in ("both", name))


def test_the_cost_of_a_step_is_told_phase_by_phase():
    _, assembly = small(freeze="backbone", unfreeze="3:block5")
    first, second = groups.step_costs(assembly, cut=4)
    assert first.startswith("from epoch 1: ")
    assert second.startswith("from epoch 3: ")
    assert "4 of 5 stages cached" in first
    shares = [float(line.split("step, ")[1].split("%")[0]) for line in (first, second)]
    assert 0 < shares[0] < shares[1] < 100
    assert "100.00%" in groups.step_costs(small()[1], cut=0)[0]


def test_auxiliary_classifiers_are_trained_with_the_stages_that_they_serve():
    model = models.create("googlenet", 3)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    paths = list(freezing.flatten(jax.eval_shape(model.init, jax.random.key(0), image)["params"]))

    def trained(**transfer):
        plan = freezing.plan(Transfer(**transfer), paths, model.stage_names)
        names = [{path.split("/")[0] for path in phase.groups} for phase in plan]
        return [sorted(n.removeprefix("auxiliary_inception") for n in of) for of in names]

    assert trained() == [["4a", "4d", "backbone", "head"]]
    assert trained(freeze="backbone") == [["head"]]
    assert trained(freeze="backbone", unfreeze="2:inception4b,4:inception3a") == [
        ["head"],
        ["4d", "backbone", "head"],
        ["4a", "4d", "backbone", "head"],
    ]


def test_the_cost_of_a_run_counts_cached_stages_once_and_each_phase_by_its_epochs():
    config, assembly = small(freeze="backbone", unfreeze="3:block5")
    table = summary.layer_table(assembly.model, assembly.image_shape)
    names = assembly.model.stage_names
    before = sum(row.flops for row in table if row.name.split("/")[1] in names[:4])
    head, both = (
        summary.step_flops(table, phase.groups, names, 4)["total"] for phase in assembly.phases
    )
    size = config.dataset.batch_size
    images = size + 1  # two batches
    expected = images * before + 2 * size * (2 * head + 3 * both)
    assert groups.run_flops(assembly, config, images, cut=4, epochs=5) == expected
    assert groups.run_flops(assembly, config, images, cut=4, epochs=1) == images * before + (
        2 * size * head
    )
