"""Arrays that are written part by part."""

import errno
import os

import numpy as np
import pytest

from cnn_jax.data.array_file import ArrayFile

ROWS = np.arange(24, dtype=np.float32).reshape(6, 2, 2)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_it_is_what_numpy_reads(tmp_path):
    path = tmp_path / "a.npy"
    with ArrayFile(path, ROWS.shape, np.float32) as file:
        file.write(3, ROWS[3:])
        file.write(0, ROWS[:2])
        file.sync()
        found = np.load(path, mmap_mode="r")
        np.testing.assert_array_equal(found[[0, 1, 3, 4, 5]], ROWS[[0, 1, 3, 4, 5]])
    with ArrayFile(path, ROWS.shape, np.float32) as file:  # gone on with
        file.write(2, ROWS[2])
    np.testing.assert_array_equal(np.load(path), ROWS)


def test_it_can_be_shortened(tmp_path):
    path = tmp_path / "a.npy"
    with ArrayFile(path, (10_000, 2, 2), np.uint8) as file:
        file.write(0, ROWS[:5])
        file.shorten(5)
    np.testing.assert_array_equal(np.load(path), ROWS[:5])
    assert path.stat().st_size < 1000


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_found_at_once_and_nothing_stays(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, "no room")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(OSError, match="no room"):
        ArrayFile(tmp_path / "a.npy", ROWS.shape, np.float32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, None])
def test_a_file_system_that_reserves_nothing(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, "not supported") if number else AttributeError

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with ArrayFile(tmp_path / "a.npy", ROWS.shape, np.float32) as file:
        file.write(0, ROWS)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), ROWS)
