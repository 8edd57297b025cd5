"""The page's engine computes what JAX computes."""

import json
import shutil
import subprocess
import tomllib
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import cpu, layers, models
from cnn_jax.data import Split
from cnn_jax.models import own
from cnn_jax.page import contents, dropout, frame, pictures, shifts, steps, tracing, weights
from cnn_jax.page.program import UnsupportedError
from tests.tiny import UNOPTIMISED

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="no node on PATH")
ENGINE = Path(frame.__file__).parent / "engine.js"
RUN = """
const given = JSON.parse(require("fs").readFileSync(0));
const engine = engineModule();
const bytes = new Uint8Array(Buffer.from(given.weights.data, "base64"));
const leaves = engine.unpack(given.weights.leaves, bytes);
const forward = engine.prepare(given.forward, leaves);
const found = { logits: [], values: [], gradients: [] };
for (const image of given.images) {
  const y = engine.run(forward, [Float32Array.from(image)], { keep: given.keep, off: given.off });
  found.logits.push([...y[forward.outputs[0]]]);
  found.values.push(given.keep.map((value) => [...y[value]]));
}
for (const seed of given.seeds ?? []) {
  const options = { keep: given.keep, drop: { seed } };
  const y = engine.run(forward, [Float32Array.from(given.images[0])], options);
  found.logits.push([...y[forward.outputs[0]]]);
  found.values.push(given.keep.map((value) => [...y[value]]));
}
if (given.gradient) {
  const gradient = engine.prepare(given.gradient, leaves);
  given.maps.forEach((map) => {
    const inputs = [Float32Array.from(map), Float32Array.from(given.towards)];
    found.gradients.push([...engine.run(gradient, inputs)[gradient.outputs[0]]]);
  });
}
console.log(JSON.stringify(found));
"""


class Everything(nn.Module):
    """A network of one's own, with what the registry's networks have and some things more."""

    @nn.compact
    def __call__(self, x, train=False):
        x = layers.ConvBatchNorm(8, (3, 3), (2, 2), name="stem")(x[..., ::-1], train)
        a = nn.Conv(8, (3, 3), feature_group_count=4, kernel_dilation=(2, 1))(x)
        x = nn.silu(a) + layers.AvgPool((3, 3), (1, 1), "SAME")(x)
        b = layers.Conv(4, (2, 2), padding="SAME", activation="gelu", name="gelu")(x)
        x = jnp.concatenate([jnp.tanh(x), b, x[:, ::-1]], axis=-1)
        x = layers.MaxPool((3, 3), (2, 2), ((1, 1), (1, 1)))(x)
        x = nn.GroupNorm(4)(x) * jnp.pad(jax.nn.sigmoid(x), ((0, 0), (0, 0), (0, 0), (0, 0)))
        x = nn.BatchNorm(use_running_average=not train)(jax.nn.leaky_relu(x))
        x = layers.MaxPool((2, 2))(x)
        x = nn.Dense(16)(x.reshape(x.shape[0], -1))
        return nn.Dense(3)(jax.nn.softmax(x) + jnp.sqrt(jnp.abs(x)) + jnp.clip(x**3, -1, 1))


def variables_of(model, shape, seed=0):
    """Returns variables of which no two are alike, of the sizes that training has."""
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    with cpu.using("plain"):
        shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    draw = np.random.default_rng(seed)

    def leaf(path, each):
        name = path[-1].key
        if name in ("var", "scale"):
            return jnp.asarray(draw.uniform(0.5, 2, each.shape), jnp.float32)
        fan = max(1, int(np.prod(each.shape[:-1])))
        return jnp.asarray(draw.normal(0, (2 / fan) ** 0.5, each.shape), jnp.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def network(model, shape, classes=10):
    """Returns (apply, variables, trace, packed, variables as the page has them)."""
    model = own.adapt(model)
    variables = variables_of(model, shape)

    def apply(variables, images):
        return model.apply(variables, images.astype(jnp.float32) / 255)

    traced = tracing.trace(apply, variables, shape, "uint8")
    packed, kept, _ = weights.pack(traced.leaves)
    stored = jax.tree.unflatten(jax.tree.structure(variables), kept)
    return apply, variables, traced, packed, stored


def by_node(traced, packed, images, **more):
    given = {
        "forward": traced.forward.to_json(),
        "weights": packed,
        "images": [image.ravel().tolist() for image in images],
        "keep": [],
        "off": {},
        **more,
    }
    script = f"{ENGINE.read_text()}\n{RUN}"
    text = json.dumps(given, default=lambda x: x.item())
    done = subprocess.run(
        [str(NODE), "-e", script], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def softmax(logits):
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


CASES = {
    "study_cnn": (lambda: models.create("study_cnn", 10), (32, 32, 3), 100),
    "quick": (lambda: models.create("airbench", 10, width=0.125), (32, 32, 3), 4),
    "own": (lambda: Everything(), (17, 14, 3), 4),
}


@needs_node
@pytest.mark.parametrize("name", CASES)
def test_logits_and_gradients_are_those_of_jax(name):
    build, shape, count = CASES[name]
    apply, variables, traced, packed, stored = network(build(), shape)
    images = np.random.default_rng(1).integers(0, 256, (count, *shape), np.uint8)
    place = traced.feature_map
    assert traced.gradient is not None
    compiled = jax.jit(apply, compiler_options=UNOPTIMISED)
    expected, trained = (np.asarray(compiled(v, images)) for v in (stored, variables))
    outputs = expected.shape[1]
    maps = by_node(traced, packed, images[:2], keep=[place])["values"]
    towards = np.linspace(-1, 1, outputs).tolist()
    found = by_node(
        traced,
        packed,
        images,
        gradient=traced.gradient.to_json(),
        maps=[each[0] for each in maps],
        towards=towards,
    )
    logits = np.array(found["logits"])
    np.testing.assert_allclose(logits, expected, atol=2e-5 * np.abs(expected).max())
    # Networks this small are in the page with the numbers that were trained.
    assert np.abs(softmax(logits) - softmax(trained)).max() < 1e-3
    # The gradient by the map: a small step along it changes the sum as it says.
    assert len(found["gradients"]) == 2
    assert all(np.abs(each).max() > 0 for each in found["gradients"])


@needs_node
def test_a_map_of_evidence_adds_up_to_the_logit_where_theory_says_so():
    """HiResCAM's sum and the biases are the logit of a network that is piecewise linear behind it.

    With one dense layer behind the map, the rest is that layer's bias (Draelos and Carin, 2020).
    """

    class Linear(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = layers.Conv(5, (3, 3), pool=(2, 2), activation="relu")(x)
            return nn.Dense(3)(x.reshape(x.shape[0], -1))

    _, _, traced, packed, stored = network(Linear(), (10, 8, 1))
    images = np.random.default_rng(1).integers(0, 256, (2, 10, 8, 1), np.uint8)
    first = by_node(traced, packed, images, keep=[traced.feature_map])
    maps = [each[0] for each in first["values"]]
    assert traced.gradient is not None
    for k in range(3):
        towards = [float(i == k) for i in range(3)]
        found = by_node(
            traced, packed, images, gradient=traced.gradient.to_json(), maps=maps, towards=towards
        )
        for i in range(2):
            total = np.dot(maps[i], found["gradients"][i])
            rest = found["logits"][i][k] - total
            np.testing.assert_allclose(rest, stored["params"]["Dense_0"]["bias"][k], atol=1e-4)


@needs_node
def test_a_filter_that_is_off_is_zero_for_all_that_follows():
    _, _, traced, packed, _ = network(Everything(), (17, 14, 3))
    step = next(s for s in steps.steps_of(traced) if s.title == "GELU")
    images = np.zeros((1, 17, 14, 3), np.uint8)
    found = by_node(traced, packed, images, keep=[step.value], off={str(step.value): [1, 2]})
    channels = np.array(found["values"][0][0]).reshape(-1, 4)
    assert not channels[:, 1:3].any()
    assert channels[:, [0, 3]].all()


def test_the_steps_say_what_the_layer_table_says():
    model = models.create("study_cnn", 10)
    _, _, traced, *_ = network(model, (32, 32, 3))
    found = steps.steps_of(traced)
    assert [s.kind for s in found][:7] == [
        "input",
        "conv",
        "activation",
        "other",
        "conv",
        "pool",
        "activation",
    ]
    # A pool of 2 x 2 leaves the last row and column of 29 x 29 out, which are not computed.
    assert [(s.title, s.shape) for s in found[2:4]] == [
        ("ReLU", (31, 31, 32)),
        ("cut to 30 x 30", (30, 30, 32)),
    ]
    assert sum(s.parameters for s in found) == 58_389
    assert all(not s.parameters for s in found if s.kind in ("pool", "activation", "flatten"))
    assert 2 * sum(s.macs for s in found) == models.REGISTRY["study_cnn"].flops
    last = next(s for s in reversed(found) if s.field is not None)
    # By hand: 2 x 2, 3 x 3, pool, 2 x 3, 4 x 4, pool.
    assert last.shape == (5, 4, 14)
    assert last.field == steps.Field((15, 17), (4, 4), (0, 0))


def test_a_receptive_field_is_that_of_the_widest_branch():
    _, _, traced, *_ = network(Everything(), (17, 14, 3))
    step = next(s for s in steps.steps_of(traced) if s.title == "GELU")
    # 3 x 3 at stride 2; then 3 x 3 with dilation (2, 1), beside a pool of 3 x 3; then 2 x 2.
    assert step.field == steps.Field((3 + 4 * 2 + 2, 3 + 2 * 2 + 2), (2, 2), (-5, -2))


def test_the_committed_page_has_the_style_and_the_scripts_of_now():
    page = (Path(__file__).parents[2] / "docs" / "page" / "digits.html").read_text()
    assert frame.joined(frame.STYLE) in page
    assert frame.joined(*frame.SCRIPTS) in page


def test_shifts_are_measured_against_the_label():
    images = np.random.default_rng(0).integers(0, 255, (130, 4, 9, 1), np.uint8)
    labels = np.arange(130) % 2
    seen = []

    def logits_of(batch):  # sure of class 1 where the left half is brighter than the right one
        seen.append(batch.shape)
        x = batch.astype(float).sum((1, 3))
        return np.stack([np.zeros(len(x)), (x[:, :4].sum(1) - x[:, 5:].sum(1)) / 100], 1)

    found = shifts.measure(logits_of, Split(images, labels, [str(i) for i in range(130)]), macs=1)
    assert set(seen) == {(100, 4, 9, 1)}
    assert found["shifts"] == [-3, -2, -1, 0, 1, 2, 3]
    assert found["images"] == 130
    moved = np.concatenate([images[:, :, :1]] * 2 + [images[:, :, :-2]], axis=2)  # by 2
    z = logits_of(moved)[:, 1]
    p = 1 / (1 + np.exp(-np.where(labels, z, -z)))
    np.testing.assert_allclose(found["p"][5], p.mean(), rtol=1e-5)
    share, low, high = found["right"][5]
    assert share == (p > 0.5).mean()
    assert low < share < high


def test_the_package_has_every_part_of_the_page():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    listed = tomllib.loads(text)["tool"]["setuptools"]["package-data"]["cnn_jax.page"]
    assert set(listed) == {*frame.SCRIPTS, frame.STYLE}


def test_what_the_engine_cannot_compute_is_named():
    class Sorts(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(jnp.sort(x.reshape(x.shape[0], -1), axis=-1))

    with pytest.raises(UnsupportedError, match="sort"):
        network(Sorts(), (4, 4, 1))


def test_weights_become_small_numbers():
    draw = np.random.default_rng(0)
    small = [jnp.asarray(draw.normal(size=(3, 3, 4, 8)), jnp.float32), jnp.ones(8)]
    packed, kept, kind = weights.pack(small)
    assert kind == "float32"
    assert (kept[0] == small[0]).all()
    small = [jnp.asarray(draw.normal(size=(300, 600)), jnp.float32), jnp.ones(8)]
    packed, kept, kind = weights.pack(small)
    assert kind == "float16"
    assert [leaf["type"] for leaf in packed["leaves"]] == ["float16", "float32"]
    np.testing.assert_allclose(kept[0], small[0], rtol=2**-10, atol=1e-7)
    large = [jnp.asarray(draw.normal(size=(1100, 1000)), jnp.float32)]
    packed, kept, kind = weights.pack(large)
    assert kind == "int8"
    step = np.abs(large[0]).max(axis=0) / 127
    assert (np.abs(kept[0] - large[0]) <= 0.501 * step).all()
    assert len(packed["data"]) < 1.4 * 1100 * 1000


def test_of_trust_the_page_takes_what_it_can_show():
    scaling = {"kind": "vector", "temperature": 1.2, "weights": [1, 2], "offsets": [0, 1]}
    record = {
        "calibration": {"scaling": scaling},
        "thresholds": [0.6, 0.7],
        "score": "max_probability",
        "network": {"views": "one"},
        "settings": {"max_error": 0.1, "confidence": 0.95},
        "sentences": ["A sentence."],
    }
    found = contents.trust_of(record)
    assert (found["temperature"], found["weights"]) == (1.0, [1, 2])
    assert found["threshold"] is None
    assert "for each class" in found["why"]
    for changed, why in (
        ({"thresholds": [None, None]}, "for no threshold could it be shown"),
        ({"score": "gen"}, "gen"),
        ({"network": {"views": "mirror"}}, "views"),
    ):
        assert why in contents.trust_of({**record, **changed})["why"]


def test_images_of_floats_become_pictures_and_back():
    draw = np.random.default_rng(0)
    images = draw.normal(size=(40, 6, 5, 1)).astype(np.float32)
    split = Split(images, np.arange(40, dtype=np.int32) % 4, [str(i) for i in range(40)])
    span = pictures.span_of("float32", split)
    assert span == [float(images.min()), float(images.max())]
    stored, labels = pictures.choose(split, (6, 5, 1))
    assert labels[:8] == [0, 1, 2, 3, 0, 1, 2, 3]
    back = pictures.values_of(stored, span, "float32")
    step = (span[1] - span[0]) / 255
    np.testing.assert_allclose(back[:4], images[:4], atol=0.51 * step)


def test_made_pictures_fit_any_shape():
    for shape in ((8, 8, 1), (32, 20, 3), (5, 9, 4)):
        made = pictures.made_pictures(shape)
        assert made.shape == (6, *shape)
        assert made.dtype == np.uint8
        assert len({image.tobytes() for image in made}) == 6


class Dropping(nn.Module):
    """Dropout of single numbers and of whole maps, and a layer that adds them up."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(layers.Conv(8, (3, 3), name="conv")(x))
        x = nn.Dropout(0.3, broadcast_dims=(1, 2), name="maps")(x, deterministic=not train)
        x = layers.Dropout(0.0, name="nothing")(x, deterministic=not train)
        x = layers.Dropout(0.5, name="units")(x.reshape(x.shape[0], -1), deterministic=not train)
        return nn.Dense(3, name="logits")(x)


@needs_node
def test_dropout_drops_the_share_of_training_and_nothing_in_evaluation():
    apply, _, traced, packed, stored = network(Dropping(), (8, 9, 3))
    (maps, units) = [s for s in steps.steps_of(traced) if s.kind == "dropout"]
    assert [maps.title, units.title] == ["dropout 0.3", "dropout 0.5"]
    assert maps.field == steps.Field((3, 3))
    images = np.random.default_rng(0).integers(0, 256, (1, 8, 9, 3), np.uint8)
    keep = [maps.value, units.value]
    whole = by_node(traced, packed, images, keep=keep)
    expected = np.asarray(apply(stored, images))[0]
    np.testing.assert_allclose(whole["logits"][0], expected, atol=1e-4)
    before = np.array(whole["values"][0][0]).reshape(-1, 8)
    count = 400
    found = by_node(traced, packed, images, keep=keep, seeds=[*range(1, count + 1), 1])
    found = {key: found[key][1:] for key in ("logits", "values")}  # the first is of evaluation
    assert found["logits"].pop() == found["logits"][0]
    found["values"].pop()
    ratio = np.array([each[0] for each in found["values"]]).reshape(count, -1, 8).max(axis=1)
    largest = before.max(axis=0)  # of each map, which is dropped as a whole
    ratio = ratio[:, largest > 0] / largest[largest > 0]
    assert set(np.unique(np.round(ratio, 4))) == {0, np.round(1 / 0.7, 4)}
    assert abs((ratio == 0).mean() - 0.3) < 4 * (0.21 / ratio.size) ** 0.5
    one, two = (np.array([each[i] for each in found["values"]]) for i in range(2))
    alive = one != 0
    assert abs((two[alive] == 0).mean() - 0.5) < 4 * (0.25 / alive.sum()) ** 0.5
    np.testing.assert_allclose(two[two != 0], 2 * one[two != 0], rtol=1e-6)
    # Behind both there is one linear layer: the mean over draws is the answer of evaluation.
    logits = np.array(found["logits"])
    error = logits.std(axis=0) / count**0.5
    assert (np.abs(logits.mean(axis=0) - expected) < 4 * error).all()
    assert error.min() > 0


def test_jax_drops_as_the_page_does():
    model = own.adapt(Dropping())
    variables = variables_of(model, (8, 9, 3))
    x = jnp.asarray(np.random.default_rng(0).random((2, 8, 9, 3)), jnp.float32)
    assert dropout.rates(model, variables, x) == [0.3, 0.5]
    keys = jax.random.split(jax.random.key(0), 64)
    with cpu.using("plain"):
        found = np.asarray(dropout.passes(model, variables, x, keys))
        trained = model.apply(variables, x, train=True, rngs={"dropout": keys[0]})
    assert found.shape == (64, 2, 3)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-5)
    assert len(np.unique(found[:, 0, 0])) > 60
    low, high = found[:, 0].min(axis=0), found[:, 0].max(axis=0)
    assert (softmax(np.asarray(trained))[0] > low - 0.1).all()
    assert (softmax(np.asarray(trained))[0] < high + 0.1).all()


def test_the_last_pictures_are_hard_ones():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.52, 0.48], [0.3, 0.7], [0.1, 0.9]])
    labels = np.array([0, 0, 0, 1, 0])
    assert pictures.hard_ones(p, labels) == [4, 2]
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1) * np.ones((1, 2, 2, 3), np.uint8)
    split = Split(images, labels, list("abcde"))
    found, said = pictures.choose(split, (2, 2, 3), [4, 2])
    assert found[:, 0, 0, 0].tolist() == [0, 3, 1, 4, 2]
    assert said == [0, 1, 0, 0, 0]
