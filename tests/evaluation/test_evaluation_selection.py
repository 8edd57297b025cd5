"""The metric that chooses: its values, its direction, the best epoch, and when a run stops."""

import math
import types
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as reference

from cnn_jax import experiment
from cnn_jax.errors import UsageError
from cnn_jax.evaluation import selection, validation
from cnn_jax.evaluation.selection import Rule
from cnn_jax.studies import collapse


def record(epoch: int, value: float | None, metric: str = "auc", loss: float = 1.0):
    return {
        "epoch": epoch,
        "step": 10 * epoch,
        "validation_accuracy": 0.5,
        "validation_loss": loss,
        "select": metric,
        f"validation_{metric}": value,
    }


@pytest.fixture(scope="module")
def predicted():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [40, 15, 5])
    logits = generator.normal(size=(60, 3)) + np.eye(3)[labels]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    confusion = reference.confusion_matrix(labels, p.argmax(axis=1))
    found: Any = types.SimpleNamespace(probabilities=p, confusion=confusion)
    return found, labels


def test_the_values_are_those_of_scikit_learn(predicted):
    found, labels = predicted
    said = found.probabilities.argmax(axis=1)
    want = {
        "balanced_accuracy": reference.balanced_accuracy_score(labels, said),
        "macro_f1": reference.f1_score(labels, said, average="macro"),
        "auc": reference.roc_auc_score(labels, found.probabilities, multi_class="ovr"),
        "kappa": reference.cohen_kappa_score(labels, said),
    }
    for metric, value in want.items():
        got = validation.measured(Rule(metric), found, labels)
        assert got == {"select": metric, f"validation_{metric}": pytest.approx(value)}
    ordered = validation.measured(Rule("kappa", ordered=True), found, labels)
    quadratic = reference.cohen_kappa_score(labels, said, weights="quadratic")
    assert ordered["validation_kappa"] == pytest.approx(quadratic)
    # A class without images has no AUC; the others have.
    part: Any = types.SimpleNamespace(probabilities=found.probabilities[:55], confusion=None)
    got = validation.measured(Rule("auc"), part, labels[:55])
    two = [reference.roc_auc_score(labels[:55] == c, part.probabilities[:, c]) for c in (0, 1)]
    assert got["validation_auc"] == pytest.approx(np.mean(two))


def test_accuracy_and_loss_are_there_already(predicted):
    assert validation.measured(Rule(), *predicted) == {}
    assert validation.measured(Rule("loss"), *predicted) == {"select": "loss"}


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("auc", [0.6, 0.9, 0.7], 2),
        ("loss", [0.6, 0.9, 0.7], 1),
        ("kappa", [-0.2, -0.1, None], 2),
        ("macro_f1", [0.5, 0.5, 0.4], 2),  # of equals the later
    ],
)
def test_the_best_epoch_is_by_the_metric_that_its_record_names(metric, values, best):
    history = [record(i + 1, value, metric) for i, value in enumerate(values)]
    assert selection.best_of(history)["epoch"] == best


def test_a_history_of_an_older_version_goes_by_accuracy_then_loss():
    history: list[dict[str, Any]] = [
        {"validation_accuracy": 0.5, "validation_loss": 0.1},
        {"validation_accuracy": 0.7, "validation_loss": 0.4},
        {"validation_accuracy": 0.7, "validation_loss": 0.3},
        {"validation_accuracy": 0.7},
    ]
    assert selection.best_of(history) is history[2]


def test_of_equal_values_the_smaller_loss_is_better():
    history = [record(1, 0.8, loss=0.3), record(2, 0.8, loss=0.4)]
    assert selection.best_of(history)["epoch"] == 1


def test_every_score_is_better_the_larger_it_is_and_none_is_below_the_worst():
    for name, metric in selection.METRICS.items():
        better, worse = (0.9, 0.2) if metric.sign > 0 else (0.2, 0.9)
        assert selection.score(name, better) > selection.score(name, worse)
        assert selection.score(name, worse) >= selection.score(name, metric.worst)
        assert selection.score(name, None) == selection.score(name, math.nan) == -math.inf


@pytest.mark.parametrize(
    ("metric", "values", "stops"),
    [
        ("auc", [0.5, 0.6, 0.6, 0.5, 0.9], 4),  # as good is no better
        ("auc", [0.9, 0.8, 0.7], 3),
        ("auc", [0.5, 0.6, 0.7, 0.8, 0.7], None),
        ("loss", [0.5, 0.4, 0.45, 0.41, 0.1], 4),
        ("auc", [None, None, None], 3),
    ],
)
def test_a_run_stops_after_so_many_epochs_without_a_better_value(metric, values, stops):
    history = [record(i + 1, value, metric) for i, value in enumerate(values)]
    rule = Rule(metric, patience=2)
    over = [n for n in range(len(values) + 1) if rule.is_over(history[:n])]
    assert (over[0] if over else None) == stops
    assert not Rule(metric).is_over(history)
    if stops:
        assert f"stopped early after epoch {stops}: " in str(rule.reason(history[:stops]))
        assert rule.outcome(history) is selection.best_of(history)
    assert Rule(metric).outcome(history) is history[-1]


def test_a_metric_without_a_value_on_these_images_is_refused():
    Rule("auc").check([5, 0, 1])
    Rule("loss").check([5, 0])
    with pytest.raises(UsageError, match="two classes or more"):
        Rule("auc").check([5, 0])
    with pytest.raises(UsageError, match="ordered is for grades"):
        Rule("loss", ordered=True).check([5, 5], multilabel=True)


def test_a_network_that_ranks_well_and_says_one_class_has_not_collapsed():
    says_one: dict[str, Any] = {"validation_accuracy": 0.97, "never_predicted": [1]}
    assert collapse.has_collapsed([says_one], [97, 3])
    assert collapse.has_collapsed([says_one | record(1, 0.5, "balanced_accuracy")], [97, 3])
    assert not collapse.has_collapsed([says_one | record(1, 0.9)], [97, 3])


def test_the_rule_of_an_experiment_and_of_an_old_one():
    config = experiment.Experiment().replace({"train.select": "auc", "train.patience": 3})
    assert Rule.of(config) == Rule("auc", False, 3)
    assert Rule.of(experiment.Experiment()) == Rule("accuracy", False, None)
