"""The side files of a run may be empty, torn, missing or of another shape after a power cut."""

import json

import pytest

import cnn_jax
from cnn_jax import files
from cnn_jax.errors import UserError
from cnn_jax.runs import sides
from cnn_jax.runs.directory import RunDirectory

NAMES = ("status", "history", "result", "data", "environment", "config", "code", "weights")
CONTENTS = {
    "empty": b"",
    "torn": b'{"status": "fin',
    "null": b"null",
    "a list": b'["x", 1, null]',
    "lists": b"[[], []]",
    "numbers": b'{"evaluation": 3, "status": 1, "model": 2}',
    "a number": b"7",
    "a number that no float can hold": (
        b'[{"validation_accuracy": 1'
        + b"0" * 400
        + b', "step": 1, "seconds": 1'
        + b"0" * 400
        + b"}]"
    ),
    "NaN": b"NaN",
    "deep": b"[" * 100_000,
    "not text": b"\xff\xfe\x00",
}


@pytest.fixture
def warned(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(sides.logging, "warning", lambda form, *rest: lines.append(form % rest))
    return lines


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_no_damaged_file_breaks_a_reader(content, finished, main, capsys, warned):
    for name in NAMES:
        path = finished / f"{name}.json"
        before = path.read_bytes() if path.exists() else None
        path.write_bytes(content)
        for command in (["report", str(finished)], ["compare", str(finished)]):
            code = main(*command)
            err = capsys.readouterr().err
            assert code == 0 or err.count("error: ") == 1, (name, command, err)
        try:
            run = cnn_jax.load(finished)
        except UserError as error:
            problem = str(error)
            assert f"{name}.json" in problem, name
        else:
            assert len(run.history) == 3
            assert code == 0 or name in str(warned)
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)


@pytest.mark.parametrize("content", [b"", b"null", None], ids=["empty", "null", "missing"])
def test_training_makes_damaged_files_anew(content, finished, main, warned):
    names = ("status", "history", "result", "data", "environment", "config")
    before = {name: json.loads((finished / f"{name}.json").read_text()) for name in names}
    for name in names:
        path = finished / f"{name}.json"
        path.unlink() if content is None else path.write_bytes(content)
    assert main("train", f"--workdir={finished}") == 0
    after = {name: json.loads((finished / f"{name}.json").read_text()) for name in names}
    for name in ("history", "data", "config"):
        assert after[name] == before[name]
    assert after["status"]["status"] == "finished"
    assert after["result"]["training"]["best_epoch"] == before["result"]["training"]["best_epoch"]
    for name in names:
        assert (content is None) or any(f"{name}.json" in line for line in warned), name


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    path = tmp_path / "status.json"
    files.write_json(path, 1)
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, 2)
    assert files.read_json(path) == 1
    assert [x.name for x in tmp_path.iterdir()] == ["status.json"]


def test_a_status_that_is_lost_is_unknown(tmp_path):
    assert RunDirectory(tmp_path).status() is None
