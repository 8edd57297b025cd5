from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import distributed, models
from cnn_jax.assembly import assemble
from cnn_jax.data import DataInfo
from cnn_jax.describe import layer_table
from cnn_jax.experiment import Dataset, Experiment, Model, Transfer
from cnn_jax.models import airbench
from cnn_jax.training.plan import make_plan
from cnn_jax.training.state import initial_state


def test_whitening_filters_whiten():
    """Correlated colours and neighbouring pixels come out uncorrelated with variance one."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(64, 12, 12, 3)).astype(np.float32) @ rng.normal(size=(3, 3))
    images = 9 * (images + np.roll(images, 1, axis=2))
    kernel = airbench.whitening_filters(images)
    assert (kernel.shape, kernel.dtype) == ((2, 2, 3, 24), np.dtype("float32"))
    np.testing.assert_array_equal(kernel[..., 12:], -kernel[..., :12])
    given = jax.lax.conv_general_dilated(
        jnp.asarray(images, jnp.float32),
        jnp.asarray(kernel[..., :12]),
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    rows = np.asarray(given).reshape(-1, 12)
    np.testing.assert_allclose(rows.T @ rows / len(rows), np.eye(12), atol=0.02)


def test_whitening_of_constant_images_is_finite():
    assert np.isfinite(airbench.whitening_filters(np.zeros((2, 8, 8, 3), np.float32))).all()


@pytest.mark.parametrize(("inputs", "outputs"), [(4, 6), (6, 4), (5, 5)])
def test_dirac_passes_its_input_through(inputs, outputs):
    kernel = airbench.dirac(jax.random.key(0), (3, 3, inputs, outputs))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 5, inputs)), jnp.float32)
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    same = min(inputs, outputs)
    np.testing.assert_array_equal(y[..., :same], x[..., :same])
    rest = np.asarray(kernel[..., same:])
    assert (np.abs(rest) <= 1 / np.sqrt(9 * inputs)).all()
    assert rest.size == 0 or rest.std() > 0


def test_parts_are_those_of_the_paper():
    rows = {
        row.name: row for row in layer_table.layer_table(models.create("airbench", 10), (32, 32, 3))
    }
    assert rows["backbone/stem/conv"].output_shape == (31, 31, 24)
    assert rows["backbone/block3/bn2"].output_shape == (3, 3, 256)
    assert rows["head/logits"].parameters == 2560  # no bias
    assert rows["backbone/block1/bn1"].parameters == 64  # no scale
    backbone: Any = models.create("airbench", 10).backbone
    values = backbone.initial_values(np.zeros((2, 8, 8, 3)))
    assert values.keys() == {"stem/conv/kernel"}


def test_the_first_state_starts_from_training_images():
    info = DataInfo("made", "", ("a", "b"), (32, 32, 3), (0.5,) * 3, (0.2,) * 3, {}, {}, (), "")
    config = Experiment(
        dataset=Dataset(normalize="standardize"),
        model=Model(name="airbench"),
        transfer=Transfer(freeze="stem/conv/kernel"),
    )
    assembly = assemble(config, info)
    plan = make_plan(config, assembly, 50)
    images = np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), np.uint8)
    whole = distributed.replicated(distributed.make_mesh())
    state = initial_state(plan, config.seed, whole, images=images)
    scaled = np.asarray(assembly.preprocess(jnp.asarray(images), None))
    expected = airbench.whitening_filters(scaled)
    np.testing.assert_array_equal(state.params["backbone"]["stem"]["conv"]["kernel"], expected)
    assert "backbone/stem/conv/kernel" not in plan.phases[0].groups
    assert "backbone/stem/conv/bias" in plan.phases[0].groups


def test_of_three_convolutions_a_shortcut_passes_the_last_two():
    block = airbench.AirbenchBlock(8, depth=3)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 8))
    variables = block.init(jax.random.key(1), x, train=False)
    assert list(variables["params"]) == ["conv1", "bn1", "conv2", "bn2", "conv3", "bn3"]
    passed: Any = airbench.AirbenchBlock(8, depth=1).apply(variables, x)
    # With filters of zero the last two convolutions add their bias alone, which is zero at first.
    zero = jax.tree.map(jnp.zeros_like, variables["params"]["conv3"])
    silent = {**variables, "params": {**variables["params"], "conv3": zero}}
    expected = jax.nn.gelu(passed, approximate=False)
    alone: Any = block.apply(silent, x)
    whole: Any = block.apply(variables, x)
    np.testing.assert_allclose(alone, expected, atol=1e-6)
    assert not np.allclose(whole, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("width", "filters"),
    [(None, (64, 256, 256)), (0.5, (32, 128, 128)), (0.7, (48, 176, 176)), (1e-3, (8, 8, 8))],
)
def test_width_multiplies_the_filters(width, filters):
    for head in ("default", "pooled"):
        backbone: Any = models.create("airbench", 10, head=head, width=width).backbone
        assert backbone.filters == filters
