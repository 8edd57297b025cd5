"""The train step against optax and the definitions."""

import dataclasses
import functools
import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn_jax import distributed, experiment, models, trees
from cnn_jax.assembly import assemble
from cnn_jax.data import scaling
from cnn_jax.data.batches import Batch
from cnn_jax.errors import UsageError
from cnn_jax.layers import BatchNorm
from cnn_jax.training import statistics, steps
from cnn_jax.training.freezing import Group
from cnn_jax.training.plan import make_plan
from cnn_jax.training.state import initial_state
from tests.tiny import UNOPTIMISED

CONFIG = experiment.Experiment(model=experiment.Model(name="mlp"))


@pytest.fixture(scope="module")
def info(digits):
    return digits.info


@pytest.fixture(scope="module")
def batch() -> Batch:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (12, 8, 8, 1), np.uint8)
    return Batch(images, generator.integers(0, 10, 12, np.int32), np.ones(12, np.float32))


made: dict[Any, Any] = {}  # compiling is what takes time here


def make(info, changes: dict[str, Any] | None = None, model: Any = None):
    """Returns (plan, first state, jitted step, hyperparameters)."""
    key = json.dumps(changes) + repr(model)
    if key in made:
        return made[key]
    config = experiment.replace(CONFIG, changes or {})
    assembly = assemble(config, info)
    if model is not None:
        images = jax.ShapeDtypeStruct((1, *info.image_shape), jnp.float32)
        shapes = jax.eval_shape(model.init, jax.random.key(0), images)
        assembly = dataclasses.replace(assembly, model=model, shapes=shapes)
    plan = make_plan(config, assembly, 10 * config.dataset.batch_size)
    whole = distributed.replicated(distributed.make_mesh())
    state = initial_state(plan, config.seed, whole)
    step = jax.jit(steps.make_train_step(plan), compiler_options=UNOPTIMISED)
    made[key] = plan, state, step, steps.Hyperparameters.of(config)
    return made[key]


def assert_close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


@pytest.mark.parametrize(
    ("changes", "tx", "smoothing"),
    [
        ({}, optax.adam(1e-3), 0.0),
        (
            {"optimizer.name": "sgd", "train.label_smoothing": 0.1, "optimizer.clip_norm": 0.5},
            optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(1e-3, 0.9, nesterov=True)),
            0.1,
        ),
    ],
)
def test_steps_are_those_of_optax(changes, tx, smoothing, info, batch):
    plan, state, step, hyper = make(info, changes)
    params, opt_state = state.params, tx.init(state.params)

    @functools.partial(jax.jit, compiler_options=UNOPTIMISED)
    def reference(params, opt_state):
        def loss(params):
            images = scaling.normalize(batch.images, "unit", info.mean, info.std)
            logits: Any = plan.assembly.model.apply({"params": params}, images)
            targets = optax.smooth_labels(jax.nn.one_hot(batch.labels, 10), smoothing)
            return jnp.mean(optax.softmax_cross_entropy(logits, targets))

        value, gradients = jax.value_and_grad(loss)(params)
        updates, opt_state = tx.update(gradients, opt_state, params)
        return value, optax.tree.norm(gradients), optax.apply_updates(params, updates), opt_state

    for number in range(1, 4):
        value, norm, params, opt_state = reference(params, opt_state)
        before = state.interval
        state = step(state, batch, hyper)
        assert int(state.step) == number
        got = (float(state.interval.loss) - float(before.loss)) / 12
        assert got == pytest.approx(float(value), rel=1e-5)
        assert float(state.gradient_norm) == pytest.approx(float(norm), rel=1e-4)
    assert_close(state.params, params, atol=2e-6)
    assert float(state.epoch.examples) == 36
    assert int(state.nonfinite_step) == -1


def test_clipping_bounds_the_update(info, batch):
    changes = {"optimizer.name": "sgd", "optimizer.momentum": 0.0, "optimizer.clip_norm": 1e-3}
    _, state, step, hyper = make(info, changes)
    after = step(state, batch, hyper._replace(learning_rate=jnp.float32(1)))
    change = jax.tree.map(jnp.subtract, after.params, state.params)
    assert float(after.gradient_norm) > 0.01  # the norm that is shown is that before clipping
    assert float(optax.tree.norm(change)) == pytest.approx(1e-3, rel=1e-2)


def test_examples_of_weight_zero_do_not_count(info, batch):
    _, state, step, hyper = make(info)
    want = step(state, Batch(*(part[:7] for part in batch[:3])), hyper)
    weights = np.concatenate([np.ones(7), np.zeros(5)]).astype(np.float32)
    got = step(state, batch._replace(weights=weights), hyper)
    assert_close(got.params, want.params, atol=1e-6)
    assert_close(got.epoch, want.epoch, rtol=1e-5)
    assert float(got.epoch.examples) == 7


def test_the_moving_average_is_its_formula(info, batch):
    """Its decay is at most (1 + t) / (10 + t), t the updates before."""
    _, state, step, hyper = make(info, {"optimizer.ema_decay": 0.15})
    average = trees.flatten(state.params)
    for t in range(4):
        state = step(state, batch, hyper)
        decay = min(0.15, (1 + t) / (10 + t))
        params = trees.flatten(state.params)
        average = {path: decay * average[path] + (1 - decay) * params[path] for path in params}
    assert_close(state.ema_params, average, atol=1e-6)
    assert_close(trees.flatten(state.variables()["params"]), average, atol=1e-6)


def test_one_compilation_serves_all_hyperparameters(info, batch):
    changes = {"optimizer.name": "adamw", "optimizer.weight_decay": 0.1}
    _, state, step, hyper = make(info, changes)
    kernels = []
    for learning_rate, decay, smoothing in [(1e-3, 0.1, 0.0), (1e-2, 0.1, 0.0), (1e-2, 0.5, 0.2)]:
        values = (learning_rate, decay, smoothing)
        hyper = steps.Hyperparameters(*(jnp.asarray(value, jnp.float32) for value in values))
        kernels.append(step(state, batch, hyper).params["head"]["logits"]["kernel"])
    assert step._cache_size() == 1
    assert len({kernel.tobytes() for kernel in map(np.asarray, kernels)}) == 3


def test_the_first_step_that_is_not_finite_is_remembered(info, batch):
    _, state, step, hyper = make(info, {"optimizer.name": "sgd"})
    state = step(state, batch, hyper)
    bad = hyper._replace(learning_rate=jnp.float32(1e38))
    state = step(state, batch, bad)  # finite still: the update is what is too large
    assert int(state.nonfinite_step) == -1
    for _ in range(2):
        state = step(state, batch, hyper)
        assert int(state.nonfinite_step) == 2


def test_a_step_is_a_pure_function_and_its_randomness_that_of_its_number(info, batch):
    changes = {"model.dropout_rate": 0.5, "dataset.crop_padding": 2}
    _, state, step, hyper = make(info, changes)
    one, again = step(state, batch, hyper), step(state, batch, hyper)
    jax.tree.map(np.testing.assert_array_equal, one.params, again.params)
    later = step(state.replace(step=jnp.int32(1)), batch, hyper)
    assert float(later.epoch.loss) != float(one.epoch.loss)
    np.testing.assert_array_equal(jax.random.key_data(one.key), jax.random.key_data(state.key))


def test_bfloat16_computes_in_it_and_keeps_float32(info, batch):
    _, exact, exact_step, hyper = make(info)
    plan, state, step, hyper = make(info, {"train.precision": "bfloat16"})
    assert plan.assembly.preprocess(batch.images, None).dtype == jnp.bfloat16
    for _ in range(3):
        state, exact = step(state, batch, hyper), exact_step(exact, batch, hyper)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    assert float(state.epoch.loss) == pytest.approx(float(exact.epoch.loss), rel=0.02)
    assert float(state.epoch.loss) != float(exact.epoch.loss)


class Normalized(nn.Module):
    """A backbone with batch normalisation."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Conv(4, (3, 3), strides=2)(x)
        return BatchNorm(activation="relu", name="norm")(x, train)


def test_batch_statistics_move_and_serve_evaluation(info, batch):
    model = models.Classifier(Normalized(), models.create("mlp", 10).head)
    plan, state, step, hyper = make(info, model=model)
    images = scaling.normalize(batch.images, "unit", info.mean, info.std)
    convolution = nn.Conv(4, (3, 3), strides=2)
    found = convolution.apply({"params": state.params["backbone"]["Conv_0"]}, images)
    mean = np.mean(np.asarray(found), axis=(0, 1, 2))
    after = step(state, batch, hyper)
    np.testing.assert_allclose(after.batch_stats["backbone"]["norm"]["mean"], 0.1 * mean, atol=1e-6)
    train_mode: Any = plan.assembly.model.apply(
        state.variables(), images, train=True, mutable=["batch_stats"]
    )
    eval_mode: Any = plan.assembly.model.apply(after.variables(), images)
    assert not np.allclose(train_mode[0], eval_mode)


def test_statistics_are_averaged_like_the_parameters(info, batch):
    """Averaged parameters with the statistics of the last ones would not fit together."""
    model = models.Classifier(Normalized(), models.create("mlp", 10).head)
    _, state, step, hyper = make(info, {"optimizer.ema_decay": 0.15}, model)
    average = state.batch_stats
    for t in range(4):
        rolled = batch._replace(images=np.roll(batch.images, 40 * t))
        state = step(state, rolled, hyper)
        decay = min(0.15, (1 + t) / (10 + t))
        average = jax.tree.map(
            lambda a, b, d=decay: d * a + (1 - d) * b, average, state.batch_stats
        )
    assert_close(state.variables()["batch_stats"], average, atol=1e-6)
    changed = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), average, state.batch_stats)
    assert min(jax.tree.leaves(changed)) > 1e-4
    # A run from before the statistics were averaged goes on as it began.
    old = step(state.replace(ema_batch_stats=None), batch, hyper)
    assert old.ema_batch_stats is None
    assert_close(old.variables()["batch_stats"], old.batch_stats, atol=0)


def test_a_run_of_few_steps_is_told_what_is_left_of_the_first_statistics(info):
    model = models.Classifier(Normalized(), models.create("mlp", 10).head)
    for epochs, told in ((1, "10 updates leave 35% of the statistics"), (4, "40 updates"), (5, "")):
        plan, *_ = make(info, {"train.epochs": epochs}, model)
        line = statistics.warning(plan) or ""
        assert line.removeprefix("batch normalisation: ").startswith(told)
        assert bool(line) == bool(told)
    share, momentum, updates = statistics.remainder(plan) or (0, 0, 0)
    assert (momentum, updates) == (0.9, 50)
    assert share == pytest.approx(0.9**50)
    frozen = plan.phases[0]._replace(groups={"head/dense/kernel": Group(0, 1.0)})
    assert statistics.remainder(dataclasses.replace(plan, phases=(frozen,))) is None
    assert statistics.remainder(make(info)[0]) is None  # without batch normalisation


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset.crop_padding": 9}, r"crop_padding=9 is more than the images have: 8 pixels"),
        ({"dataset.cutout": 2**31 - 1}, "cutout=2147483647 is more than"),
    ],
)
def test_augmentation_is_no_larger_than_the_images(changes, message, info):
    with pytest.raises(UsageError, match=message):
        make(info, changes)


def test_steps_are_counted_in_int32(info):
    config = experiment.replace(CONFIG, {"train.epochs": 1_000_000, "dataset.batch_size": 1})
    with pytest.raises(UsageError, match=r"epochs=1000000 are 10,000,000,000 steps"):
        make_plan(config, assemble(config, info), 10_000)


def test_mirrors_alternate_from_epoch_to_epoch(info, batch):
    """Parameters that only see whether images were mirrored."""
    plan, state, _, hyper = make(info, {"dataset.alternate_flip": True})
    seen = []

    def preprocess(images, key, mirrored=None):
        seen.append(mirrored)
        return plan.assembly.preprocess(images, key, mirrored)

    assembly = dataclasses.replace(plan.assembly, preprocess=preprocess)
    batch_size = plan.batch_size
    watched = dataclasses.replace(plan, assembly=assembly, num_examples=2 * batch_size)
    step = steps.make_train_step(watched)
    positions = jnp.arange(len(batch.labels))
    for number in range(4):
        step(state.replace(step=jnp.asarray(number)), batch._replace(positions=positions), hyper)
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], ~seen[2])
    np.testing.assert_array_equal(seen[2], seen[3])
