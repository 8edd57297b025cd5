"""What is said of files that other libraries could not read."""

import errno
import json
import os
import zipfile

import pytest

from cnn_jax.errors import ContentError, RunError, plain_reason


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ContentError("two layers are called conv1"), "two layers are called conv1"),
        (RunError("--seed=1 is wrong"), "seed=1 is wrong"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), os.strerror(errno.EACCES)),
        (KeyError("conv1/kernel"), "it has no conv1/kernel"),
        (OSError("Unable to synchronously open file"), "its content is not what such a file holds"),
        (zipfile.BadZipFile("Bad magic number"), "its content is not what such a file holds"),
    ],
)
def test_the_words_are_ours_or_the_systems(error, said):
    assert plain_reason(error) == said


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{", b""])
def test_what_json_and_unicode_say_is_kept_back(content):
    with pytest.raises(ValueError) as caught:  # noqa: PT011, of two kinds
        json.loads(content.decode())
    assert plain_reason(caught.value) == "its content is not what such a file holds"
