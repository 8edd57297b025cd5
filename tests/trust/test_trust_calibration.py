"""Temperature, vector scaling and calibration errors, against scikit-learn and by simulation."""

import numpy as np
import pytest
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression

from cnn_jax.trust import calibration, reliability
from tests.trust import simulated


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5])
def test_the_temperature_of_logits_that_were_scaled_is_their_scale(scale):
    logits, labels = simulated.logits(random(), 20_000, 5, scale)
    found = calibration.temperature(logits, labels)
    assert found.temperature == pytest.approx(scale, rel=0.03)
    p = np.exp(found(logits))
    expected = (p * logits).sum(axis=1).mean()
    own = logits[np.arange(len(labels)), labels].mean()
    assert expected == pytest.approx(own, abs=1e-10)  # the condition of the optimum


def test_the_temperature_is_that_of_a_search_over_all_of_them():
    logits, labels = simulated.logits(random(1), 300, 3, 1.7)
    found = calibration.temperature(logits, labels)
    values = np.exp(np.linspace(0, 1, 1001))
    losses = [calibration.nll(calibration.log_softmax(logits / t), labels) for t in values]
    assert found.temperature == pytest.approx(values[int(np.argmin(losses))], rel=1e-3)
    assert calibration.nll(found(logits), labels) <= min(losses)


def test_logits_of_any_size_have_a_temperature():
    logits, labels = simulated.logits(random(2), 500, 4, 1e3)
    assert calibration.temperature(logits, labels).temperature == pytest.approx(1000, rel=0.2)
    small = calibration.temperature(logits * 1e-5, labels)
    assert small.temperature == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("sign", [1, -1])
def test_where_the_likelihood_has_no_maximum_it_says_so(sign):
    labels = np.arange(60) % 3
    logits = sign * 5.0 * np.eye(3)[labels]
    found = calibration.temperature(logits, labels)
    assert found.temperature == 1
    assert ("every image is right" if sign > 0 else "less than chance") in found.note
    assert calibration.temperature(np.zeros((9, 3)), labels[:9]).temperature == 1


def test_vector_scaling_of_two_classes_is_logistic_regression():
    logits, labels = simulated.logits(random(3), 4000, 2, 2.0)
    logits[:, 1] += 1.5
    found = calibration.vector_scaling(logits, labels)
    z = (logits[:, 1] - logits[:, 0])[:, None]
    # Each class has a weight and an offset of its own: features (z0, z1), no penalty.
    expected = LogisticRegression(C=1e6).fit(logits, labels).predict_log_proba(logits)
    assert calibration.nll(found(logits), labels) == pytest.approx(
        calibration.nll(expected, labels), abs=2e-5
    )
    slope, intercept = calibration.calibration_line(logits, labels)
    line = LogisticRegression(C=1e6).fit(z, labels)
    assert slope == pytest.approx(line.coef_[0, 0], abs=5e-3)
    assert intercept == pytest.approx(line.intercept_[0], abs=2e-2)


def test_vector_scaling_is_chosen_where_an_offset_is_needed_and_not_else():
    logits, labels = simulated.logits(random(4), 1000, 2, 2.0)
    own = np.arange(1000)
    assert calibration.fit(logits, labels, own).kind == "temperature"
    logits[:, 1] += 2.0
    assert calibration.fit(logits, labels, own).kind == "vector"
    logits, labels = simulated.logits(random(5), 1000, 5)  # even classes: not even tried
    logits[:, 1] += 2.0
    assert calibration.fit(logits, labels, own).kind == "temperature"


def test_scores_are_those_of_scikit_learn_and_the_brier_score_is_the_sum_of_its_parts():
    logits, labels = simulated.logits(random(6), 400, 3, 1.5)
    logits = np.round(logits, 1)  # ties
    logs = calibration.log_softmax(logits)
    p = np.exp(logs)
    assert calibration.nll(logs, labels) == pytest.approx(reference.log_loss(labels, p))
    one_hot = np.eye(3)[labels]
    assert calibration.brier(p, labels) == pytest.approx(((p - one_hot) ** 2).sum(axis=1).mean())
    parts = calibration.brier_parts(p, labels)
    assert parts["brier"] == pytest.approx(calibration.brier(p, labels))
    total = parts["miscalibration"] - parts["discrimination"] + parts["uncertainty"]
    assert total == pytest.approx(parts["brier"], abs=1e-12)
    assert min(parts.values()) >= 0
    shares = np.bincount(labels) / 400
    assert parts["uncertainty"] == pytest.approx((shares * (1 - shares)).sum())


def test_bins_have_equal_mass_and_no_ties_are_split():
    values = random(7).random(300)
    assert np.bincount(reliability.equal_mass(values, 10)).tolist() == [30] * 10
    order = np.argsort(values)
    assert (np.diff(reliability.equal_mass(values, 10)[order]) >= 0).all()
    tied = np.repeat([0.2, 0.9, 1.0], [50, 20, 30])
    bins = reliability.equal_mass(tied, 15)
    assert len(np.unique(bins)) == 3
    assert all(len(set(bins[tied == v])) == 1 for v in (0.2, 0.9, 1.0))
    found = reliability.calibration_error(np.ones(5), np.ones(5, bool))
    assert (found.value, found.squared) == (0, 0)


def test_a_perfectly_calibrated_network_is_not_called_miscalibrated():
    rejected, values, chance = 0, [], []
    for seed in range(100):
        draw = random(seed)
        p = 0.5 + draw.random(400) / 2
        found = reliability.calibration_error(p, draw.random(400) < p, seed=seed)
        rejected += found.p_value <= 0.05
        values.append(found.value)
        chance.append(found.by_chance)
    assert simulated.is_at_most(rejected, 100, 0.05)
    # The value of perfect networks is far from 0, and the bias that it names is all of it.
    assert np.mean(values) > 0.03
    assert np.mean(values) == pytest.approx(np.mean(chance), abs=0.004)


def test_a_network_that_is_too_sure_is_found_out():
    draw = random(8)
    p = 0.5 + draw.random(2000) / 2
    found = reliability.calibration_error(p, draw.random(2000) < p - 0.06)
    assert found.p_value < 0.01
    assert found.excess == pytest.approx(0.06, abs=0.025)
    assert found.squared == pytest.approx(0.06, abs=0.025)
    rows = reliability.table(p, draw.random(2000) < p, np.arange(2000))
    inside = sum(row["low"] <= row["confidence"] <= row["high"] for row in rows)
    assert inside >= 12
    assert sum(row["examples"] for row in rows) == 2000


def test_class_wise_errors_find_the_class_that_is_wrong():
    logits, labels = simulated.logits(random(9), 6000, 3)
    logits[:, 2] += 1.0
    found = reliability.class_wise(np.exp(calibration.log_softmax(logits)), labels)
    assert found[2] == max(found)
    assert found[2] > 0.08


def test_overconfidence_has_an_interval_over_groups():
    logits, labels = simulated.logits(random(10), 3000, 4, 3.0)
    p = np.exp(calibration.log_softmax(logits))
    gap, (low, high) = calibration.overconfidence(p, labels, np.arange(3000))
    assert 0 < low < gap < high
    _, (low10, high10) = calibration.overconfidence(
        np.repeat(p, 5, axis=0), np.repeat(labels, 5), np.repeat(np.arange(3000), 5)
    )
    assert (low10, high10) == pytest.approx((low, high), abs=1e-4)


def test_other_shares_of_the_classes_move_the_logits_by_their_logarithm():
    logits, _ = simulated.logits(random(11), 50, 2)
    moved = calibration.priors(logits, np.array([0.5, 0.5]), np.array([0.9, 0.1]))
    before, after = (np.exp(calibration.log_softmax(z)) for z in (logits, moved))
    odds = before[:, 1] / before[:, 0] / 9
    assert after[:, 1] / after[:, 0] == pytest.approx(odds)
