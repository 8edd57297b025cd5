"""Mixed images and labels in training: loss and accuracy take them, resuming repeats them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import experiment
from cnn_jax.assembly import assemble
from cnn_jax.data import mixing
from cnn_jax.errors import UsageError
from cnn_jax.evaluation import metrics
from cnn_jax.training import start

CONFIG = experiment.Experiment(model=experiment.Model(name="mlp")).replace(
    {
        "train.epochs": 3,
        "dataset.mixup": 0.4,
        "dataset.cutmix": 1.0,
        "dataset.rotation": 5.0,
        "dataset.batch_size": 32,
    }
)


def test_mixed_labels_reach_loss_and_accuracy(digits, undrawn, tmp_path):
    """Training learns, its accuracy counts the larger share, and validation is as ever."""
    run = start.train(CONFIG, digits)
    first, last = run.history[0], run.history[-1]
    assert last["train_loss"] < first["train_loss"]
    assert last["validation_accuracy"] > 0.5
    assert 0.1 < last["train_accuracy"] < last["validation_accuracy"] + 0.1

    # A run that goes on after its first epoch ends with the same bits, also where it is streamed.
    stream = {"dataset.resident_limit": 0.0}
    start.train(CONFIG.replace({"train.epochs": 1}), digits, workdir=tmp_path / "run")
    resumed = start.train(CONFIG.replace(stream), digits, workdir=tmp_path / "run")
    assert resumed.history[-1]["train_loss"] == last["train_loss"]
    for a, b in zip(*map(jax.tree.leaves, (run.variables, resumed.variables)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("loss", ["focal", "cross_entropy"])
def test_losses_of_the_house_take_shares(digits, loss):
    config = CONFIG.replace({"train.loss": loss, "train.class_weights": "balanced"})
    assert assemble(config, digits.info).mix is not None


def test_a_loss_of_ones_own_takes_no_shares(digits):
    config = CONFIG
    assert assemble(config, digits.info).mix is not None
    with pytest.raises(UsageError, match="a loss of your own does not take; use cross"):
        assemble(config, digits.info, loss=lambda logits, labels: logits[:, 0])


def test_mixed_findings_count_from_a_half_on():
    logits, shares = jnp.array([[2.0, -1.0, 1.0]]), jnp.array([[0.7, 0.4, 0.1]])
    assert float(metrics.right(logits, shares, True)[0]) == pytest.approx(2 / 3)
    assert float(metrics.right(logits, shares)[0]) == 1  # one class, the first
    mixed, found = mixing.mix(
        jnp.arange(2.0)[:, None, None, None] * jnp.ones((2, 4, 4, 1)),
        jnp.array([[1, 0, 1], [0, 0, 1]], jnp.uint8),
        jax.random.key(0),
        classes=3,
        mixup=1.0,
    )
    own = 1 - float(mixed[0, 0, 0, 0])
    np.testing.assert_allclose(found[0], [own, 0, 1], atol=1e-6)
