"""What is printed: control characters, terminals that know little, readers that end."""

import errno
import io
import sys

import pytest

from cnn_jax import text
from cnn_jax.cli import streams
from cnn_jax.progress import Progress

NAMES = [
    ("a\x1b[2Jb", r"a\x1b[2Jb"),
    ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
    ("one\rtwo", r"one\rtwo"),
    ("\x9b31m", r"\x9b31m"),
    ("gpj\u202e.png", r"gpj\u202e.png"),
    ("not-utf8-\udcff", r"not-utf8-\udcff"),
    ("naïve 猫 パン", "naïve 猫 パン"),
]


class Gone(io.StringIO):
    """A terminal that goes away after some writes."""

    def __init__(self, writes: int, number: int):
        super().__init__()
        self.left, self.number = writes, number

    def write(self, words: str) -> int:
        self.left -= 1
        if self.left < 0:
            raise OSError(self.number, "gone")
        return super().write(words)


@pytest.mark.parametrize(("name", "shown"), NAMES)
def test_control_characters_are_shown_and_not_sent(name, shown, capsys):
    assert text.printable(name) == shown
    assert text.one_line(f"{name}\nb") == rf"{shown}\nb"
    with streams.safe():
        print("class", name)
        print("class", name, file=sys.stderr)
    assert capsys.readouterr() == (f"class {shown}\n", f"class {shown}\n")


def test_a_bar_still_goes_back_to_the_start_of_its_line():
    output = io.StringIO()
    progress = Progress(4, 2, stream=streams.Stream(output), bar=True)  # pyright: ignore
    progress.update(1, 0.5, 0.5)
    progress.message("a line")
    progress.close()
    assert "\ra" not in output.getvalue().replace("\ra line", "")
    assert r"\r" not in output.getvalue()
    assert r"\x1b" not in output.getvalue()


def test_a_terminal_that_knows_ascii_only_gets_escapes():
    raw = io.BytesIO()
    stream = streams.Stream(io.TextIOWrapper(raw, encoding="ascii"))
    print("0.5 ± 0.1 ✓ ü", file=stream)  # pyright: ignore
    stream.flush()
    assert raw.getvalue() == rb"0.5 \xb1 0.1 \u2713 \xfc" + b"\n"


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO, errno.ENOSPC])
def test_a_failed_write_turns_a_stream_off_and_nothing_else(number, monkeypatch):
    gone = Gone(1, number)
    monkeypatch.setattr(sys, "stderr", gone)
    with streams.safe():
        sys.stderr.write("first\n")
        for _ in range(3):
            print("more", file=sys.stderr, flush=True)
        assert not sys.stderr.isatty()
    assert sys.stderr is gone
    assert gone.getvalue() == "first\n"


@pytest.mark.parametrize("closed", [None, "closed"])
def test_a_stream_that_was_closed_takes_everything(closed, monkeypatch):
    stream = None
    if closed:
        stream = io.StringIO()
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    with streams.safe():
        print("lost", file=sys.stderr, flush=True)


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        (("train", "--train.epochs=1", "--dataset.train_examples=100"), errno.EIO, 0),
        (("help",), errno.ENOSPC, 1),
    ],
)
def test_only_a_command_whose_result_is_printed_fails_with_stdout(
    main, command, number, code, capsys, monkeypatch, tmp_path
):
    settings = ["--model.name=mlp", "--dataset.image_size=none", "--logging.projector_images=0"]
    more = [*settings, "--workdir=run"] if command[0] == "train" else []
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Gone(0, number))
        assert main(*command, *more) == code
    if code:
        assert capsys.readouterr().err == "error: standard output: gone\n"
    else:
        assert '"finished"' in (tmp_path / "run" / "status.json").read_text()
