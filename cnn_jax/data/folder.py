"""A folder of images as a data set.

Either DIR/train/CLASS/*, DIR/validation/CLASS/* and, if wanted, DIR/test/CLASS/*, under these names
or others in use; or DIR/CLASS/* alone, which is split by fractions. DIR/CLASS/PATIENT/* is taken
too, and a patient is a group. With `--dataset.label` names of files tell the class: DIR/train/* and
so on, or DIR/*. Hidden files and the files that file managers leave behind are ignored.
"""

import functools
import itertools

from cnn_jax import experiment, places, text
from cnn_jax.data import patients
from cnn_jax.data.folder_layout import LAYOUTS, Layout
from cnn_jax.data.images import ImageError, read_image
from cnn_jax.data.sources import Source, encoded_files
from cnn_jax.errors import RunError, UsageError

__all__ = ["ImageError", "read_image", "source"]


def source(config: experiment.Dataset, least_classes: int = 2) -> Source:
    """Lists the images of `config.path`; none is opened yet.

    Args:
        config: the section "dataset" of an experiment.
        least_classes: how few classes with images there may be.

    Raises:
        UsageError: no path is given, or `label` is no regular expression with a group.
        RunError: there is no such folder, it has another layout, a class is empty or missing in
            validation or test (with `on_error=skip` these are notes), or a link leaves the folder
            where `follow_links` is off.
    """
    if not config.path:
        raise UsageError("--dataset.name=folder needs --dataset.path=DIR")
    root = places.place(config.path, "--dataset.path")
    if not root.is_dir():
        what = f"is not a folder; {LAYOUTS}"
        if not root.exists():
            what = "does not exist; if the images have moved, say where to: --dataset.path=DIR"
        raise RunError(f"--dataset.path={config.path} {what}")
    root = root.resolve()
    layout = Layout(root, config.follow_links, config.label)
    folders, notes, problems = layout.folders, layout.notes, layout.problems
    listing = {split: classes for split in folders if (classes := layout.classes(split))}
    if layout.outside:
        notes.append(
            f"followed {text.plural(layout.outside, 'link')} out of the folder; "
            "--dataset.follow_links=false refuses such"
        )

    names = sorted(listing["train"])
    for split, classes in listing.items():
        where = folders[split]
        for name in sorted(set(classes) - set(names)):
            alike = [other for other in names if other.casefold() == name.casefold()]
            tip = f" ({alike[0]!r} is written otherwise)" if alike else ""
            what = where / name if config.label is None else f"{name!r} in {where}"
            raise RunError(f"{what} is a class that {folders['train']} does not have{tip}")
        problems += [f"{where / n} has no images" for n in names if n in classes and not classes[n]]
        problems += [f"{where} lacks the class {n!r}" for n in names if n not in classes]
    if problems and config.on_error == "refuse":
        more = f" (and {len(problems) - 1} more like it)" if len(problems) > 1 else ""
        raise RunError(f"{problems[0]}{more}; mend it, or go on with --dataset.on_error=skip")
    notes += problems
    names = [name for name in names if listing["train"][name]]
    if len(names) < least_classes:
        found, ways = "no class has images", LAYOUTS
        if names:
            found = f"the only class with images is {names[0]!r}"
            if config.label is None:
                ways = layout.ways(folders["train"] / names[0])
        raise RunError(f"{folders['train']}: {found}, and two are the least; {ways}")
    for one, other in itertools.pairwise(sorted(names, key=str.casefold)):
        if one.casefold() == other.casefold():
            notes.append(f"the classes {one!r} and {other!r} differ in capital letters only")

    encoded = {}
    for split, classes in listing.items():
        for name in sorted(set(classes) - set(names)):
            if classes[name]:
                raise RunError(
                    f"{folders[split] / name} has images, but {folders['train'] / name} has none"
                )
        files = [
            (path.relative_to(root).as_posix(), label, path)
            for label, name in enumerate(names)
            for path in classes.get(name, [])
        ]
        if not files:
            raise RunError(f"{folders[split]} has no images; {LAYOUTS}")
        encoded[split] = encoded_files("folder", split, files, root)
    group_of = patients.group_of(list(encoded.values()), notes)
    if layout.patients:
        of_file = {p.relative_to(root).as_posix(): name for p, name in layout.patients.items()}
        group_of = functools.partial(_or_own, of_file)
        notes.append("groups: the folders in class folders, DIR/CLASS/PATIENT/*")
    return Source("folder", "", tuple(names), encoded, tuple(notes), root, group_of)


def _or_own(groups: dict[str, str], id_: str) -> str:
    """Returns the group of an image; one without is a group by itself."""
    return groups.get(id_, id_)
