"""What evaluate keeps and prints of few and of thousands of classes."""

import json
from typing import Any

import numpy as np
import pytest

from cnn_jax import files
from cnn_jax.data import DataInfo, Split
from cnn_jax.evaluation import confusion, records
from cnn_jax.evaluation.evaluator import Evaluation
from cnn_jax.reporting import evaluations
from cnn_jax.runs import predictions, shapes
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


def evaluated(classes: int) -> dict[str, Any]:
    """Returns the record of an evaluation with two examples of each class, and one error."""
    labels = np.repeat(np.arange(classes, dtype=np.int32), 2)
    p = np.eye(classes, dtype=np.float32)[labels]
    p[14] = p[0]
    matrix = np.zeros((classes, classes), int)
    np.add.at(matrix, (labels, p.argmax(axis=1)), 1)
    info = DataInfo.from_dict(data_json(class_names=[f"class {i}" for i in range(classes)]))
    split = Split(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, [""] * len(labels))
    right = 1 - 1 / len(labels)
    return records.record(Evaluation(0.5, right, len(labels), matrix, p), split, info, 1)


def test_of_many_classes_those_that_are_found_least_are_printed():
    lines = evaluations.table(evaluated(150), range(150)).splitlines()
    assert len(lines) == 33
    assert lines[2].startswith("class 7 ")
    assert lines[-1].startswith("These are the 30 of 150 classes with the lowest recall;")
    assert len(evaluations.table(evaluated(100), range(100)).splitlines()) == 102


def test_a_result_of_thousands_of_classes_is_read_again():
    read = json.loads(files.json_text({"evaluation": {"test": evaluated(1001)}}))
    assert shapes.CHECKS["result"](read)
    read["evaluation"]["test"]["confusion_counts"][0][1] = 1001
    assert not shapes.CHECKS["result"](read)


def test_a_table_of_predictions_has_no_column_for_each_of_many_classes(tmp_path):
    info = DataInfo.from_dict(data_json(class_names=[f"c{i}" for i in range(101)]))
    p = np.zeros((2, 101), np.float32)
    p[0, 5], p[0, 6], p[1, 7] = 0.75, 0.25, 1.0
    split = Split(np.zeros((2, 1, 1, 1), np.uint8), np.array([6, 7], np.int32), ["a", "b"])
    found = Evaluation(0.0, 0.5, 2, np.zeros((101, 101), int), p)
    path = predictions.save(tmp_path, "test", found, split, info)
    assert path.read_text().splitlines() == [
        "id,label,predicted,p_label,p_predicted",
        "a,c6,c5,0.25,0.75",
        "b,c7,c7,1,1",
    ]
