"""Text for people: paths, commands, durations, and what may have been meant."""

import contextlib
import difflib
import pathlib
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence

_DIGITS = re.compile("([0-9]+)")
# Control characters but tab and line feed, lone surrogates (bytes of a file name that are not
# text), and the characters that break lines or turn the direction of writing.
_CONTROL = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")


def printable(words: str) -> str:
    r"""Returns text with control characters as \x1b and so on; tabs and line feeds stay."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), words)


def one_line(words: str) -> str:
    r"""Returns text that may hold names of files or classes as one printable line."""
    return printable(words).replace("\n", "\\n")


def shown(path: pathlib.Path) -> str:
    """Returns a path as a person would type it from here."""
    with contextlib.suppress(ValueError):
        relative = str(path.relative_to(pathlib.Path.cwd()))
        return f"./{relative}" if relative.startswith("~") else relative  # that is no home
    return str(path)


def file_name(words: str, default: str) -> str:
    """Returns words as a part of a file's name: letters, digits, dots, dashes and lines below.

    Args:
        words: such as the name of an example.
        default: what it is where nothing is left of them.
    """
    return re.sub(r"[^\w.-]+", "_", words).strip("._")[:80] or default


def whole_number(words: str) -> int | None:
    """Returns the number that up to 18 decimal digits write, or None; Python refuses thousands."""
    return int(words) if words.isdecimal() and len(words) <= 18 else None


def plural(count: int, noun: str) -> str:
    """Returns "1 epoch", "2 epochs": a count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def natural_key(name: str) -> list[tuple[int, str]]:
    """Returns what sorts names by their text, and by the size of the numbers in it."""
    found = []
    for i, part in enumerate(_DIGITS.split(name)):
        digits = part.lstrip("0")
        found.append((len(digits), digits) if i % 2 else (0, part))
    return found


def duration(seconds: float) -> str:
    """Returns "H:MM:SS"."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def python() -> str:
    """Returns the word that starts the Python that runs now."""
    on_path = shutil.which("python") == sys.executable
    return "python" if on_path else shown(pathlib.Path(sys.executable))


def program() -> list[str]:
    """Returns the words that start the command line from here as it was started this time.

    They are `python launch.py` in the repository, `cnn-jax` where that command was typed, else
    `python -m cnn_jax`, with the Python that runs now.
    """
    script = pathlib.Path(sys.argv[0])
    if script.resolve().name == "launch.py":  # also through a link of another name
        return [python(), shown(script.resolve())]
    if script.name == "cnn-jax":
        found = shutil.which("cnn-jax")  # it may be that of another environment
        is_this = found is not None and pathlib.Path(found).resolve() == script.resolve()
        return ["cnn-jax" if is_this else shown(script.resolve())]
    return [python(), "-m", "cnn_jax"]


def as_typed(command: Sequence[str]) -> list[str]:
    """Returns a start's command (Python, script, arguments) as a person types it."""
    _, script, *arguments = command
    name = pathlib.PurePath(script).name
    if name == "__main__.py":
        return ["python", "-m", "cnn_jax", *arguments]
    return [name, *arguments] if name == "cnn-jax" else ["python", script, *arguments]


def command_line(command: str, path: pathlib.Path, *more: str, code: Iterable[str] = ()) -> str:
    """Returns the shell command that goes on with the run in a directory.

    Args:
        command: the name of the command.
        path: the directory.
        *more: further arguments.
        code: files of a user's own that the run needs.
    """
    needed = [f"--code={file}" for file in code]
    return shlex.join([*program(), command, f"--workdir={shown(path)}", *more, *needed])


def did_you_mean(wrong: str, candidates: list[str], prefix: str = "") -> str:
    """Returns "; did you mean ...?" with at most three of the candidates, or "".

    For dotted flags the last component alone counts too, as does a section for its `name`
    (`--model` for `--model.name`), and initials (`lr` for `learning_rate`).
    """
    wrong = wrong.lower().replace("-", "_")

    def ratio(a: str, b: str) -> float:
        return difflib.SequenceMatcher(None, a, b).ratio()

    def score(name: str, text: str) -> float:
        last, last_text = name.rpartition(".")[2], text.rpartition(".")[2]
        initials = "".join(word[:1] for word in last.split("_"))
        scores = [ratio(name, text), 0.85 * ratio(last, last_text)]
        scores.append(0.95 * (last == last_text or name == f"{text}.name"))
        scores.append(0.9 * (len(initials) > 1 and initials == last_text))
        return max(scores)

    texts = [wrong, wrong[2:]] if wrong.startswith("no") else [wrong]
    scores = {name: max(score(name, text) for text in texts) for name in candidates}
    best = max(scores.values(), default=0.0)
    if best < 0.65:
        return ""
    near = [name for name in sorted(scores, key=lambda n: -scores[n]) if scores[name] > best - 0.1]
    return f"; did you mean {' or '.join(prefix + name for name in near[:3])}?"
