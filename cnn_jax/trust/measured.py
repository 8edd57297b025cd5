"""What is measured on the reporting images: calibration, scores, answers and errors."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cnn_jax.evaluation import intervals
from cnn_jax.trust import calibration, reliability, scores, sets
from cnn_jax.trust.outputs import Outputs
from cnn_jax.trust.scores import ERRORS
from cnn_jax.trust.selective import RiskCoverage
from cnn_jax.trust.verdicts import Verdicts

COVERAGES = (0.9, 0.95, 0.99)
_CURVE_POINTS = 100
_BARS = 40  # of the histogram of confidences
_MOST_CLASSES = 200  # that have a calibration error and isotonic regressions of their own


def calibrated(logs: np.ndarray, outputs: Outputs) -> dict[str, Any]:
    """Returns what log-probabilities [n, classes] are worth as probabilities."""
    labels, groups = outputs.labels, outputs.numbers
    p = np.exp(logs)
    surest, right = p.max(axis=1), p.argmax(axis=1) == labels
    error = reliability.calibration_error(surest, right)
    gap, ends = calibration.overconfidence(p, labels, groups)
    found: dict[str, Any] = {
        "nll": calibration.nll(logs, labels),
        "brier": calibration.brier(p, labels),
        "accuracy": float(right.mean()),
        "confidence": float(surest.mean()),
        "overconfidence": gap,
        "overconfidence_interval": ends,
        "ece": error.value,
        "ece_by_chance": error.by_chance,
        "ece_upper_by_chance": error.upper,
        "ece_p_value": error.p_value,
        "ece_squared": error.squared,
        "reliability": reliability.table(surest, right, groups),
        "histogram": np.histogram(surest, np.linspace(0, 1, _BARS + 1))[0].tolist(),
    }
    if p.shape[1] <= _MOST_CLASSES:
        found["class_wise_ece"] = reliability.class_wise(p, labels)
        found["brier_parts"] = calibration.brier_parts(p, labels)
    if p.shape[1] == 2:
        slope, intercept = calibration.calibration_line(logs, labels)
        found |= {"slope": slope, "intercept": intercept}
    return found


def compared(
    logits: np.ndarray, logs: np.ndarray, wrong: np.ndarray, distances: np.ndarray | None
) -> list[dict[str, Any]]:
    """Returns how well each score sorts the errors last.

    Args:
        logits: float64 [n, classes].
        logs: log-probabilities [n, classes].
        wrong: bool [n].
        distances: float [n] to the training images, or None.
    """
    values = {name: scores.by_name(name)(logits, logs) for name in scores.names(logits.shape[1])}
    if distances is not None:
        values["neighbours"] = -distances
    rows = []
    for name, value in values.items():
        curve = RiskCoverage.of(value, wrong)
        rows.append(
            {
                "score": name,
                "augrc": curve.augrc,
                "aurc": curve.aurc,
                "excess_aurc": curve.excess_aurc,
                "coverage_at": {str(e): curve.coverage_at(e) for e in ERRORS},
            }
        )
    return sorted(rows, key=lambda row: row["augrc"])


def curve(score: np.ndarray, wrong: np.ndarray) -> list[list[float]]:
    """Returns [coverage, risk] at each per cent of coverage, for the figure."""
    found = RiskCoverage.of(score, wrong)
    at = np.unique(np.linspace(0, len(found.ends) - 1, _CURVE_POINTS).astype(int))
    wanted = np.arange(1, _CURVE_POINTS + 1) / _CURVE_POINTS * found.count
    at = np.unique(np.minimum(np.searchsorted(found.ends, wanted), len(found.ends) - 1))
    return np.column_stack([found.coverage[at], found.risk[at]]).tolist()


def answered(verdicts: Verdicts, outputs: Outputs, false_alarms: float) -> dict[str, Any]:
    """Returns how many images are answered and how many of these answers are wrong."""
    answers, wrong = verdicts.answers, verdicts.labels != outputs.labels
    strange = verdicts.p_values <= false_alarms
    groups = outputs.numbers
    return {
        "images": len(outputs),
        "certified": bool(np.isfinite(verdicts.thresholds).any()),
        "answered": int(answers.sum()),
        "share": float(answers.mean()),
        "share_interval": intervals.proportion(answers, groups),
        "wrong": int(wrong[answers].sum()),
        "error": float(wrong[answers].mean()) if answers.any() else None,
        "error_interval": intervals.proportion(wrong[answers], groups[answers]),
        "unsure": int((~answers & ~strange).sum()),
        "strange": int(strange.sum()),
        "strange_interval": intervals.proportion(strange, groups),
        "error_without_abstention": float(wrong.mean()),
    }


def set_table(
    certify: tuple[np.ndarray, np.ndarray], report: tuple[np.ndarray, np.ndarray], labels: Any
) -> list[dict[str, Any]]:
    """Returns sizes and coverage of sets by both scores, over all and within each class.

    Args:
        certify: (logits, calibrated log-probabilities) of the certifying images, one of a group.
        report: likewise of the reporting images.
        labels: the classes of both, (int [n], int [m]).
    """
    rows = []
    (own, other), (classes, truth) = (certify, report), labels
    uniform: dict[str, tuple[Any, Any]] = {"lac": (None, None)}
    uniform["raps"] = (sets.uniforms(own[0]), sets.uniforms(other[0]))
    p, q = np.exp(own[1]), np.exp(other[1])
    for coverage in COVERAGES:
        for method in ("lac", "raps"):
            for conditional in (False, True):
                made = sets.fit(
                    method,
                    p,
                    classes,
                    round(1 - coverage, 10),
                    class_conditional=conditional,
                    uniform=uniform[method][0],
                )
                found = sets.measure(made(q, uniform[method][1]), truth)
                known = [c for c in found["per_class"] if c is not None]
                rows.append(
                    {
                        "wanted": coverage,
                        "method": method,
                        "class_conditional": conditional,
                        "coverage": found["coverage"],
                        "worst_class": min(known),
                        "mean_size": found["mean_size"],
                        "empty": found["empty"],
                        "single": found["single"],
                    }
                )
    return rows


def noticed(p_values: Mapping[str, np.ndarray], false_alarms: float) -> dict[str, Any]:
    """Returns {kind: {images, noticed, interval}} of strange images by their p-values."""
    found = {}
    for name, p in p_values.items():
        hits = p <= false_alarms
        found[name] = {
            "images": len(p),
            "noticed": float(hits.mean()),
            "interval": intervals.proportion(hits, np.arange(len(hits))),
        }
    return found
