"""The benchmark of faults: what it takes for a fault, its damages, and that it runs."""

import json
import random
import subprocess
import sys

import pytest

from benchmarks import faults
from benchmarks.harm import damages
from benchmarks.harm.bench import check_same
from benchmarks.harm.ends import Ended, Fault
from tests.conftest import ROOT

TRACEBACK = (
    'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\nValueError: x\n'
)


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [
        (Ended((), 0, "done\n", "warning: a file is left out\n"), "success"),
        (Ended((), 2, "", "error: no such flag\n"), "refused"),
        (Ended((), 1, "", "warning: w\nerror: the disk is full\n"), "refused"),
        (Ended((), -9, "", "", (9,)), "signal"),
        (Ended((), 143, "", "", (15,)), "signal"),
        (Ended((), 130, "", "error: interrupted\n", (2, 2)), "signal"),
    ],
)
def test_ends_that_a_command_may_have(ended, outcome):
    assert ended.outcome() == outcome


@pytest.mark.parametrize(
    "ended",
    [
        Ended((), 1, "", TRACEBACK),
        Ended((), 0, "", f"warning: w\n{TRACEBACK}"),
        Ended((), 0, "", "a.py:3: UserWarning: Glyph 12 missing\n"),
        Ended((), 1, "", ""),
        Ended((), 1, "", "error: a\nerror: b\n"),
        Ended((), 1, "", "error: KeyError: 'a'\n"),
        Ended((), 0, "", "error: a\n"),
        Ended((), 3, "", "error: a\n"),
        Ended((), -7, "", ""),
        Ended((), -9, "", "", (15,)),
        Ended((), 0, "", "", late=True),
    ],
)
def test_ends_that_are_faults(ended):
    with pytest.raises(Fault):
        ended.outcome()


def test_other_bits_are_a_fault():
    check_same({"state": "a"}, {"state": "a"}, "resumed")
    with pytest.raises(Fault, match="resumed: state: b not a"):
        check_same({"state": "b"}, {"state": "a"}, "resumed")


def test_damages_are_drawn_from_the_seed_and_change_what_they_harm(tmp_path):
    value = {"a": [1, {"b": 2}], "c": "d"}
    for seed in range(200):
        texts = [damages.harm_json(random.Random(seed), value) for _ in range(2)]
        assert texts[0] == texts[1]
        path, other = tmp_path / "file.json", tmp_path / "other"
        path.write_text(json.dumps(value))
        other.write_text("other")
        assert damages.harm_file(random.Random(seed), path, other).startswith("file.json ")
        damages.put_back(other, path)
        assert path.read_text() == "other"
        path.unlink()
    assert value == {"a": [1, {"b": 2}], "c": "d"}


def test_the_kind_of_a_try_follows_from_seed_and_number():
    kinds = list(faults.KINDS)
    drawn = [faults.kind_of(number, 0, kinds) for number in range(500)]
    assert drawn == [faults.kind_of(number, 0, kinds) for number in range(500)]
    assert set(drawn) == set(kinds)


def test_it_runs_and_writes_counts(tmp_path, capsys):
    assert faults.main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(faults.KINDS)
    with pytest.raises(SystemExit):
        faults.main(["--kinds=nosuch"])
    # In a process of its own: JAX has computed in this one, so it cannot be forked.
    words = [f"--keep={tmp_path / 'keep'}", f"--output={tmp_path / 'counts.json'}"]
    program = [sys.executable, str(ROOT / "benchmarks" / "faults.py")]
    done = subprocess.run(
        [*program, "--tries=1", "--kinds=presets", *words],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts["tries"] == 1
    assert counts["commands"] == sum(
        number
        for name, number in counts["kinds"]["presets"].items()
        if name in ("success", "refused")
    )
    assert not any((tmp_path / "keep").iterdir())
