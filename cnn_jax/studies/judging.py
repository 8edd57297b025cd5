"""Judges groups of runs against the most accurate one that was validated on the same images."""

import dataclasses
import json
import math
from collections.abc import Sequence

from cnn_jax.sections import IMAGES
from cnn_jax.studies import seeds
from cnn_jax.studies.groups import Group
from cnn_jax.studies.summaries import METRICS
from cnn_jax.studies.ttest import SIGNIFICANCE, paired, welch

# Runs that differ in one of these were validated on different images.
VALIDATION_SETTINGS = (
    *IMAGES,
    "dataset.validation_split",
    "dataset.validation_fraction",
    "dataset.test_fraction",
    "dataset.fold",
)


def judge(groups: Sequence[Group], metric: str) -> list[Group]:
    """Returns the groups with a note on how each compares to the best of the same data.

    Only groups whose runs are all finished are judged. The test is the paired t-test where two
    groups have the same seeds, else Welch's; of folds it is the paired one over the folds, each
    with the mean of its seeds.

    Args:
        groups: the groups.
        metric: the key of METRICS that they are judged by, on the validation images.
    """
    notes: dict[int, str] = {}
    for same in by_images(groups):
        notes |= _notes(same, metric)
    return [dataclasses.replace(group, note=notes.get(id(group), "")) for group in groups]


def judged_by(groups: Sequence[Group]) -> str:
    """Returns the key of METRICS that groups are judged by: of the checkpoint that is evaluated.

    It is the metric that all of them were chosen by, or the accuracy.
    """
    chosen = {group.settings.get("train.select", "accuracy") for group in groups}
    return f"best_validation_{chosen.pop() if len(chosen) == 1 else 'accuracy'}"


def by_images(groups: Sequence[Group]) -> list[list[Group]]:
    """Returns the groups, those together that were validated on the same images."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(_validation_images(group), []).append(group)
    return list(found.values())


def _validation_images(group: Group) -> str:
    """Returns the settings that say which images the group was validated on."""
    return json.dumps([v for k, v in group.settings.items() if k in VALIDATION_SETTINGS])


def _notes(groups: Sequence[Group], metric: str) -> dict[int, str]:
    """Returns {id of the group: note} of groups that were validated on the same images."""
    judged = [group for group in groups if group.status == "finished" and group.values(metric)]
    if len(judged) < 2:
        return {}
    sign = 1 if METRICS[metric][1] else -1
    best = max(judged, key=lambda group: sign * group.spread(metric).mean)
    return {
        id(group): "best" if group is best else _against(best, group, metric) for group in judged
    }


def _against(best: Group, other: Group, metric: str) -> str:
    """Returns how a group compares to the best one, in a few words."""
    images = min(run.validation_images for run in best.runs + other.runs)
    if best.folds:
        return _by_fold(best, other, metric, images)
    first, second = (
        {run.settings["seed"]: run.metrics[metric] for run in group.runs} for group in (best, other)
    )
    if min(len(first), len(second)) < 2:
        return "one seed"
    if first.keys() == second.keys():
        test, p = "paired", paired([*first.values()], [second[seed] for seed in first], images)
    else:
        test, p = "Welch", welch([*first.values()], [*second.values()], images)
    return _said(p, test)


def _by_fold(best: Group, other: Group, metric: str, images: int) -> str:
    """Returns how a group compares to the best one, where both were trained on folds."""
    if best.folds.keys() != other.folds.keys():
        return "other folds"
    if len(best.folds) < 2:
        return "one fold"
    first, second = (
        [
            seeds.fold([run.metrics[metric] for run in runs if metric in run.metrics]).mean
            for runs in group.folds.values()
        ]
        for group in (best, other)
    )
    if any(map(math.isnan, first + second)):
        return ""
    count = int(str(best.settings["dataset.fold"]).partition("/")[2])
    return _said(paired(first, second, images, held_out=1 / (count - 1)), "paired by fold")


def _said(p: float, test: str) -> str:
    return f"{'tie' if p >= SIGNIFICANCE else 'less'} (p = {p:.2g}, {test})"
