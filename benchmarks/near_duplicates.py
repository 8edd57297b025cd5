"""Measures how many of CIFAR-10's published near-duplicates the data report finds, and how fast.

    git clone https://github.com/cvjena/cifair
    python benchmarks/near_duplicates.py --lists=cifair/meta

The lists are those of Barz and Denzler 2020, "Do we train on test data? Purging CIFAR of
near-duplicates" (arXiv:1902.00423): pairs found by the features of a trained network and judged by
a person. The figures are written to benchmarks/results/near_duplicates.json and
docs/results/near_duplicates.md; pairs that are not in the lists are drawn, a sample that a seed
draws, into docs/results/near_duplicates.png.
"""

import argparse
import csv
import json
import os
import pathlib
import sys
import time
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cnn_jax  # noqa: E402
from cnn_jax.data import Split  # noqa: E402
from cnn_jax.inspection import near  # noqa: E402
from cnn_jax.reporting import figures  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "near_duplicates.json"
PAGE = ROOT / "docs" / "results" / "near_duplicates.md"
PICTURE = PAGE.with_suffix(".png")
KINDS = ("exact", "near", "very similar")  # of the lists: judgement 0, 1, 2
SAMPLE = 100


def listed(path: pathlib.Path) -> dict[tuple[int, int], int]:
    """Returns {(index of the test image, of the other): judgement} of one of the lists."""
    with path.open(newline="") as file:
        return {
            (int(row["TestID"]), int(row["TrainID"])): int(row["Judgment"])
            for row in csv.DictReader(file)
        }


def numbers(split: Split) -> np.ndarray:
    """Returns the index in CIFAR-10 of each image, which its id ends in."""
    return np.array([int(name.rpartition("_")[2]) for name in split.ids])


def similarities(pairs: list[tuple[int, int]], data: cnn_jax.Data) -> np.ndarray:
    """Returns the similarity of pairs of a test and a training image, candidates or not."""
    index = {
        name: {number: i for i, number in enumerate(numbers(split).tolist())}
        for name, split in (("test", data.validation), ("train", data.train))
    }
    ones, others = (
        np.stack([np.asarray(split.images[index[name][pair[k]]]) for pair in pairs])
        for k, (name, split) in enumerate((("test", data.validation), ("train", data.train)))
    )
    ids = [str(i) for i in range(len(pairs))]
    labels = np.zeros(len(pairs), np.int32)
    return near.similarity_of(Split(ones, labels, ids), Split(others, labels, ids))


def score(pairs: set[tuple[int, int]], known: dict[tuple[int, int], int]) -> dict[str, Any]:
    """Returns, by kind, how many known pairs there are, were found, and whose image was found."""
    ours = {one for pair in pairs for one in pair[:1]}
    result = {}
    for judgement, kind in enumerate(KINDS):
        of_kind = [pair for pair, each in known.items() if each == judgement]
        result[kind] = {
            "listed": len(of_kind),
            "found": sum(pair in pairs for pair in of_kind),
            "image_found": sum(pair[0] in ours for pair in of_kind),
        }
    return result


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lists", type=pathlib.Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--real", type=int, help="how many pairs of the picture a person took for one"
    )
    given = parser.parse_args()
    if given.real is not None:
        results = json.loads(RESULT.read_text())
        results["sample_real"] = given.real
        write(results)
        return
    section = cnn_jax.Dataset(name="cifar10", validation_split="test")
    data = cnn_jax.from_experiment(section, test=False)
    train, test = data.train, data.validation
    train = Split(np.array(train.images), np.array(train.labels), train.ids)  # read from the disk
    test = Split(np.array(test.images), np.array(test.labels), test.ids)
    began, cpu = time.monotonic(), time.process_time()
    found = near.find({"train": train, "test": test})
    seconds, cpu_seconds = time.monotonic() - began, time.process_time() - cpu
    at = {"train": numbers(train), "test": numbers(test)}
    across: dict[tuple[int, int], near.Pair] = {}
    for pair in found.pairs:
        both = {
            member.split: int(at[member.split][position])
            for member, position in zip((pair.one, pair.other), pair.positions, strict=True)
        }
        if len(both) == 2:
            across[both["test"], both["train"]] = pair
    known = listed(given.lists / "duplicates_cifar10.csv")
    began_own, cpu_own = time.monotonic(), time.process_time()
    own = near.find({"test": test}, within=True)
    known_own = listed(given.lists / "duplicates_cifar10_test.csv")
    own_pairs: set[tuple[int, int]] = set()
    for pair in own.pairs:
        first, second = (int(at["test"][i]) for i in pair.positions)
        own_pairs |= {(first, second), (second, first)}
    missed = [pair for pair in known if pair not in across]
    alike = similarities(missed, data) >= (found.threshold or 0)
    images = {pair[0] for pair in across}
    new = sorted(images - {pair[0] for pair in known})
    results = {
        "across": score(set(across), known),
        "within_test": score(own_pairs, known_own),
        "pairs": len(across),
        "missed_candidates": int(alike.sum()),
        "test_images": len(images),
        "test_images_not_listed": len(new),
        "mirrored": sum(pair.mirrored for pair in across.values()),
        "two_labels": sum(pair.one.label != pair.other.label for pair in found.pairs),
        "within_test_pairs": len(own.pairs),
        "threshold": found.threshold,
        "candidates": found.candidates,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "within_test_seconds": round(time.monotonic() - began_own, 1),
        "within_test_cpu_seconds": round(time.process_time() - cpu_own, 1),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "sample": min(SAMPLE, len(new)),
        "sample_real": None,
    }
    draw(across, new, data, np.random.default_rng(given.seed))
    write(results)


def draw(
    across: dict[tuple[int, int], near.Pair],
    new: list[int],
    data: cnn_jax.Data,
    random: np.random.Generator,
) -> None:
    """Draws the most similar pair of some test images that the lists do not have."""
    chosen = sorted(random.choice(new, min(SAMPLE, len(new)), replace=False).tolist())
    shown = []
    for number in chosen:
        pairs = [(pair, key) for key, pair in across.items() if key[0] == number]
        best, (test, train) = max(pairs, key=lambda each: each[0].similarity)
        sides = {}
        for member, position in zip((best.one, best.other), best.positions, strict=True):
            split = data.train if member.split == "train" else data.validation
            sides[member.split] = np.asarray(split.images[position])
        lines = (f"test {test} | train {train}", f"{best.similarity:.2f}")
        shown.append(figures.Shown(sides["test"], sides["train"], lines))
    title = "CIFAR-10: test images with a nearly equal training image that no list has"
    note = f"{len(chosen)} of {len(new)}, drawn by a seed"
    figures.save(figures.pair_grid(shown, title, note, most=SAMPLE), PICTURE)


def write(results: dict[str, Any]) -> None:
    """Writes the figures and the page."""
    RESULT.write_text(json.dumps(results, indent=2) + "\n")
    across, own = results["across"], results["within_test"]
    rows = []
    for title, table in (("test and train", across), ("within test", own)):
        for kind in KINDS:
            r = table[kind]
            if r["listed"]:
                missed = r["listed"] - r["found"]
                rows.append(
                    f"| {title} | {kind} | {r['listed']} | **{r['found']}** "
                    f"({r['found'] / r['listed']:.1%}) | {missed} | {r['image_found']} |"
                )
    of_across = sum(r["listed"] for r in across.values())
    found = sum(r["found"] for r in across.values())
    looked = ""
    if results["sample_real"] is not None:
        looked = (
            f" Looked at one by one, {results['sample_real']} of the {results['sample']} in the "
            "picture are one photograph or one scene; the others are two things of a kind."
        )
    lines = f"""# Near-duplicates of CIFAR-10

Made by `python benchmarks/near_duplicates.py --lists=cifair/meta`; the figures are in
[near_duplicates.json](../../benchmarks/results/near_duplicates.json). The lists are those of
[ciFAIR](https://github.com/cvjena/cifair) (Barz and Denzler 2020, arXiv:1902.00423), who found
pairs by the features of a CNN and judged them by eye: {of_across} test images with a duplicate in
train and {sum(r["listed"] for r in own.values())} with one in test, 3.25 % of all.

| | their judgement | listed | found | missed | image found, with this or another pair |
|---|---|---|---|---|---|
{chr(10).join(rows)}

Of the {of_across} pairs between test and train {found} are found ({found / of_across:.1%}). Of the
{of_across - found} that are missed {results["missed_candidates"]} are similar enough, and were no
candidates since other images have larger products; the others are not similar enough once they
are laid over each other.

**The lists are not complete.** `data` finds {results["pairs"]:,} pairs between test and train, of
{results["test_images"]} test images ({results["test_images"] / 10_000:.2%}), of which
{results["test_images_not_listed"]} are not in the list; {results["mirrored"]} pairs are mirrored,
and {results["two_labels"]} have two labels.{looked}

![Test images beside the nearly equal training image that no list has](near_duplicates.png)

**Method** (`cnn_jax/inspection/near.py`): thumbnails of 32 x 32 pixels; descriptors of colours and
gradients in 8 x 8 cells, 96 principal directions of them, multiplied in blocks, also with mirror
images; the {results["candidates"]:,} largest products are laid over each other by stretch and shift
(Gauss and Newton), and count as nearly equal where their local contrasts correlate by
{results["threshold"]:.2f} or more. No network is trained for it.

**Time**: 50,000 + 10,000 images take {results["cpu_seconds"]} s of processor time on
{results["cores"]} cores, {results["seconds"]} s by the clock beside other work (load
{results["load"]}). Memory: some 1.5 KiB an image, and blocks of 1,024 x 16,384 products.
"""
    PAGE.write_text(lines)


if __name__ == "__main__":
    main()
