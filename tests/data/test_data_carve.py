"""Holding out: a class that is rare still gets its examples everywhere."""

import numpy as np
import pytest

from cnn_jax.data import Split, carve, splits
from cnn_jax.errors import RunError

BOTH = {"test": 0.1, "validation": 0.1}


def examples(*counts: int) -> Split:
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Split(images, labels, [f"image {i}" for i in range(len(labels))])


def counts(parts: dict[str, Split], classes: int) -> dict[str, list[int]]:
    return {
        name: np.bincount(part.labels, minlength=classes).tolist() for name, part in parts.items()
    }


def test_three_per_cent_positives_are_in_every_split():
    whole = examples(97, 3)
    parts = carve.hold_out(whole, BOTH, [])
    assert counts(parts, 2) == {"train": [79, 1], "test": [9, 1], "validation": [9, 1]}
    assert sorted(i for part in parts.values() for i in part.ids) == sorted(whole.ids)
    again = carve.hold_out(whole, BOTH, [])
    assert all(parts[name].ids == again[name].ids for name in parts)


def test_what_leaves_no_class_out_is_as_it_always_was():
    whole = examples(200, 60, 40)
    stay, test = splits.hold_out(whole.labels, whole.ids, 30)
    rest = splits.take(whole, stay)
    _, validation = splits.hold_out(rest.labels, rest.ids, 30)
    parts = carve.hold_out(whole, BOTH, [])
    assert parts["test"].ids == splits.take(whole, test).ids
    assert parts["validation"].ids == splits.take(rest, validation).ids


@pytest.mark.parametrize(
    ("classes", "shares"),
    [
        ((500, 3, 3, 3, 3), BOTH),
        ((40, 40, 3), {"test": 0.45, "validation": 0.45}),  # one split would take them all
        ((30, 2), {"validation": 0.9}),
        ((5,) * 40, {"validation": 0.1}),  # 20 for 40 classes: they become 40
        ((3,) * 7, {"test": 0.01, "validation": 0.01}),
    ],
)
def test_every_class_that_has_enough_is_in_every_split(classes, shares):
    parts = carve.hold_out(examples(*classes), shares, notes := [])
    found = counts(parts, len(classes))
    assert min(map(min, found.values())) >= 1
    assert sum(map(sum, found.values())) == sum(classes)
    for name, note in zip(shares, notes, strict=True):
        assert note.startswith(f"{name}: {len(parts[name])} of the ")


def test_a_class_that_has_too_few_is_warned_of(caplog):
    whole = examples(98, 2)
    parts = carve.hold_out(whole, BOTH, notes := [])
    carve.check_classes("made", ("neg", "pos"), whole, parts, notes)
    assert counts(parts, 2)["train"] == [78, 2]
    for split in BOTH:
        assert f"made: {split} has no example of the class 'pos'" in caplog.text
        assert f"{split} has no example of 'pos'" in notes


def test_a_class_of_which_nothing_is_left_is_refused():
    whole = examples(9, 1)
    parts = carve.hold_out(whole, {"validation": 0.9}, [])
    with pytest.raises(RunError, match="nothing is left to train on of the class 'b'"):
        carve.check_classes("made", ("a", "b"), whole, parts, [])
