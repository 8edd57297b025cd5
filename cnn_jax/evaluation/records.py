"""What result.json says of an evaluation."""

from typing import Any

import numpy as np

from cnn_jax.data import DataInfo, Split
from cnn_jax.evaluation import confusion, measures, per_group, shares, two_classes
from cnn_jax.evaluation.evaluator import Evaluation


def record(
    found: Evaluation,
    split: Split,
    info: DataInfo,
    step: int,
    *,
    positive: int | None = None,
    ordered: bool = False,
) -> dict[str, Any]:
    """Returns the record of an evaluation, ready for JSON.

    It has what `measures.measure` finds, with the confusion matrix (see `confusion.to_record`),
    `per_class_accuracy`, the step of the checkpoint, the share of the largest class and the classes
    that are never predicted; of two classes also the rates at a probability of 1/2.
    Where groups have several images, `per_group` holds what `per_group.measure` finds.

    Args:
        found: the evaluation.
        split: the examples that it is of.
        info: what is known of the data.
        step: of the checkpoint.
        positive: the index of the positive one of two classes, or None.
        ordered: whether the classes are grades in their order.
    """
    counts = found.confusion.sum(axis=1)
    right = np.diag(found.confusion)
    made = {
        "loss": found.loss,
        "examples": found.examples,
        "checkpoint_step": step,
        "class_names": list(info.class_names),
        "largest_class_share": shares.largest_class(counts)[1],
        "never_predicted": [info.class_names[i] for i in shares.never_predicted(found.confusion)],
        "per_class_accuracy": [
            float(r / n) if n else None for r, n in zip(right, counts, strict=True)
        ],
        **confusion.to_record(found.confusion),
        **measures.measure(
            found.probabilities,
            split.labels,
            info.class_names,
            groups=split.groups,
            positive=positive,
            ordered=ordered,
        ),
    }
    if positive is not None:
        said = found.probabilities.argmax(axis=1) == positive
        made["positive"] = info.class_names[positive]
        made |= two_classes.rates(said, split.labels == positive, split.groups)
    if split.groups is not None:
        judged = per_group.measure(
            found.probabilities,
            split.labels,
            split.groups,
            info.class_names,
            positive=positive,
            ordered=ordered,
        )
        made |= {} if judged is None else {"per_group": judged}
    return made
