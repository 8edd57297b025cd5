"""Optimizers of a user's own: what a step gives them, and which are refused before it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import cnn_jax
from cnn_jax import experiment
from cnn_jax.errors import UsageError
from cnn_jax.training import own_optimizer
from cnn_jax.training.freezing import Group, Phase

PARAMS = {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.full((2,), 3.0)}
ONE = Phase(0, dict.fromkeys(PARAMS, Group(0, 1.0)), 0)
TWO = Phase(0, {"kernel": Group(0, 1.0), "bias": Group(0, 0.1)}, 0)
SETTINGS = experiment.Optimizer(name="own")
SAM = (optax.sgd(0.1), optax.sgd(0.05))


def value_fn(params: Any) -> Any:
    return sum(jnp.sum((leaf - 1) ** 2) for leaf in params.values())


def follow(optimizer: Any, names) -> dict[str, Any]:
    params: Any = PARAMS
    state = optimizer.init(params)
    for _ in range(3):
        value, grad = jax.value_and_grad(value_fn)(params)
        extra = {"value": value, "grad": grad, "value_fn": value_fn}
        some = {name: extra[name] for name in names}
        updates, state = optimizer.update(grad, state, params, **some)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    ("optimizer", "names"),
    [
        (
            optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5)),
            ("value", "grad", "value_fn"),
        ),
        (optax.contrib.momo(), ("value",)),
        (optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.05)), ()),
        (optax.adam(0.1), ()),
    ],
    ids=["backtracking", "momo", "sam", "adam"],
)
def test_it_does_what_it_does_by_itself(optimizer, names):
    own_optimizer.check(optimizer, [ONE], PARAMS, SETTINGS)
    ours = own_optimizer.by_group(optimizer, None, ONE.groups)
    found, wanted = follow(ours, ("value", "grad", "value_fn")), follow(optimizer, names)
    for path, leaf in wanted.items():
        np.testing.assert_allclose(found[path], leaf, rtol=1e-6)


def test_several_groups_take_what_looks_at_the_loss_alone():
    optimizer = optax.chain(optax.adam(0.1), optax.contrib.reduce_on_plateau())
    own_optimizer.check(optimizer, [ONE, TWO], PARAMS, SETTINGS)
    own_optimizer.check(optax.lbfgs(), [ONE], PARAMS, SETTINGS)
    with pytest.raises(UsageError, match=r"searches along a line.* leave out transfer.unfreeze"):
        own_optimizer.check(optax.lbfgs(), [ONE, TWO], PARAMS, SETTINGS)


def own(update, extra=False) -> Any:
    kind: Any = optax.GradientTransformationExtraArgs if extra else optax.GradientTransformation
    return kind(lambda params: (), update)


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (own(lambda g, s, p=None, *, hessian: (g, s), extra=True), "asks for 'hessian', which"),
        (own(lambda g, s, p=None: (1 / 0, s)), "fails in a train step.*ZeroDivisionError"),
        (own(lambda g, s: (g, s)), "fails in a train step.*TypeError"),
        (own(lambda g, s, p=None: ({k: v[:1] for k, v in g.items()}, s)), "other shapes"),
    ],
    ids=["hessian", "divides", "two", "shapes"],
)
def test_what_no_step_can_serve_is_refused_in_a_line(optimizer, said):
    with pytest.raises(UsageError, match=said) as caught:
        own_optimizer.check(optimizer, [ONE], PARAMS, SETTINGS)
    assert "\n" not in str(caught.value)


def test_what_is_evaluated_elsewhere_is_said(caplog):
    own_optimizer.check(optax.contrib.schedule_free_sgd(0.1), [ONE], PARAMS, SETTINGS)
    assert "for evaluating other parameters" in caplog.text


def test_a_step_gives_the_loss_its_gradient_and_a_function_of_the_parameters(digits):
    """The optimizer keeps in its state what it was given."""

    def update(updates, state, params=None, *, value, grad, value_fn) -> Any:
        again, gradient = jax.value_and_grad(value_fn)(params)
        distance = optax.tree.norm(jax.tree.map(jnp.subtract, grad, gradient))
        return jax.tree.map(jnp.zeros_like, updates), (value, again, distance)

    zeros = tuple(jnp.zeros(3))
    optimizer = own(update, extra=True)._replace(init=lambda params: zeros)
    data = cnn_jax.from_arrays(digits.train.images[:200], digits.train.labels[:200])
    state, step = cnn_jax.create(
        data, model="mlp", optimizer=optimizer, settings={"model.dropout_rate": 0.5}
    )
    batch = next(cnn_jax.batches(data.train, 32))
    after = step(state, batch)
    value, again, distance = jax.tree.leaves(after.opt_state)
    assert value == pytest.approx(after.epoch.means()["loss"])
    assert value == pytest.approx(again)  # with the same units dropped
    assert distance == pytest.approx(0, abs=1e-6)
