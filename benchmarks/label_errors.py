"""Measures how many flipped labels of CIFAR-10 are found among the least likely ones.

    python benchmarks/label_errors.py --methods=retrain --folds=2
    python benchmarks/label_errors.py --config=digits_lenet --methods=retrain,heads --folds=4

A share of the training labels is replaced by another class, drawn by a seed. `retrain` trains the
preset anew for each fold; `heads` trains it once on all of these labels, and then fits a linear
classifier for each fold on the pooled features of that network, which has seen the labels.
The figures are written to benchmarks/results/label_errors.json and docs/results/label_errors.md,
and pictures and tables beside the JSON into the folder that --keep names.
"""

import argparse
import dataclasses
import functools
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
from cnn_jax import runtime  # noqa: E402
from cnn_jax.data import Data  # noqa: E402
from cnn_jax.inspection import confident, label_errors, out_of_fold, pictures  # noqa: E402
from cnn_jax.training import start  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "label_errors.json"
PAGE = ROOT / "docs" / "results" / "label_errors.md"
PICTURE = PAGE.with_suffix(".png")


_HEAD = (
    "| preset | method | folds | epochs | flipped | labels as predicted | found, by probability "
    "| by margin | doubted | of the flipped, doubted | of the doubted, flipped "
    "| estimated share wrong | CPU time |"
)


def flip(
    labels: np.ndarray, classes: int, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (labels of which a share is another class, bool: which ones)."""
    random = np.random.default_rng(seed)
    count = round(share * len(labels))
    chosen = random.choice(len(labels), count, replace=False)
    flipped = labels.copy()
    flipped[chosen] = (labels[chosen] + random.integers(1, classes, count)) % classes
    which = np.zeros(len(labels), bool)
    which[chosen] = True
    return flipped, which


def figures(which: np.ndarray, labels: np.ndarray, p: np.ndarray) -> dict[str, Any]:
    """Returns the share of flipped labels that two rankings put first, and of those doubted."""
    top = int(which.sum())
    found: dict[str, Any] = {"flipped": top, "as_predicted": float((p.argmax(1) == labels).mean())}
    own = p[np.arange(len(labels)), labels]
    for name, score in (("margin", confident.margins(labels, p)), ("probability", own)):
        first = np.argsort(score, kind="stable")[:top]
        found[f"found_by_{name}"] = float(which[first].mean())
    order = np.argsort(own, kind="stable")
    found["flipped_in_first"] = {
        f"{share:.0%}": int(which[order[: round(share * len(labels))]].sum())
        for share in (0.01, 0.02, 0.05, 0.1)
    }
    likely = confident.confident_classes(labels, p)
    doubted = (likely >= 0) & (likely != labels)
    found["doubted"] = int(doubted.sum())
    found["doubted_found"] = float(which[doubted].sum() / top)
    found["doubted_flipped"] = float(which[doubted].mean()) if doubted.any() else None
    found["estimated_share"] = float(1 - np.trace(confident.estimated_joint(labels, p)))
    return found


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", default="cifar10_quick")
    parser.add_argument("--methods", default="retrain,heads")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--width", type=float)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=pathlib.Path)
    given = parser.parse_args()
    runtime.start()
    say = functools.partial(print, flush=True)
    config = out_of_fold.shortened(cnn_jax.preset(given.config), given.epochs)
    if given.width is not None:
        config = config.replace({"model.width": given.width})
    data = cnn_jax.from_experiment(config)
    classes = len(data.info.class_names)
    labels, which = flip(np.asarray(data.train.labels), classes, given.share, given.seed)
    train = dataclasses.replace(data.train, labels=labels)
    data = Data(data.info, {"train": train, "validation": data.validation}, config.dataset)
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for method in filter(None, given.methods.split(",")):
        began, cpu = time.monotonic(), time.process_time()
        fold_of = out_of_fold.assign(data, given.folds, "--folds")
        if method == "retrain":
            p = out_of_fold.by_retraining(config, data, fold_of, say)
        else:
            p = out_of_fold.by_heads(start.train(config, data), data, fold_of, say)
        found = label_errors.ranked(train, data.info.class_names, p, method, given.folds)
        if method == "retrain" and given.config == "cifar10_quick":
            pictures.save_labels(train, found.rows(25), found.order[:25], PICTURE)
        if given.keep is not None:
            given.keep.mkdir(parents=True, exist_ok=True)
            np.savez(given.keep / f"{method}.npz", p=p, which=which, labels=labels)
            found.save(given.keep / method)
        results[f"{given.config} {method}"] = {
            "examples": len(labels),
            "method": method,
            "config": given.config,
            "epochs": config.train.epochs,
            "width": config.model.width,
            "folds": given.folds,
            "share": given.share,
            "seed": given.seed,
            **figures(which, labels, p),
            "seconds": round(time.monotonic() - began),
            "cpu_seconds": round(time.process_time() - cpu),
            "cores": len(os.sched_getaffinity(0)),
        }
        print(json.dumps(results[f"{given.config} {method}"], indent=1), flush=True)
        RESULT.write_text(json.dumps(results, indent=2) + "\n")
    PAGE.write_text(page(results))


def page(results: dict[str, Any]) -> str:
    """Returns the page of the results."""
    rows = [
        f"| `{r['config']}` | {r['method']} "
        f"| {r['folds']} | {r['epochs']} | {r['flipped']:,} of {r['examples']:,} "
        f"| {r['as_predicted']:.4f} | **{r['found_by_probability']:.4f}** "
        f"| {r['found_by_margin']:.4f} | {r['doubted']:,} | {r['doubted_found']:.4f} "
        f"| {r['doubted_flipped']:.4f} | {r['estimated_share']:.4f} | {r['cpu_seconds']:,} s |"
        for r in results.values()
    ]
    firsts = "\n".join(
        f"- `{r['config']}`, {r['method']}: "
        + ", ".join(
            f"{count:,} in the first {part}" for part, count in r["flipped_in_first"].items()
        )
        for r in results.values()
    )
    return f"""# Flipped labels, found

Made by `python benchmarks/label_errors.py`; the figures are in
[label_errors.json](../../benchmarks/results/label_errors.json). A share of the training labels was
replaced by another class, drawn by seed 0. Networks that were not trained on an image say how
likely its label is (confident learning, Northcutt et al. 2021, arXiv:1911.00068). *Found* is the
share of the flipped labels among the least likely ones, as many as were flipped: by the
probability of the label, which is the order of `data --workdir=RUN`, and by its margin.

{_HEAD}
|{"---|" * 13}
{chr(10).join(rows)}

`retrain` trains the preset once for each fold, on the other folds. `heads` trains it once on all
labels, flipped ones too, and fits a linear classifier for each fold on the features: these are not
out of fold, since the network has seen every label. *Doubted* are the labels of images that are
confidently of another class. Seconds are of processor time; the machine had other work.

Flipped labels among the least likely ones:

{firsts}

![The 25 least likely training labels of CIFAR-10 with 2,500 flipped ones](label_errors.png)
"""


if __name__ == "__main__":
    main()
