"""What `predict` shows of a verdict: an answer or none, the set of classes, the p-value."""

from collections.abc import Mapping
from typing import Any

from cnn_jax.evaluation.predictions import Predictions

NOT_CALIBRATED = (
    "the probabilities are not calibrated, and nothing is promised of the answers: run trust"
)
COLUMNS = ("answers", "reason", "set", "p_value")


def fields(found: Predictions, i: int) -> dict[str, Any]:
    """Returns what is added to the prediction of image i; {} where nothing was promised."""
    if found.set is None or found.answers is None or found.p_value is None or not found.reasons:
        return {}
    return {
        "answers": bool(found.answers[i]),
        "reason": found.reasons[i],
        "set": list(found.set[i]),
        "p_value": float(found.p_value[i]),
    }


def of(prediction: Mapping[str, Any]) -> str:
    """Returns a verdict in words, such as "no answer: not sure enough: 0.71 < 0.93"."""
    said = "answer" if prediction["answers"] else f"no answer: {prediction['reason']}"
    return f"{said}; set: {', '.join(prediction['set']) or 'empty'}"


def cells(prediction: Mapping[str, Any]) -> list[str]:
    """Returns the cells of COLUMNS in a .csv file."""
    p, names = prediction["p_value"], "|".join(prediction["set"])
    return [str(prediction["answers"]).lower(), prediction["reason"], names, f"{p:.6g}"]
