"""What the JSON files of a run may hold, value by value."""

import copy

import pytest

from cnn_jax.runs.shapes import CHECKS
from tests.tiny import data_json

EPOCH = {
    "epoch": 1,
    "step": 4,
    "train_loss": 1.1,
    "train_accuracy": 0.4,
    "validation_loss": 1.0,
    "validation_accuracy": 0.3,
    "never_predicted": [0, 1],
    "learning_rate": 0.001,
    "seconds": 2.4,
}
EVALUATION = {
    "accuracy": 0.5,
    "loss": 0.9,
    "examples": 4,
    "checkpoint_step": 8,
    "class_names": ["cat", "dog"],
    "per_class_accuracy": [0.5, None],
    "confusion_matrix": [[2, 2], [0, 0]],
}
WHOLE = {
    "status": {"status": "finished", "time": "now", "pid": 1},
    "history": [EPOCH, {**EPOCH, "epoch": 2}],
    "result": {
        "training": {"epochs": 1, "flops": 10**12, "peak_memory_bytes": 1},
        "features": {"seconds": 1.5},
        "probe": {"accuracy": 0.5},
        "evaluation": {"test": EVALUATION},
    },
    "data": data_json(),
    "environment": [{"command": ["python", "launch.py"], "packages": {"jax": "1"}}],
    "code": {"model": {"name": "a", "file": "b", "given": True}},
    "weights": {"preprocessing": None, "options": {}},
    "config": {"seed": 0},
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_a_run_writes_is_taken(name):
    assert CHECKS[name](WHOLE[name])


@pytest.mark.parametrize("value", [None, True, [], [[1]], {"a": {}}, "a", 10**400, float("nan")])
@pytest.mark.parametrize(
    "path",
    [
        "status.status",
        "history.0.validation_accuracy",
        "history.1.seconds",
        "result.training.flops",
        "result.features.seconds",
        "result.probe.accuracy",
        "result.evaluation.test.accuracy",
        "result.evaluation.test.examples",
        "result.evaluation.test.class_names.0",
        "result.evaluation.test.confusion_matrix.1.1",
        "result.evaluation.test.confusion_matrix.1",
        "data.class_counts.train.0",
        "data.sizes.train",
        "data.image_shape.1",
        "data.mean.0",
        "environment.0.command",
        "code.model",
    ],
)
def test_a_value_of_another_kind_is_damage(path, value):
    name, *keys, last = path.split(".")
    harmed = holder = copy.deepcopy(WHOLE[name])
    for key in keys:
        holder = holder[int(key) if isinstance(holder, list) else key]
    key = int(last) if isinstance(holder, list) else last
    if type(value) is type(holder[key]) and not isinstance(value, int | float | list):
        return  # another text or dict may be what it was
    holder[key] = value
    assert not CHECKS[name](harmed)
