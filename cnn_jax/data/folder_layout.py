"""How a folder of images is laid out: which folders are splits and classes, and what links do.

Only names are looked at here, and what is a folder; no file is opened.
"""

import contextlib
import os
import re
import shlex
from pathlib import Path

from cnn_jax.data.name_labels import propose_label
from cnn_jax.errors import RunError, UsageError

LAYOUTS = "expected DIR/train/CLASS/* and DIR/validation/CLASS/*, or DIR/CLASS/*"
# What file managers, archives and network storage leave behind.
LITTER = {
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "__macosx",
    "icon\r",
    "@eadir",
    "lost+found",
    "$recycle.bin",
    "system volume information",
}
IMAGES = {
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".dcm", ".dicom", ".heic", ".heif"),
}
# The names that are in use for each split, in any case.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_NAMES = "; splits are " + "; ".join(", ".join(names) for names in SPLITS.values())
SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
_LIKE_A_SPLIT = re.compile(rf"({'|'.join(SPLIT_OF)})([\W_]*(\d+|set|images|data))*", re.IGNORECASE)


class Layout:
    """A folder of images, as its names tell it.

    Args:
        root: the folder, without links in its own path.
        follow_links: whether links may lead out of it.
        label: a regular expression whose first group tells the class from a file's name, or None
            where folders tell it.

    Attributes:
        folders: {split: its folder}; without folders of splits, "train" is the root.
        notes: lines on what is not used.
        problems: lines on what may be left out where the user says so.
        outside: the number of links that lead out of the root.
        patients: {file: the name of its folder} of files in DIR/CLASS/PATIENT/*.

    Raises:
        UsageError: `label` is no regular expression with a group.
        RunError: the folder has another layout, or a link leaves it that may not.
    """

    def __init__(self, root: Path, follow_links: bool, label: str | None):
        self.root, self._follow = root, follow_links
        self._label = None if label is None else _compiled(label)
        self.notes: list[str] = []
        self.problems: list[str] = []
        self.outside = 0
        self.patients: dict[Path, str] = {}
        self._listed: dict[Path, list[Path]] = {}
        self.folders = self._split_folders()

    def classes(self, split: str) -> dict[str, list[Path]]:
        """Returns {class: its files} of a split; of a test split without classes {}."""
        folder = self.folders[split]
        if self._label is not None:
            return self._classes_by_name(self._label, folder, split)
        found = {}
        for entry in self._present(folder):
            if not entry.is_dir():
                if folder != self.root:  # those in the root are noted already
                    self.notes.append(f"not used: {entry}, in no class folder")
                continue
            found[entry.name] = self._of_patients(entry) or self._entries(entry)
            for path in found[entry.name]:
                if path.is_dir():
                    tip = ""
                    if folder == self.root and len(self._present(folder)) == 1:
                        flag = shlex.quote(f"--dataset.path={entry}")
                        tip = f"; if the data set begins there, give {flag}"
                    raise RunError(
                        f"{path} is a folder inside the class folder {entry}{tip}; "
                        f"{LAYOUTS}, or DIR/CLASS/PATIENT/*{_NAMES}"
                    )
        self._check_patients(folder, list(found))
        if not found:
            raise RunError(f"{folder} has no class folders; {self.ways(folder)}")
        return found

    def _of_patients(self, folder: Path) -> list[Path]:
        """Returns the files in the folders of a class folder, a folder a patient, or nothing.

        Nothing where it holds files as well, where these folders hold folders or are named as
        splits are, or where it is the only class: then the data set begins further down.
        """
        inner = self._entries(folder)
        names = [path.name.lower() for path in inner]
        is_only = folder.parent == self.root and len(self._present(self.root)) == 1
        if is_only or not all(map(Path.is_dir, inner)) or any(name in SPLIT_OF for name in names):
            return []
        files = {path: self._entries(path) for path in inner}
        if any(path.is_dir() for paths in files.values() for path in paths):
            return []
        self.patients |= {path: each.name for each, paths in files.items() for path in paths}
        self.problems += [f"{path} has no images" for path, paths in files.items() if not paths]
        return [path for paths in files.values() for path in paths]

    def _check_patients(self, folder: Path, classes: list[str]) -> None:
        """Refuses class folders that all hold the same folders, which rather are the classes."""
        inner = [{path.name for path in self._entries(folder / name)} for name in classes]
        same = all(len(names) > 1 and names == inner[0] for names in inner)
        if same and len(inner) > 1 and any(path.is_relative_to(folder) for path in self.patients):
            raise RunError(
                f"each folder in {folder} has the folders {', '.join(sorted(inner[0])[:3])}: are "
                f"these the classes? {LAYOUTS}, or DIR/CLASS/PATIENT/*"
            )

    def _classes_by_name(
        self, label: re.Pattern[str], folder: Path, split: str
    ) -> dict[str, list[Path]]:
        """Returns {class: its files} where the files' names tell the class."""
        found: dict[str, list[Path]] = {}
        others = []
        for path in self._present(folder):
            if path.is_dir():
                if folder != self.root:
                    self.notes.append(f"not used: {path}, a folder where names of files count")
            elif (match := label.search(path.name)) and match[1]:
                found.setdefault(match[1], []).append(path)
            else:
                others.append(path)
        what = f"any file in {folder}: it has none"
        if others:
            what = f"{len(others)} of the files in {folder}, such as {others[0].name!r}"
        if not found and split != "test":
            raise RunError(f"--dataset.label={label.pattern} tells no class of {what}")
        if others:
            line = f"--dataset.label tells no class of {what}"
            is_wrong = found and any(map(_is_image, others))
            (self.problems if is_wrong else self.notes).append(line)
        return found

    def _entries(self, folder: Path) -> list[Path]:
        """Lists a folder, sorted, without hidden files and the files of file managers.

        A link to a folder that it is in is left out with a note.

        Raises:
            RunError: it cannot be listed, or a link in it leads out of the root and may not.
        """
        if folder in self._listed:
            return self._listed[folder]
        try:
            entries = sorted(Path(entry.path) for entry in os.scandir(folder))
        except OSError as error:
            raise RunError(f"{folder} cannot be listed: {error.strerror}") from error
        entries = [e for e in entries if e.name[0] != "." and e.name.lower() not in LITTER]
        here = Path(os.path.realpath(folder))
        self._listed[folder] = [
            e for e in entries if not e.is_symlink() or self._is_followed(e, here)
        ]
        return self._listed[folder]

    def _is_followed(self, link: Path, here: Path) -> bool:
        """Returns whether a link in the folder `here` is followed: not if it leads back to it."""
        target = Path(os.path.realpath(link))
        if here.is_relative_to(target):
            self.notes.append(f"not used: {link}, a link to a folder that it is in")
            return False
        if not target.is_relative_to(self.root):
            if not self._follow:
                raise RunError(
                    f"{link} links to {target}, outside {self.root}; copy it into the folder, "
                    "remove the link, or follow it with --dataset.follow_links"
                )
            self.outside += 1
        return True

    def _present(self, folder: Path) -> list[Path]:
        """Lists a folder without links that lead nowhere, which may have been folders."""
        entries = self._entries(folder)
        gone = [entry for entry in entries if entry.is_symlink() and not entry.exists()]
        self.problems += [
            line
            for entry in gone
            if (line := f"{entry} links to {os.readlink(entry)}, which cannot be found")
            not in self.problems
        ]
        return [entry for entry in entries if entry not in gone]

    def _split_folders(self) -> dict[str, Path]:
        """Returns the folder of each split; without such folders the root is that of 'train'."""
        entries = self._present(self.root)
        folders = [entry for entry in entries if entry.is_dir()]
        splits: dict[str, Path] = {}
        for folder in folders:
            split = SPLIT_OF.get(folder.name.lower())
            if split is None or not self._holds_classes(folder):
                continue
            if split in splits:
                raise RunError(
                    f"{self.root} has both {splits[split].name} and {folder.name}; remove one"
                )
            splits[split] = folder
        if splits and "train" not in splits:
            one = next(iter(splits.values())).name
            raise RunError(f"{self.root} has {one}, but no train; {LAYOUTS}")
        if splits:
            self._check_others([folder for folder in folders if folder not in splits.values()])
            used = list(splits.values())
        elif self._label is None:
            if not folders:
                raise RunError(f"{self.root} has no folders of images; {self.ways(self.root)}")
            if all(_LIKE_A_SPLIT.fullmatch(folder.name) for folder in folders):
                self._check_others(folders)
                one = max(folders, key=lambda folder: folder.name.lower().startswith("train"))
                raise RunError(f"{one} has no class folders; {self.ways(one)}")
            used = folders
        else:
            used = [entry for entry in entries if entry not in folders]
        known = set(used)
        for entry in entries:
            if entry not in known:
                why = "which has no class folders" if entry.is_dir() else "in no class folder"
                self.notes.append(f"not used: {entry}, {why}")
        return {name: splits[name] for name in SPLITS if name in splits} or {"train": self.root}

    def _holds_classes(self, folder: Path) -> bool:
        """Returns whether a folder has what tells classes: folders, or files for the label."""
        return any(path.is_dir() == (self._label is None) for path in self._entries(folder))

    def _check_others(self, folders: list[Path]) -> None:
        """Refuses folders beside those of splits that look as if they were splits too."""
        for folder in folders:
            inside = _listed(folder)
            is_validation = SPLIT_OF.get(folder.name.lower()) == "validation"
            if is_validation and (not inside or any(map(_is_image, inside))):
                raise RunError(f"{folder} has no class folders; {LAYOUTS}")
            if self._label is None:
                inner = _listed(folder, only_folders=True)
                looks = any(_is_image(image) for path in inner for image in _listed(path))
            else:
                looks = any(_is_image(path) and self._label.search(path.name) for path in inside)
            if looks:
                raise RunError(
                    f"{folder} has images of classes, but its name is that of no split; rename "
                    f"it, or move it out of {self.root}{_NAMES}"
                )

    def ways(self, folder: Path) -> str:
        """Returns the layouts there are; with the flags for one where file names tell classes."""
        names = [path.name for path in self._entries(folder) if _is_image(path)]
        found = propose_label(names)
        if found is None:
            return LAYOUTS
        flag = shlex.quote(f"--dataset.label={found}")
        if folder != self.root and folder.name.lower() not in SPLIT_OF:
            flag += " " + shlex.quote(f"--dataset.path={folder}")
        return f"{LAYOUTS}; or, as names of files like {names[0]!r} tell the class, give {flag}"


def _listed(folder: Path, only_folders: bool = False) -> list[Path]:
    """Lists a folder, or the folders in it; of one that may not be read nothing."""
    with contextlib.suppress(OSError):
        entries = os.scandir(folder)
        return [Path(entry.path) for entry in entries if not only_folders or entry.is_dir()]
    return []


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGES


def _compiled(label: str) -> re.Pattern[str]:
    """Returns a regular expression with a group."""
    try:
        found = re.compile(label)
    except re.error as error:
        raise UsageError(f"--dataset.label={label} is no regular expression: {error}") from None
    if not found.groups:
        raise UsageError(
            f"--dataset.label={label} has no group: the class is what is between ( and ), as in "
            r"'^(cat|dog)\.'"
        )
    return found
