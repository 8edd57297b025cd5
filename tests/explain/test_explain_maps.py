"""Maps are what their definitions say, and are caught where they show nothing."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnn_jax
from cnn_jax import Experiment, UsageError
from cnn_jax.assembly import assemble
from cnn_jax.data import DataInfo
from cnn_jax.explain import checks, explaining, maps, presenting, units
from cnn_jax.explain.maps import Subject
from cnn_jax.explain.network import Network
from cnn_jax.runs.trained import Run

SIDE, MARK = 24, 5


class Pooled(nn.Module):
    """Convolutions, the mean over height and width, one dense layer."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(8, (3, 3), name="conv1")(x))
        x = nn.relu(nn.Conv(8, (3, 3), strides=2, name="conv2")(x))
        return nn.Dense(3, name="logits")(x.mean((1, 2)))


class Flat(nn.Module):
    """A convolution, flatten, one dense layer of one logit."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Conv(4, (3, 3), strides=3, name="conv1")(x))
        return nn.Dense(1, name="logits")(x.reshape(len(x), -1))


class Centre(nn.Module):
    """A network that looks at the centre alone."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(3, name="logits")(nn.relu(x[:, 8:16, 8:16].reshape(len(x), -1)))


class Linear(nn.Module):
    """One dense layer of all pixels."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(3, name="logits")(x.reshape(len(x), -1))


def network_of(module: nn.Module, classes: int = 3) -> Network:
    """Returns a network with weights as they are drawn."""
    names = tuple("abc")[:classes]
    info = DataInfo("made", "", names, (SIDE, SIDE, 3), (0.5, 0.4, 0.3), (0.2,) * 3, {}, {}, (), "")
    loss = "binary_cross_entropy" if classes == 2 else "cross_entropy"
    config = Experiment().replace({"train.loss": loss, "model.name": "mlp"})
    assembly = assemble(config, info, model=module)
    x = jnp.zeros((1, SIDE, SIDE, 3))
    variables = assembly.model.init(jax.random.key(1), x)
    return Network(Run(config, assembly, info, [], lambda: (variables, 0)))


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def pooled() -> Network:
    return network_of(Pooled())


def test_behind_a_global_pool_hirescam_is_gradcam_is_cam(pooled, images):
    assert pooled.layer == "conv2"
    subject = Subject(images[0], 1)
    found = maps.hirescam(pooled, subject)
    features = pooled.run.features(images[:1], "conv2")[0]
    kernel = np.asarray(pooled.run.variables["params"]["logits"]["kernel"])
    activation = np.maximum(features, 0)
    cam = (activation @ kernel[:, 1]) / activation[..., 0].size
    # conv2 is looked at before its ReLU: where it is negative nothing reaches the logits.
    np.testing.assert_allclose(found, cam, atol=1e-5)
    x = pooled.preprocess(images[:1])[0]
    assert found.sum() == pytest.approx(pooled.evidence(x, 1, None), abs=1e-4)


def test_behind_flatten_hirescam_sums_to_the_logit_and_gradcam_does_not(images):
    flat = network_of(Flat(), 2)
    x = flat.preprocess(images[:1])[0]
    for label, sign in ((1, 1), (0, -1)):  # one logit: of the second class
        subject = Subject(images[0], label)
        assert maps.hirescam(flat, subject).sum() == pytest.approx(
            flat.evidence(x, label, None), abs=1e-4
        )
        assert flat.evidence(x, label, None) == pytest.approx(
            sign * float(flat.run.logits(images[0])[0, 0]), abs=1e-5
        )
    assert maps.gradcam(flat, Subject(images[0], 1)).min() >= 0


def test_against_is_the_difference_of_two_maps(pooled, images):
    one, other = (maps.hirescam(pooled, Subject(images[1], label)) for label in (0, 2))
    both = maps.hirescam(pooled, Subject(images[1], 0, 2))
    np.testing.assert_allclose(both, one - other, atol=1e-5)


def test_of_a_linear_network_every_map_is_known(images):
    linear = network_of(Linear())
    assert linear.layer is None
    with pytest.raises(UsageError, match="no feature map"):
        maps.hirescam(linear, Subject(images[0], 0))
    kernel = np.asarray(linear.run.variables["params"]["logits"]["kernel"])
    weights = kernel[:, 2].reshape(SIDE, SIDE, 3)
    difference = np.asarray(linear.preprocess(images[:1]))[0] - linear.blank()
    found = maps.ig(linear, Subject(images[0], 2), steps=3)
    np.testing.assert_allclose(found, (difference * weights).sum(-1), atol=1e-5)
    smooth = maps.smoothgrad(linear, Subject(images[0], 2))
    np.testing.assert_allclose(smooth, weights.sum(-1), atol=1e-5)


def test_occlusion_sees_nothing_where_the_network_does_not_look(images):
    centre = network_of(Centre())
    found = maps.occlusion(centre, Subject(images[0], 0))
    inner = np.zeros((SIDE, SIDE), bool)
    inner[5:19, 5:19] = True  # patches of 4 that reach the centre
    assert np.all(found[~inner] == 0)
    assert np.abs(found[8:16, 8:16]).min() > 0


@pytest.fixture(scope="module")
def planted() -> tuple[Network, np.ndarray, np.ndarray, list[tuple[int, ...]]]:
    """A network trained on noise in which a white square gives two classes away by its stripe."""
    generator = np.random.default_rng(0)
    n = 600
    x = generator.integers(90, 140, (n, SIDE, SIDE, 3), np.uint8)
    y = np.arange(n) % 3
    corners = [tuple(map(int, generator.integers(2, SIDE - MARK - 2, 2))) for _ in range(n)]
    for image, label, (top, left) in zip(x, y, corners, strict=True):
        if label:
            image[top : top + MARK, left : left + MARK] = 255 if label == 1 else (255, 0, 0)
    data = cnn_jax.from_arrays(x[:480], y[:480], validation=(x[480:540], y[480:540]))
    run = cnn_jax.train(
        data,
        model=Pooled(),
        epochs=20,
        batch_size=32,
        learning_rate=0.02,
        settings={"dataset.normalize": "standardize"},
    )
    network = Network(run)
    return network, x[540:], y[540:], corners[540:]


def test_integrated_gradients_are_complete(planted):
    network, images, labels, _ = planted
    i = int(np.flatnonzero(labels == 1)[0])
    x = network.preprocess(images[i : i + 1])[0]
    expected = network.evidence(x, 1, None) - network.evidence(network.blank(), 1, None)
    assert expected > 0.5
    for steps, gap in ((16, 0.05), (512, 1e-3)):
        found = maps.ig(network, Subject(images[i], 1), steps=steps)
        assert found.sum() == pytest.approx(expected, rel=gap)


def test_a_planted_mark_is_caught(planted):
    network, x, y, corners = planted
    assert np.mean(network.probabilities(x).argmax(1) == y) > 0.95
    marked = [i for i in range(len(y)) if y[i]][:20]
    for method in ("hirescam", "occlusion", "ig"):
        on_mark = 0
        for i in marked:
            top, left = corners[i]
            box = tuple(c / SIDE for c in (top - 2, left - 2, top + MARK + 2, left + MARK + 2))
            values = maps.MAKERS[method](network, Subject(x[i], int(y[i])), None, 32)
            strong = np.maximum(checks.enlarged(values, (SIDE, SIDE)), 0)
            share, area = checks.shares(strong, (SIDE, SIDE), box)["box"]
            on_mark += share > 3 * area
        assert on_mark > 0.9 * len(marked), (method, on_mark)


def test_tests_of_a_map_tell_a_map_of_the_network_from_a_picture_of_the_image(planted):
    network, x, y, _ = planted
    i = int(np.flatnonzero(y == 1)[0])
    one = explaining.explain(network, x[i : i + 1], ["a"], methods=["occlusion", "hirescam"])[0]
    good = one.maps["occlusion"]
    assert one.class_name == "1"
    assert good.redrawn["all"] < checks.SAME
    assert "deletion" not in good.failures
    chance = np.mean([curves.deletion_mean for curves in one.chance])
    assert good.curves.deletion_mean < 0.8 * chance
    assert good.curves.deletion[0] == pytest.approx(good.curves.insertion[10], abs=1e-6)
    # An edge detector is a picture of the image: it never asks the network.
    edges = np.abs(np.diff(x[i].astype(np.float32).mean(-1), axis=0, prepend=0))
    maps.MAKERS["edges"] = lambda *_: edges
    try:
        made = checks.redrawn(network, Subject(x[i], 1), "edges", edges, 8, 1)
        assert made == {"all": pytest.approx(1.0)}
        same = dataclasses.replace(good, values=edges, redrawn=made)
        assert "redrawn" in explaining._failures(same, one.chance, "")
    finally:
        del maps.MAKERS["edges"]


def test_weights_are_drawn_anew_from_the_head_down(planted):
    network = planted[0]
    assert checks.parts(network) == ["logits/", "conv2/", "conv1/"]
    head = checks.drawn_anew(network, ("logits/",), 0)["params"]
    old = network.run.variables["params"]
    assert np.array_equal(head["conv1"]["kernel"], old["conv1"]["kernel"])
    assert not np.array_equal(head["logits"]["kernel"], old["logits"]["kernel"])
    every = checks.drawn_anew(network, (), 0)["params"]
    assert not np.array_equal(every["conv1"]["kernel"], old["conv1"]["kernel"])


def test_units_are_excited_by_what_they_answer_to(planted):
    network, x, y, _ = planted
    features = np.maximum(units.outputs(network, x), 0).max((1, 2))
    of_white = int(np.argmax(features[y == 1].mean(0) - features[y != 1].mean(0)))
    indices, values = units.exciting(network, x, [of_white], 9)
    assert np.mean(y[indices[0]] == 1) > 0.8
    assert np.all(np.diff(values[0]) <= 0)
    made = units.maximised(network, of_white)
    strength = network.run.features(made[None], network.layer)[0, ..., of_white].mean()
    natural = network.run.features(x, network.layer)[..., of_white].mean((1, 2))
    assert strength > natural.max()
    with pytest.raises(UsageError, match="no 8"):
        units.check(network, [8])


def test_the_public_door_and_what_it_refuses(planted):
    network, x, _, _ = planted
    (one,) = cnn_jax.explain_images(network.run, x[:1], methods=["hirescam"], layer="conv1")
    assert one.maps["hirescam"].layer == "conv1"
    assert one.maps["hirescam"].values.shape == (SIDE, SIDE)
    for wrong, words in [
        ({"methods": ["hirescan"]}, "did you mean hirescam"),
        ({"label": "9"}, "no class '9'"),
        ({"label": "1", "against": "1"}, "both the class"),
        ({"layer": "conv9"}, "is no layer"),
        ({"layer": "logits"}, "is no feature map"),
    ]:
        with pytest.raises(UsageError, match=words):
            cnn_jax.explain_images(network.run, x[:1], **{"methods": ["hirescam"], **wrong})


def test_the_first_filters_are_drawn_where_there_are_some(tmp_path):
    assert presenting.save_filters(network_of(Flat(), 2), tmp_path / "filters.png")
    assert (tmp_path / "filters.png").stat().st_size > 1000
    assert not presenting.save_filters(network_of(Linear()), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
