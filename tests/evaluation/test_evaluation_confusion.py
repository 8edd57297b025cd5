"""What evaluate keeps and prints of few and of thousands of classes."""

import json

import numpy as np
import pytest

from cnn_jax import files
from cnn_jax.cli import evaluate
from cnn_jax.data import DataInfo
from cnn_jax.evaluation import confusion
from cnn_jax.evaluation.evaluator import Evaluation
from cnn_jax.runs import shapes
from tests.tiny import data_json


@pytest.mark.parametrize(("classes", "most"), [(3, 200), (1000, 4_000_000), (1001, 40_000)])
def test_a_confusion_matrix_comes_back_and_is_small(classes, most, tmp_path):
    matrix = np.diag(np.arange(classes))
    matrix[0, 2] = 7
    record = {
        "class_names": [str(i) for i in range(classes)],
        **confusion.to_record(matrix),
    }
    files.write_json(tmp_path / "result.json", record)
    assert (tmp_path / "result.json").stat().st_size < most
    assert len((tmp_path / "result.json").read_text().splitlines()) < 3 * classes + 20
    read = json.loads((tmp_path / "result.json").read_text())
    np.testing.assert_array_equal(confusion.of_record(read), matrix)
    none = {**record, **confusion.to_record(np.zeros_like(matrix))}
    assert not confusion.of_record(none).any()


def test_json_has_a_line_for_a_list_of_numbers():
    value = {"a": [[1, None], [2.5, True]], "b": [], "c": {}, "d": ["x", 'ü"'], "e": [{"f": 1}]}
    text = files.json_text(value)
    assert json.loads(text) == value
    assert text.splitlines()[1:5] == ['  "a": [', "    [1, null],", "    [2.5, true]", "  ],"]
    assert json.loads(files.json_text({1: (2, 3)})) == {"1": [2, 3]}


def test_of_thousands_of_classes_the_least_accurate_are_printed():
    names = tuple(f"class {i}" for i in range(500))
    matrix = np.diag(np.full(500, 4))
    matrix[7, 8], matrix[7, 7] = 3, 1
    matrix[9] = 0
    info = DataInfo.from_dict(data_json(class_names=names))
    found = Evaluation(0.0, 0.0, 2000, matrix, np.zeros((1, 500)))
    record = evaluate.evaluation_record(found, info, 1)
    lines = evaluate.class_table(found, record["per_class_accuracy"], names).splitlines()
    assert len(lines) == 33
    assert lines[2].split() == ["class", "7", "4", "0.2500"]
    assert lines[-1] == "These are the 30 least accurate of 500 classes."
    assert not any("class 9 " in line for line in lines)  # it has no examples


def test_a_result_of_thousands_of_classes_is_read_again(tmp_path):
    classes = 1500
    names = tuple(f"class {i}" for i in range(classes))
    info = DataInfo.from_dict(data_json(class_names=names))
    matrix = np.diag(np.full(classes, 2))
    found = Evaluation(1.0, 0.0, 2 * classes, matrix, np.zeros((1, classes)))
    result = {"evaluation": {"test": evaluate.evaluation_record(found, info, 1)}}
    read = json.loads(files.json_text(result))
    assert shapes.CHECKS["result"](read)
    read["evaluation"]["test"]["confusion_counts"][0][1] = classes
    assert not shapes.CHECKS["result"](read)
