"""The promise of abstention holds in simulation, and its numbers are those of SciPy."""

import math

import numpy as np
import pytest
import scipy.stats

from cnn_jax.trust import certificate, scores, selective
from tests.trust import simulated


def test_tests_and_bounds_are_exact():
    for n, k in [(1, 0), (72, 0), (299, 0), (500, 1), (1000, 4), (5000, 38)]:
        p = certificate.p_value(n, k, 0.01)
        assert p == pytest.approx(scipy.stats.binom.cdf(k, n, 0.01))
        bound = certificate.upper_bound(n, k, 0.05)
        exact = scipy.stats.binomtest(k, n, alternative="less").proportion_ci(0.95, "exact").high
        assert bound == pytest.approx(exact)
        assert (p <= 0.05) == (bound <= 0.01 + 1e-12)
    assert certificate.p_value(5, 5, 0.01) == 1
    assert certificate.upper_bound(0, 0, 0.05) == 1


def test_so_many_answers_without_an_error_are_needed():
    assert certificate.least_answers(0.01, 0.05) == 299
    assert certificate.least_answers(0.001, 0.05) == 2995
    assert certificate.least_answers(0.01, 0.05 / 6) == 477
    for n in (298, 299):
        assert (1 - 0.05 ** (1 / n) <= 0.01) == (n == 299)
    assert certificate.answers_needed(0.01, 0.05, 0.0) == 299
    assert certificate.answers_needed(0.01, 0.05, 0.01) is None
    needed = certificate.answers_needed(0.01, 0.05, 0.005)
    assert needed is not None
    assert certificate.p_value(needed, math.ceil(needed * 0.005), 0.01) <= 0.05


@pytest.mark.parametrize(("n", "max_error", "level"), [(1000, 0.05, 0.05), (300, 0.08, 0.2)])
def test_the_promise_holds_as_often_as_it_says(n, max_error, level):
    draws, violated, coverage = 300, 0, 0.0
    random = np.random.default_rng(0)
    for _ in range(draws):
        tune = simulated.drawn(random, n // 2)
        found = certificate.certify(*tune, *simulated.drawn(random, n), max_error, level)
        if found.threshold is not None:
            violated += simulated.true_risk(found.threshold) > max_error
            coverage += 1 - found.threshold
            assert found.bound <= max_error
    assert simulated.is_at_most(violated, draws, level)
    best = math.sqrt(3 * max_error / simulated.WORST)
    assert coverage / draws > 0.6 * best  # and it does answer


def test_choosing_among_networks_on_the_same_images_is_paid_for():
    """Of 20 equal networks the one with the fewest errors on the certifying images is taken."""
    random = np.random.default_rng(1)
    draws, paid, unpaid = 200, 0, 0
    for _ in range(draws):
        fields = [simulated.drawn(random, 400) for _ in range(20)]
        best = min(fields, key=lambda field: field[1].sum())
        tune = simulated.drawn(random, 400)
        for level, name in ((0.1 / 20, "paid"), (0.1, "unpaid")):
            found = certificate.certify(*tune, *best, 0.05, level)
            if found.threshold is not None and simulated.true_risk(found.threshold) > 0.05:
                paid, unpaid = paid + (name == "paid"), unpaid + (name == "unpaid")
    assert simulated.is_at_most(paid, draws, 0.1)
    assert not simulated.is_at_most(unpaid, draws, 0.1)  # without it the promise is broken


def test_costs_are_bounded_in_the_mean():
    random = np.random.default_rng(2)
    draws, violated, answered = 200, 0, 0
    for _ in range(draws):
        tune, tune_wrong = simulated.drawn(random, 500)
        sure, wrong = simulated.drawn(random, 1000)
        costs, tune_costs = (w * random.choice([0.2, 1.0], len(w)) for w in (wrong, tune_wrong))
        found = certificate.certify(tune, tune_costs, sure, costs, 0.03, 0.1, costs=True)
        if found.threshold is not None:
            answered += 1
            violated += 0.6 * simulated.true_risk(found.threshold) > 0.03
            assert found.bound <= 0.03 + 1e-9
    assert simulated.is_at_most(violated, draws, 0.1)
    assert answered > draws / 2
    assert certificate.cost_p_value(100, 0.0, 0.05) == pytest.approx(0.95**100)


def test_what_cannot_be_promised_is_not():
    random = np.random.default_rng(3)
    scores_, _ = simulated.drawn(random, 100)
    right, wrong = np.zeros(100, bool), np.ones(100, bool)
    few = certificate.certify(scores_, right, scores_, right, 0.01, 0.05)
    assert few.threshold is None
    assert few.bound == pytest.approx(1 - 0.05 ** (1 / few.answered))  # provable now
    assert few.needed == 299
    assert certificate.certify(scores_, wrong, scores_, wrong, 0.1, 0.05).threshold is None
    never = np.full(100, -np.inf)
    assert certificate.certify(never, right, scores_, right, 0.1, 0.05).threshold is None
    empty = np.zeros(0)
    assert certificate.certify(scores_, right, empty, empty, 0.1, 0.05).bound == 1
    equal = certificate.certify(np.ones(100), right, np.ones(100), right, 0.05, 0.05)
    assert (equal.threshold, equal.answered, equal.coverage) == (1.0, 100, 1.0)
    half = np.where(np.arange(100) < 50, 1.0, -np.inf)  # the others are never answered
    assert certificate.certify(half, right, half, right, 0.06, 0.05).coverage == 0.5


def test_the_areas_of_perfect_and_constant_scores_are_known():
    n, wrong = 2000, np.arange(2000) >= 1800
    perfect = selective.RiskCoverage.of(-wrong.astype(float), wrong)
    r = 0.1
    assert perfect.aurc == pytest.approx(r + (1 - r) * math.log(1 - r), abs=1e-3)
    assert perfect.excess_aurc == pytest.approx(0, abs=1e-12)
    assert perfect.augrc == pytest.approx(r**2 / 2, abs=1e-4)
    assert perfect.coverage_at(0.0) == pytest.approx(0.9)
    constant = selective.RiskCoverage.of(np.zeros(n), wrong)
    assert constant.aurc == pytest.approx(r)
    assert constant.augrc == pytest.approx(r / 2, rel=1e-3)
    random = np.random.default_rng(4)
    values = random.random(300)
    errors = random.random(300) < 0.3
    curve = selective.RiskCoverage.of(values, errors)
    running = np.cumsum(errors[np.argsort(-values)]) / np.arange(1, 301)
    assert curve.aurc == pytest.approx(running.mean())


def test_a_better_score_is_told_from_an_equal_one():
    random = np.random.default_rng(5)
    good, wrong = simulated.drawn(random, 2000)
    noise = random.random(2000)
    groups = np.arange(2000)
    assert selective.is_better(good, noise, wrong, groups)[0]
    assert not selective.is_better(noise, good, wrong, groups)[0]
    assert not selective.is_better(good + 1, good, wrong, groups)[0]


def test_scores_sort_what_is_sure_first_and_p_norm_ignores_the_scale():
    logits = np.array([[9.0, 0.0, 0.0], [2.0, 1.5, 0.0], [0.1, 0.0, 0.0]])
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    for name in scores.names(3):
        score = scores.by_name(name)
        values = score(logits, logs)
        if not name.startswith("p_norm"):
            assert (np.diff(values) < 0).all(), name
        else:
            assert values == pytest.approx(score(7 * logits, logs))
    two = np.stack([np.zeros(5), np.linspace(0.1, 5, 5)], axis=1)
    assert scores.p_norm(3)(two, two) == pytest.approx(np.full(5, 2 ** (-1 / 3)))
    assert "p_norm_2" not in scores.names(2)


def test_the_energy_of_one_output_does_not_depend_on_which_class_is_said():
    one = np.array([[0.0, 3.0], [0.0, -3.0], [0.0, 0.1]])
    first, second, near = scores.energy(one, one)
    assert first == pytest.approx(second)
    assert first > near + 0.5


def sgr(scores, wrong, most, level):
    """Returns the coverage of selection with guaranteed risk (Geifman & El-Yaniv 2017, Alg. 2)."""
    order = np.argsort(-scores)
    n = len(order)
    errors = np.cumsum(wrong[order])
    steps = math.ceil(math.log2(n))
    low, high, best = 1, n, 0
    for _ in range(steps):
        middle = (low + high) // 2
        if certificate.upper_bound(middle, int(errors[middle - 1]), level / steps) <= most:
            best, low = max(best, middle), middle + 1
        else:
            high = middle - 1
        if low > high:
            break
    return best / n


def test_it_answers_more_than_selection_with_guaranteed_risk():
    random = np.random.default_rng(6)
    ours, theirs = [], []
    for _ in range(60):
        tune, own = simulated.drawn(random, 2500), simulated.drawn(random, 5000)
        ours.append(certificate.certify(*tune, *own, 0.02, 0.05).coverage)
        theirs.append(sgr(*own, 0.02, 0.05))
    gain = np.array(ours) - np.array(theirs)
    assert gain.mean() > 2 * gain.std() / math.sqrt(len(gain))
