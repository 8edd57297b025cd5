"""The value of the metric that chooses, after an epoch."""

import math
from typing import Any

import numpy as np

from cnn_jax.evaluation import measures, ranking
from cnn_jax.evaluation.evaluator import Evaluation
from cnn_jax.evaluation.selection import Rule


def measured(rule: Rule, found: Evaluation, labels: np.ndarray) -> dict[str, Any]:
    """Returns what a record of a history holds for a rule, besides loss and accuracy.

    Args:
        rule: the metric that chooses.
        found: the evaluation of the validation split.
        labels: int [n], its classes, or uint8 [n, findings], whose mean is taken.
    """
    if rule.metric == "accuracy":
        return {}
    if rule.metric == "loss":
        return {"select": "loss"}
    value = _measure(rule.metric, found, labels, rule.ordered)
    return {
        "select": rule.metric,
        f"validation_{rule.metric}": None if math.isnan(value) else value,
    }


def _measure(metric: str, found: Evaluation, labels: np.ndarray, ordered: bool) -> float:
    """Returns the value of a metric; NaN where it has none."""
    p = found.probabilities
    classes = p.shape[1]
    if labels.ndim == 2:
        values = np.array([_of_finding(metric, p[:, c], labels[:, c] > 0) for c in range(classes)])
        known = ~np.isnan(values)
        return float(values[known].mean()) if known.any() else math.nan
    if metric == "auc":
        chosen = [1] if classes == 2 else range(classes)
        values = np.array([ranking.auc(p[:, c], labels == c) for c in chosen])
        known = ~np.isnan(values)
        return float(values[known].mean()) if known.any() else math.nan
    if metric == "kappa" and not ordered:
        return _cohens_kappa(found.confusion)
    counted = measures.Counts(labels, p.argmax(axis=1), classes, ordered)
    values = dict(zip(counted.names, counted(np.ones((1, len(labels))))[0], strict=False))
    return float(values["quadratic_kappa" if metric == "kappa" else metric])


def _of_finding(metric: str, scores: np.ndarray, has_it: np.ndarray) -> float:
    """Returns the value of one finding at a probability of 1/2; NaN where it has none."""
    if metric == "auc":
        return ranking.auc(scores, has_it)
    said = scores >= 0.5
    both = float((said & has_it).sum())
    if metric == "macro_f1":
        return 2 * both / float(said.sum() + has_it.sum()) if has_it.any() else math.nan
    if has_it.all() or not has_it.any():
        return math.nan
    return (both / has_it.sum() + (~said & ~has_it).sum() / (~has_it).sum()) / 2


def _cohens_kappa(confusion: np.ndarray) -> float:
    """Returns how much of the agreement that chance leaves open is reached (Cohen 1960)."""
    total = confusion.sum()
    agreed = np.trace(confusion) / total
    by_chance = float(confusion.sum(axis=1) @ confusion.sum(axis=0)) / total**2
    return math.nan if by_chance == 1 else float((agreed - by_chance) / (1 - by_chance))
