"""What a page leaves out with --noimages: images, and the names and places of files."""

import pathlib
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from cnn_jax import text

HIDDEN = "LEFT-OUT"
SENTENCE = "Images and the names and places of files are left out (--noimages)."
_PLACE = re.compile(r"[/\\~]")  # what is in the name of a file
_PLACES = ("path", "data_dir", "workdir", "output", "code", "storage", "flagfile")
_FILES = (".py", ".json", ".h5", ".hdf5", ".keras", ".pth", ".pt", ".npz", ".safetensors")


def is_shown(figure: str) -> bool:
    """Returns whether a figure of this name has neither images nor names of files in it."""
    drawn = ("sweep", "advise", "training_curves", "data_classes")
    plain = figure.endswith(("confusion_matrix", "_roc")) or figure.startswith("trust_")
    return figure in drawn or plain


def value(name: str, value: Any) -> Any:
    """Returns the value of a setting or a flag, or `HIDDEN` where it names a file or a folder."""
    if not isinstance(value, str):
        return value
    is_place = name.rpartition(".")[2] in _PLACES or value.endswith(_FILES)
    return HIDDEN if is_place or _PLACE.search(value) else value


def lines(found: Iterable[str], class_names: Sequence[str] = ()) -> list[str]:
    """Returns the lines that may name no file, and one that says how many more there were.

    Args:
        found: the lines.
        class_names: names that are no files, whatever is in them.
    """
    names = re.compile("|".join(map(re.escape, sorted(class_names, key=len, reverse=True))) or "$.")
    every = list(found)
    kept = [line for line in every if not _PLACE.search(names.sub("", line))]
    left = len(every) - len(kept)
    more = f"{text.plural(left, 'line')} left out, which may name a file or a folder."
    return [*kept, more] if left else kept


def settings(values: dict[str, Any], section: str = "") -> dict[str, Any]:
    """Returns settings, nested or not, without the names of files."""
    return {
        name: settings(v, f"{section}{name}.") if isinstance(v, dict) else value(section + name, v)
        for name, v in values.items()
    }


def command_text(line: str) -> str:
    """Returns a shell command without the names of files."""
    return shlex.join(command(shlex.split(line)))


def command(words: Sequence[str]) -> list[str]:
    """Returns the words of a command without the names of files; its program keeps its name."""
    found: list[str] = []
    for word in words:
        before = found[-1] if found else ""
        name, is_flag, given = word.partition("=")
        if before.startswith("--") and "=" not in before and not word.startswith("-"):
            found.append(value(before.removeprefix("--"), word))
        elif is_flag and name.startswith("-"):
            found.append(f"{name}={value(name.lstrip('-'), given)}")
        else:
            found.append(pathlib.PurePath(word).name)
    return found
