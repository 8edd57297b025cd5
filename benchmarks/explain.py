r"""What are the maps of `explain` worth?

    python launch.py --config=cats_vs_dogs_vgg16 --dataset.name=folder --dataset.path=PHOTOS \\
        --workdir=CATS
    python benchmarks/explain.py --cats=CATS --photos=PHOTOS --runs=RUN,RUN

- A planted cause: a network is trained on noise in which a square of one colour gives the class
  away; its maps should lie on that square, and should not once its weights are drawn anew.
- Tests over networks: how many maps of test images of each run pass the tests of `explain`.
- Boxes: how much of a map lies in a box that was drawn by hand around the animal in 50
  photographs (benchmarks/boxes.json; PHOTOS is the folder of 2,000 + 1,000 photographs that
  Chollet's book uses), beside the share of the box in the area.

It prints tables and writes docs/results/explain.md, explain.json and the figures beside it.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import sys
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cnn_jax  # noqa: E402
from cnn_jax import runtime  # noqa: E402
from cnn_jax.data import images as image_files  # noqa: E402
from cnn_jax.evaluation import intervals  # noqa: E402
from cnn_jax.explain import checks, explaining, maps, presenting  # noqa: E402
from cnn_jax.explain.maps import Subject  # noqa: E402
from cnn_jax.explain.network import Network  # noqa: E402
from cnn_jax.reporting import tables  # noqa: E402

RESULTS = ROOT / "docs" / "results"
BOXES = ROOT / "benchmarks" / "boxes.json"
SIDE, MARK, AROUND = 24, 5, 2


class Pooled(nn.Module):
    """Two convolutions, the mean over height and width, a dense layer."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps images to three logits."""
        x = nn.relu(nn.Conv(8, (3, 3), name="conv1")(x))
        x = nn.relu(nn.Conv(8, (3, 3), strides=2, name="conv2")(x))
        return nn.Dense(3, name="logits")(x.mean((1, 2)))


def planted(methods: Sequence[str]) -> list[dict[str, Any]]:
    """Returns a row for each method: on how many images its map lies on the mark."""
    generator = np.random.default_rng(0)
    x = generator.integers(90, 140, (720, SIDE, SIDE, 3), np.uint8)
    y = np.arange(len(x)) % 3
    corners = generator.integers(2, SIDE - MARK - 2, (len(x), 2))
    for image, label, (top, left) in zip(x, y, corners, strict=True):
        if label:
            colour = 255 if label == 1 else (255, 0, 0)
            image[top : top + MARK, left : left + MARK] = colour
    data = cnn_jax.from_arrays(x[:480], y[:480], validation=(x[480:540], y[480:540]))
    settings = {"dataset.normalize": "standardize"}
    run = cnn_jax.train(
        data, model=Pooled(), epochs=20, batch_size=32, learning_rate=0.02, settings=settings
    )
    network = Network(run)
    accuracy = float(np.mean(network.probabilities(x[540:]).argmax(1) == y[540:]))
    marked = [i for i in range(540, len(x)) if y[i]]
    anew = checks.drawn_anew(network, (), 0)
    rows = []
    for method in methods:
        share: dict[str, list[float]] = {"trained": [], "weights drawn anew": []}
        area = 0.0
        for i in marked:
            top, left = corners[i]
            ends = (top - AROUND, left - AROUND, top + MARK + AROUND, left + MARK + AROUND)
            box: Any = tuple(float(c) / SIDE for c in ends)
            for name, variables in (("trained", None), ("weights drawn anew", anew)):
                values = maps.MAKERS[method](network, Subject(x[i], int(y[i])), variables, 64)
                strong = np.maximum(checks.enlarged(values, (SIDE, SIDE)), 0)
                share[name].append(checks.shares(strong, (SIDE, SIDE), box)["box"][0])
                area = checks.shares(strong, (SIDE, SIDE), box)["box"][1]
        for name, found in share.items():
            on = int(np.sum(np.array(found) > 0.5))
            low, high = intervals.wilson(on, len(found))
            rows.append(
                {
                    "method": method,
                    "network": name,
                    "accuracy": accuracy,
                    "images": len(found),
                    "mean share": float(np.mean(found)),
                    "area": area,
                    "more than half": on / len(found),
                    "low": low,
                    "high": high,
                }
            )
            print(rows[-1], flush=True)
    return rows


def tested(directory: str, methods: Sequence[str], count: int) -> list[dict[str, Any]]:
    """Returns a row for each method: how many maps of a run's test images pass."""
    run = cnn_jax.load(directory)
    network = Network(run)
    split = run.split()
    chosen = np.random.default_rng(0).permutation(len(split))[:count]
    found = explaining.explain(
        network,
        np.asarray(split.images[chosen]),
        [split.ids[int(i)] for i in chosen],
        methods=[m for m in methods if network.layer or m not in maps.OF_LAYER],
        true=split.labels[chosen].tolist(),
    )
    rows = []
    for method in found[0].maps:
        made = [one.maps[method] for one in found]
        chance = [float(np.mean([c.deletion_mean for c in one.chance])) for one in found]
        failed: dict[str, int] = {}
        for each in made:
            for test in each.failures:
                failed[test] = failed.get(test, 0) + 1
        passed = sum(not each.failures for each in made)
        low, high = intervals.wilson(passed, len(made))
        rests = [abs(each.rest / each.expected) for each in made if each.rest and each.expected]
        rows.append(
            {
                "run": f"{run.experiment.model.name} on {run.data_info.name}",
                "layer": network.layer or "",
                "method": method,
                "images": len(made),
                "passed": passed / len(made),
                "low": low,
                "high": high,
                "failed": failed,
                "redrawn": float(np.median([each.redrawn["all"] for each in made])),
                "deletion": float(np.mean([each.curves.deletion_mean for each in made])),
                "by chance": float(np.mean(chance)),
                "rest": float(np.median(rests)) if rests else None,
            }
        )
        print(rows[-1], flush=True)
    return rows


def boxed(directory: str, photos: pathlib.Path, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Returns a row for each method: how much of its maps lies in the boxes; draws three."""
    run = cnn_jax.load(directory)
    network = Network(run)
    boxes: dict[str, Any] = {
        name: tuple(box) for name, box in json.loads(BOXES.read_text()).items()
    }
    how = image_files.like(run.data_info)
    shares: dict[str, list[list[float]]] = {method: [] for method in methods}
    right = 0
    drawn = []
    for number, (name, box) in enumerate(boxes.items()):
        image = image_files.decode(photos / name, how).pixels
        label = 0 if "/cats/" in name else 1
        right += int(network.probabilities(image[None]).argmax() == label)
        for method in methods:
            values = maps.MAKERS[method](network, Subject(image, label), None, 32)
            strong = np.maximum(checks.enlarged(values, image.shape[:2]), 0)
            shares[method].append(checks.shares(strong, image.shape[:2], box)["box"])
        if number % 8 == 0:
            drawn.append((name, image, label, box))
    for name, image, label, box in (drawn[i] for i in (1, 2, 4)):
        one = explaining.explain(
            network, image[None], [name], methods=methods, label=label, true=[label], box=box
        )[0]
        stem = pathlib.Path(name).stem.replace(".", "_")
        whole = image_files.read_image(photos / name)
        presenting.save(one, whole, presenting.limits([one]), RESULTS / f"explain_{stem}.png", box)
    generator = np.random.default_rng(0)
    rows = []
    for method, found in shares.items():
        ratio = np.array(found)
        draws = generator.integers(0, len(ratio), (2000, len(ratio)))
        gain = (ratio[:, 0] - ratio[:, 1])[draws].mean(axis=1)
        rows.append(
            {
                "method": method,
                "images": len(ratio),
                "right": right / len(boxes),
                "share in the box": float(ratio[:, 0].mean()),
                "share of the area": float(ratio[:, 1].mean()),
                "gain low": float(np.quantile(gain, 0.025)),
                "gain high": float(np.quantile(gain, 0.975)),
                "above the area": float(np.mean(ratio[:, 0] > ratio[:, 1])),
            }
        )
        print(rows[-1], flush=True)
    return rows


def page(result: dict[str, Any]) -> str:
    """Returns the page of the results."""
    rows = [
        [
            r["method"],
            r["network"],
            r["images"],
            f"{r['mean share']:.2f}",
            f"{r['area']:.2f}",
            _with_interval(r, "more than half"),
        ]
        for r in result["planted"]
    ]
    accuracy = result["planted"][0]["accuracy"]
    lines = [
        "# What the maps of `explain` are worth\n",
        f"Made on {result['date']} by `{result['command']}` at commit {result['git_commit']},",
        f"jax {result['jax']}, {result['processor']}. Intervals are of 95 %.\n",
        "## A planted cause\n",
        "A network with two convolutions learned three classes of noise; two of them have a square",
        f"of 5 x 5 pixels, white or red, at a random place (test accuracy {accuracy:.3f}). How",
        "much of the positive evidence lies on the square and two pixels around it, and on how",
        "many images it is more than half:\n",
        tables.markdown(rows, ["map", "network", "images", "mean share", "area", "more than half"]),
    ]
    if result["tested"]:
        rows = [
            [
                r["run"],
                r["method"],
                r["images"],
                _with_interval(r, "passed"),
                ", ".join(f"{test} {n}" for test, n in sorted(r["failed"].items())) or "none",
                f"{r['redrawn']:.2f}",
                f"{r['deletion']:.3f} ({r['by chance']:.3f})",
                "" if r["rest"] is None else f"{r['rest']:.4f}",
            ]
            for r in result["tested"]
        ]
        heads = ["run", "map", "images", "pass all", "failed", "redrawn", "cut out", "rest"]
        lines += [
            "\n## Tests over networks\n",
            "Maps of test images that were drawn by chance. redrawn: median size of the",
            "correlation with the map of the same network with weights drawn anew. cut out: mean",
            "probability while places are cut out in the order of the map, in brackets in random",
            "orders. rest: median share of the logit that the map does not account for.\n",
            tables.markdown(rows, heads),
        ]
    if result["boxed"]:
        first = result["boxed"][0]
        rows = [
            [
                r["method"],
                f"{r['share in the box']:.3f}",
                f"{r['share of the area']:.3f}",
                f"{r['gain low']:+.3f} to {r['gain high']:+.3f}",
                f"{r['above the area']:.2f}",
            ]
            for r in result["boxed"]
        ]
        heads = ["map", "share in the box", "share of the area", "difference", "images above"]
        pictures = sorted(RESULTS.glob("explain_*.png"))
        lines += [
            "\n## Boxes around animals\n",
            f"{first['images']} photographs of cats and dogs with a box around the animal, drawn",
            f"by hand; VGG16 with a frozen backbone is right on {first['right']:.2f} of them. How",
            "much of the positive evidence for the true class lies in the box:\n",
            tables.markdown(rows, heads),
            "",
            *(f"![{path.stem}]({path.name})" for path in pictures),
        ]
    return "\n".join([*lines, ""])


def _with_interval(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.2f} ({row['low']:.2f} to {row['high']:.2f})"


def main() -> int:
    """Measures what was asked for and writes the page."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cats", help="the run of cats and dogs")
    parser.add_argument("--photos", type=pathlib.Path, help="the folder of its photographs")
    parser.add_argument("--runs", default="", help="run directories, separated by commas")
    parser.add_argument("--images", type=int, default=30, help="test images of each run")
    parser.add_argument("--methods", default=",".join(maps.METHODS))
    options = parser.parse_args()
    runtime.start()
    methods = options.methods.split(",")
    from cnn_jax.runs import environment

    shown = " ".join(
        f"--{name}={os.path.basename(value) if name in ('cats', 'photos') else value}"
        for name, value in (("cats", options.cats or ""), ("images", str(options.images)))
        if value
    )
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "command": f"python benchmarks/explain.py {shown}",
        "git_commit": environment.git_commit(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "processor": runtime.processor(),
        "planted": planted(methods),
        "tested": [],
        "boxed": [],
    }
    for directory in filter(None, options.runs.split(",")):
        result["tested"] += tested(directory, methods, options.images)
    if options.cats:
        result["boxed"] = boxed(options.cats, options.photos, methods[:3])
    (RESULTS / "explain.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "explain.md").write_text(page(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
