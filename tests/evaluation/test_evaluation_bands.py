"""ROC and precision-recall curves, their bands, and figures of whole groups."""

import json

import numpy as np
import pytest
from sklearn import metrics as reference

from cnn_jax.evaluation import bands, measures, per_group
from cnn_jax.reporting import evaluations
from cnn_jax.runs import shapes


def scores(random: np.random.Generator, n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns probabilities [n, 2] whose logits are normal, apart by `shift`; and labels."""
    labels = np.arange(n) % 2
    p = 1 / (1 + np.exp(-random.normal(shift * labels, 1)))
    return np.stack([1 - p, p], axis=1), labels


def roc_band(*arguments) -> tuple[np.ndarray, np.ndarray]:
    band = bands.curves(*arguments)[0].band
    assert band is not None
    return band


def test_curves_are_scikit_learns_where_they_are_read():
    p, labels = scores(np.random.default_rng(0), 300, 1.0)
    p = np.round(p, 2)  # with ties
    roc, precision = bands.curves(p, labels, [1], with_band=False)
    assert roc.band is None
    false, true, _ = reference.roc_curve(labels, p[:, 1], drop_intermediate=False)
    np.testing.assert_allclose(roc.y, np.interp(bands.GRID, false, true), atol=1e-12)
    exact, recall, _ = reference.precision_recall_curve(labels, p[:, 1])
    for at, value in zip(bands.GRID[1:], precision.y[1:], strict=True):
        reached = recall >= at - 1e-9  # the highest threshold that reaches a recall
        assert value == exact[reached][recall[reached].argmin()] or value in exact[reached]


def test_a_mean_curve_is_the_mean_over_the_classes():
    random = np.random.default_rng(1)
    p, labels = random.dirichlet((1, 1, 1), 60), random.integers(0, 3, 60)
    each = [bands.curves(p, labels, [c], with_band=False) for c in range(3)]
    for part, whole in enumerate(bands.curves(p, labels, range(3), with_band=False)):
        np.testing.assert_allclose(whole.y, np.mean([one[part].y for one in each], axis=0))


def test_a_band_holds_the_true_curve_in_about_95_of_100_samples():
    random = np.random.default_rng(2)
    at, hits = 40, 0  # a false positive rate of 0.2
    many, truth = scores(random, 400_000, 1.2)
    false, true, _ = reference.roc_curve(truth, many[:, 1])
    expected = np.interp(bands.GRID[at], false, true)
    for _ in range(24):
        low, high = roc_band(*scores(random, 160, 1.2), [1])
        hits += low[at] <= expected <= high[at]
    assert hits >= 20


def test_where_a_curve_is_at_1_its_band_is_not_empty():
    """All of the first 10 of 40 are positives: by Wilson, at least 72 % of more would be."""
    scores = np.arange(40)[::-1] / 40
    labels = (np.arange(40) < 10).astype(int)
    p = np.stack([1 - scores, scores], axis=1)
    roc, precision = bands.curves(p, labels, [1])
    assert roc.y[1:].min() == precision.y.min() == 1
    assert precision.band is not None
    assert precision.band[0][-1] == pytest.approx(0.7225, abs=1e-3)
    assert roc_band(p, labels, [1])[0][100] == pytest.approx(0.7225, abs=1e-3)
    twins = [str(i // 2) for i in range(40)]  # that are 5 patients
    assert roc_band(p, labels, [1], twins)[0][100] == pytest.approx(0.5655, abs=1e-3)


def test_a_band_of_groups_is_wider_than_one_of_images():
    p, labels = scores(np.random.default_rng(3), 60, 1.0)
    p, labels = np.repeat(p, 6, axis=0), np.repeat(labels, 6)
    groups = [str(i) for i in np.repeat(np.arange(60), 6)]
    widths = []
    for own in (None, groups):
        low, high = roc_band(p, labels, [1], own)
        widths.append(np.mean(high - low))
    assert widths[1] > 2 * widths[0]


def test_groups_are_judged_by_the_mean_over_their_images():
    p = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.4, 0.6], [0.1, 0.9], [0.6, 0.4]])
    labels = np.array([0, 0, 1, 1, 1, 0])
    groups = ["a", "a", "b", "b", "mixed", "mixed"]
    found = per_group.measure(p, labels, groups, ("no", "yes"), positive=1) or {}
    assert (found["groups"], found["left_out"]) == (2, 1)
    assert found["accuracy"] == 1  # of the images of these 0.75
    assert (found["sensitivity"], found["auc"]) == (1, 1)
    means = np.array([[0.55, 0.45], [0.35, 0.65]])
    want = measures.measure(means, np.array([0, 1]), ("no", "yes"), positive=1)
    assert {k: v for k, v in found.items() if k in want and k != "groups"} == {
        k: v for k, v in want.items() if k != "per_class"
    }
    lines = evaluations.group_lines({"per_group": found})
    assert lines[0].startswith("by group   2 groups, each by the mean over its images; 1 left out")
    assert "accuracy 1.0000 (0.3424 to 1.0000)" in lines[1]
    assert "sensitivity 1.0000 (0.2065 to 1.0000)" in lines[3]
    found = json.loads(json.dumps(found))
    assert shapes.CHECKS["result"]({"evaluation": {"test": {"accuracy": 1.0, "per_group": found}}})
    found["intervals"]["accuracy"] = [0.5]
    damaged = {"evaluation": {"test": {"accuracy": 1.0, "per_group": found}}}
    assert not shapes.CHECKS["result"](damaged)
    assert per_group.measure(p, labels, list("abcdef"), ("no", "yes")) is None
    assert per_group.measure(p, labels, ["a"] * 6, ("no", "yes")) == {"groups": 0, "left_out": 1}
