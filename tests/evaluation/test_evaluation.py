"""Losses and metrics against NumPy, and the loop over a split."""

import csv
import json
import shutil
import types
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

import cnn_jax
from cnn_jax import data, distributed, experiment, losses
from cnn_jax.assembly import assemble
from cnn_jax.data import batches
from cnn_jax.data.feeding import Feed
from cnn_jax.errors import UsageError
from cnn_jax.evaluation import metrics, two_classes
from cnn_jax.evaluation.embedding import embed, inside, make_step
from cnn_jax.evaluation.evaluator import Evaluator
from cnn_jax.models.airbench import AirbenchHead
from cnn_jax.models.classifier import Classifier
from cnn_jax.models.own import adapt
from cnn_jax.training.plan import make_plan
from cnn_jax.training.state import initial_state


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 4, (9, 5)).astype(np.float32)


LABELS = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3], np.int32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_is_optaxs(logits, smoothing):
    targets = optax.smooth_labels(jax.nn.one_hot(LABELS, 5), smoothing)
    want = optax.softmax_cross_entropy(logits, targets)
    got = losses.cross_entropy(jnp.asarray(logits), jnp.asarray(LABELS), smoothing)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_binary_cross_entropy_is_its_definition(logits):
    one, labels = logits[:, :1], LABELS % 2
    p = 1 / (1 + np.exp(-one[:, 0].astype(np.float64)))
    want = -np.where(labels == 1, np.log(p), np.log(1 - p))
    got = losses.binary_cross_entropy(jnp.asarray(one), jnp.asarray(labels))
    np.testing.assert_allclose(got, want, rtol=1e-5)
    q = metrics.probabilities(jnp.asarray(one))
    np.testing.assert_allclose(q, np.stack([1 - p, p], axis=1), atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_focal_loss_is_its_definition(logits, gamma):
    p = np.asarray(jax.nn.softmax(logits.astype(np.float64)))[np.arange(9), LABELS]
    got = losses.find("focal", gamma)(jnp.asarray(logits), jnp.asarray(LABELS))
    np.testing.assert_allclose(got, -((1 - p) ** gamma) * np.log(p), rtol=1e-4)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
def test_a_loss_of_shares_is_the_mean_over_the_classes(logits, loss):
    of, x = losses.find(loss), jnp.asarray(logits)
    first, second = (of(x, jnp.asarray((LABELS + i) % 5)) for i in (0, 1))
    shares = 0.25 * jax.nn.one_hot(LABELS, 5) + 0.75 * jax.nn.one_hot((LABELS + 1) % 5, 5)
    np.testing.assert_allclose(of(x, shares), 0.25 * first + 0.75 * second, rtol=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "focal"])
def test_losses_of_very_sure_logits_are_finite(loss):
    columns = 1 if loss == "binary_cross_entropy" else 2
    for value in (1e4, -1e4):
        logits = jnp.array([[value, -value][:columns]], jnp.float32)
        for label in (0, 1):
            found, slope = jax.value_and_grad(
                lambda x, label=label: losses.find(loss)(x, jnp.array([label]))[0]
            )(logits)
            assert np.isfinite(found)
            assert np.isfinite(slope).all()


def test_sums_leave_out_weight_zero_and_add_up(logits):
    weights = np.array([1, 1, 1, 1, 1, 1, 0, 0, 0], np.float32)
    batch = batches.Batch(None, jnp.asarray(LABELS), jnp.asarray(weights))
    values = jnp.arange(9, dtype=jnp.float32)
    sums = metrics.batch_sums(values, jnp.asarray(logits), batch)
    right = (logits.argmax(axis=1) == LABELS)[:6].sum()
    assert (float(sums.loss), float(sums.correct), float(sums.examples)) == (15, right, 6)
    both = metrics.Sums.zero().add(sums).add(sums).means()
    assert both == {"loss": 2.5, "accuracy": pytest.approx(right / 6)}
    assert metrics.Sums.zero().means() == {"loss": 0, "accuracy": 0}


def prepare(info, **changes):
    config = experiment.Experiment(model=experiment.Model(name="mlp"))
    config = experiment.replace(config, {k.replace("__", "."): v for k, v in changes.items()})
    assembly = assemble(config, info)
    mesh = distributed.make_mesh()
    plan = make_plan(config, assembly, 100)
    state = initial_state(plan, config.seed, distributed.replicated(mesh))
    return config, assembly, state.variables(), mesh


@pytest.mark.parametrize(("size", "limit"), [(100, 2.0), (360, 2.0), (1000, 2.0), (77, 0.0)])
def test_every_example_counts_once_whatever_the_batches(digits, size, limit):
    split = digits.splits["test"]
    config, assembly, variables, mesh = prepare(digits.info, dataset__eval_batch_size=size)
    evaluate = Evaluator(assembly, config.dataset.eval_batch_size, mesh)
    found = evaluate(variables, Feed(split, mesh, limit))
    logits = assembly.model.apply(variables, assembly.preprocess(jnp.asarray(split.images), None))
    logits = np.asarray(logits)
    predicted = logits.argmax(axis=1)
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (split.labels, predicted), 1)
    assert found.examples == 360
    np.testing.assert_array_equal(found.confusion, confusion)
    assert found.accuracy == pytest.approx(np.mean(predicted == split.labels))
    want = optax.softmax_cross_entropy_with_integer_labels(logits, split.labels)
    assert found.loss == pytest.approx(float(np.mean(want)), rel=1e-5)
    np.testing.assert_allclose(found.probabilities, jax.nn.softmax(logits), atol=1e-6)


def test_two_classes_from_one_logit(digits):
    split = digits.splits["test"]
    keep = np.flatnonzero(split.labels < 2)
    two = data.Split(split.images[keep], split.labels[keep], [split.ids[i] for i in keep])
    info = digits.info
    info = type(info)(**{**vars(info), "class_names": ("0", "1")})
    config, assembly, variables, mesh = prepare(
        info, train__loss="binary_cross_entropy", dataset__eval_batch_size=50
    )
    evaluate = Evaluator(assembly, config.dataset.eval_batch_size, mesh)
    found = evaluate(variables, Feed(two, mesh, 1.0))
    assert found.examples == len(keep)
    assert found.confusion.shape == (2, 2)
    assert found.probabilities.shape == (len(keep), 2)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-6)
    p = found.probabilities[np.arange(len(keep)), two.labels]
    assert found.loss == pytest.approx(float(-np.log(p).mean()), rel=1e-4)
    assert found.accuracy == pytest.approx((p > 0.5).mean())


def test_the_positive_class_is_named_or_the_second():
    confusion = np.array([[8, 2], [3, 1]])
    assert two_classes.positive_class(None, ("a", "b")) == 1
    assert two_classes.positive_class("a", ("a", "b")) == 0
    assert two_classes.positive_class(None, ("a", "b", "c")) is None
    labels, said = np.repeat([0, 0, 1, 1], confusion.ravel()), np.repeat([0, 1, 0, 1], [8, 2, 3, 1])
    found = two_classes.rates(said == 1, labels == 1)
    assert [found[name] for name in two_classes.RATES] == [1 / 4, 8 / 10, 1 / 3, 8 / 11]
    found = two_classes.rates(said == 0, labels == 0)
    assert [found[name] for name in two_classes.RATES] == [8 / 10, 1 / 4, 8 / 11, 1 / 3]
    found = two_classes.rates(said[:10] == 1, labels[:10] == 1)
    assert (found["sensitivity"], found["rate_intervals"]["sensitivity"]) == (None, None)
    with pytest.raises(
        UsageError, match=r"dataset\.positive=c is no class; the classes are a and b"
    ):
        two_classes.positive_class("c", ("a", "b"))
    with pytest.raises(UsageError, match="is for two classes, and there are 3"):
        two_classes.positive_class("a", ("a", "b", "c"))


@pytest.mark.parametrize("rate", ["sensitivity", "specificity"])
@pytest.mark.parametrize("least", [0.5, 0.8, 0.9, 0.99])
def test_a_threshold_reaches_its_rate_and_no_more(rate, least):
    """Against all thresholds there are: none that reaches the rate has more of the other one."""
    random = np.random.default_rng(1)
    scores = np.round(random.random(200), 2)
    ill = random.random(200) < scores
    found = two_classes.threshold(scores, ill, rate, least)
    other = {"sensitivity": "specificity", "specificity": "sensitivity"}[rate]
    rates = two_classes.rates(scores >= found, ill)
    assert rates[rate] >= least
    every = [two_classes.rates(scores >= t, ill) for t in [*np.unique(scores), 2.0]]
    assert rates[other] == max(each[other] for each in every if each[rate] >= least)


def test_the_positive_class_is_printed_and_stored(main, tmp_path, capsys):
    generator = np.random.default_rng(0)
    for label, light in (("healthy", 0), ("ill", 128)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(20):
            pixels = generator.integers(light, light + 128, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    data = ("--dataset.name=folder", "--dataset.path=photos", "--dataset.image_size=8")
    train = ("--model.name=mlp", "--train.loss=binary_cross_entropy", "--train.epochs=1")
    none = ("--logging.projector_images=0", "--logging.figures_every=none")
    assert main("train", "--workdir=run", *data, *train, *none, "--dataset.positive=healthy") == 0
    assert "positive   healthy (--dataset.positive)" in capsys.readouterr().out
    assert main("evaluate", "--workdir=run") == 0
    record = json.loads((tmp_path / "run" / "result.json").read_text())["evaluation"]["test"]
    assert record["positive"] == "healthy"
    sensitivity, specificity = record["per_class_accuracy"]
    assert (record["sensitivity"], record["specificity"]) == (sensitivity, specificity)
    out = capsys.readouterr().out
    assert f"positive   healthy (--dataset.positive): sensitivity {sensitivity:.4f} (" in out
    rows = list(csv.DictReader((tmp_path / "run/predictions_test.csv").read_text().splitlines()))
    assert len(rows) == record["examples"]
    assert np.mean([row["label"] == row["predicted"] for row in rows]) == record["accuracy"]
    assert {float(row["p_healthy"]) > 0.5 for row in rows if row["predicted"] == "healthy"} <= {
        True
    }
    rule = "sensitivity:0.9"
    assert main("evaluate", "--workdir=run", f"--operating_point={rule}") == 0
    assert f" by {rule} of 4 validation images: sensitivity " in capsys.readouterr().out
    point = json.loads((tmp_path / "run" / "result.json").read_text())["evaluation"]["test"]
    assert point["operating_point"]["chosen_by"] == 4
    figures = {path.stem for path in (tmp_path / "run" / "figures").glob("test_*.png")}
    assert {"test_roc", "test_operating_point_confusion_matrix"} <= figures
    matrix = np.array(point["operating_point"]["confusion_matrix"])
    assert matrix[0, 0] / matrix[0].sum() == point["operating_point"]["sensitivity"]
    assert ("test_worst" in figures) == (record["accuracy"] < 1)
    assert main("evaluate", "--workdir=run", "--operating_point=recall:2") == 2
    assert "give sensitivity:0.95" in capsys.readouterr().err
    assert main("train", "--workdir=other", *data, *train, "--dataset.positive=sick") == 2
    assert "the classes are healthy and ill" in capsys.readouterr().err

    # Images that were trained on are told where the training data are there.
    (tmp_path / "mine" / "ill").mkdir(parents=True)
    for i in range(20):
        shutil.copy(tmp_path / "photos" / "ill" / f"{i}.png", tmp_path / "mine" / "ill")
    capsys.readouterr()
    given = ("--dataset.name=folder", "--dataset.path=mine", "--dataset.label=none")
    assert main("evaluate", "--workdir=run", *given, "--evaluate.worst=0") == 0
    out = capsys.readouterr().out
    ill = sum(each.startswith("ill/") for each in cnn_jax.load("run").split("train").ids)
    assert f"{ill} images of them were trained on: ill/" in out
    assert "surest" not in out
    assert main("evaluate", "--workdir=run", "--evaluate.worst=many") == 2
    assert "--worst is a number from 0 to 100" in capsys.readouterr().err

    # Images from elsewhere, of one class alone, where the training data are gone.
    own = [np.asarray(Image.open(tmp_path / "photos" / "ill" / f"{i}.png")) for i in range(20)]
    (tmp_path / "photos").rename(tmp_path / "gone")
    (tmp_path / "else where" / "ill").mkdir(parents=True)
    for i, pixels in enumerate(own[:6]):
        Image.fromarray(255 - pixels // 2).save(tmp_path / "else where" / "ill" / f"{i}.png")
    capsys.readouterr()
    assert main("evaluate", "--workdir=run", "--dataset.path=else where") == 0
    out = capsys.readouterr().out
    assert "not the data of training: 6 images of" in out
    assert "the data of training are not here" in out
    assert "outside_else_where accuracy" in out
    records = json.loads((tmp_path / "run" / "result.json").read_text())["evaluation"]
    assert (records["outside_else_where"]["examples"], len(records)) == (6, 3)
    predictions = cnn_jax.load(tmp_path / "run").predict(np.stack([255 - x // 2 for x in own[:6]]))
    assert np.mean(predictions.labels == 1) == records["outside_else_where"]["accuracy"]
    (tmp_path / "else where" / "ill").rename(tmp_path / "else where" / "i11")
    assert main("evaluate", "--workdir=run", "--dataset.path=else where") == 1
    assert "has the class 'i11', which the run does not know" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["resnet20", "mlp"])
def test_embeddings_are_what_the_head_gets_averaged_over_positions(digits, name):
    split = digits.splits["test"]
    config, assembly, variables, mesh = prepare(
        digits.info, model__name=name, dataset__eval_batch_size=100
    )
    model = assembly.model
    sizes = {"batch_size": config.dataset.eval_batch_size, "resident_limit": 2.0}
    features, logits = embed(make_step(assembly, mesh), mesh, variables, split, **sizes)
    images = assembly.preprocess(jnp.asarray(split.images), None)

    @jax.jit
    def reference(variables, images):
        features = model.apply(variables, images, method=model.forward_features)
        return features, model.apply(variables, images)

    want, said = map(np.asarray, reference(variables, images))
    want = want.mean(axis=(1, 2)) if want.ndim == 4 else want
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, want, atol=1e-6)
    np.testing.assert_allclose(logits, said, atol=1e-5)


def test_features_before_the_logits_are_what_the_last_dense_layer_takes():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(6, (3, 3), name="conv")(x)).max(axis=(1, 2))
            return nn.Dense(4, name="out")(nn.Dense(5, name="hidden")(x))

    class Convolutional(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(4, (3, 3))(x).mean(axis=(1, 2))

    x = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))

    def features_of(module: Any) -> Any:
        model = adapt(module)
        variables = model.init(jax.random.key(1), x)
        assembly: Any = types.SimpleNamespace(model=model)
        return inside(assembly, variables, x), variables

    (logits, features, middle), variables = features_of(Own())
    assert (features.shape, middle.shape) == ((3, 5), (3, 6))
    out = variables["params"]["out"]
    np.testing.assert_allclose(features @ out["kernel"] + out["bias"], logits, atol=1e-6)
    (logits, features, middle), _ = features_of(Convolutional())
    np.testing.assert_array_equal(features, logits)
    np.testing.assert_allclose(middle, logits, atol=1e-6)

    class Nothing(nn.Module):
        def __call__(self, x, train=False):
            return x

    x = jax.random.normal(jax.random.key(0), (3, 3, 3, 8))
    (logits, features, middle), variables = features_of(Classifier(Nothing(), AirbenchHead(10)))
    assert middle.shape == (3, 0)
    np.testing.assert_array_equal(features, x.max(axis=(1, 2)))
    kernel = variables["params"]["head"]["logits"]["kernel"]
    np.testing.assert_allclose(features @ kernel / len(kernel), logits, atol=1e-5)
