"""A full disk while something is written that was there before."""

import errno
import os

import numpy as np
import pytest

from cnn_jax.errors import RunError
from cnn_jax.reporting import projector, tensorboard
from cnn_jax.studies import report


@pytest.fixture
def full(monkeypatch):
    """Returns a function after which what is written does not reach the disk."""

    def refuse(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    return lambda: monkeypatch.setattr(os, "fsync", refuse)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_report_stays_as_it_was(tmp_path, full):
    report.write("old", tmp_path / "report.html")
    full()
    with pytest.raises(RunError, match=r"report.html cannot be written: No space left on device"):
        report.write("new", tmp_path / "report.html")
    assert content(tmp_path) == {"report.html": b"old"}


def test_the_projector_stays_as_it_was_and_the_file_is_named(tmp_path, full):
    values = (np.ones((2, 3)), np.zeros((2, 4, 4, 1), np.uint8), {"a": [1, 2], "b": [3, 4]})
    projector.write(tmp_path, *values)
    before = content(tmp_path)
    full()
    with pytest.raises(OSError, match="No space left on device") as caught:
        projector.write(tmp_path, *values)
    assert caught.value.filename == str(tmp_path / "projector" / "tensors.tsv")
    assert content(tmp_path) == before


def test_curves_name_their_file(tmp_path, full, monkeypatch):
    events = tensorboard.EventWriter(tmp_path, {})
    full()
    with pytest.raises(OSError, match="No space left on device") as caught:
        events.flush()
    assert str(tmp_path / "events.out") in str(caught.value.filename)
    monkeypatch.undo()
    events.close("interrupted")
