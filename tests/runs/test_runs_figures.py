"""Which images a figure shows, and what it says of them."""

import numpy as np
import pytest

from cnn_jax.data import DataInfo, Split
from cnn_jax.evaluation.evaluator import Evaluation
from cnn_jax.runs import figures
from tests.tiny import data_json

INFO = DataInfo.from_dict(data_json())


def examples(labels: list[int], second: list[float]) -> tuple[Evaluation, Split]:
    """Returns an evaluation of black images with some probabilities of the second class."""
    p = np.array(second, np.float32)
    images = np.zeros((len(labels), 8, 8, 1), np.uint8)
    ids = [f"folder/image {i}.png" for i in range(len(labels))]
    found = Evaluation(0.0, 0.0, len(labels), np.eye(2, dtype=int), np.stack([1 - p, p], axis=1))
    return found, Split(images, np.array(labels, np.int32), ids)


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_the_surest_errors_come_first_with_their_file_names():
    found, split = examples([0, 0, 1, 1, 0], [0.125, 0.625, 0.25, 0.75, 0.375])
    figure = figures.predictions_figure(found, split, INFO)
    assert texts(figure) == [
        "folder/image 2.png",
        "✗ cat 75%\ntrue: dog",
        "folder/image 1.png",
        "✗ dog 62%\ntrue: cat",
        "folder/image 4.png",
        "✓ cat 62%\ntrue: cat",
        "folder/image 3.png",
        "✓ dog 75%\ntrue: dog",
        "folder/image 0.png",
        "✓ cat 88%\ntrue: cat",
        "2 of 5 are wrong: the surest errors first, then the least sure of the others",
    ]


@pytest.mark.parametrize(
    ("labels", "title"),
    [
        ([1] * 30, "30 of 30 are wrong: the surest errors first"),
        ([0] * 3, "All 3 are right: the least sure ones first"),
        ([1], "1 of 1 is wrong: the surest errors first"),
    ],
)
def test_at_most_25_predictions_are_drawn(labels, title):
    figure = figures.predictions_figure(*examples(labels, [0.25] * len(labels)), INFO)
    assert texts(figure)[-1] == title
    assert len(figure.axes[0].images) == min(25, len(labels))


def test_ids_that_are_numbers_or_long_paths_are_short():
    found, split = examples([0, 0, 0], [0.1, 0.2, 0.3])
    split = Split(split.images, split.labels, ["17", f"{'deep/' * 9}a.png", "x" * 99])
    names = texts(figures.predictions_figure(found, split, INFO))[:-1:2]
    assert names[:2] == ["x" * 18 + "…" + "x" * 8, "…/a.png"]
    assert names[2] == "example 17"


def test_a_look_at_the_data_has_some_of_every_class():
    labels = np.array([0] * 77 + [1] * 3)
    chosen = figures.some_of_every_class(labels)
    assert np.bincount(labels[chosen]).tolist() == [22, 3]
    assert (np.diff(labels[chosen]) >= 0).all()
    assert len(set(chosen)) == 25
    np.testing.assert_array_equal(chosen, figures.some_of_every_class(labels))
    ten = figures.some_of_every_class(np.arange(200) % 10)
    assert np.bincount(ten % 10).tolist() == [3] * 5 + [2] * 5
    assert len(figures.some_of_every_class(labels[:4])) == 4
    many = figures.some_of_every_class(np.arange(2000) // 2) // 2
    assert len(set(many)) == 25
    assert {many[0], many[-1]} == {0, 999}


def test_the_projector_knows_each_image_by_its_id():
    found, split = examples([0, 1], [0.25, 0.25])
    columns = figures.projector_columns(found.probabilities, split, INFO)
    assert columns["id"] == ["folder/image 0.png", "folder/image 1.png"]
    assert columns["outcome"] == ["right", "wrong"]
