"""What an accuracy is worth."""

import numpy as np

from cnn_jax.evaluation import shares

NAMES = ("cat", "dog", "owl")


def test_the_largest_class_and_its_share():
    assert shares.largest_class([3, 12, 5]) == (1, 0.6)
    assert shares.largest_class(np.array([4, 4])) == (0, 0.5)


def test_a_class_without_examples_need_not_be_predicted():
    confusion = np.array([[9, 0, 0], [2, 0, 0], [0, 0, 0]])
    assert shares.never_predicted(confusion) == [1]
    assert shares.never_predicted(np.eye(3, dtype=int)) == []


def test_lines_name_the_classes():
    assert shares.lines([9, 2, 0], [1], NAMES) == [
        "baseline   0.8182: always saying cat, the largest class",
        "never predicted: dog",
    ]
    many = shares.lines([1] * 40, range(1, 40), sorted(f"c{i}" for i in range(40)))
    assert many[1] == "never predicted: c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 and 29 more"


def test_of_thousands_of_classes_a_record_has_the_count_and_the_first():
    confusion = np.zeros((3000, 3000), int)
    confusion[:, 7] = 1
    record = shares.never_record(confusion)
    first = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]
    assert record == {"never_predicted": first, "never_predicted_count": 2999}
    names = [f"c{i:04}" for i in range(3000)]
    (_, line) = shares.lines([1] * 3000, first, names, shares.never_count(record))
    assert line.endswith("c0009, c0010 and 2989 more")
    assert shares.never_count({"never_predicted": [1, 2]}) == 2  # of an older version
    assert shares.never_count({}) is None
