"""Networks that say one class only, and what that alone is worth: the largest class's share.

Such a run has learnt nothing, so its accuracy stands for no setting: it is shown, and not compared.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from cnn_jax.evaluation import selection, shares
from cnn_jax.runs.directory import RunDirectory

COLLAPSED = "collapsed"
MEANING = "collapsed: the network says one class only; it is shown and not compared"


def has_collapsed(history: Sequence[Mapping[str, Any]], counts: Sequence[int]) -> bool:
    """Returns whether a network says one class only after its last epoch, where there are more.

    An accuracy that is the share of the largest class proves nothing; the classes that it says are
    counted, among those that validation has examples of. Runs of older versions did not count
    them: of these it returns False. Where AUC or loss choose, a network may rank the images of a
    rare class well and yet never say it: they show by themselves what it has learnt.

    Args:
        history: the records of the run's epochs.
        counts: the validation examples of each class.
    """
    if history and selection.metric_of(history[-1]) in ("auc", "loss"):
        return False
    never = shares.never_count(history[-1]) if history else None
    there = sum(count > 0 for count in counts)
    return never is not None and there > 1 and there - never <= 1


def validation_counts(data: Mapping[str, Any]) -> list[int]:
    """Returns the validation examples of each class; [] where data.json does not say them."""
    if data.get("multilabel"):  # an image counts for each of its findings
        return []
    of_splits = data.get("class_counts")
    counts = of_splits.get("validation") if isinstance(of_splits, dict) else None
    whole = isinstance(counts, list) and all(isinstance(count, int) for count in counts)
    return counts if counts is not None and whole else []


def largest_share(counts: Sequence[int]) -> float | None:
    """Returns the share of the largest class; None where there is no example."""
    return shares.largest_class(counts)[1] if sum(counts) else None


def largest_share_of(sweep: pathlib.Path) -> float | None:
    """Returns the largest class's share of the images that all runs of a sweep validated on.

    It is the mean over folds, where there are any. It is None where there is no run yet, or where
    the runs were validated on different images.
    """
    of_folds: dict[str, set[tuple[int, ...]]] = {}
    for path in sweep.glob("trials/*/seed*/data.json"):
        counts = validation_counts(RunDirectory(path.parent).read("data", {}))
        of_folds.setdefault(path.parent.name.partition("_")[2], set()).add(tuple(counts))
    found = [largest_share(counts.pop()) for counts in of_folds.values() if len(counts) == 1]
    known = [share for share in found if share is not None]
    return sum(known) / len(known) if known and len(known) == len(of_folds) else None


def level(share: float) -> str:
    """Returns the line that a table of accuracies is read against."""
    return f"largest class alone: {share:.4f} of the validation images"
