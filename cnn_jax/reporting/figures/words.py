r"""Names of classes and files as words that a figure can show.

A name may be of any script and length. What no installed font has is written as its code point,
such as `\u30d1`, since a box in its place says nothing.
"""

import contextlib
import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from cnn_jax import text


def shorten(name: str, length: int) -> str:
    """Returns a name that can be drawn, and is at most `length` wide; a long one keeps both ends.

    An escaped character and a letter with its accents are kept or left out whole. A Chinese or
    Japanese character is as wide as two letters.
    """
    characters = _characters(name)
    if sum(map(_width, characters)) <= length:
        return "".join(characters)
    end = _fitting(characters[::-1], (length - 1) // 3)
    start = _fitting(characters, length - 1 - sum(map(_width, end)))
    return f"{''.join(start)}…{''.join(end[::-1])}"


def _characters(name: str) -> list[str]:
    """Returns what is drawn of a name, in pieces that are not cut."""
    characters: list[str] = []
    # macOS names files with letters and accents apart, which fonts draw less well.
    for character in unicodedata.normalize("NFC", name):
        shown = _drawable(character)
        if characters and unicodedata.combining(character) and shown == character:
            characters[-1] += shown
        else:
            characters.append(shown)
    return characters


def distinct(names: Sequence[str], length: int) -> list[str]:
    """Returns names as `shorten` does; those that would look the same, otherwise.

    Such names are shown by their ends, and where these are the same too, by their numbers.

    Args:
        names: the names of all classes; the first has the number 0.
        length: how wide a name is at most.
    """
    found = [shorten(name, length) for name in names]
    for other in (_end, _numbered):
        times = Counter(found)
        found = [
            other(i, name, length) if times[short] > 1 else short
            for i, (name, short) in enumerate(zip(names, found, strict=True))
        ]
    return found


def _end(_: int, name: str, length: int) -> str:
    """Returns the end of a name."""
    kept = _fitting(_characters(name)[::-1], length - 1)
    return f"…{''.join(kept[::-1])}"


def _numbered(number: int, name: str, length: int) -> str:
    """Returns a name behind its number."""
    return f"{number}: {shorten(name, max(1, length - len(str(number)) - 2))}"


def style(words: Iterable[str], bold: bool = False) -> dict[str, Any]:
    """Returns the arguments by which Matplotlib draws words as they are: no formulas, their fonts.

    Args:
        words: what is drawn, as `shorten` or `distinct` returned it.
        bold: whether in bold, where all their fonts are known to have it.
    """
    lacking = sorted({c for word in words for c in word if not _is_usual(c)})
    more = dict.fromkeys(name for name in map(_other_family, lacking) if name is not None)
    weight = "bold" if bold and not more else "normal"
    families = [*matplotlib.rcParams["font.family"], *more]
    return {"parse_math": False, "fontfamily": families, "fontweight": weight}


@functools.cache
def _drawable(character: str) -> str:
    """Returns a character, or its code point where it cannot be drawn."""
    shown = text.one_line(character).replace("\t", " ")
    if shown != character or _is_usual(character) or _other_family(character) is not None:
        return shown
    return character.encode("unicode_escape").decode()


def _width(shown: str) -> float:
    """Returns how many ordinary letters a character of `shorten` is as wide as."""
    if len(shown) > 1 and not unicodedata.combining(shown[1]):
        return len(shown)
    if shown[0] in "MW@mw%":
        return 1.6
    return 2 if unicodedata.east_asian_width(shown[0]) in "WF" else 1


def _fitting(characters: Sequence[str], length: float) -> list[str]:
    """Returns the first characters that are at most `length` wide together."""
    kept: list[str] = []
    for character in characters:
        length -= _width(character)
        if length < 0:
            break
        kept.append(character)
    return kept


@functools.cache
def _is_usual(character: str) -> bool:
    """Returns whether Matplotlib's usual font has a character, both in normal and in bold."""
    family = list(matplotlib.rcParams["font.family"])
    wanted = [font_manager.FontProperties(family=family, weight=w) for w in ("normal", "bold")]
    faces = [font_manager.get_font(font_manager.findfont(w)) for w in wanted]
    return all(face.get_char_index(ord(character)) for face in faces)


@functools.cache
def _other_family(character: str) -> str | None:
    """Returns the first installed family that has a character which the usual one lacks."""
    faces = _other_faces()
    return next((n for n in faces if faces[n].get_char_index(ord(character))), None)


@functools.cache
def _other_faces() -> dict[str, FT2Font]:
    """Returns the installed families of outlines, each with its face of normal weight."""
    own = matplotlib.get_data_path()  # its other fonts are for formulas
    found: dict[str, FT2Font] = {}
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda e: (e.name, e.fname)):
        # Emoji in colour are pictures, which Matplotlib cannot draw.
        if entry.fname.startswith(own) or entry.name in found or "Color" in entry.name:
            continue
        if (entry.style, entry.weight, entry.stretch) != ("normal", 400, "normal"):
            continue  # Matplotlib would say that it has to do with another one
        with contextlib.suppress(OSError, RuntimeError):  # not there any more, or damaged
            face = font_manager.get_font(entry.fname)
            if face.scalable:
                found[entry.name] = face
    return found
