r"""What are the maps of `explain` worth?

    python launch.py --config=cats_vs_dogs_vgg16 --dataset.name=folder --dataset.path=PHOTOS \\
        --workdir=CATS
    python benchmarks/explain.py --cats=CATS --photos=PHOTOS --runs=RUN,RUN
    python benchmarks/explain.py --parts=families

- A planted cause: a network is trained on noise in which a square of one colour gives the class
  away; its maps should lie on that square, and should not once its weights are drawn anew.
- Tests over networks: how many maps of test images of each run pass the tests of `explain`.
- Families: a member of each family of the registry, trained for some steps on small images of
  CIFAR-10: every method gives a map or says why it does not, and the map is compared with that of
  the same network with other weights.
- Boxes: how much of a map lies in a box that was drawn by hand around the animal in 50
  photographs (benchmarks/boxes.json; PHOTOS is the folder of 2,000 + 1,000 photographs that
  Chollet's book uses), beside the share of the box in the area.

It prints tables and writes docs/results/explain.md, explain.json and the figures beside it. A part
that is not asked for by --parts stays as it was measured before.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cnn_jax  # noqa: E402
from cnn_jax import cpu, runtime  # noqa: E402
from cnn_jax.assembly import assemble  # noqa: E402
from cnn_jax.data import Data  # noqa: E402
from cnn_jax.data import images as image_files  # noqa: E402
from cnn_jax.evaluation import intervals  # noqa: E402
from cnn_jax.explain import checks, explaining, maps, presenting  # noqa: E402
from cnn_jax.explain.maps import Subject  # noqa: E402
from cnn_jax.explain.network import Network  # noqa: E402
from cnn_jax.reporting import tables  # noqa: E402
from cnn_jax.runs.trained import Run  # noqa: E402

RESULTS = ROOT / "docs" / "results"
BOXES = ROOT / "benchmarks" / "boxes.json"
SIDE, MARK, AROUND = 24, 5, 2
# A member of each family, and the side of its images. The first ones are trained for some steps;
# the others, of which a step takes minutes to compile, have the weights that they begin with.
SMALL = {"lenet5": 32, "mlp": 32, "mnist_cnn": 32, "study_cnn": 32, "airbench": 32, "alexnet": 64}
FAMILIES = {
    **SMALL,
    "vgg11": 32,
    "googlenet": 32,
    "inception_v3": 75,
    "resnet18": 32,
    "wide_resnet28_10": 16,
    "densenet121": 32,
}
PARTS = ("planted", "tested", "families", "boxed")
TRAINED, EXPLAINED = 320, 3  # images


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


def as_drawn(data: Data, name: str) -> Run:
    """Returns a network with the weights that it begins with, as a run that was never trained."""
    config = cnn_jax.Experiment().replace({"model.name": name})
    assembly = assemble(config, data.info)
    x = jax.ShapeDtypeStruct((1, *data.info.image_shape), assembly.image_dtype)

    def draw(key: jax.Array) -> Any:
        with cpu.using("plain"):
            return assembly.model.init(key, jax.numpy.zeros(x.shape, x.dtype))

    variables = jax.jit(draw)(jax.random.key(0))
    return Run(config, assembly, data.info, [], lambda: (variables, 0))


def families(methods: Sequence[str], names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns a row for each network and method: its map, or why there is none."""
    data = cnn_jax.from_experiment(cnn_jax.Dataset(name="cifar10"))
    train, rest = data.train, data.validation
    images = {
        name: np.asarray(split.images[:count])
        for name, split, count in (("train", train, TRAINED), ("validation", rest, 100))
    }
    rows = []
    for name in names:
        began = time.process_time()
        size = FAMILIES[name]
        x = {
            key: np.stack([np.asarray(Image.fromarray(i).resize((size, size))) for i in each])
            for key, each in images.items()
        }
        arrays = cnn_jax.from_arrays(
            x["train"],
            np.asarray(train.labels[:TRAINED]),
            validation=(x["validation"], np.asarray(rest.labels[:100])),
            class_names=data.info.class_names,
        )
        count = EXPLAINED if name in SMALL else 1
        if name in SMALL:
            run = cnn_jax.train(arrays, model=name, epochs=2, batch_size=32)
        else:
            run = as_drawn(arrays, name)
        network = Network(run)
        about: dict[str, Any] = {"model": name, "side": size, "layer": network.layer or ""}
        about["accuracy"] = run.history[-1]["validation_accuracy"] if run.history else None
        for method in methods:
            row = {**about, "method": method, "refused": "", "images": 0}
            try:
                found = explaining.explain(
                    network,
                    x["validation"][:count],
                    [str(i) for i in range(count)],
                    methods=[method],
                    steps=64,
                    draws=1,
                )
            except cnn_jax.UsageError as error:
                rows.append({**row, "refused": str(error)})
                print(rows[-1], flush=True)
                continue
            made = [one.maps[method] for one in found]
            assert all(np.isfinite(each.values).all() for each in made), (name, method)
            gaps = [abs(each.rest / each.expected) for each in made if each.rest and each.expected]
            row |= {
                "images": len(made),
                "shape": list(made[0].values.shape),
                "redrawn": float(np.mean([each.redrawn["all"] for each in made])),
                "most redrawn": float(max(each.redrawn["all"] for each in made)),
                "rest": float(np.median(gaps)) if gaps else None,
                "failed": dict(Counter(test for each in made for test in each.failures)),
            }
            rows.append(row)
            print(row, flush=True)
        for row in rows[-len(methods) :]:
            row["seconds"] = time.process_time() - began
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
        "Made by `python benchmarks/explain.py`; intervals are of 95 %.\n",
        "## A planted cause\n",
        _made(result, "planted"),
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
            _made(result, "tested"),
            "Maps of test images that were drawn by chance. redrawn: median size of the",
            "correlation with the map of the same network with weights drawn anew. cut out: mean",
            "probability while places are cut out in the order of the map, in brackets in random",
            "orders. rest: median share of the logit that the map does not account for.\n",
            tables.markdown(rows, heads),
        ]
    if result["families"]:
        lines += _families_page(result)
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
            _made(result, "boxed"),
            f"{first['images']} photographs of cats and dogs with a box around the animal, drawn",
            f"by hand; VGG16 with a frozen backbone is right on {first['right']:.2f} of them. How",
            "much of the positive evidence for the true class lies in the box:\n",
            tables.markdown(rows, heads),
            "",
            *(f"![{path.stem}]({path.name})" for path in pictures),
            *_cats_page(),
        ]
    return "\n".join([*lines, ""])


def _made(result: dict[str, Any], part: str) -> str:
    made = result["made"][part]
    return (
        f"`{made['command']}`, {made['date']}, commit {made['git_commit'][:7]}, jax {made['jax']}, "
        f"{made['processor']}.\n"
    )


def _families_page(result: dict[str, Any]) -> list[str]:
    """Returns the lines about the families of the registry."""
    rows = []
    for r in result["families"]:
        accuracy = "as drawn" if r["accuracy"] is None else f"{r['accuracy']:.2f}"
        network = [r["model"], f"{r['side']} x {r['side']}", accuracy, r["method"]]
        if r["refused"]:
            rows.append([*network, "none: " + r["refused"].partition(",")[0], "", "", ""])
            continue
        height, width = r["shape"]
        failed = ", ".join(f"{test} {n}" for test, n in sorted(r["failed"].items())) or "none"
        same = f"{r['redrawn']:.2f} ({r['most redrawn']:.2f})"
        rest = "" if r["rest"] is None else f"{r['rest']:.4f}"
        rows.append([*network, f"{height} x {width}", same, rest, failed])
    seconds = {r["model"]: r["seconds"] for r in result["families"]}
    heads = ["network", "images", "accuracy", "method", "map", "redrawn", "rest", "failed"]
    return [
        "\n## The families of the registry\n",
        _made(result, "families"),
        f"A member of each family. The small ones are trained for 20 steps on {TRAINED} images of",
        "CIFAR-10, which gives them weights that are not those of their start, and no more;",
        f"accuracy is that on 100 others, and {EXPLAINED} images are explained. The others have",
        "the weights of their start, and one image is explained. redrawn: mean size of the",
        "correlation with the map of the same network with weights drawn anew, in brackets the",
        "largest; above 0.5 the map is said to show the image and not what was learned. rest:",
        "median share of the logit that the map does not account for. failed: on how many of the",
        "images which test fails, and `explain` says so. Maps of four or nine places correlate by",
        "chance: there `redrawn` says little.\n",
        tables.markdown(rows, heads),
        f"\n{sum(seconds.values()) / 60:.0f} minutes of processor time in all: "
        + ", ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
        + ".",
    ]


def _cats_page() -> list[str]:
    """Returns the lines about the page of cats and dogs, where its picture is there."""
    if not (RESULTS / "explain_cats_page.webp").exists():
        return []
    return [
        "\nThe page of a `cats_vs_dogs_vgg16` (`page --workdir=RUN`) cannot run 14.7 million",
        "parameters, and shows what was computed when it was written: the first picture of each",
        "class, the surest error of the test images and the one that the network is least sure of.",
        "Where the probability is 1.000, it does not move under a grey patch and the logit does.",
        "",
        "![Its sixth section: pictures, occlusion and HiResCAM](explain_cats_page.webp)",
    ]


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
    parser.add_argument("--parts", default=",".join(PARTS), help="what is measured")
    parser.add_argument("--families", default=",".join(FAMILIES))
    options = parser.parse_args()
    runtime.start()
    methods = options.methods.split(",")
    from cnn_jax.runs import environment

    where = RESULTS / "explain.json"
    result: dict[str, Any] = {part: [] for part in PARTS}
    result |= {"made": {}, **(json.loads(where.read_text()) if where.exists() else {})}
    shown = {"parts": options.parts, "cats": os.path.basename(options.cats or "")}
    made = {
        "date": datetime.date.today().isoformat(),
        "command": " ".join(
            ["python benchmarks/explain.py", *(f"--{k}={v}" for k, v in shown.items() if v)]
        ),
        "git_commit": environment.git_commit(),
        "jax": jax.__version__,
        "python": platform.python_version(),
        "processor": runtime.processor(),
    }
    for part in options.parts.split(","):
        if part == "planted":
            found = planted(methods)
        elif part == "families":
            names = options.families.split(",")
            kept = [row for row in result[part] if row["model"] not in names]
            found = kept + families(methods, names)
            found.sort(key=lambda row: list(FAMILIES).index(row["model"]))
        elif part == "tested":
            runs = filter(None, options.runs.split(","))
            found = [row for each in runs for row in tested(each, methods, options.images)]
        else:
            found = boxed(options.cats, options.photos, methods[:3]) if options.cats else []
        if found:
            result[part], result["made"][part] = found, made
    where.write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "explain.md").write_text(page(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
