"""Weights of the loss by class: their formula, what they do to a step, what is refused and said."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import experiment, losses
from cnn_jax.data import DataInfo
from cnn_jax.errors import UsageError
from cnn_jax.sections import Train
from cnn_jax.training import balance
from tests.tiny import data_json


def info(*counts: int) -> DataInfo:
    names = [["cat", "dog", "emu", "yak"][i] for i in range(len(counts))]
    of_splits = {"train": list(counts), "validation": [1] * len(counts)}
    return DataInfo.from_dict(data_json(class_names=names, class_counts=of_splits))


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], [30, 4, 1])
    want = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    got = balance.class_weights("balanced", info(30, 4, 1))
    assert got is not None
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert got[labels].mean() == pytest.approx(1)


@pytest.mark.parametrize("setting", ["balanced", "dog:10", "cat:0.5, dog:3", "emu:7"])
def test_the_mean_weight_over_the_training_images_is_1(setting):
    counts = (50, 7, 0, 3)  # no training image is an emu
    got = balance.class_weights(setting, info(*counts))
    assert got is not None
    assert got.dtype == np.float32
    assert (got * counts).sum() / sum(counts) == pytest.approx(1)
    if setting.startswith("dog"):
        np.testing.assert_allclose(got / got[0], [1, 10, 1, 1], rtol=1e-6)


def test_none_is_no_weights_and_an_unknown_class_is_refused():
    assert balance.class_weights("none", info(1, 2)) is None
    with pytest.raises(UsageError, match=r"names 'dgo', which is no class.*did you mean.*dog"):
        balance.class_weights("cat:1,dgo:2", info(1, 2))


@pytest.mark.parametrize("text", ["", "dog", "dog:", "dog:-1", "dog:0", "dog:nan", ":2", "a:1,a:2"])
def test_another_form_is_refused(text):
    with pytest.raises(UsageError, match=r"train\.class_weights"):
        experiment.Experiment(train=Train(class_weights=text))


def test_what_makes_up_twice_and_gamma_without_focal_are_refused():
    with pytest.raises(UsageError, match="same imbalance twice"):
        experiment.Experiment(train=Train(class_weights="balanced", sampling="balanced"))
    with pytest.raises(UsageError, match=r"focal_gamma needs train\.loss=focal"):
        experiment.Experiment(train=Train(focal_gamma=1.0))


@pytest.mark.parametrize(
    ("counts", "said"), [((31, 10), True), ((30, 10), False), ((90, 0, 9), True), ((5, 0), False)]
)
def test_data_above_three_to_one_get_a_hint_where_nothing_is_done(counts, said):
    assert bool(balance.hints(Train(), info(*counts))) == said
    for other in (Train(class_weights="balanced"), Train(sampling="balanced")):
        assert balance.hints(other, info(*counts)) == []
    if counts == (90, 0, 9):
        assert balance.hints(Train(), info(*counts))[0].startswith(
            "imbalance  10.0 images of cat to one of emu: "
        )


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.focal, "smoothed"])
def test_of_a_mixed_image_each_class_has_its_own_weight(loss):
    smoothed = functools.partial(losses.cross_entropy, label_smoothing=0.2)
    loss = smoothed if loss == "smoothed" else loss
    weights = jnp.asarray([0.5, 2.0, 0.0])
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3)), jnp.float32)
    of_class = np.stack([loss(logits, jnp.full(3, c)) for c in range(3)], axis=1)
    found = balance.weighted(weights, loss, logits, jnp.asarray([1, 0, 2]))
    np.testing.assert_allclose(found, [2 * of_class[0, 1], 0.5 * of_class[1, 0], 0], rtol=1e-6)
    shares = np.asarray([[0.3, 0.7, 0], [0, 0.5, 0.5], [0, 0, 1]], np.float32)
    found = balance.weighted(weights, loss, logits, jnp.asarray(shares))
    np.testing.assert_allclose(found, (shares * weights * of_class).sum(axis=1), rtol=1e-5)


def test_with_several_findings_each_counts_as_much_as_its_absence():
    values = data_json(class_names=["cat", "dog"], class_counts={"train": [5, 30]})
    several = DataInfo.from_dict({**values, "sizes": {"train": 40}, "multilabel": True})
    weights = balance.class_weights("balanced", several)
    assert weights is not None
    np.testing.assert_allclose(weights, [[40 / 70, 40 / 20], [40 / 10, 40 / 60]], rtol=1e-6)
    labels = jnp.asarray(np.array([[1, 0], [0, 1], [0, 0]], np.uint8))
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)), jnp.float32)
    p = np.asarray(jax.nn.sigmoid(logits))
    each = -np.where(labels == 1, weights[1] * np.log(p), weights[0] * np.log(1 - p))
    found = balance.weighted(jnp.asarray(weights), losses.multilabel, logits, labels)
    np.testing.assert_allclose(found, each.mean(axis=1), rtol=1e-5)
    named = balance.class_weights("cat:7", several)
    assert named is not None
    np.testing.assert_allclose(named[1, 0] / named[0, 0], 7, rtol=1e-6)
    np.testing.assert_allclose((named * [[35, 10], [5, 30]]).sum(axis=0), [40, 40], rtol=1e-6)
    assert balance.hints(Train(), several) == [
        "imbalance  7.0 images without cat to one with it: --train.class_weights=balanced makes "
        "them count alike"
    ]
    with pytest.raises(UsageError, match=r"use train\.class_weights=balanced"):
        balance.check(Train(sampling="balanced"), several)


def test_a_step_follows_the_weighted_loss(made_step):
    """The gradient is that of the sum of weight times loss over the number of images."""
    plan, state, step, hyper, batch = made_step
    weights = jnp.asarray(np.linspace(0.1, 2.0, 10), jnp.float32)
    after = step(state, batch, hyper._replace(class_weights=weights))

    def loss(params):
        inputs = plan.assembly.preprocess(batch.images, None)
        logits = plan.assembly.model.apply({"params": params}, inputs)
        values = -jax.nn.log_softmax(logits)[jnp.arange(12), batch.labels]
        return jnp.sum(weights[batch.labels] * values) / 12, jnp.mean(values)

    (_, plain), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
    want = jax.tree.map(lambda p, g: p - 0.1 * g, state.params, gradients)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), after.params, want)
    # The curves show the loss without weights, as validation does.
    assert float(after.epoch.loss) / 12 == pytest.approx(float(plain), rel=1e-5)


@pytest.fixture
def made_step(digits):
    from cnn_jax import distributed
    from cnn_jax.assembly import assemble
    from cnn_jax.data.batches import Batch
    from cnn_jax.training import steps
    from cnn_jax.training.plan import make_plan
    from cnn_jax.training.state import initial_state
    from tests.tiny import UNOPTIMISED

    config = experiment.replace(
        experiment.Experiment(),
        {
            "model.name": "mlp",
            "optimizer.name": "sgd",
            "optimizer.momentum": 0.0,
            "optimizer.learning_rate": 0.1,
        },
    )
    plan = make_plan(config, assemble(config, digits.info), 640)
    state = initial_state(plan, 0, distributed.replicated(distributed.make_mesh()))
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (12, 8, 8, 1), np.uint8)
    batch = Batch(images, generator.integers(0, 10, 12, np.int32), np.ones(12, np.float32))
    step = jax.jit(steps.make_train_step(plan), compiler_options=UNOPTIMISED)
    return plan, state, step, steps.Hyperparameters.of(config), batch


def test_unused_fields_of_old_configurations_mean_what_they_meant():
    old = experiment.to_dict(experiment.Experiment())
    for name in ("class_weights", "sampling", "focal_gamma"):
        del old["train"][name]
    assert experiment.from_dict(old) == experiment.Experiment()
    assert dataclasses.asdict(experiment.from_dict(old).train)["sampling"] == "natural"
