"""Labels that networks doubt which never saw them; the counts of confident learning."""

import csv
import json

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

import cnn_jax
from cnn_jax.data import Split, from_arrays
from cnn_jax.errors import RunError, UsageError
from cnn_jax.inspection import confident, label_errors, out_of_fold
from cnn_jax.inspection.out_of_fold import shortened

RNG = np.random.default_rng(0)


def noisy(n, classes, share=0.1):
    """Returns (labels, true classes, probabilities) of a good network and labels with noise."""
    logits = RNG.normal(size=(n, classes))
    true = RNG.integers(classes, size=n)
    logits[np.arange(n), true] += 3
    labels = np.where(RNG.random(n) < share, RNG.integers(classes, size=n), true)
    p = np.exp(logits)
    return labels, true, (p / p.sum(axis=1, keepdims=True)).astype(np.float32)


def test_the_joint_is_counted_as_the_paper_says():
    labels, _, p = noisy(400, 5)
    threshold = [np.mean([p[i, c] for i in range(400) if labels[i] == c]) for c in range(5)]
    joint = np.zeros((5, 5), int)
    for i in range(400):
        reached = [c for c in range(5) if p[i, c] >= threshold[c]]
        if reached:
            joint[labels[i], max(reached, key=lambda c, i=i: p[i, c])] += 1
    np.testing.assert_array_equal(confident.confident_joint(labels, p), joint)
    expected = joint / joint.sum(axis=1, keepdims=True) * np.bincount(labels)[:, None] / 400
    np.testing.assert_allclose(confident.estimated_joint(labels, p), expected)


def test_a_class_without_an_example_is_no_ones():
    labels, _, p = noisy(200, 3)
    p = np.concatenate([p, np.full((200, 1), 0.9, np.float32)], axis=1)
    assert not (confident.confident_classes(labels, p) == 3).any()
    assert confident.estimated_joint(labels, p).sum() == pytest.approx(1)


def test_what_is_wrong_is_doubted_and_ranked_first():
    labels, true, p = noisy(5000, 4)
    split = Split(np.zeros((5000, 2, 2, 1), np.uint8), labels, list(map(str, range(5000))))
    found = label_errors.ranked(split, tuple("abcd"), p, "retrain", 4)
    wrong = labels != true
    assert wrong[found.order[: wrong.sum()]].mean() > 0.75
    assert wrong[found.doubted].mean() > 0.6
    assert found.share == pytest.approx(wrong.mean(), abs=0.05)
    first = found.rows(1)[0]
    assert first[0] == str(found.order[0])
    assert first[2] == "abcd"[p[found.order[0]].argmax()]


@pytest.fixture(scope="module")
def run(digits):
    """A network of one hidden layer, for a few epochs on digits of which some are mislabelled."""
    train, validation = digits.train, digits.validation
    labels = np.array(train.labels)
    labels[:12] = (labels[:12] + 3) % 10
    data = from_arrays(
        np.array(train.images), labels, validation=(np.array(validation.images), validation.labels)
    )
    return cnn_jax.train(data, model="mlp", epochs=12, batch_size=16, learning_rate=1e-3)


def test_retrained_networks_and_heads_find_mislabelled_digits(run, tmp_path):
    said = []
    found = cnn_jax.find_label_errors(run, folds=2, say=said.append)
    assert (found.method, found.folds) == ("retrain", 2)
    assert len(said) == 2
    wrong = {str(i) for i in range(12)}
    assert len(wrong & {row[0] for row in found.rows(24)}) >= 9
    assert repr(found).endswith("out of 2 folds>")
    heads = cnn_jax.find_label_errors(run, folds=3, method="heads")
    assert heads.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-4)

    table, summary, picture = found.save(tmp_path / "out")
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.split)
    assert [row["id"] for row in rows[:5]] == [row[0] for row in found.rows(5)]
    assert json.loads(summary.read_text())["doubted"] == sum(int(r["doubted"]) for r in rows)
    assert picture.stat().st_size > 10_000


def test_no_example_is_predicted_by_a_network_that_saw_it(run, monkeypatch):
    data = cnn_jax.Data(run.data_info, {n: run.split(n) for n in ("train", "validation")})
    fold_of = out_of_fold.assign(data, 3, "folds")
    seen, asked = [], []

    class Trained:
        def predict(self, images):
            asked.append(images)
            return type("P", (), {"probabilities": np.full((len(images), 10), 0.1, np.float32)})

    def train(config, data, **_):
        del config
        seen.append(data.train)
        return Trained()

    monkeypatch.setattr(out_of_fold.start, "train", train)
    out_of_fold.by_retraining(run.experiment, data, fold_of, lambda _: None)
    assert sum(map(len, asked)) == len(data.train)
    for fold, (split, images) in enumerate(zip(seen, asked, strict=True)):
        assert set(split.ids).isdisjoint(np.array(data.train.ids)[fold_of == fold])
        np.testing.assert_array_equal(images, data.train.images[fold_of == fold])


@pytest.mark.parametrize("classes", [2, 5])
def test_heads_are_logistic_regression_as_scikit_learn_fits_it(classes):
    random = np.random.default_rng(0)
    features = random.normal(size=(300, 20)).astype(np.float32)
    noise = 3 * random.gumbel(size=(300, classes))
    labels = (features @ random.normal(size=(20, classes)) + noise).argmax(axis=1)
    for penalty in (1.0, 100.0):
        weights, bias = out_of_fold.logistic_regression(features, labels, penalty)
        reference = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=2000)
        expected = reference.fit(features.astype(np.float64), labels).predict_proba(features)
        np.testing.assert_allclose(softmax(features @ weights + bias, axis=1), expected, atol=1e-3)


def test_fewer_epochs_may_be_trained():
    config = cnn_jax.Experiment()
    assert shortened(config, 3).train.epochs == 3
    assert shortened(config, None) == config


def test_mistakes_are_one_line(run):
    with pytest.raises(UsageError, match="method is one of auto, retrain, heads"):
        cnn_jax.find_label_errors(run, method="guess")
    with pytest.raises(RunError, match="folds=400"):
        cnn_jax.find_label_errors(run, folds=400)


def test_the_command_lists_the_labels_of_a_run(main, finished, tmp_path, capsys):
    flags = ("--data.folds=2", "--data.method=heads", "--quiet")
    assert main("data", f"--workdir={finished}", *flags) == 0
    said = capsys.readouterr().out
    assert "training labels are doubted" in said
    assert (finished / "label_errors/label_errors.csv").exists()
    assert main("data", f"--workdir={finished}", "--data.folds=1") == 2
    assert main("data", "--config=digits_lenet", "--data.folds=3") == 2
    assert "--data.folds needs --workdir=RUN" in capsys.readouterr().err
    assert main("data", f"--workdir={tmp_path / 'none'}") == 2


def test_heads_are_taken_where_no_stage_was_trained(digits):
    config = cnn_jax.Experiment().replace({"dataset.name": "digits", "model.name": "resnet20"})
    assert not out_of_fold.backbone_is_frozen(config, digits)
    frozen = config.replace({"transfer.freeze": "backbone"})
    assert out_of_fold.backbone_is_frozen(frozen, digits)
