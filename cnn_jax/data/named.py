"""Image files that a person names: files, folders, and patterns such as 'photos/*.jpg'."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from cnn_jax import text
from cnn_jax.data import encoded_images
from cnn_jax.data.folder_layout import IMAGES, LITTER
from cnn_jax.errors import RunError


def expand(words: Sequence[str]) -> list[str]:
    """Returns the files that are named, each once, in the order of the words.

    A folder stands for the images in it and in its folders, told by their endings or their first
    bytes, in the order of their names; hidden files and what file managers leave behind are passed
    over, and links to folders are not followed. A pattern stands for what it matches, `**` for any
    folders; a file of that very name comes first. What does not exist stays as it is: reading it
    says so.

    Args:
        words: paths and patterns.

    Raises:
        RunError: a pattern matches nothing, or a folder has no images or cannot be listed.
    """
    found: dict[str, None] = {}
    for word in words:
        if glob.has_magic(word) and not os.path.lexists(word):
            matches = sorted(glob.glob(word, recursive=True), key=_natural)
            if not matches:
                raise RunError(f"{word} matches no file")
            files = [match for match in matches if not os.path.isdir(match)]
            for each in files or [m for match in matches for m in _in_folder(match)]:
                found[each] = None
        elif os.path.isdir(word):
            found |= dict.fromkeys(_in_folder(word))
        else:
            found[word] = None
    return list(found)


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    return text.natural_key(name), name


def _in_folder(folder: str) -> list[str]:
    """Returns the images below a folder."""

    def refuse(error: OSError) -> None:
        raise RunError(f"{error.filename} cannot be listed: {error.strerror}") from error

    found = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted((name for name in folders if not _is_litter(name)), key=_natural)
        paths = (os.path.join(place, name) for name in names if not _is_litter(name))
        found += sorted(filter(_is_image, paths), key=_natural)
    if not found:
        raise RunError(f"{folder} has no images")
    return found


def _is_litter(name: str) -> bool:
    return name[0] == "." or name.lower() in LITTER


def _is_image(path: str) -> bool:
    """Returns whether a file's ending or its first bytes are those of an image."""
    if Path(path).suffix.lower() in IMAGES:
        return True
    try:
        if not os.path.isfile(path):  # a pipe would be waited for
            return False
        with open(path, "rb") as file:
            return encoded_images.kind(file.read(encoded_images.HEAD)) is not None
    except OSError:
        return False
