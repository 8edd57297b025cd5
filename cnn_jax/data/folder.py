"""A folder of images as a data set.

Either DIR/train/CLASS/*, DIR/validation/CLASS/* (or val) and, if wanted, DIR/test/CLASS/*; or
DIR/CLASS/* alone, which is split by fractions. Images are PNG, JPEG or WebP and become RGB.
Hidden files and the files that file managers leave behind are ignored.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from cnn_jax import experiment, places
from cnn_jax.data.cache import Encoded
from cnn_jax.data.images import ImageError, read_image
from cnn_jax.data.sources import Source
from cnn_jax.errors import RunError, UsageError

__all__ = ["ImageError", "read_image", "source"]

_LITTER = {"thumbs.db", "desktop.ini", "__macosx"}
_SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_LAYOUTS = "expected DIR/train/CLASS/* and DIR/validation/CLASS/*, or DIR/CLASS/*"
_BLOCK = 1024


def source(config: experiment.Dataset) -> Source:
    """Lists the images of `config.path`; none is opened yet.

    Raises:
        UsageError: no path is given.
        RunError: there is no such folder, it has another layout, a class is empty or missing in
            validation or test (with `on_error=skip` these are notes), or a link leaves the folder.
    """
    if not config.path:
        raise UsageError("--dataset.name=folder needs --dataset.path=DIR")
    root = places.place(config.path, "--dataset.path")
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise RunError(f"--dataset.path={config.path} {what}; {_LAYOUTS}")
    root = root.resolve()
    notes: list[str] = []
    folders = _split_folders(root, notes)
    listing = {split: _list_split(folder, root, notes) for split, folder in folders.items()}

    names = sorted(listing["train"])
    problems = []
    for split, classes in listing.items():
        where = folders[split]
        for name in sorted(set(classes) - set(names)):
            raise RunError(f"{where / name} is a class that {folders['train']} does not have")
        problems += [f"{where / n} has no images" for n in names if n in classes and not classes[n]]
        problems += [f"{where} lacks the class {n!r}" for n in names if n not in classes]
    if problems and config.on_error == "refuse":
        more = f" (and {len(problems) - 1} more like it)" if len(problems) > 1 else ""
        raise RunError(f"{problems[0]}{more}; mend it, or go on with --dataset.on_error=skip")
    notes += problems
    names = [name for name in names if listing["train"][name]]
    if len(names) < 2:
        found = f"the only class with images is {names[0]!r}" if names else "no class has images"
        raise RunError(f"{folders['train']}: {found}, and two are the least; {_LAYOUTS}")

    encoded = {}
    for split, classes in listing.items():
        for name in sorted(set(classes) - set(names)):
            if classes[name]:
                raise RunError(
                    f"{folders[split] / name} has images, but {folders['train'] / name} has none"
                )
        files = [(path, names.index(name)) for name in names for path in classes.get(name, [])]
        if not files:
            raise RunError(f"{folders[split]} has no images; {_LAYOUTS}")
        encoded[split] = _encoded(split, files, root)
    return Source("folder", "", tuple(names), encoded, tuple(notes), root)


def _entries(folder: Path, root: Path) -> list[Path]:
    """Lists a folder, sorted, without hidden files and the files of file managers.

    Raises:
        RunError: it cannot be listed, or a link in it leads out of the root.
    """
    try:
        entries = sorted(Path(entry.path) for entry in os.scandir(folder))
    except OSError as error:
        raise RunError(f"{folder} cannot be listed: {error.strerror}") from error
    entries = [e for e in entries if e.name[0] != "." and e.name.lower() not in _LITTER]
    for entry in entries:
        if entry.is_symlink() and not Path(os.path.realpath(entry)).is_relative_to(root):
            raise RunError(
                f"{entry} links to {os.path.realpath(entry)}, outside {root}; "
                "copy it into the folder, or remove the link"
            )
    return entries


def _split_folders(root: Path, notes: list[str]) -> dict[str, Path]:
    """Returns the folder of each split; without such folders the root is that of 'train'."""
    entries = _entries(root, root)
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise RunError(f"{root} has no folders of images; {_LAYOUTS}")
    splits: dict[str, Path] = {}
    for folder in folders:
        if split := _SPLITS.get(folder.name.lower()):
            if split in splits:
                raise RunError(
                    f"{root} has both {splits[split].name} and {folder.name}; remove one"
                )
            splits[split] = folder
    if splits and "train" not in splits:
        raise RunError(f"{root} has {next(iter(splits.values())).name}, but no train; {_LAYOUTS}")
    used = list(splits.values()) or folders
    notes += [f"not used: {entry}, in no class folder" for entry in entries if entry not in used]
    return {name: splits[name] for name in _SPLITS if name in splits} or {"train": root}


def _list_split(folder: Path, root: Path, notes: list[str]) -> dict[str, list[Path]]:
    """Returns {class: its files} of a split's folder."""
    classes = {}
    for entry in _entries(folder, root):
        if not entry.is_dir():
            if folder != root:  # those in the root are noted already
                notes.append(f"not used: {entry}, in no class folder")
            continue
        classes[entry.name] = _entries(entry, root)
        for path in classes[entry.name]:
            if path.is_dir():
                raise RunError(f"{path} is a folder inside the class folder {entry}; {_LAYOUTS}")
    if not classes:
        raise RunError(f"{folder} has no class folders; {_LAYOUTS}")
    return classes


def _encoded(split: str, files: list[tuple[Path, int]], root: Path) -> Encoded:
    """Returns a split of (file, label), whose content is told by names, times and sizes."""
    ids = [path.relative_to(root).as_posix() for path, _ in files]
    sha = hashlib.sha256()
    for (path, label), name in zip(files, ids, strict=True):
        try:
            stat = path.stat()
            state = f"{stat.st_mtime_ns} {stat.st_size}"
        except OSError:  # a broken link: an error follows when it is read
            state = "unreadable"
        sha.update(f"{name}\0{label}\0{state}\n".encode(errors="surrogateescape"))

    def blocks() -> Iterator[tuple[list[str], list[int], list[Path]]]:
        for start in range(0, len(files), _BLOCK):
            part = slice(start, start + _BLOCK)
            yield ids[part], [label for _, label in files[part]], [path for path, _ in files[part]]

    content = {"root": os.fspath(root), "files": sha.hexdigest()}
    return Encoded("folder", "", split, content, len(files), 3, blocks)
