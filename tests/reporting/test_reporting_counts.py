import numpy as np

from cnn_jax.reporting import counts


def test_how_unequal_the_classes_are_is_one_sentence():
    names = ["cat", "dog"]
    assert counts.ratio({"train": [77, 3]}, names) == "25.7 : 1 in train (cat 77, dog 3)"
    assert counts.ratio({"train": [5, 5]}, names) == "every class has 5 training images"
    assert counts.ratio({"train": [1, 1]}, names) == "every class has 1 training image"
    said = counts.ratio({"train": [5, 0]}, names)
    assert said == "1 of 2 classes have no training image (cat 5, dog 0)"
    assert counts.ratio({"train": [90_000, 3]}, names).startswith("30,000 : 1")


def test_of_many_classes_the_largest_and_the_smallest_have_a_row():
    sizes = {"train": np.arange(1000), "test": np.ones(1000, int)}
    names = [f"class {i}" for i in range(1000)]
    rows = counts.rows(sizes, names, 4)
    assert rows == [
        ["class 999", 999, 1],
        ["class 998", 998, 1],
        ["class 1", 1, 1],
        ["class 0", 0, 1],
    ]
    few = counts.rows({"train": [3, 4]}, ["a", "b"], 4)
    assert few == [["a", 3], ["b", 4]]
