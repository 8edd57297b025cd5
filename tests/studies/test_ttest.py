"""The t-tests against SciPy on raw data, and against what they returned when they were written."""

import numpy as np
import pytest
from scipy import stats

from cnn_jax.studies import ttest

# (a, b, images, p of Welch's test, p of the paired test), computed in float64 by the formulas that
# stood here before SciPy's: the incomplete beta function of t squared.
BEFORE = [
    ([0.9, 0.91, 0.92], [0.8, 0.81, 0.79], 1000, 0.00017563538261646647, 0.008163401865824494),
    ([0.9, 0.91, 0.92], [0.901, 0.908, 0.9], 1000, 0.3544892543544159, 0.3975359239232905),
    ([0.9, 0.9], [0.91, 0.91], 100, 0.07417990022744844, 0.17891237502206664),
    ([0.9, 0.9], [0.99, 0.99], 100, 0.0010272216373206284, 0.020412590436304293),
    ([0.9, 0.9], [0.9, 0.9], 100, 1.0, 1.0),
    ([0.9, 0.9, 0.9], [0.9, 0.8, 0.8], 50, 0.1823567229049411, 0.18350341907227388),
    ([0.7123, 0.7341], [0.7402, 0.7311], 10000, 0.4455216018322059, 0.5681917327695776),
    ([0.5] * 5, [0.6] * 5, 2000, 5.401104940252094e-22, 4.166643518619806e-12),
]


@pytest.mark.parametrize(("a", "b", "images", "welch", "paired"), BEFORE)
def test_the_values_are_those_of_before(a, b, images, welch, paired):
    assert ttest.welch(a, b, images) == pytest.approx(welch, rel=1e-9, abs=1e-25)
    assert ttest.paired(a, b, images) == pytest.approx(paired, rel=1e-9, abs=1e-25)


@pytest.mark.parametrize(
    ("n", "m", "shift"), [(2, 2, 0.01), (3, 3, 0.0), (3, 5, 0.03), (8, 4, 0.02)]
)
def test_without_rounding_they_are_scipys(n, m, shift):
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.9, 0.01, n), rng.normal(0.9 + shift, 0.02, m)
    _, expected = stats.ttest_ind(a, b, equal_var=False)
    assert ttest.welch(a.tolist(), b.tolist(), 10**9) == pytest.approx(expected, rel=1e-9)
    if n == m:
        _, expected = stats.ttest_rel(a, b)
        assert ttest.paired(a.tolist(), b.tolist(), 10**9) == pytest.approx(expected, rel=1e-9)


def test_folds_share_training_images_and_prove_less():
    a, b = [0.90, 0.92, 0.91, 0.95, 0.93], [0.89, 0.90, 0.90, 0.93, 0.93]
    differences = np.subtract(a, b)
    t = differences.mean() / np.sqrt(differences.var(ddof=1) * (1 / 5 + 1 / 4))
    expected = 2 * stats.t.sf(t, 4)
    found = ttest.paired(a, b, 10**9, held_out=1 / 4)
    assert found == pytest.approx(expected, rel=1e-9)
    assert found > ttest.paired(a, b, 10**9)


def test_folds_of_networks_that_are_equally_good_seldom_differ():
    """On equal learners a tenth of the tests without correction, and few with it, are below 5 %."""
    rng = np.random.default_rng(0)
    plain, corrected = 0, 0
    for _ in range(300):
        # What learners do with the same data: the folds' differences share a part.
        shared = rng.normal(0, 0.01)
        a = (0.9 + shared + rng.normal(0, 0.02, 5)).tolist()
        b = [0.9] * 5
        plain += ttest.paired(a, b, 10**9) < 0.05
        corrected += ttest.paired(a, b, 10**9, held_out=1 / 4) < 0.05
    assert plain > 2 * corrected
    assert corrected < 0.06 * 300


def test_seeds_that_agree_by_chance_prove_nothing_about_one_image():
    assert ttest.welch([0.90, 0.90], [0.91, 0.91], 100) > 0.05
    assert ttest.welch([0.90, 0.90], [0.99, 0.99], 100) < 0.05
    assert ttest.welch([0.9, 0.9], [0.9, 0.9], 100) == pytest.approx(1)
