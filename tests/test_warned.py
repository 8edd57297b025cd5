"""Warnings on the command line."""

import warnings

import pytest

from cnn_jax.cli import warned

WRITING = (
    "Error writing persistent compilation cache entry for 'jit_{}': OSError: [Errno 28] No space "
    "left on device"
)
READING = (
    "Error reading persistent compilation cache entry for 'jit_{}': error: Error -5 while "
    "decompressing data: incomplete or truncated stream"
)


@pytest.fixture
def shown(tmp_path, capsys):
    """Returns a function that warns of some things and returns what is printed."""

    def shown(*messages):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warned.show_in_lines(tmp_path)
            for message in messages:
                warnings.warn(message, stacklevel=1)
        return capsys.readouterr().err

    return shown


def test_a_warning_is_one_printable_line(shown):
    assert shown("of two\nlines\x1b[2J") == "warning: of two\\nlines\\x1b[2J\n"


def test_programs_that_cannot_be_kept_are_said_once(shown, tmp_path):
    assert shown(*(WRITING.format(name) for name in "abc")) == (
        f"warning: compiled programs cannot be kept in {tmp_path}: No space left on device; each "
        "start makes them anew; free some space, or set CNN_JAX_CACHE\n"
    )


def test_damaged_programs_are_removed_and_said_once(shown, tmp_path):
    for name in ("jit_a-12-cache", "jit_a-34-cache", "jit_b-56-cache", "jit_ab-7-cache"):
        (tmp_path / name).touch()
    assert shown(READING.format("a"), READING.format("b")) == (
        f"warning: compiled programs in {tmp_path} are damaged, and made anew\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["jit_ab-7-cache"]
