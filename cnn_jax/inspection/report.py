"""The report on a data set before training, as a value: `inspect` makes it, `save` writes it."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax import extras, files, text
from cnn_jax.data import Data, duplicates, loading
from cnn_jax.data.duplicates import Member
from cnn_jax.errors import RunError, UsageError
from cnn_jax.inspection import facts, near, originals
from cnn_jax.inspection.facts import SplitFacts
from cnn_jax.inspection.near import Found, Pair
from cnn_jax.inspection.originals import Originals
from cnn_jax.reporting import counts

_NAMED = 3


@dataclasses.dataclass(frozen=True)
class DataReport:
    """What is known of a data set before training.

    Attributes:
        data: the data.
        splits: {name: what is known of the split}.
        equal: groups of equal images that are in two splits, or have two labels.
        near: nearly equal images in two splits or two classes, the equal ones among them.
        originals: the images before they were resized; None of arrays.
    """

    data: Data
    splits: dict[str, SplitFacts]
    equal: tuple[tuple[Member, ...], ...]
    near: Found
    originals: Originals | None

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {split.size:,}" for name, split in self.splits.items())
        across = len(self.across_splits)
        return (
            f"<DataReport on {self.data.info.name}: {sizes}; "
            f"{text.plural(across, 'nearly equal pair')} across splits>"
        )

    def __str__(self) -> str:
        return "\n".join(self.lines())

    @property
    def across_splits(self) -> tuple[Pair, ...]:
        """The pairs of nearly equal images in two splits."""
        return tuple(pair for pair in self.near.pairs if pair.one.split != pair.other.split)

    @property
    def across_classes(self) -> tuple[Pair, ...]:
        """The pairs of nearly equal images with two labels."""
        return tuple(pair for pair in self.near.pairs if pair.one.label != pair.other.label)

    def lines(self) -> list[str]:
        """Returns the report as printable lines, each with its subject in the first column."""
        return [text.one_line(f"{name:<10} {line}") for name, line in _rows(self)]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as plain values, ready for JSON."""
        info = self.data.info
        splits = {}
        for name, split in self.splits.items():
            values = dataclasses.asdict(split)
            values["class_counts"] = _by_class(split.class_counts, info.class_names)
            values["grey"] = _by_class(split.grey, info.class_names)
            values["constant"] = [facts.member_text(member) for member in split.constant]
            splits[name] = {**values, "largest_class_by_smallest": split.ratio}
        stored = None
        if self.originals is not None:
            stored = dataclasses.asdict(dataclasses.replace(self.originals, examples=()))
            stored["odd"] = [shape._asdict() for shape in self.originals.odd]
            del stored["examples"]
        return {
            "name": info.name,
            "version": info.version,
            "classes": list(info.class_names),
            "image_shape": list(info.image_shape),
            "dtype": info.dtype,
            "bit_depth": info.bit_depth,
            "notes": list(info.notes),
            "splits": splits,
            "originals": stored,
            "equal": [[facts.member_text(m) for m in group] for group in self.equal],
            "near": {
                "threshold": self.near.threshold,
                "candidates": self.near.candidates,
                "pairs": [
                    {
                        "one": facts.member_text(pair.one),
                        "other": facts.member_text(pair.other),
                        "similarity": pair.similarity,
                        "mirrored": pair.mirrored,
                    }
                    for pair in self.near.pairs
                ],
            },
        }

    def save(self, directory: str | os.PathLike[str]) -> list[Path]:
        """Writes data_report.json and pictures into a directory, and returns their paths.

        Raises:
            RunError: a file cannot be written.
        """
        folder = Path(directory)
        path = folder / "data_report.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            files.write_json(path, self.to_dict())
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror or error}") from error
        if not extras.can_draw():
            return [path]
        from cnn_jax.inspection import pictures  # imports Matplotlib

        pairs = self.across_splits, self.across_classes
        return [path, *pictures.save(self.data, *pairs, self.originals, folder)]


def inspect(
    data: Data, say: Callable[[str], None] | None = None, *, progress: bool = False
) -> DataReport:
    """Looks at every image of a data set, and returns what a person should know of it.

        report = cnn_jax.inspect(cnn_jax.from_folder("photos", image_size=64))
        print(report)
        report.save("data_report/photos")

    Args:
        data: the data. A split that serves as validation and as test counts once.
        say: shows a line; None: no line is shown.
        progress: whether a bar shows how the comparison of images goes on.

    Raises:
        UsageError: it is something else.
        RunError: the data can no longer be read.
    """
    if not isinstance(data, Data):
        raise UsageError(
            "give data, such as cnn_jax.from_folder(...) or cnn_jax.from_experiment(...), not "
            f"{type(data).__name__}"
        )
    parts = {
        name: split
        for name, split in data.splits.items()
        if name != "test" or split is not data.splits.get("validation")
    }
    if say is not None:
        say(f"looking at {sum(map(len, parts.values())):,} images")
    section, classes = data.section, len(data.info.class_names)
    stored = (
        None
        if section is None
        else originals.of_source(loading.find(section, multilabel=data.info.multilabel))
    )
    splits = {name: facts.of_split(name, split, classes) for name, split in parts.items()}
    equal = tuple(tuple(group) for group in duplicates.find(parts))
    return DataReport(data, splits, equal, near.find(parts, quiet=not progress), stored)


def _by_class(values: Sequence[int], names: Sequence[str]) -> dict[str, int] | None:
    return dict(zip(names, values, strict=True)) if len(values) else None


def _rows(report: DataReport) -> list[tuple[str, str]]:
    """Returns (subject or "", line) of the report."""
    info = report.data.info
    shape = " x ".join(map(str, info.image_shape))
    sizes = ", ".join(f"{name} {split.size:,}" for name, split in report.splits.items())
    rows = [("data", f"{f'{info.name} {info.version}'.rstrip()}: {sizes}; {info.dtype} {shape}")]
    rows += [("", note) for note in info.notes]
    rows += [*_class_rows(report), *_original_rows(report), *_pixel_rows(report)]
    return [*rows, *_equal_rows(report)]


def _class_rows(report: DataReport) -> list[tuple[str, str]]:
    names = report.data.info.class_names
    rows = []
    for name, split in report.splits.items():
        line = counts.ratio({"train": split.class_counts}, names)
        rows.append((name, f"{line.replace(' in train', '').replace('training ', '')}"))
        if split.groups is not None:
            rows.append(("", f"{split.groups:,} groups, of {split.largest_group:,} images at most"))
    rows[0] = (rows[0][0], f"{len(names):,} classes; {rows[0][1]}")
    return rows


def _original_rows(report: DataReport) -> list[tuple[str, str]]:
    stored = report.originals
    if stored is None:
        return []
    looked = "" if stored.looked_at == stored.of else f" ({stored.looked_at:,} looked at)"

    def ends(values: tuple[float, float, float], digits: int = 0) -> str:
        low, middle, high = (f"{value:,.{digits}f}" for value in values)
        return low if low == high else f"{low} to {high}, median {middle}"

    kinds = ", ".join(f"{kind} {count:,}" for kind, count in stored.formats.items())
    modes = ", ".join(f"{mode} {count:,}" for mode, count in stored.modes.items())
    bits = ", ".join(f"{bit} bits {count:,}" for bit, count in stored.bits.items())
    height, width, _ = report.data.info.image_shape
    rows = [
        ("stored", f"{stored.of:,} images{looked}: {kinds}; {modes}; {bits} (a channel)"),
        ("width", f"{ends(stored.widths)}; resized to {width}"),
        ("height", f"{ends(stored.heights)}; resized to {height}"),
        ("aspect", f"{ends(stored.aspects, 2)} (width by height); {_odd(stored)}"),
    ]
    if stored.widths[1] < width or stored.heights[1] < height:
        rows.append(("", "most images are enlarged: a smaller --dataset.image_size costs less"))
    return rows


def _odd(stored: Originals) -> str:
    if not stored.odd:
        return "no side is twice the other"
    named = ", ".join(f"{each.id} {each.width} x {each.height}" for each in stored.odd[:_NAMED])
    more = ", ..." if len(stored.odd) > _NAMED else ""
    return (
        f"{text.plural(len(stored.odd), 'image')} with one side at least twice the other: "
        f"{named}{more}"
    )


def _pixel_rows(report: DataReport) -> list[tuple[str, str]]:
    names, rows = report.data.info.class_names, []
    for title, which in (("mean", "mean"), ("std", "std")):
        line = "; ".join(
            f"{name} {', '.join(f'{value:.4f}' for value in getattr(split, which))}"
            for name, split in report.splits.items()
        )
        rows.append((title, line))
    for name, split in report.splits.items():
        if sum(split.grey):
            share = np.array(split.grey) / np.maximum(split.class_counts, 1)
            most = int(share.argmax())
            rows.append(
                (
                    "grey",
                    f"{sum(split.grey):,} of {split.size:,} images of {name} have three equal "
                    f"channels; most of them {names[most]}: {share[most]:.1%} of that class",
                )
            )
        if split.constant:
            listed = ", ".join(map(str, split.constant[:_NAMED]))
            more = ", ..." if len(split.constant) > _NAMED else ""
            count = text.plural(len(split.constant), "image")
            rows.append(("constant", f"{count} of {name} of one colour: {listed}{more}"))
    if not any(split.constant for split in report.splits.values()):
        rows.append(("constant", "no image has one colour"))
    return rows


def _equal_rows(report: DataReport) -> list[tuple[str, str]]:
    found, equal = report.near, report.equal
    groups = text.plural(len(equal), "group")
    rows = [("equal", f"{groups} of equal images in two splits or two classes")]
    if not equal:
        rows = [("equal", "no image is in two splits or two classes")]
    if found.threshold is None:
        return [*rows, ("near", f"not looked for: no side has {near.SMALLEST} pixels")]
    names = list(report.splits)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            members = {
                (member.split, member.id)
                for pair in found.pairs
                if {pair.one.split, pair.other.split} == {one, other}
                for member in (pair.one, pair.other)
            }
            count = sum(split == other for split, _ in members)
            share = count / report.splits[other].size
            rows.append(
                (
                    "near",
                    f"{count:,} of {report.splits[other].size:,} images of {other} ({share:.2%}) "
                    f"have a nearly equal one in {one}",
                )
            )
    contradicting = report.across_classes
    rows.append(("", f"{text.plural(len(contradicting), 'nearly equal pair')} in two classes"))
    mirrored = sum(pair.mirrored for pair in found.pairs)
    rows.append(
        (
            "",
            f"{len(found.pairs):,} pairs in all, {mirrored:,} of them mirrored; similarity "
            f"{found.threshold:.2f} or more",
        )
    )
    return rows
