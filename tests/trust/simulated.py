"""Classifiers whose true error at every threshold is known, for tests by simulation."""

import numpy as np
import scipy.stats

WORST = 0.3  # P(wrong) of the least sure image


def drawn(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (scores, wrong) [n]: scores are uniform, P(wrong | score) = 0.3 (1 - score)^2."""
    scores = random.random(n)
    return scores, random.random(n) < WORST * (1 - scores) ** 2


def true_risk(threshold: float) -> float:
    """Returns P(wrong | score >= threshold), the integral of it."""
    return WORST * (1 - min(max(threshold, 0.0), 1.0)) ** 2 / 3


def is_at_most(violations: int, draws: int, level: float) -> bool:
    """Returns whether a share of violations is one that a chance of `level` explains."""
    return float(scipy.stats.binom.sf(violations - 1, draws, level)) > 1e-4


def logits(
    random: np.random.Generator, n: int, classes: int, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (logits, labels) whose labels are drawn from softmax(logits / scale)."""
    z = 2 * random.normal(size=(n, classes))
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1) < random.random((n, 1))).sum(axis=1)
    return z * scale, np.minimum(labels, classes - 1)
