"""Sets, p-values and drift: the laws that they are said to have, by simulation."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
from sklearn.covariance import LedoitWolf

from cnn_jax.trust import calibration, drift, ensembles, outputs, sets, strangers
from tests.trust import simulated


def probabilities(random: np.random.Generator, n: int, classes: int = 4):
    logits, labels = simulated.logits(random, n, classes)
    return np.exp(calibration.log_softmax(logits)), labels


def test_the_quantile_is_an_order_statistic_by_exact_fractions():
    for n in range(1, 120):
        for alpha in (0.1, 0.05, 0.01, 0.3):
            k = math.ceil((n + 1) * (1 - Fraction(str(alpha))))
            scores = np.random.default_rng(n).permutation(n).astype(float)
            expected = float(k - 1) if k <= n else math.inf
            assert sets.quantile(scores, alpha) == expected
    assert sets.rank(999, 0.1) == 900  # in floats 1000 * (1 - 0.1) is less than 900.0000001


@pytest.mark.parametrize("method", ["lac", "raps"])
def test_sets_cover_as_promised(method):
    draws, n, alpha = 200, 60, 0.1
    random = np.random.default_rng(0)
    p, labels = probabilities(random, 4000)
    uniform = random.random(4000)
    covered = []
    for _ in range(draws):
        chosen = random.choice(4000, n, replace=False)
        made = sets.fit(method, p[chosen], labels[chosen], alpha, uniform=uniform[chosen])
        covered.append(made(p, uniform)[np.arange(4000), labels].mean())
    law = scipy.stats.beta(n + 1 - 6, 6)
    assert np.mean(covered) == pytest.approx(law.mean(), abs=4 * law.std() / math.sqrt(draws))
    assert scipy.stats.kstest(covered, law.cdf).pvalue > 1e-4
    low, high = sets.coverage_law(n, alpha)
    assert (low, high) == pytest.approx((law.ppf(0.05), law.ppf(0.95)))


def test_within_each_class_sets_cover_too():
    random = np.random.default_rng(1)
    p, labels = probabilities(random, 40_000, 3)
    p = p * [1.0, 0.4, 0.1]  # a network that hardly believes in the last class
    p /= p.sum(axis=1, keepdims=True)
    half = np.arange(40_000) < 20_000
    marginal = sets.fit("lac", p[half], labels[half], 0.1)
    own = sets.fit("lac", p[half], labels[half], 0.1, class_conditional=True)
    worst = sets.measure(marginal(p[~half]), labels[~half])["per_class"]
    assert min(worst) < 0.85
    found = sets.measure(own(p[~half]), labels[~half])
    assert found["per_class"] == pytest.approx([0.9] * 3, abs=0.015)
    assert sum(found["sizes"]) == 20_000
    total = sum(count * cover for count, cover in found["per_size"].values())
    assert total / 20_000 == pytest.approx(found["coverage"])


@pytest.mark.parametrize("conditional", [False, True])
def test_sets_are_those_of_crepes(conditional):
    crepes = pytest.importorskip("crepes", reason="a reference that need not be there")
    random = np.random.default_rng(8)
    logits, labels = simulated.logits(random, 700, 4)
    p = np.exp(calibration.log_softmax(logits))
    known = labels[:400]
    own, new = sets.lac(p[:400])[np.arange(400), known], sets.lac(p[400:])
    columns = []
    for k in range(4):
        theirs = crepes.ConformalClassifier().fit(own[known == k] if conditional else own)
        # It keeps a class with a p-value of exactly 0.1, for which the promise does not ask.
        columns.append(theirs.predict_set(new[:, [k]], confidence=0.9 - 1e-9, smoothing=False))
    made = sets.fit("lac", p[:400], known, 0.1, class_conditional=conditional)
    assert np.array_equal(made(p[400:]), np.concatenate(columns, axis=1).astype(bool))


def test_too_few_images_make_a_set_of_every_class():
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    made = sets.fit("lac", p, np.array([0, 0, 1]), 0.1)
    assert np.isinf(made.quantiles).all()
    assert made(p).all()
    assert sets.Sets.from_dict(made.to_dict())(p).all()
    assert sets.coverage_law(3, 0.1) == (1, 1)


def test_uniforms_are_a_function_of_the_logits():
    random = np.random.default_rng(8)
    logits = np.round(random.normal(size=(2000, 3)), 2)
    found = sets.uniforms(logits)
    assert scipy.stats.kstest(found, "uniform").pvalue > 1e-4
    assert (sets.uniforms(logits[::-1] + 1e-6) == found[::-1]).all()


def test_p_values_of_ordinary_images_are_no_smaller_than_uniform():
    random = np.random.default_rng(2)
    hits = np.zeros(4)
    alphas = np.array([0.01, 0.05, 0.1, 0.5])
    for _ in range(300):
        p = strangers.p_values(random.normal(size=199), random.normal(size=50))
        hits += (p[:, None] <= alphas).mean(axis=0) / 300
    assert (hits <= alphas + 4 * np.sqrt(alphas * (1 - alphas) / 300 / 20)).all()
    assert strangers.p_values(np.array([1.0, 2.0, 3.0]), np.array([0.0, 2.0, 9.0])).tolist() == [
        1.0,
        0.75,
        0.25,
    ]
    assert strangers.least_images(0.01) == 99


def test_distances_are_those_to_the_kth_neighbour_on_the_sphere():
    random = np.random.default_rng(3)
    train, new = random.normal(size=(300, 8)), random.normal(size=(40, 8)) * 50
    bank = strangers.Bank.of(train)
    assert bank.neighbours == 6
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, new)]
    every = np.linalg.norm(unit[1][:, None] - unit[0][None], axis=2)
    assert bank.distances(new) == pytest.approx(np.sort(every, axis=1)[:, 5], abs=2e-3)
    blank = bank.distances(np.zeros((2, 8)))  # has no direction
    assert blank == pytest.approx([math.sqrt(2)] * 2)


def test_the_distance_of_mahalanobis_is_that_of_scikit_learn():
    random = np.random.default_rng(5)
    known = random.normal(size=(200, 6)) @ random.normal(size=(6, 6)) + 3
    new = random.normal(size=(50, 6)) * 4
    bank = strangers.Bank.of(known, known)
    assert bank.surprise(new) == pytest.approx(LedoitWolf().fit(known).mahalanobis(new), rel=1e-3)
    for n in (1000, 30, 4):
        away = random.normal(size=(n, 6)) @ random.normal(size=(6, 6))
        expected = LedoitWolf(assume_centered=True).fit(away).covariance_
        np.testing.assert_allclose(strangers.shrunk_covariance(away), expected, rtol=1e-9)
    few = random.normal(size=(5, 40))  # fewer images than channels
    assert np.isfinite(strangers.Bank.of(few, few).surprise(few * 9)).all()
    assert strangers.Bank.of(few, np.ones((5, 3))).middle is None  # says nothing


def test_strange_features_are_noticed_and_false_alarms_are_held():
    random = np.random.default_rng(4)
    centres = random.normal(size=(5, 16)) * 3

    def ordinary(n):
        return centres[random.integers(5, size=n)] + random.normal(size=(n, 16))

    bank = strangers.Bank.of(ordinary(1000))
    held = bank.distances(ordinary(999))
    known, foreign = bank.distances(ordinary(4000)), bank.distances(random.normal(size=(500, 16)))
    assert (strangers.p_values(held, known) <= 0.01).mean() < 0.02
    assert (strangers.p_values(held, foreign) <= 0.01).mean() > 0.5
    area, share = strangers.detection(known, foreign, 0.05)
    assert area > 0.95
    assert share > 0.8


def test_drift_is_found_where_there_is_one_and_rarely_where_there_is_none():
    random = np.random.default_rng(5)
    alarms = 0
    for _ in range(100):
        old, new = ({k: random.normal(size=200) for k in "abc"} for _ in range(2))
        alarms += any(test.rejects for test in drift.compare(old, new).values())
    assert simulated.is_at_most(alarms, 100, 0.05)
    features = random.normal(size=(400, 6)) * [5, 3, 1, 1, 1, 1]
    first, second = drift.components(features, features + np.eye(6)[0] * 2)
    found = drift.compare(first, second)
    assert [name for name, test in found.items() if test.rejects] == ["component 1"]
    assert drift.holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])


def test_the_expected_accuracy_follows_a_change_of_the_mixture():
    random = np.random.default_rng(6)

    def some(n, sure):
        scores = np.where(random.random(n) < sure, 0.9, 0.5) + random.random(n) / 100
        return scores, random.random(n) < np.where(scores > 0.8, 1.0, 0.0)

    scores, right = some(4000, 0.8)
    assert drift.expected_accuracy(scores, right, scores) == pytest.approx(right.mean())
    new, truth = some(4000, 0.4)
    assert drift.expected_accuracy(scores, right, new) == pytest.approx(truth.mean(), abs=0.02)
    assert drift.expected_accuracy(scores, np.zeros(4000, bool), new) == 0


def test_members_are_averaged_in_probability():
    random = np.random.default_rng(7)
    members = [random.normal(size=(5, 3)) * 4 for _ in range(3)]
    mean = np.mean([np.exp(calibration.log_softmax(z)) for z in members], axis=0)
    assert np.exp(ensembles.mean_probabilities(members)) == pytest.approx(mean)


def test_one_image_of_each_group_is_independent_of_the_order():
    n = 40
    made = outputs.Outputs(
        np.zeros((n, 2)),
        np.zeros((n, 3), np.float32),
        np.arange(n),
        [f"image {i}" for i in range(n)],
        [f"patient {i // 4}" for i in range(n)],
    )
    chosen = made.one_a_group()
    assert made.units == len(chosen) == len(set(chosen.groups or [])) == 10
    turned = made.take(np.arange(n)[::-1]).one_a_group()
    assert sorted(turned.ids) == sorted(chosen.ids)
    single = outputs.of_all_classes(np.array([[2.0], [-1.0]]))
    assert single.tolist() == [[0, 2], [0, -1]]
