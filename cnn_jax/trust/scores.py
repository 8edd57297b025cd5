"""Scores of how sure a network is of an answer: the larger, the surer.

Largest probability, margin, entropy and GEN are of the calibrated probabilities; energy and largest
logit are of the logits, whose scale no probability depends on; p-norm takes that scale away.
"""

from collections.abc import Callable

import numpy as np
from scipy.special import logsumexp

# The maximal errors at which scores are compared, and for which promises are tried.
ERRORS = (0.05, 0.02, 0.01, 0.005)
# GEN's exponent, of its authors (Liu et al. 2023, CVPR).
_GAMMA = 0.1
_NORMS = (1, 2, 3, 4, 5, 6, 7, 8)

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


def max_probability(logits: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Returns the largest probability, float64 [n]."""
    del logits
    return np.exp(logs.max(axis=1))


def margin(logits: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Returns the largest probability less the second largest."""
    del logits
    two = np.partition(logs, -2, axis=1)[:, -2:]
    return np.exp(two[:, 1]) - np.exp(two[:, 0])


def negative_entropy(logits: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Returns sum_k p_k log p_k, in nats."""
    del logits
    return (np.exp(logs) * np.where(np.isfinite(logs), logs, 0.0)).sum(axis=1)


def gen(logits: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Returns -sum_k (p_k (1 - p_k))^0.1 (GEN, Liu et al. 2023)."""
    del logits
    p = np.exp(logs)
    return -((p * (1 - p)) ** _GAMMA).sum(axis=1)


def energy(logits: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Returns logsumexp(z), the negative free energy (Liu et al. 2020, arXiv:2010.03759).

    Two logits are centred first: a network with one output says only how far they are apart.
    """
    del logs
    if logits.shape[1] == 2:
        logits = logits - logits.mean(axis=1, keepdims=True)
    return np.asarray(logsumexp(logits, axis=1))


def max_logit(logits: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Returns the largest logit (Hendrycks et al. 2022, arXiv:1911.11132)."""
    del logs
    return logits.max(axis=1)


def p_norm(power: int) -> Score:
    """Returns the score max_k (z_k - mean z) / ||z - mean z||_p (Cattelan & Silva 2024).

    It repairs the order of a network that was trained with label smoothing (arXiv:2305.15508). Of
    two classes it is a constant.
    """

    def score(logits: np.ndarray, logs: np.ndarray) -> np.ndarray:
        del logs
        centred = logits - logits.mean(axis=1, keepdims=True)
        largest = np.abs(centred).max(axis=1, keepdims=True)
        centred = centred / np.maximum(largest, 1e-300)
        norms = (np.abs(centred) ** power).sum(axis=1) ** (1 / power)
        return centred.max(axis=1) / np.maximum(norms, 1e-300)

    return score


_PLAIN: dict[str, Score] = {
    "max_probability": max_probability,
    "margin": margin,
    "negative_entropy": negative_entropy,
    "gen": gen,
    "energy": energy,
    "max_logit": max_logit,
}


def by_name(name: str) -> Score:
    """Returns a score of its name, one of `names`.

    Raises:
        KeyError: there is none.
    """
    if name.startswith("p_norm_"):
        return p_norm(int(name.removeprefix("p_norm_")))
    return _PLAIN[name]


def names(classes: int) -> list[str]:
    """Returns the scores that order images in different ways, with this number of classes.

    Of two classes margin, entropy and GEN order them as the largest probability does.
    """
    if classes == 2:
        return ["max_probability", "energy", "max_logit"]
    return [*_PLAIN, *(f"p_norm_{p}" for p in _NORMS)]


def may_decide(name: str) -> bool:
    """Returns whether a score may be chosen to decide: the scale of logits is a nuisance."""
    return name not in ("energy", "max_logit", "neighbours")
