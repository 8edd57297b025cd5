"""The JSON files of a sweep: what is no record is one line that names the command."""

import json

import pytest

from cnn_jax.errors import RunError
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies import sides

RECORD = {"place": "0000", "setting": {"seed": 1}, "state": "complete", "value": 0.5, "seconds": 1}


@pytest.mark.parametrize(
    "changes", [{"value": None}, {"value": 10**400}, {"seconds": float("nan")}, {"setting": []}]
)
def test_a_record_of_another_kind_is_named(tmp_path, changes):
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps([RECORD]))
    assert sides.read(RunDirectory(tmp_path), "sweep") == [RECORD]
    path.write_text(json.dumps([{**RECORD, **changes}]))
    with pytest.raises(RunError, match=r"sweep\.json .*; made anew by: "):
        sides.read(RunDirectory(tmp_path), "sweep")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"later": 1}, "has --sweep.later, which this version does not know"),
        ({"trials": "many"}, "--sweep.trials"),
        ({"trials": -1}, "--sweep.trials"),
    ],
)
def test_the_options_of_a_plan_are_refused_in_words_of_our_own(changes, message):
    with pytest.raises(RunError) as error:
        sides.options_of({"sweep": changes}, "sweep")
    assert message in error.value.for_command_line
    assert "argument" not in str(error.value)


def test_the_experiment_of_a_plan_is_refused_in_words_of_our_own(tmp_path):
    plan = {"experiment": {"train": {"epochs": []}}}
    with pytest.raises(RunError) as error:
        sides.experiment_of(RunDirectory(tmp_path), plan)
    assert "'<'" not in str(error.value)
    assert "plan.json" in str(error.value)
