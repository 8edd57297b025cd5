"""A table of images as a data set: CSV, TSV or Parquet, a row an image.

Columns say where an image is, its class and, if wanted, its split and its group (a patient, say).
Paths are relative to the table, or to `--dataset.root`. Parquet may hold the encoded images
themselves, as those of Hugging Face do.
"""

import collections
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnn_jax import experiment, places, text
from cnn_jax.data import folder_layout, patients, rows
from cnn_jax.data.cache import Encoded
from cnn_jax.data.folder_layout import SPLIT_OF
from cnn_jax.data.rows import Table
from cnn_jax.data.sources import Source, encoded_files, file_of
from cnn_jax.data.splits import Split
from cnn_jax.errors import RunError, UsageError

# What a column is for, and the names by which it is found where no setting names it.
_KNOWN = {
    "image": ("path", "image", "filename", "file", "image_path", "filepath", "file_name"),
    "label": ("label", "class", "diagnosis", "target"),
    "split": ("split", "fold"),
    "group": ("patient", "patient_id", "group", "subject"),
}
_SEVERAL = "where each image has one; several findings are learnt with --train.loss=multilabel"
_BETWEEN = "\0"  # the findings of a row; no name has it
_ENDINGS = tuple(
    case(ending) for case in (str.lower, str.upper) for ending in sorted(folder_layout.IMAGES)
)


@dataclasses.dataclass(frozen=True)
class _Row:
    """One image: its name, the file or the bytes that hold it, its class, split and group."""

    id: str
    source: Path | bytes
    label: str
    split: str
    group: str
    where: str


def source(config: experiment.Dataset, least_classes: int = 2, multilabel: bool = False) -> Source:
    """Reads the table of `config.path`, and looks for its images; none is opened yet.

    Args:
        config: the section "dataset" of an experiment.
        least_classes: how few classes there may be.
        multilabel: whether an image may have several classes, or none: several columns that are 1,
            names with | between them (an empty cell is none), or a row for each.

    Raises:
        UsageError: no path is given, or a column that is named is not there.
        RunError: the table is damaged, an image is missing or has two classes (with
            `on_error=skip` these are notes), or there are no two classes.
    """
    path = file_of(config)
    table = rows.read(path)
    notes: list[str] = []
    columns = _columns(config, table, notes)
    root = path.parent if config.root is None else places.place(config.root, "--dataset.root")
    found, problems = _rows(table, columns, config, root.resolve(), multilabel)
    by_name = multilabel and config.label_columns is None
    found = _without_repeats(found, problems, notes, unite=by_name)
    if by_name and (empty := sum(not row.label for row in found)):
        notes.append(f"{text.plural(empty, 'image')} without a finding: the cell is empty")
    if problems and config.on_error == "refuse":
        more = f" (and {len(problems) - 1} more like it)" if len(problems) > 1 else ""
        raise RunError(f"{problems[0]}{more}; mend it, or go on with --dataset.on_error=skip")
    notes += [f"skipped {problem}" for problem in problems]

    named = {
        name
        for row in found
        if row.split == "train" or least_classes < 2
        for name in (_parts(row.label) if multilabel else [row.label])
    }
    names = tuple(sorted(named, key=lambda name: (text.natural_key(name), name)))
    if len(names) < least_classes:
        only = f"the only class is {names[0]!r}" if names else "no row is left to train on"
        raise RunError(f"{path}: {only}, and two are the least")
    numbers = {name: number for number, name in enumerate(names)}
    findings = None
    if multilabel:
        numbers, findings = _combinations(found, names)
    parts: dict[str, list[_Row]] = collections.defaultdict(list)
    for row in found:
        if row.label not in numbers:
            unknown = [name for name in _parts(row.label) if name not in names]
            raise RunError(f"{row.where} has the class {unknown[0]!r}, which 'train' does not have")
        parts[row.split].append(row)
    encoded: dict[str, Encoded | Split] = {
        split: encoded_files(
            "table",
            split,
            [(row.id, numbers[row.label], row.source) for row in parts[split]],
            root,
        )
        for split in ("train", "validation", "test")
        if split in parts
    }
    of_id = {row.id: row.group for row in found}
    if "group" in columns:
        group_of = of_id.__getitem__
    else:
        stored = [each for each in encoded.values() if isinstance(each, Encoded)]
        group_of = patients.group_of(stored, notes)
    where = root.resolve() if all(isinstance(row.source, Path) for row in found) else None
    return Source("table", "", names, encoded, tuple(notes), where, group_of, findings)


def _parts(label: str) -> list[str]:
    """Returns the findings of a row's label."""
    return [part for part in label.split(_BETWEEN) if part]


def _combinations(found: list[_Row], names: tuple[str, ...]) -> tuple[dict[str, int], np.ndarray]:
    """Returns ({label of a row: its number}, uint8 [numbers, names]: which findings it has)."""
    known = set(names)
    labels = sorted({row.label for row in found if known.issuperset(_parts(row.label))})
    findings = np.array(
        [[name in _parts(label) for name in names] for label in labels], np.uint8
    ).reshape(len(labels), len(names))
    return {label: number for number, label in enumerate(labels)}, findings


def _columns(config: experiment.Dataset, table: Table, notes: list[str]) -> dict[str, str]:
    """Returns {image, label, split, group: its column}; the last two only where there are any."""
    chosen: dict[str, str] = {}
    for kind, known in _KNOWN.items():
        given = getattr(config, f"{kind}_column")
        if given is not None:
            if given not in table.columns:
                tip = text.did_you_mean(given, list(table.columns)) or "."
                raise UsageError(
                    f"--dataset.{kind}_column={given}: {table.path} has no such column{tip} It "
                    f"has {', '.join(table.columns)}"
                )
            chosen[kind] = given
            continue
        fitting = [name for name in table.columns if name.strip().lower() in known]
        if kind == "label" and config.label_columns is not None:
            continue
        if len(fitting) > 1:
            raise UsageError(
                f"{table.path} has the columns {' and '.join(fitting)}; say which is the {kind} "
                f"with --dataset.{kind}_column"
            )
        if fitting:
            chosen[kind] = fitting[0]
            notes.append(f"{kind}: the column {fitting[0]!r} (--dataset.{kind}_column)")
        elif kind in ("image", "label"):
            raise UsageError(
                f"{table.path} has no column called {', '.join(known[:4])} or the like; say which "
                f"of {', '.join(table.columns)} is the {kind} with --dataset.{kind}_column"
            )
    return chosen


def _rows(
    table: Table,
    columns: dict[str, str],
    config: experiment.Dataset,
    root: Path,
    multilabel: bool,
) -> tuple[list[_Row], list[str]]:
    """Returns (rows with an image and a class, what is wrong with the others)."""
    found, problems = [], []
    one_hot = None
    if config.label_columns is not None:
        one_hot = [name.strip() for name in config.label_columns.split(",")]
        if missing := [name for name in one_hot if name not in table.columns]:
            tip = text.did_you_mean(missing[0], list(table.columns))
            raise UsageError(
                f"--dataset.label_columns: {table.path} has no column {missing[0]!r}{tip}"
            )
    for number in range(table.count):
        where = table.where(number)
        try:
            if one_hot is None:
                label = _label(table.columns[columns["label"]][number], multilabel)
            else:
                values = [table.columns[name][number] for name in one_hot]
                label = _one_hot(values, one_hot, multilabel)
            image = table.columns[columns["image"]][number]
            name, content = _image(image, root, number)
        except ValueError as error:
            problems.append(f"{where} {error}")
            continue
        split = "train"
        if "split" in columns:
            value = table.columns[columns["split"]][number]
            split = SPLIT_OF.get(str(value).strip().lower(), "")
            if not split:
                raise RunError(
                    f"{where} has the split {str(value)!r}; known are {', '.join(SPLIT_OF)}"
                )
        group = str(table.columns[columns["group"]][number] or "") if "group" in columns else ""
        if "group" in columns and not group.strip():
            problems.append(f"{where} has no {columns['group']}")
            continue
        found.append(_Row(name, content, label, split, group.strip(), where))
    return found, problems


def _label(value: object, multilabel: bool) -> str:
    """Returns the class or classes that a cell names; ValueError says why it names none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, list):  # of Parquet
        value = "|".join(map(str, value))
    label = "" if value is None else str(value).strip()
    if label.lower() == "nan" or not (label or multilabel):
        raise ValueError("has no class")
    if multilabel:
        return _BETWEEN.join(sorted({part.strip() for part in label.split("|")} - {""}))
    if "|" in label:
        raise ValueError(f"has several classes ({label}), {_SEVERAL}")
    return label


def _one_hot(values: Sequence[object], names: Sequence[str], multilabel: bool) -> str:
    """Returns the class or classes whose column is 1; ValueError says why there is none."""
    chosen = []
    for name, value in zip(names, values, strict=True):
        number = str(value).strip().lower()
        if number in ("1", "1.0", "true"):
            chosen.append(name)
        elif number not in ("0", "0.0", "false", ""):
            raise ValueError(f"has {value!r} in the column {name}, where 0 or 1 stands")
    if multilabel:
        return _BETWEEN.join(sorted(chosen))
    if len(chosen) > 1:
        raise ValueError(f"has several classes ({', '.join(chosen)}), {_SEVERAL}")
    if not chosen:
        raise ValueError("has no class, where each image has one")
    return chosen[0]


def _image(value: object, root: Path, number: int) -> tuple[str, Path | bytes]:
    """Returns (name, file or bytes) of an image; ValueError says why there is none."""
    if isinstance(value, dict):  # as Hugging Face stores images
        content, name = value.get("bytes"), value.get("path")
        if isinstance(content, bytes):
            return f"row {number} {name or ''}".rstrip(), content
        value = name
    if isinstance(value, bytes):
        return f"row {number}", value
    given = "" if value is None else str(value).strip()
    if not given:
        raise ValueError("names no image")
    try:
        path = Path(os.path.normpath(root / given))
        name = path.relative_to(root).as_posix()
        for ending in ("", *_ENDINGS):
            if (file := Path(f"{path}{ending}")).is_file():
                return f"{name}{ending}", file
    except ValueError:
        raise ValueError(
            f"names {given!r}, which is outside {root}; say with --dataset.root where paths begin"
        ) from None
    except OSError as error:
        raise ValueError(f"names {given!r}: {error.strerror}") from None
    raise ValueError(f"names {given!r}, which is not in {root}")


def _without_repeats(
    found: list[_Row], problems: list[str], notes: list[str], unite: bool
) -> list[_Row]:
    """Returns each image once, or what is wrong; `unite`: with the findings of all its rows."""
    by_id: dict[str, list[_Row]] = collections.defaultdict(list)
    for row in found:
        by_id[row.id].append(row)
    kept, repeated = [], 0
    for name, same in by_id.items():
        if unite:
            findings = _BETWEEN.join(sorted({part for row in same for part in _parts(row.label)}))
            same = [dataclasses.replace(row, label=findings) for row in same]
        first = same[0]
        for what, kind in (("label", "classes"), ("split", "splits"), ("group", "groups")):
            values = sorted({getattr(row, what).replace(_BETWEEN, "|") for row in same})
            if len(values) > 1:
                problems.append(f"{same[1].where}: {name} has two {kind}, {' and '.join(values)}")
                break
        else:
            kept.append(first)
            repeated += len(same) - 1
    if repeated:
        how = "each image counts once" + (", with the findings of all of its rows" if unite else "")
        notes.append(f"{text.plural(repeated, 'row')} repeated: {how}")
    return kept
