"""The metric that chooses: the best epoch of a run, when it stops, and the best of several runs.

A record of a run's history names the metric in `select`, unless that is accuracy, and holds it as
`validation_METRIC`. Scores are what is compared: a larger one is better, whatever the metric.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cnn_jax.errors import UsageError
from cnn_jax.experiment import Experiment

Record = Mapping[str, Any]


class Metric(NamedTuple):
    """How a metric is read.

    Attributes:
        title: its name in a sentence.
        sign: 1 where more is better, -1 where less is.
        worst: the value of a network that is of no use.
    """

    title: str
    sign: int
    worst: float


METRICS = {
    "accuracy": Metric("accuracy", 1, 0.0),
    "loss": Metric("loss", -1, math.inf),
    "balanced_accuracy": Metric("balanced accuracy", 1, 0.0),
    "auc": Metric("AUC", 1, 0.0),
    "macro_f1": Metric("macro F1", 1, 0.0),
    "kappa": Metric("kappa", 1, -1.0),
}


def metric_of(record: Record) -> str:
    """Returns the metric that a record of a history is judged by; in old ones accuracy."""
    return record.get("select", "accuracy")


def value_of(record: Record) -> float | None:
    """Returns the value of that metric; None where it has none."""
    return record.get(f"validation_{metric_of(record)}")


def score(metric: str, value: float | None) -> float:
    """Returns a number that is larger the better a value of a metric is; -inf of None and NaN."""
    return -math.inf if value is None or math.isnan(value) else METRICS[metric].sign * value


def score_of(record: Record) -> float:
    """Returns the score of a record of a history."""
    return score(metric_of(record), value_of(record))


def rank(record: Record, number: int) -> tuple[float, float, int]:
    """Returns what "best" goes by: the score, of equals the loss, of equals the later one.

    Few images have many ties, and the first of them is the state that has learnt least.

    Args:
        record: of an epoch.
        number: its step or epoch.
    """
    return score_of(record), score("loss", record.get("validation_loss")), number


def best_of(history: Sequence[Any]) -> Any:
    """Returns the record of the best epoch, by `rank`."""
    return max(enumerate(history), key=lambda each: rank(each[1], each[0]))[1]


def said(record: Record) -> str:
    """Returns the metric of a record and its value, as a person reads them."""
    metric, value = metric_of(record), value_of(record)
    return f"{METRICS[metric].title} {'-' if value is None else format(value, '.4f')}"


class Rule(NamedTuple):
    """How a run is judged after each epoch.

    Attributes:
        metric: the key of METRICS.
        ordered: whether the classes are grades, so that kappa weighs how far off a class is.
        patience: epochs without a better score after which the run stops; None: it never does.
    """

    metric: str = "accuracy"
    ordered: bool = False
    patience: int | None = None

    @classmethod
    def of(cls, config: Experiment) -> "Rule":
        """Returns the rule of an experiment."""
        return cls(config.train.select, config.dataset.ordered, config.train.patience)

    def check(self, counts: Sequence[int], multilabel: bool = False) -> None:
        """Refuses a metric that has no value on these validation images of each class.

        Raises:
            UsageError: all are of one class, or an image may have several and it is kappa, or none
                of them has any, or the findings are said to be grades.
        """
        if multilabel:
            if self.ordered:
                raise UsageError(
                    "--dataset.ordered is for grades, of which an image has one; leave it out with "
                    "several findings in one image"
                )
            if self.metric == "kappa":
                raise UsageError(
                    "--train.select=kappa has no meaning for several findings in one image; use "
                    "--train.select=auc"
                )
            if self.metric == "auc" and not any(counts):
                raise UsageError(
                    "--train.select=auc needs validation images with a finding; use "
                    "--train.select=loss or accuracy"
                )
            return
        if self.metric in ("auc", "kappa") and sum(count > 0 for count in counts) < 2:
            raise UsageError(
                f"--train.select={self.metric} needs validation images of two classes or more; "
                "use --train.select=loss or accuracy"
            )

    def is_over(self, history: Sequence[Record]) -> bool:
        """Returns whether a run of this history stops early."""
        if self.patience is None or not history:
            return False
        scores = [score_of(record) for record in history]
        return len(scores) - 1 - scores.index(max(scores)) >= self.patience

    def reason(self, history: Sequence[Record]) -> str | None:
        """Returns why a run stopped early, in a sentence; None where it did not."""
        if not self.is_over(history):
            return None
        epochs = "epoch" if self.patience == 1 else f"{self.patience} epochs"
        return (
            f"stopped early after epoch {len(history)}: validation "
            f"{METRICS[self.metric].title} has not improved in the last {epochs} (train.patience)"
        )

    def outcome(self, history: Sequence[Any]) -> Any:
        """Returns the record that stands for a run among others: that of its last epoch.

        With patience it is the best one: the last epochs are those that brought no more.
        """
        return history[-1] if self.patience is None else best_of(history)
