import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn_jax import experiment
from cnn_jax.training import optimizers
from cnn_jax.training.freezing import Group

GROUPS = {"kernel": Group(0, 1.0), "bias": Group(0, 1.0)}
PARAMS = {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.full((2,), 3.0)}
GRADIENTS = {"kernel": jnp.full((2, 2), 0.5), "bias": jnp.full((2,), -0.5)}


def follow(config, steps=3, learning_rate=0.1, weight_decay=0.0):
    params = PARAMS
    opt_state = optimizers.make_optimizer(config, GROUPS).init(params)

    @jax.jit
    def update(params, opt_state, learning_rate, weight_decay):
        tx = optimizers.make_optimizer(config, GROUPS, learning_rate, weight_decay)
        updates, opt_state = tx.update(GRADIENTS, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    for _ in range(steps):
        params, opt_state = update(params, opt_state, learning_rate, weight_decay)
    return params


def reference(tx, steps=3):
    params, opt_state = PARAMS, tx.init(PARAMS)
    for _ in range(steps):
        updates, opt_state = tx.update(GRADIENTS, opt_state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    ("config", "decay", "tx"),
    [
        (experiment.Optimizer(name="adam"), 0.0, optax.adam(0.1)),
        (
            experiment.Optimizer(name="adamw"),
            0.2,
            optax.adamw(0.1, weight_decay=0.2, mask={"kernel": True, "bias": False}),
        ),
        (experiment.Optimizer(name="sgd"), 0.0, optax.sgd(0.1, momentum=0.9, nesterov=True)),
        (experiment.Optimizer(name="sgd", momentum=0.0), 0.0, optax.sgd(0.1)),
        (
            experiment.Optimizer(name="adam", clip_norm=0.1),
            0.0,
            optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.1)),
        ),
    ],
)
def test_updates_are_those_of_optax(config, decay, tx):
    ours = follow(config, weight_decay=decay)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), ours, reference(tx))


def test_weight_decay_leaves_biases_alone():
    with_decay = follow(experiment.Optimizer(name="sgd"), weight_decay=0.3)
    without = follow(experiment.Optimizer(name="sgd"))
    np.testing.assert_array_equal(with_decay["bias"], without["bias"])
    assert np.all(with_decay["kernel"] < without["kernel"])


def factors(**settings):
    steps = range(settings["total_steps"] + 1)
    return [
        np.asarray(optimizers.schedule_factor(jnp.asarray(s), **settings)).item() for s in steps
    ]


def test_constant_schedule():
    assert factors(schedule="constant", warmup_steps=0, total_steps=4) == [1.0] * 5


def test_triangular_schedule_rises_to_one_and_falls_to_zero():
    got = factors(schedule="triangular", warmup_steps=4, total_steps=8)
    np.testing.assert_allclose(got, [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25, 0], atol=1e-6)


def test_step_schedule_is_optaxs_and_falls_at_the_milestones():
    got = factors(schedule="step", warmup_steps=0, total_steps=64, milestones=(0.5, 0.75))
    want = optax.piecewise_constant_schedule(1.0, {32: 0.1, 48: 0.1})
    np.testing.assert_allclose(got, [np.asarray(want(s)).item() for s in range(65)], rtol=1e-6)
    assert [round(got[s], 6) for s in (31, 32, 47, 48)] == [1, 0.1, 0.1, 0.01]


def test_step_schedule_may_warm_up_and_have_one_milestone():
    got = factors(schedule="step", warmup_steps=2, total_steps=6, milestones=(0.5,))
    np.testing.assert_allclose(got, [0.5, 1, 1, 0.1, 0.1, 0.1, 0.1], rtol=1e-6)


def test_cosine_schedule_is_optaxs():
    got = factors(schedule="cosine", warmup_steps=0, total_steps=10)
    want = optax.cosine_decay_schedule(1.0, 10)
    np.testing.assert_allclose(got, [np.asarray(want(s)).item() for s in range(11)], atol=1e-6)
