"""What each JSON file of a run directory must hold, for a reader not to stumble over it."""

import sys
from collections.abc import Callable
from typing import Any, get_args

from cnn_jax.data import DataInfo
from cnn_jax.data.fitting import FILTERS, Resize
from cnn_jax.evaluation import selection
from cnn_jax.options import VIEWS
from cnn_jax.trust import scores

Check = Callable[[Any], bool]

_TRAINING = (
    "epochs",
    "steps",
    "seconds",
    "last_validation_accuracy",
    "best_validation_accuracy",
    "best_epoch",
    "flops",
    "peak_memory_bytes",
)
_STATES = ("running", "finished", "diverged", "interrupted", "pruned", "failed")


def is_number(value: Any) -> bool:
    """Returns whether a value is a number that a float can hold."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and abs(value) <= sys.float_info.max


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _string(value: Any) -> bool:
    return isinstance(value, str)


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _each(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _named(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _record(needed: dict[str, Check], known: dict[str, Check] | None = None) -> Check:
    """Returns a check of a dict that has all `needed` keys, and may have the `known` and others."""
    known = {**(known or {}), **needed}

    def check(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and needed.keys() <= value.keys()
            and all(known[name](part) for name, part in value.items() if name in known)
        )

    return check


def _ends(value: Any) -> bool:
    """Returns whether a value is the two ends of an interval."""
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _is_per_group(value: Any) -> bool:
    figures = {
        name: _maybe(is_number)
        for name in (
            *("accuracy", "balanced_accuracy", "macro_f1", "auc", "average_precision"),
            *("quadratic_kappa", "sensitivity", "specificity"),
            *("positive_predictive_value", "negative_predictive_value"),
        )
    }
    ends = dict.fromkeys(("intervals", "rate_intervals"), _named(_maybe(_ends)))
    return _record({"groups": _count, "left_out": _count}, figures | ends)(value)


def _is_evaluation(value: Any) -> bool:
    known = {
        "loss": is_number,
        "per_group": _is_per_group,
        "examples": _count,
        "checkpoint_step": _count,
        "auc": _maybe(is_number),
        "average_precision": _maybe(is_number),
        "quadratic_kappa": _maybe(is_number),
        "positive": _string,
        "multilabel": lambda value: isinstance(value, bool),
        "intervals": _named(_maybe(_ends)),
        "class_names": _each(_string),
        "per_class_accuracy": _each(_maybe(is_number)),
        "confusion_matrix": _each(_each(_count)),
    }
    counts = {"confusion_counts": _each(_each(_count))}
    if not _record({"accuracy": is_number}, known | counts)(value):
        return False
    classes = len(value.get("class_names", []))
    for entry in value.get("confusion_counts", []):
        if len(entry) != 3 or max(entry[:2]) >= classes:
            return False
    sizes = {len(value[name]) for name in known if isinstance(value.get(name), list)}
    rows = value.get("confusion_matrix", [])
    return len(sizes) <= 1 and all(len(row) == len(rows) for row in rows)


def _is_command(value: Any) -> bool:
    """Returns whether a value is the words of a command: Python, a script, and arguments."""
    return isinstance(value, list) and len(value) >= 2 and all(map(_string, value))


def _is_data(value: Any) -> bool:
    described = _record(
        {
            "name": _string,
            "version": _string,
            "class_names": _each(_string),
            "image_shape": _each(_count),
            "mean": _each(is_number),
            "std": _each(is_number),
            "sizes": _named(_count),
            "class_counts": _named(_each(_count)),
            "notes": _each(_string),
            "digest": _string,
        },
        {
            "dtype": lambda value: value in ("uint8", "float32"),
            "bit_depth": _count,
            "multilabel": lambda value: isinstance(value, bool),
            "crop_share": is_number,
            "interpolation": lambda value: value in FILTERS,
            "streamed": lambda value: isinstance(value, bool),
            "resize": lambda value: value in get_args(Resize),
        },
    )
    if not described(value):
        return False
    try:
        DataInfo.from_dict(value)
    except TypeError:  # it names what a description does not have
        return False
    if {*map(len, value["class_counts"].values())} - {len(value["class_names"])}:
        return False
    channels = value["image_shape"][-1:]
    return len(value["image_shape"]) == 3 and channels == [len(value["mean"])] == [
        len(value["std"])
    ]


def _is_trust(value: Any) -> bool:
    """Returns whether a value is what `trusted` and the page of a run read of trust.json."""
    claim = {
        "max_error": is_number,
        "coverage": is_number,
        "threshold": _maybe(is_number),
        "errors": is_number,
        "answered": _count,
        "bound": is_number,
        "report_share": is_number,
        "report_error": _maybe(is_number),
    }
    made = {
        "method": lambda value: value in ("lac", "raps"),
        "alpha": is_number,
        "quantiles": _each(_maybe(is_number)),
        "class_conditional": lambda value: isinstance(value, bool),
        "counts": _each(_count),
    }
    gate = {
        "gate": lambda value: value in ("neighbours", "energy", "middle", "together"),
        "spread": _named(_ends),
        "false_alarms": is_number,
        "neighbours": _count,
    }
    scaling = {"kind": _string, "weights": _each(is_number), "offsets": _each(is_number)}
    views = {"sha256": _string, "step": _count, "views": lambda value: value in VIEWS}
    sorts = {
        "score": _string,
        **dict.fromkeys(("augrc", "aurc", "excess_aurc"), is_number),
        "coverage_at": _record({str(error): is_number for error in scores.ERRORS}),
    }
    shares = ("accuracy", "confidence", "ece", "answered", "strange", "set_coverage")
    shift = {"shift": _string, "strength": _count, "error": _maybe(is_number)}
    numbers = ("accuracy", "nll", "ece", "ece_by_chance", "promised_coverage")
    networks = _each(_record({"member": _string, **dict.fromkeys(numbers, is_number)}))
    more = {
        "shift": _each(_record({**shift, **dict.fromkeys(shares, is_number)})),
        "views": networks,
        "members": networks,
    }
    report = {
        "certified": lambda value: isinstance(value, bool),
        "share": is_number,
        "error": _maybe(is_number),
        "error_without_abstention": is_number,
    }
    needed = {
        "report": _record(report),
        "network": _record(views),
        "class_names": _each(_string),
        "score": lambda value: value in scores.names(3),
        "thresholds": _each(_maybe(is_number)),
        "calibration": _record({"scaling": _record(scaling)}),
        "sets": _record({"made": _record(made)}),
        "strangers": _record(gate),
        "other_claims": _each(_record(claim)),
        "scores": lambda value: bool(value) and _each(_record(sorts))(value),
        "sentences": _each(_string),
        "arrays_sha256": _string,
    }
    if not _record(needed, more)(value):
        return False
    a, b = value["calibration"]["scaling"], value["sets"]["made"]
    lists = (value["thresholds"], a["weights"], a["offsets"], b["quantiles"], b["counts"])
    return {len(each) for each in lists} == {len(value["class_names"])}


CHECKS: dict[str, Check] = {
    "trust": _is_trust,
    "status": _record(
        {"status": lambda value: value in _STATES},
        {"step": _count, "steps": _count, "epochs": _count, "error": _string, "reason": _string},
    ),
    "history": _each(
        _record(
            {"validation_accuracy": is_number},
            {
                "epoch": _count,
                "step": _count,
                "seconds": is_number,
                "train_loss": is_number,
                "train_accuracy": is_number,
                "validation_loss": is_number,
                "learning_rate": _maybe(is_number),
                "never_predicted": _each(_count),
                "never_predicted_count": _count,
                "select": lambda value: value in selection.METRICS,
                **{f"validation_{name}": _maybe(is_number) for name in selection.METRICS},
            },
        )
    ),
    "result": _record(
        {},
        {
            "training": _record({}, dict.fromkeys(_TRAINING, is_number)),
            "features": _record({"seconds": is_number}),
            "probe": _record({"accuracy": is_number}),
            "evaluation": _named(_is_evaluation),
            "other_checkpoints": _named(_named(_is_evaluation)),
        },
    ),
    "data": _is_data,
    "environment": _each(
        _record(
            {"command": _is_command},
            {"packages": _named(_string), "git_commit": _maybe(_string)},
        )
    ),
    "code": _named(
        _record({"name": _string, "file": _string, "given": lambda value: isinstance(value, bool)})
    ),
    "weights": _record(
        {},
        {
            "source": _string,
            "preprocessing": _maybe(_string),
            "preprocessing_reason": _string,
            "options": lambda value: isinstance(value, dict),
            "evaluated": _maybe(lambda value: isinstance(value, list) and len(value) == 2),
        },
    ),
    "config": lambda value: isinstance(value, dict),
}
