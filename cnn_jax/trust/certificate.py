"""The certificate: a threshold above which at most so much is wrong, with a stated confidence.

Thresholds are tested one after the other, in an order that other images fixed, until one fails
(fixed-sequence testing, so that the error over all tests stays at the level: "Learn then Test",
Angelopoulos et al. 2021, arXiv:2110.01052). Each test is exact: of n answers that are independent
draws with risk R, k are wrong with the law Bin(n, R), and

    p = P(Bin(n, max_error) <= k)

is small only by chance where R is larger than max_error. The risk need not fall with the threshold.
Where the same images chose one network among M, every test is made at (1 - confidence) / M: the
union bound over the M certificates that could have been given.
"""

import dataclasses
import math
from typing import Any

import numpy as np
from scipy.special import betainc, betaincinv

from cnn_jax.trust.selective import RiskCoverage

_GRID = 100  # thresholds, one for each per cent of the tuning images


def p_value(answered: float, errors: float, max_error: float) -> float:
    """Returns P(Bin(answered, max_error) <= errors), also between whole numbers.

    By the identity with the incomplete beta function, I(1 - a; n - k, k + 1).
    """
    if errors >= answered:
        return 1.0
    return float(betainc(answered - errors, errors + 1, 1 - max_error))


def upper_bound(answered: int, errors: int, level: float) -> float:
    """Returns the exact upper bound of a risk at confidence 1 - level (Clopper & Pearson 1934).

    It is at most `max_error` exactly where `p_value` is at most the level. Of no error in n answers
    it is 1 - level^(1 / n).
    """
    if answered == 0 or errors >= answered:
        return 1.0
    return float(betaincinv(errors + 1, answered - errors, 1 - level))


def least_answers(max_error: float, level: float) -> int:
    """Returns how many answers without an error prove a maximal error: ln level / ln(1 - a)."""
    return math.ceil(math.log(level) / math.log1p(-max_error) - 1e-9)


def cost_p_value(answered: int, mean: float, most: float) -> float:
    """Returns the p-value of "the mean cost is above `most`", for costs within 0..1.

    The smaller one of Hoeffding's bound in its tight form and Bentkus's (Bates et al. 2021,
    arXiv:2101.02703): min(exp(-n h(mean, most)), e P(Bin(n, most) <= ceil(n mean))).

    Args:
        answered: independent answers, n.
        mean: of their costs.
        most: the mean cost that is to be kept.
    """
    if answered == 0 or mean >= most:
        return 1.0
    first = 0.0 if mean == 0 else mean * math.log(mean / most)
    h = first + (1 - mean) * math.log((1 - mean) / (1 - most))
    errors = math.ceil(answered * mean - 1e-9)
    return min(1.0, math.exp(-answered * h), math.e * p_value(answered, errors, most))


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What could be promised, or not.

    Attributes:
        max_error: the error (or mean cost) that was asked for.
        level: of each test: 1 - confidence, divided by the number of networks chosen among.
        threshold: answer where the score is at least this; None: nothing could be promised.
        answered: certifying images at or above it (None: at the threshold that was tried first).
        errors: how many of them are wrong (their cost, where costs count).
        of: all certifying images.
        bound: the exact upper bound of the error at that threshold.
        expected: the share of errors that the tuning images show there.
        needed: answers that would be needed where all were right.
        tested: the number of thresholds that were tested.
    """

    max_error: float
    level: float
    threshold: float | None
    answered: int
    errors: float
    of: int
    bound: float
    expected: float
    needed: int
    tested: int

    @property
    def coverage(self) -> float:
        """The share of certifying images that it answers; 0 without a threshold."""
        return self.answered / self.of if self.threshold is not None and self.of else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values, ready for JSON."""
        return {**dataclasses.asdict(self), "coverage": self.coverage}


def grid(scores: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (thresholds, coverage, risk) [steps] at 1 %, 2 %, ..., 100 % of tuning images.

    Args:
        scores: float [n]; minus infinity where there is no answer whatever the threshold.
        wrong: bool [n], or costs.

    Returns:
        Thresholds fall; those that are equal or minus infinity are left out.
    """
    curve = RiskCoverage.of(scores, wrong)
    wanted = np.ceil(np.arange(1, _GRID + 1) / _GRID * curve.count - 1e-9)
    at = np.unique(np.searchsorted(curve.ends, wanted))
    at = at[np.isfinite(curve.thresholds[at])]
    return curve.thresholds[at], curve.coverage[at], curve.risk[at]


def certify(
    tune_scores: np.ndarray,
    tune_wrong: np.ndarray,
    scores: np.ndarray,
    wrong: np.ndarray,
    max_error: float,
    level: float,
    *,
    costs: bool = False,
) -> Certificate:
    """Returns the most permissive threshold that passes, walking down from where it is likeliest.

    The tuning images give the grid of thresholds and the one to begin with: where a sample of the
    certifying images' size would have the smallest p-value if the tuning images told the truth.
    From there the walk goes to smaller scores until a test fails.

    Args:
        tune_scores: float [m]; minus infinity: never answered.
        tune_wrong: bool [m], or costs within 0..1.
        scores: float [n] of the certifying images, independent of each other and of the tuning
            images.
        wrong: bool [n], or costs.
        max_error: the largest share of errors among the answered, between 0 and 1.
        level: the chance of a wrong certificate, between 0 and 1.
        costs: whether mean costs are bounded, not counts of errors.
    """
    needed = least_answers(max_error, level)
    nothing = Certificate(max_error, level, None, 0, 0, len(scores), 1.0, 1.0, needed, 0)
    if not len(tune_scores) or not len(scores):
        return nothing
    thresholds, coverage, risk = grid(tune_scores, tune_wrong)
    if not len(thresholds):
        return nothing

    def test(answered: float, total: float, whole: bool) -> float:
        if not costs:
            return p_value(answered, total, max_error)
        count = int(answered) if whole else max(int(answered), 1)
        return cost_p_value(count, total / answered if answered else 0.0, max_error)

    n = len(scores)
    likely = [test(n * c, n * c * r, False) for c, r in zip(coverage, risk, strict=True)]
    start = int(np.argmin(likely))
    curve = RiskCoverage.of(scores, wrong)
    found: tuple[float | None, int, float, float] | None = None
    tested = 0
    for j in range(start, len(thresholds)):
        at = int(np.searchsorted(-curve.thresholds, -thresholds[j], side="right")) - 1
        answered = int(curve.ends[at]) if at >= 0 else 0
        errors = float(curve.errors[at]) if at >= 0 else 0.0
        tested += 1
        passed = test(answered, errors, True) <= level
        if found is None or passed:
            found = (float(thresholds[j]) if passed else None, answered, errors, float(risk[j]))
        if not passed:
            break
    assert found is not None
    threshold, answered, errors, expected = found
    bound = (
        _cost_bound(answered, errors, level)
        if costs
        else upper_bound(answered, round(errors), level)
    )
    if not costs:
        errors = round(errors)
    return Certificate(
        max_error, level, threshold, answered, errors, n, bound, expected, needed, tested
    )


def _cost_bound(answered: int, total: float, level: float) -> float:
    """Returns the least mean cost that `cost_p_value` lets be promised, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        passed = answered and cost_p_value(answered, total / answered, middle) <= level
        low, high = (low, middle) if passed else (middle, high)
    return high


def answers_needed(max_error: float, level: float, risk: float, most: int = 10**7) -> int | None:
    """Returns how many answers with this share of errors would prove a maximal error.

    Args:
        max_error: between 0 and 1.
        level: of the test.
        risk: the share of errors among them, of which whole numbers are taken, upwards.
        most: how far it looks.

    Returns:
        None where the risk is not below max_error, or that many would not be enough.
    """
    if risk >= max_error:
        return None
    low, high = 1, least_answers(max_error, level)
    while p_value(high, math.ceil(high * risk), max_error) > level:
        low, high = high, 2 * high
        if high > most:
            return None
    while low < high:
        middle = (low + high) // 2
        if p_value(middle, math.ceil(middle * risk), max_error) <= level:
            high = middle
        else:
            low = middle + 1
    return high
