from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import experiment, layers, models
from cnn_jax.cli import describe as cli_describe
from cnn_jax.data import from_arrays
from cnn_jax.data.batches import Batch
from cnn_jax.describe.memory import memory_estimate
from cnn_jax.errors import UsageError
from cnn_jax.models import Classifier, own
from cnn_jax.models.classifier import DenseHead
from cnn_jax.training import arguments, memory, parts
from cnn_jax.training.state import abstract_state
from cnn_jax.training.steps import Hyperparameters, make_train_step
from tests import tiny


class Normalized(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return layers.ConvBatchNorm(8, (3, 3), name="conv")(x, train)


def test_memory_estimate():
    model, shape = models.create("lenet5", 10), (32, 32, 1)
    estimate = memory_estimate(model, shape, batch_size=7, optimizer_slots=2)
    maps = 28 * 28 * 6 + 14 * 14 * 6 + 10 * 10 * 16 + 5 * 5 * 16
    assert estimate == {
        "parameters": 4 * 61_706,
        "batch_stats": 0,
        "gradients": 4 * 61_706,
        "optimizer": 8 * 61_706,
        "activations": 4 * 7 * (32 * 32 + maps + 120 + 84 + 10),
        "activation_gradients": 4 * 7 * (28 * 28 * 6 + 14 * 14 * 6),
        "total": estimate["total"],
    }
    assert 2 * estimate["total"] == sum(estimate.values())
    half = memory_estimate(model, shape, 7, optimizer_slots=2, dtype_bytes=2)
    assert half["activations"] * 2 == estimate["activations"]
    assert half["parameters"] == estimate["parameters"]
    norm = memory_estimate(Classifier(Normalized(), DenseHead(3)), (8, 8, 3), 1, optimizer_slots=0)
    assert norm["batch_stats"] == 4 * 2 * 8
    assert norm["optimizer"] == 0


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the workspace is another elsewhere")
@pytest.mark.parametrize("name", ["lenet5", "study_cnn"])
def test_memory_estimate_is_within_a_factor_of_two_of_xlas(name):
    model, shape = models.create(name, 10), models.REGISTRY[name].input_shape
    images = jax.ShapeDtypeStruct((50, *shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def loss(variables, images):
        logits: Any = model.apply(variables, images)
        return jax.nn.logsumexp(logits).sum() - logits[:, 0].sum()

    analysis = jax.jit(jax.grad(loss)).lower(variables, images).compile().memory_analysis()
    assert analysis is not None
    estimate = memory_estimate(model, shape, batch_size=50, optimizer_slots=0)
    ours = estimate["activations"] + estimate["activation_gradients"]
    assert 0.5 < ours / analysis.temp_size_in_bytes < 2


@pytest.mark.parametrize("cached", [True, False])
def test_the_memory_of_a_frozen_network_is_that_of_what_runs(cached, monkeypatch):
    """Against what the compiled step holds: its arguments and its temporary buffers."""
    monkeypatch.setitem(models.REGISTRY, "tiny", tiny.ENTRY)
    images = np.random.default_rng(0).integers(0, 256, (80, 32, 32, 3)).astype(np.uint8)
    data = from_arrays(images, np.arange(80) % 4, validation=0.2)
    settings = {
        "model.name": "tiny",
        "transfer.freeze": "backbone",
        "transfer.cache_features": cached,
        "dataset.batch_size": 64,
    }
    config = experiment.replace(experiment.Experiment(), settings)
    plan = parts.prepare(arguments.name_values(config, data, None, None, None), data).plan
    found = memory.estimate(plan, config, data.info)
    step = found["training from epoch 1"]
    head = 4 * (4 * 4 + 4)
    assert (step["gradients"], step["optimizer"]) == (head, 2 * head)
    assert step["total"] == sum(size for name, size in step.items() if name != "total")
    assert ("caching the features" in found) == cached
    shape = (64, 1, 1, 4) if cached else (64, 32, 32, 3)
    state = abstract_state(plan, {"phase": 0})
    batch = Batch(
        jax.ShapeDtypeStruct(shape, jnp.float32 if cached else jnp.uint8),
        jax.ShapeDtypeStruct((64,), jnp.int32),
        jax.ShapeDtypeStruct((64,), jnp.float32),
    )
    program = jax.jit(make_train_step(plan)).lower(state, batch, Hyperparameters.of(config))
    analysis: Any = program.compile().memory_analysis()
    measured = analysis.argument_size_in_bytes + analysis.temp_size_in_bytes
    print(step, analysis)
    assert 0.5 < (step["total"] - step["data"]) / measured < 2
    everything = memory_estimate(plan.assembly.model, (32, 32, 3), 64, optimizer_slots=2)
    assert step["total"] < 0.7 * everything["total"]


def test_what_needs_over_twice_the_memory_is_refused_in_one_line():
    found = {"training from epoch 1": {"total": 9 * 2**30}, "validation": {"total": 2**30}}
    memory.check(found, 5 * 2**30)
    memory.check(found, None)
    with pytest.raises(UsageError, match=r"epoch 1 needs about 9.0 GiB of memory, and this machi"):
        memory.check(found, 4 * 2**30)
    with pytest.raises(UsageError, match=r"a smaller dataset\.eval_batch_size"):
        memory.check({"validation": {"total": 9 * 2**30}}, 4 * 2**30)
    assert (memory.available() or 2**30) >= 2**28


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Out of memory allocating 12884901888 bytes.\n[tf-allocator]"
            ),
            "12.0 GiB more",
        ),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Failed to allocate 1.5GiB"), "1.5 GiB"),
        (MemoryError("Unable to allocate 7.28 TiB for an array with shape (1,)"), "7.28 TiB more"),
        (MemoryError(), "out of memory; the machine has"),
    ],
)
def test_memory_that_cannot_be_had_is_one_line(error, said, main, monkeypatch, capsys):
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(cli_describe, "run_command", fail)
    assert main("describe", "--model.name=mlp") == 1
    line = capsys.readouterr().err
    assert line.startswith("error: out of memory")
    assert said in line
    assert "--dataset.batch_size" in line
    assert line.count("\n") == 1


def test_another_error_of_jax_is_not_taken_for_it(main, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(cli_describe, "run_command", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        main("describe", "--model.name=mlp")


class Block(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return nn.relu(nn.Dense(16)(x)), None


class Scanned(nn.Module):
    """Five dense layers of 16 units, with one name."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        stack = nn.scan(Block, {"params": 0}, split_rngs={"params": True}, length=5)
        return nn.Dense(3)(stack()(x, None)[0])


def test_a_scan_holds_the_output_of_every_iteration():
    estimate = memory_estimate(own.adapt(Scanned()), (2, 2, 4), 7, optimizer_slots=1)
    assert estimate["parameters"] == 4 * (5 * (16 * 16 + 16) + 16 * 3 + 3)
    assert estimate["activations"] == 4 * 7 * (16 + 5 * 16 + 3)
