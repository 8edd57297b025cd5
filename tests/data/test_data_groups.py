"""Examples that belong together stay together, and classes keep their shares as far as they can."""

import dataclasses

import numpy as np
import pytest

from cnn_jax.data import carve, groups
from cnn_jax.data.splits import Split
from cnn_jax.errors import RunError, UsageError


def made(patients: int, images: int, seed: int = 0, rare: float = 0.5) -> Split:
    """Returns images of patients, each patient of one class."""
    random = np.random.default_rng(seed)
    label = (random.random(patients) < rare).astype(np.int32)
    ids = [f"p{p:03d}_{i}.png" for p in range(patients) for i in range(images)]
    pixels = np.zeros((len(ids), 2, 2, 1), np.uint8)
    return Split(pixels, np.repeat(label, images), ids, [name[:4] for name in ids])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rare", [0.5, 0.1])
def test_no_group_is_in_two_splits_and_the_shares_hold(seed, rare):
    split = made(60, 3, seed, rare)
    notes: list[str] = []
    parts = carve.hold_out(split, {"test": 0.2, "validation": 0.2}, notes)
    sets = [set(part.groups or ()) for part in parts.values()]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 60
    assert sum(map(len, parts.values())) == len(split)
    for name in ("test", "validation"):
        assert abs(len(parts[name]) - 36) <= 3
        assert abs(parts[name].labels.mean() - split.labels.mean()) < 0.07
    assert "whole groups" in notes[0]
    again = carve.hold_out(split, {"test": 0.2, "validation": 0.2}, [])
    assert all(parts[name].ids == again[name].ids for name in parts)


def test_the_order_of_the_examples_changes_nothing():
    split = made(30, 2)
    order = np.random.default_rng(1).permutation(len(split)).tolist()
    own = list(split.groups or ())
    more = {"size": 12, "needed": groups.in_enough(split.labels, own, 2), "later": 1}
    one = groups.hold_out(split.labels, own, **more)
    other = groups.hold_out(split.labels[order], [own[i] for i in order], **more)
    assert {split.ids[i] for i in one} == {split.ids[order[i]] for i in other}


@pytest.mark.parametrize("share", [0.05, 0.1, 0.45])
@pytest.mark.parametrize("images", [[1] * 3, [2, 9, 30], [1, 1, 1, 50]])
def test_a_class_of_few_groups_has_one_in_every_split(share, images):
    rare = np.repeat(np.arange(len(images)), images)  # the patients of each rare image
    patients = np.concatenate([np.arange(100, 197), rare])
    labels = np.repeat([0, 1], [97, len(rare)]).astype(np.int32)
    own = [f"p{patient}" for patient in patients]
    pixels = np.zeros((len(labels), 1, 1, 1), np.uint8)
    split = Split(pixels, labels, list(map(str, range(len(labels)))), own)
    parts = carve.hold_out(split, {"test": share, "validation": share}, [])
    for part in parts.values():
        assert set(part.labels) == {0, 1}
    sets = [set(part.groups or ()) for part in parts.values()]
    assert sum(map(len, sets)) == len(set.union(*sets)) == len(set(own))


def test_groups_that_leave_nothing_are_refused():
    split = dataclasses.replace(made(4, 3), groups=["one"] * 12)
    with pytest.raises(RunError, match="no two groups"):
        carve.hold_out(split, {"validation": 0.2}, [])


def test_a_group_in_two_given_splits_is_refused():
    split = made(6, 2)
    of_id = groups.of_pattern(r"^(p\d+)_")
    parts = {"train": split, "validation": made(2, 2)}
    with pytest.raises(RunError, match=r"train and validation share 2 groups \(p000, p001\)"):
        groups.assign(parts, of_id, {}, [])
    with pytest.raises(RunError, match=r"train and test share 1 group \(p003\)"):
        groups.assign({"train": split}, of_id, {"test": ["p003_9.png"]}, [])
    notes: list[str] = []
    found = groups.assign({"train": split}, of_id, {"test": ["p103_9.png"]}, notes)
    assert (found["train"].groups or ())[:3] == ["p000", "p000", "p001"]
    assert notes == ["groups: 7, each in one split"]


@pytest.mark.parametrize(
    ("pattern", "name", "said"),
    [("(", "", "is no regular expression"), (r"^q(\d)", "p1", "matches nothing in 'p1'")],
)
def test_a_pattern_that_serves_nothing_is_refused(pattern, name, said):
    with pytest.raises((UsageError, RunError), match=said):
        groups.of_pattern(pattern)(name)


@pytest.mark.parametrize(
    ("names", "noted"),
    [
        ([f"train/sick/patient{p:02d}_{i}.png" for p in range(9) for i in range(3)], True),
        ([f"train/cats/cat.{i}.jpg" for i in range(40)], False),
        ([f"IMG_{i:04d}.jpg" for i in range(40)], False),
        ([f"{i:04d}.png" for i in range(40)], False),
        ([f"a/{chr(97 + i)}.png" for i in range(20)], False),
    ],
)
def test_names_that_count_images_of_one_thing_get_a_note(names, noted):
    found = groups.looks_grouped(names)
    assert bool(found) == noted
    assert all("--dataset.group=REGEX" in line for line in found)


def test_labels_at_random_per_patient_cannot_be_learnt_from_other_patients():
    """Of each patient's images a nearest neighbour knows the patient, and nothing else."""
    random = np.random.default_rng(3)
    patients, images = 80, 4
    face = random.normal(size=(patients, 16))
    features = np.repeat(face, images, 0) + 0.1 * random.normal(size=(patients * images, 16))
    split = made(patients, images, seed=4)

    def accuracy(split: Split) -> float:
        parts = carve.hold_out(split, {"validation": 0.25}, [])
        place = {name: i for i, name in enumerate(split.ids)}
        train, held = (features[[place[n] for n in parts[k].ids]] for k in ("train", "validation"))
        nearest = ((held[:, None] - train[None]) ** 2).sum(-1).argmin(1)
        return float((parts["train"].labels[nearest] == parts["validation"].labels).mean())

    assert accuracy(dataclasses.replace(split, groups=None)) > 0.95
    assert accuracy(split) < 0.7
