"""Judges groups of runs against the most accurate one that was validated on the same images."""

import dataclasses
import json
from collections.abc import Sequence

from cnn_jax.studies.groups import Group
from cnn_jax.studies.ttest import SIGNIFICANCE, paired, welch

# Runs that differ in one of these were validated on different images.
VALIDATION_SETTINGS = (
    "dataset.name",
    "dataset.path",
    "dataset.label",
    "dataset.validation_split",
    "dataset.validation_fraction",
    "dataset.test_fraction",
)
_METRIC = "validation_accuracy"


def judge(groups: Sequence[Group]) -> list[Group]:
    """Returns the groups with a note on how each compares to the most accurate of the same data.

    Only groups whose runs are all finished are judged, by the validation accuracy of the last
    epoch. The test is the paired t-test where two groups have the same seeds, else Welch's.
    """
    notes: dict[int, str] = {}
    for images in {_validation_images(group) for group in groups}:
        notes |= _notes([group for group in groups if _validation_images(group) == images])
    return [dataclasses.replace(group, note=notes.get(id(group), "")) for group in groups]


def _validation_images(group: Group) -> str:
    """Returns the settings that say which images the group was validated on."""
    return json.dumps([v for k, v in group.settings.items() if k in VALIDATION_SETTINGS])


def _notes(groups: Sequence[Group]) -> dict[int, str]:
    """Returns {id of the group: note} of groups that were validated on the same images."""
    judged = [group for group in groups if group.status == "finished" and group.values(_METRIC)]
    if len(judged) < 2:
        return {}
    best = max(judged, key=lambda group: group.spread(_METRIC).mean)
    return {id(group): "best" if group is best else _against(best, group) for group in judged}


def _against(best: Group, other: Group) -> str:
    """Returns how a group compares to the best one, in a few words."""
    images = min(run.validation_images for run in best.runs + other.runs)
    first, second = (
        {run.settings["seed"]: run.metrics[_METRIC] for run in group.runs}
        for group in (best, other)
    )
    if min(len(first), len(second)) < 2:
        return "one seed"
    if first.keys() == second.keys():
        test, p = "paired", paired([*first.values()], [second[seed] for seed in first], images)
    else:
        test, p = "Welch", welch([*first.values()], [*second.values()], images)
    return f"{'tie' if p >= SIGNIFICANCE else 'less'} (p = {p:.2g}, {test})"
