"""McNemar's test: whether two runs are right on different shares of the same images.

It reads predictions_SPLIT.csv, which the command `evaluate` writes, and looks only at images that
one of two runs has right and the other wrong (McNemar 1947). The test is exact: each such image is
as likely to be either run's. Where images come in groups, the difference of a whole group is as
likely to be in favour of either (a permutation test; Durkalski et al. 2003 have its normal
approximation, which is used where there are many).
"""

import collections
import csv
import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from cnn_jax import text
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.studies.groups import Group
from cnn_jax.studies.ttest import SIGNIFICANCE

SPLITS = ("test", "validation")
_MOST_LINES = 8
_MOST_EXACT = 5_000  # the sum of the differences of groups, up to which the test is exact


@dataclasses.dataclass(frozen=True)
class Said:
    """What a run said of the images of a split.

    Attributes:
        right: {id and label of an image: whether the run has it right}.
        groups: {the same: its group}, or None.
        digest: of the data that the run was trained on, or None.
    """

    right: Mapping[tuple[str, str], bool]
    groups: Mapping[tuple[str, str], str] | None = None
    digest: str | None = None


@dataclasses.dataclass(frozen=True)
class Result:
    """The test of two runs on one split.

    Attributes:
        split: "test" or "validation".
        first: the directory of a run.
        second: that of another.
        images: the number of images of the split.
        only_first: images that only the first run has right.
        only_second: images that only the second run has right.
        p: the two-sided p-value.
        groups: the number of groups that differ, where there are groups.
    """

    split: str
    first: pathlib.Path
    second: pathlib.Path
    images: int
    only_first: int
    only_second: int
    p: float
    groups: int | None = None

    def record(self) -> dict[str, Any]:
        """Returns the result as JSON shows it."""
        found = {**dataclasses.asdict(self), "first": str(self.first), "second": str(self.second)}
        if self.groups is None:
            del found["groups"]
        return found


def exact(only_first: int, only_second: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test; 1 where no image differs."""
    count = only_first + only_second
    return float(stats.binomtest(only_first, count).pvalue) if count else 1.0


def by_groups(differences: Sequence[int]) -> float:
    """Returns the two-sided p-value where the differences of whole groups may have either sign.

    Args:
        differences: of each group, images that only the first run has right, less those that only
            the second has.
    """
    sizes = [abs(d) for d in differences if d]
    total, observed = sum(sizes), abs(sum(differences))
    if not sizes:
        return 1.0
    if total > _MOST_EXACT:
        return float(2 * stats.norm.sf(observed / math.sqrt(sum(s * s for s in sizes))))
    # The distribution of the sum of the sizes with random signs, at -total, ..., total.
    chance = np.zeros(2 * total + 1)
    chance[total] = 1.0
    for size in sizes:
        chance = (np.roll(chance, size) + np.roll(chance, -size)) / 2
    sums = np.abs(np.arange(-total, total + 1))
    return float(min(1.0, chance[sums >= observed].sum()))


def test(split: str, runs: tuple[pathlib.Path, pathlib.Path], said: tuple[Said, Said]) -> Result:
    """Returns the test of two runs that were measured on the same images."""
    first, second = (each.right for each in said)
    only_first = sum(ok and not second[key] for key, ok in first.items())
    only_second = sum(not ok and second[key] for key, ok in first.items())
    numbers = (split, *runs, len(first), only_first, only_second)
    groups = said[0].groups
    if groups is None or len(set(groups.values())) == len(groups):
        return Result(*numbers, exact(only_first, only_second))
    differences: dict[str, int] = collections.defaultdict(int)
    for key, ok in first.items():
        differences[groups[key]] += int(ok) - int(second[key])
    differing = sum(1 for d in differences.values() if d)
    return Result(*numbers, by_groups([*differences.values()]), differing)


def compared(groups: Sequence[Group]) -> list[Result]:
    """Returns the tests of the first run against each of the others.

    Two runs are tested on a split where both have its predictions, of images with the same ids and
    labels. Where ids are mere numbers, the digests of their data have to be equal as well. It is
    the test split, or the validation split where no two runs have predictions of test.

    Args:
        groups: of `compare`, the best first.
    """
    paths = [run.path for each in groups for run in each.runs]
    for split in SPLITS:
        first = _read(paths[0], split)
        results = []
        for path in paths[1:] if first is not None else []:
            said = _read(path, split)
            if first is not None and said is not None and _same_images(first, said):
                results.append(test(split, (paths[0], path), (first, said)))
        if results:
            return results
    return []


def _same_images(a: Said, b: Said) -> bool:
    named = not all(each.isdecimal() for each, _ in a.right)
    return a.right.keys() == b.right.keys() and (named or a.digest == b.digest is not None)


def lines(results: Sequence[Result]) -> list[str]:
    """Returns a paragraph on the tests, as lines; without any none."""
    if not results:
        return []
    best = results[0]
    groups = ", by groups" if any(each.groups is not None for each in results) else ""
    found = [
        f"McNemar's test against {text.shown(best.first)}, on the same {best.images:,} images of "
        f"{best.split}{groups}:"
    ]
    for each in results[:_MOST_LINES]:
        tie = " (a tie)" if each.p >= SIGNIFICANCE else ""
        found.append(
            f"  {text.shown(each.second)}: right where that is wrong {each.only_second:,} times, "
            f"wrong where that is right {each.only_first:,} times, p = {each.p:.2g}{tie}"
        )
    if len(results) > _MOST_LINES:
        found.append(f"  and {len(results) - _MOST_LINES} more (--format=json)")
    return found


def _read(path: pathlib.Path, split: str) -> Said | None:
    """Returns what a run said of a split; None: it was not evaluated, or the file is damaged."""
    right: dict[tuple[str, str], bool] = {}
    groups: dict[tuple[str, str], str] = {}
    try:
        with (path / f"predictions_{split}.csv").open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                key = (row["id"], row["label"])
                right[key] = row["label"] == row["predicted"]
                if row.get("group") is not None:
                    groups[key] = row["group"]
    except (OSError, KeyError, ValueError, csv.Error):
        return None
    if not right or any(None in key for key in right):
        return None
    return Said(right, groups or None, RunDirectory(path).read("data", {}).get("digest"))
