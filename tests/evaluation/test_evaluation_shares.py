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
