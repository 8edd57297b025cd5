"""Classes are shown with numbers by size, and outputs stay in their order."""

import numpy as np
import pytest

from cnn_jax.reporting import counts, figures, order


@pytest.mark.parametrize(
    ("names", "want"),
    [
        (["1", "10", "11", "2", "3"], ["1", "2", "3", "10", "11"]),
        (["fold1 x", "fold10", "fold2"], ["fold1 x", "fold2", "fold10"]),
        (["007", "08", "1", "10", "9"], ["1", "007", "08", "9", "10"]),
        (["1a", "a", "a1b10", "a1b9"], ["1a", "a", "a1b9", "a1b10"]),
        (["cat", "dog", "Éland"], ["cat", "dog", "Éland"]),
        (["mild 10", "mild 2", "grave 1"], ["mild 10", "mild 2", "grave 1"]),  # a chosen order
        (["9" * 5000, "9" * 5001], ["9" * 5000, "9" * 5001]),
    ],
)
def test_numbers_go_by_size_where_names_were_sorted(names, want):
    assert [names[i] for i in order.shown(names)] == want


def test_tables_and_figures_show_that_order():
    names = ["1", "10", "2"]
    rows = counts.rows({"train": [5, 6, 7]}, names, 100)
    assert rows == [["1", 5], ["2", 7], ["10", 6]]

    def labels(figure):
        return [tick.get_text() for tick in figure.axes[0].get_yticklabels()]

    assert labels(figures.class_counts({"train": [5, 6, 7]}, names)) == ["1", "2", "10"]
    figure = figures.confusion_matrix(np.array([[11, 12, 13], [21, 22, 23], [31, 32, 33]]), names)
    assert labels(figure) == ["1", "2", "10"]
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells == ["11", "13", "12", "31", "33", "32", "21", "23", "22"]
