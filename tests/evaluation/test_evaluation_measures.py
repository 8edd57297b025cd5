"""Metrics against scikit-learn, and intervals by simulation: 95 % of them hold the truth."""

import math

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics as reference

from cnn_jax.evaluation import intervals, measures, ranking

DRAWS = 2000


def made(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns (probabilities, labels) of an able classifier, with ties among the scores."""
    random = np.random.default_rng(seed)
    labels = random.choice(classes, n, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    logits = np.round(random.normal(size=(n, classes)), 1)
    logits[np.arange(n), labels] += 1.5
    p = np.exp(logits)
    return p / p.sum(axis=1, keepdims=True), labels


@pytest.mark.parametrize(("n", "classes"), [(300, 2), (300, 5), (40, 3)])
def test_the_values_are_those_of_scikit_learn(n, classes):
    p, labels = made(n, classes)
    said = p.argmax(axis=1)
    positive = 1 if classes == 2 else None
    names = [str(i) for i in range(classes)]
    found = measures.measure(p, labels, names, positive=positive, ordered=True)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, said))
    balanced = reference.balanced_accuracy_score(labels, said)
    assert found["balanced_accuracy"] == pytest.approx(balanced)
    assert found["macro_f1"] == pytest.approx(reference.f1_score(labels, said, average="macro"))
    kappa = reference.cohen_kappa_score(labels, said, weights="quadratic")
    assert found["quadratic_kappa"] == pytest.approx(kappa)
    scores = p[:, 1] if classes == 2 else p
    area = reference.roc_auc_score(labels, scores, multi_class="ovr")
    assert found["auc"] == pytest.approx(area)
    columns = [1] if classes == 2 else range(classes)
    average = [reference.average_precision_score(labels == c, p[:, c]) for c in columns]
    assert found["average_precision"] == pytest.approx(np.mean(average))
    of_classes = reference.precision_recall_fscore_support(labels, said)
    precision, recall, f1, support = (np.asarray(each) for each in of_classes)
    for i, record in enumerate(found["per_class"]):
        assert record["examples"] == support[i]
        assert record["precision"] == pytest.approx(precision[i])
        assert record["recall"] == pytest.approx(recall[i])
        assert record["f1"] == pytest.approx(f1[i])
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "auc", "average_precision"):
        low, high = found["intervals"][name]
        assert 0 <= low < found[name] < high <= 1


def test_what_has_no_value_is_none():
    p, labels = made(20, 3)
    labels[labels == 2] = 1
    p[:, 0] = 0  # never said
    found = measures.measure(p, labels, ["a", "b", "c"])
    a, _, c = found["per_class"]
    assert (a["precision"], a["intervals"]["precision"]) == (None, None)
    assert (a["recall"], a["f1"]) == (0, 0)
    assert (c["recall"], c["auc"], c["f1"]) == (None, None, None)
    assert found["macro_f1"] is not None
    one = measures.measure(p[:5], np.ones(5, int), ["a", "b", "c"])
    assert (one["auc"], one["intervals"]["auc"]) == (None, None)


def test_a_group_of_one_is_no_group():
    p, labels = made(60, 2)
    alone = measures.measure(p, labels, ["a", "b"], positive=1)
    each = measures.measure(
        p, labels, ["a", "b"], positive=1, groups=[f"{i:03}" for i in range(60)]
    )
    assert each.pop("groups") == 60
    assert each == alone
    twice = measures.measure(
        np.repeat(p, 2, 0), np.repeat(labels, 2), ["a", "b"], positive=1,
        groups=[f"{i:03}" for i in range(60) for _ in range(2)],
    )  # fmt: skip
    for name, interval in alone["intervals"].items():
        np.testing.assert_allclose(twice["intervals"][name], interval, atol=0.02)
    doubled = measures.measure(np.repeat(p, 2, 0), np.repeat(labels, 2), ["a", "b"], positive=1)
    width = {k: np.diff(v["intervals"]["accuracy"])[0] for k, v in (("d", doubled), ("t", twice))}
    assert width["d"] < 0.8 * width["t"]


def test_delong_is_the_variance_of_the_definition():
    """Against the structural components, pair by pair (DeLong et al. 1988, section 3)."""
    p, labels = made(50, 2)
    scores, positive = p[:, 1], labels == 1
    x, y = scores[positive], scores[~positive]
    above = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    variance = above.mean(1).var(ddof=1) / len(x) + above.mean(0).var(ddof=1) / len(y)
    expected = intervals.within_unit(float(above.mean()), float(variance), 1)
    found = ranking.auc_interval(scores, positive, np.arange(50))
    np.testing.assert_allclose(found or (), expected)


@pytest.mark.parametrize(("positives", "negatives"), [(30, 30), (12, 90)])
def test_the_interval_of_an_auc_covers(positives, negatives):
    random = np.random.default_rng(0)
    truth = scipy.stats.norm.cdf(1 / math.sqrt(2))
    positive = np.arange(positives + negatives) < positives
    own = np.arange(len(positive))
    draws = random.normal(size=(DRAWS, len(own))) + positive
    ends = np.array([ranking.auc_interval(scores, positive, own) or (1, 0) for scores in draws])
    assert 0.93 < np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])) < 0.97


def test_the_interval_of_an_auc_of_patients_covers_and_that_of_images_does_not():
    random = np.random.default_rng(0)
    truth = scipy.stats.norm.cdf(1.2 / math.sqrt(2))
    groups = np.repeat(np.arange(60), 3)
    covered = np.zeros(2)
    for _ in range(DRAWS):
        sick = np.repeat(random.random(60) < 0.4, 3)
        shared = np.repeat(random.normal(size=60), 3)
        scores = 1.2 * sick + 0.8 * shared + 0.6 * random.normal(size=180)
        for i, own in enumerate((groups, np.arange(180))):
            low, high = ranking.auc_interval(scores, sick, own) or (1.0, 0.0)
            covered[i] += low <= truth <= high
    assert 0.93 < covered[0] / DRAWS < 0.97
    assert covered[1] / DRAWS < 0.9


@pytest.mark.parametrize(
    ("patients", "images", "truth"), [(80, 3, 0.8), (60, 4, 0.9), (150, 1, 0.7)]
)
def test_the_interval_of_a_proportion_covers(patients, images, truth):
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(patients), images)
    covered = 0
    for _ in range(DRAWS):
        own = random.beta(4 * truth, 4 * (1 - truth), patients) if images > 1 else truth
        hits = (random.random((patients, images)) < np.reshape(own, (-1, 1))).ravel()
        low, high = intervals.proportion(hits, groups) or (1.0, 0.0)
        covered += low <= truth <= high
    assert 0.93 < covered / DRAWS < 0.97


def test_the_intervals_that_are_resampled_cover():
    random = np.random.default_rng(0)
    confusion = np.array([[0.42, 0.06, 0.02], [0.05, 0.2, 0.05], [0.02, 0.04, 0.14]])
    cells = confusion.ravel()
    recall = np.diag(confusion) / confusion.sum(1)
    f1 = 2 * np.diag(confusion) / (confusion.sum(1) + confusion.sum(0))
    far = (np.arange(3)[:, None] - np.arange(3)) ** 2
    chance = (np.outer(confusion.sum(1), confusion.sum(0)) * far).sum()
    truth = [recall.mean(), f1.mean(), 1 - (confusion * far).sum() / chance, *f1]
    covered, draws = np.zeros(len(truth)), 400
    for _ in range(draws):
        cell = random.choice(9, size=150, p=cells)
        labels, said = cell // 3, cell % 3
        counted, own = measures.Counts(labels, said, 3, ordered=True), np.arange(150)
        values = counted(np.ones((1, 150)))[0]
        variances = intervals.bootstrap_variances(counted, own)
        for i, t in enumerate(truth):
            low, high = measures.interval(values[i], variances[i], own, i == 2) or (1.0, 0.0)
            covered[i] += low <= t <= high
    assert (covered / draws > 0.92).all(), covered / draws
    assert (covered / draws < 0.98).all(), covered / draws


def test_wilson_is_the_one_of_the_books():
    # Agresti and Coull 1998 quote (0, 0.278) for 0 of 10.
    np.testing.assert_allclose(intervals.wilson(0, 10), (0, 0.2775), atol=1e-4)
    np.testing.assert_allclose(intervals.wilson(81, 263), (0.2553, 0.3662), atol=1e-4)
