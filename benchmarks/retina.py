"""What do class weights, AUC as the metric that chooses and frozen features do on RetinaMNIST?

    python benchmarks/retina.py --data=retinamnist.npz --weights=vgg16_notop.h5

RetinaMNIST (MedMNIST v2) has 1,600 fundus photographs at 28 x 28 pixels and five grades of
diabetic retinopathy. A small CNN (LeNet-5) and a frozen VGG16 are trained with and without class
weights over three seeds; the small CNN once more from a table of PNG files with groups. Then an
imbalanced version of two classes, 30 healthy images to one that has a retinopathy of grade 2 or
more, beside Keras with class weights (on its JAX backend, a development dependency) on the same
network. Each finished run goes to docs/results/retina.json, and a run that is there is not trained
again; docs/results/retina.md and its figure show all of them. Some minutes on two cores.
"""

import argparse
import csv
import datetime
import importlib
import json
import os
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["KERAS_BACKEND"] = "jax"

import jax  # noqa: E402 (the script runs from anywhere)
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

import cnn_jax  # noqa: E402
from cnn_jax import files  # noqa: E402
from cnn_jax.data import Split  # noqa: E402
from cnn_jax.evaluation import measures, two_classes  # noqa: E402
from cnn_jax.reporting import tables  # noqa: E402
from cnn_jax.runs.environment import environment  # noqa: E402

RESULTS = ROOT / "docs" / "results"
SEEDS = (0, 1, 2)
GRADES = ("0", "1", "2", "3", "4")
RATIO = 30  # healthy training images for each positive one
RULE = ("sensitivity", 0.9)
# Test AUC and accuracy of MedMNIST v2 (Yang et al. 2023, doi:10.1038/s41597-022-01721-8), second
# hand.
PUBLISHED = {"ResNet-18, 28 x 28": (0.717, 0.524)}

SMALL = cnn_jax.Experiment().replace(
    {
        "name": "retina",
        "dataset.name": "npz",
        "dataset.normalize": "standardize",
        "dataset.ordered": True,
        "dataset.batch_size": 64,
        "model.name": "lenet5",
        "train.epochs": 40,
        "train.select": "auc",
        "train.patience": 10,
        "logging.figures_every": None,
        "logging.projector_images": 0,
    }
)


def frozen(weights: str) -> cnn_jax.Experiment:
    """Returns the preset medical_vgg16 on these images, at 64 x 64 pixels."""
    return cnn_jax.preset("medical_vgg16").replace(
        {
            "dataset.name": "npz",
            "dataset.image_size": 64,
            "dataset.ordered": True,
            "transfer.weights": weights,
        }
    )


class Results:
    """The records of finished runs, in a file that is written after each of them."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.records: list[dict[str, Any]] = []
        if path.exists():
            self.records = json.loads(path.read_text())["runs"]

    def add(self, line: str, seed: int, make: Callable[[], dict[str, Any]]) -> None:
        """Makes and keeps the record of a line of the tables, unless it is there."""
        if any((r["line"], r["seed"]) == (line, seed) for r in self.records):
            return
        record = {"line": line, "seed": seed, **make()}
        print(f"{line}, seed {seed}: AUC {record['auc']:.4f}", flush=True)
        self.records.append(record)
        self.write()

    def write(self) -> None:
        """Writes the records, with the versions and the processor."""
        where = {k: v for k, v in environment().items() if k in ("packages", "processor", "cores")}
        found = {"date": f"{datetime.date.today()}", **where, "runs": self.records}
        files.write_json(self.path, found)

    def of(self, line: str) -> list[dict[str, Any]]:
        """Returns the records of a line."""
        return [record for record in self.records if record["line"] == line]


def train(config: cnn_jax.Experiment, seed: int, data: Any = None) -> cnn_jax.Run:
    """Trains an experiment with a seed.

    Runs of frozen VGG16 have a directory for a moment: so they share the features in the cache.
    """
    config = config.replace(seed=seed)
    if config.transfer.weights is None:
        return cnn_jax.train(config, data=data)
    with tempfile.TemporaryDirectory() as folder:
        run = cnn_jax.train(config, data=data, workdir=folder)
        run.variables  # noqa: B018 (read while they are there)
    return run


def grades(run: cnn_jax.Run) -> dict[str, Any]:
    """Returns what a run of five grades reaches on the test split."""
    split, found = run.split("test"), run.evaluate("test")
    measured = measures.measure(
        found.probabilities, split.labels, run.class_names, groups=split.groups, ordered=True
    )
    chosen = ("auc", "accuracy", "balanced_accuracy", "quadratic_kappa", "groups")
    kept = {key: measured[key] for key in chosen if key in measured}
    recalls = [record["recall"] for record in measured["per_class"]]
    ends = {key: measured["intervals"][key] for key in chosen if key in measured["intervals"]}
    return {**kept, "intervals": ends, "recalls": recalls, "epochs": len(run.history)}


def surest_errors(run: cnn_jax.Run, count: int) -> list[dict[str, Any]]:
    """Returns the test images that are wrong with the highest probability, the surest first."""
    split, p = run.split("test"), run.evaluate("test").probabilities
    said = p.argmax(axis=1)
    wrong = np.flatnonzero(said != split.labels)
    surest = wrong[np.argsort(-p[wrong].max(axis=1), kind="stable")][:count]
    return [
        {
            "image": int(i),
            "label": GRADES[split.labels[i]],
            "said": GRADES[said[i]],
            "probability": round(float(p[i].max()), 4),
        }
        for i in surest
    ]


def write_table(data: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Writes the images as PNG files, and a table of their grade, split and group.

    The file does not say whose eyes these are: two images that follow each other are taken for
    those of one patient, to have groups at all.
    """
    arrays = np.load(data, allow_pickle=False)
    rows = []
    for split, key in (("train", "train"), ("validation", "val"), ("test", "test")):
        labels = arrays[f"{key}_labels"][:, 0]
        for i, image in enumerate(arrays[f"{key}_images"]):
            name = f"{split}_{i:04}.png"
            Image.fromarray(image).save(folder / name)
            rows.append([name, labels[i], split, f"{split}{i // 2:04}"])
    table = folder / "labels.csv"
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "grade", "split", "patient"])
        writer.writerows(rows)
    return table


def two_class_data(data: pathlib.Path) -> cnn_jax.Data:
    """Returns grade 0 against grades 2 to 4, with 30 healthy training images to a positive one.

    Validation and test keep all their positive images: of 1 in 31 there would be two to choose by.
    """
    arrays = np.load(data, allow_pickle=False)
    splits = {}
    for name, key in (("train", "train"), ("validation", "val"), ("test", "test")):
        grade = arrays[f"{key}_labels"][:, 0]
        healthy, ill = np.flatnonzero(grade == 0), np.flatnonzero(grade >= 2)
        if name == "train":
            count = len(healthy) // RATIO
            ill = np.random.default_rng(0).choice(ill, count, replace=False)
        chosen = np.sort(np.concatenate([healthy, ill]))
        images, labels = arrays[f"{key}_images"][chosen], (grade[chosen] >= 2).astype(np.int32)
        splits[name] = (images, labels)
    return cnn_jax.from_arrays(
        *splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        class_names=("healthy", "retinopathy"),
    )


def operating_point(scores: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns AUC on test, and the rates at a threshold that validation chose.

    Args:
        scores: the probability of the second class, {split: float [n]}.
        labels: {split: int [n]}.
    """
    p = np.stack([1 - scores["test"], scores["test"]], axis=1)
    measured = measures.measure(p, labels["test"], ("healthy", "retinopathy"), positive=1)
    threshold = two_classes.threshold(scores["validation"], labels["validation"] == 1, *RULE)
    rates = two_classes.rates(scores["test"] >= threshold, labels["test"] == 1)
    at_half = two_classes.rates(scores["test"] >= 0.5, labels["test"] == 1)
    return {
        "auc": measured["auc"],
        "average_precision": measured["average_precision"],
        "intervals": {"auc": measured["intervals"]["auc"]},
        "threshold": threshold,
        **{key: rates[key] for key in ("sensitivity", "specificity")},
        "rate_intervals": {key: rates["rate_intervals"][key] for key in two_classes.RATES[:2]},
        "at_half": {key: at_half[key] for key in ("sensitivity", "specificity")},
    }


def ours(config: cnn_jax.Experiment, seed: int, data: cnn_jax.Data) -> dict[str, Any]:
    """Returns what a run of two classes reaches."""
    run = train(config, seed, data)
    scores = {n: run.evaluate(data.splits[n]).probabilities[:, 1] for n in ("validation", "test")}
    found = operating_point(scores, {name: data.splits[name].labels for name in scores})
    return {**found, "epochs": len(run.history)}


def with_keras(seed: int, data: cnn_jax.Data, weights: bool) -> dict[str, Any]:
    """Trains the small CNN in Keras, choosing the epoch by AUC, with or without class weights."""
    keras: Any = importlib.import_module("keras")  # which is not there for a type checker

    from benchmarks.peers import networks
    from benchmarks.peers.with_keras import build

    keras.utils.set_random_seed(seed)
    mean, std = (np.asarray(x, np.float32) for x in (data.info.mean, data.info.std))

    def scaled(split: Split) -> np.ndarray:
        return ((split.images / np.float32(255)) - mean) / std

    x = keras.Input(data.info.image_shape)
    logits = build(networks.network("lenet5", 2), x)
    model = keras.Model(x, keras.layers.Softmax()(logits))
    model.compile("adam", "sparse_categorical_crossentropy")
    train, validation = data.train, data.validation
    counts = np.bincount(train.labels)
    balanced = {c: len(train) / (2 * int(n)) for c, n in enumerate(counts)}

    class Best(keras.callbacks.Callback):
        """Keeps the weights of the epoch with the best AUC, and stops ten epochs after it."""

        best, since, kept = -1.0, 0, None

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            from sklearn.metrics import roc_auc_score

            p = self.model.predict(scaled(validation), batch_size=500, verbose=0)[:, 1]
            auc = float(roc_auc_score(validation.labels, p))
            self.since += 1
            if auc > self.best:
                self.best, self.since, self.kept = auc, 0, self.model.get_weights()
            self.model.stop_training = self.since >= 10

    best = Best()
    fitted = model.fit(
        scaled(train),
        train.labels,
        batch_size=64,
        epochs=40,
        verbose=0,
        class_weight=balanced if weights else None,
        callbacks=[best],
    )
    model.set_weights(best.kept)
    scores = {
        name: model.predict(scaled(data.splits[name]), batch_size=500, verbose=0)[:, 1]
        for name in ("validation", "test")
    }
    found = operating_point(scores, {name: data.splits[name].labels for name in scores})
    return {**found, "epochs": len(fitted.history["loss"])}


def measure(results: Results, data: pathlib.Path, weights: str | None) -> None:
    """Trains what is not there yet, seed by seed."""
    two = two_class_data(data)
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(data, pathlib.Path(folder))
        for seed in SEEDS:
            _small(results, seed, data, table)
            _two_classes(results, seed, two)
        for seed in SEEDS if weights is not None else ():
            _frozen(results, seed, data, str(weights))


def _small(results: Results, seed: int, data: pathlib.Path, table: pathlib.Path) -> None:
    path = {"dataset.path": str(data)}
    for choice in ("none", "balanced"):
        config = SMALL.replace({**path, "train.class_weights": choice})
        results.add(f"small {choice}", seed, lambda c=config: grades(train(c, seed)))
    if seed == SEEDS[0]:
        config = SMALL.replace(
            {
                "dataset.name": "table",
                "dataset.path": str(table),
                "dataset.label_column": "grade",
                "train.class_weights": "balanced",
            }
        )
        results.add("table balanced", seed, lambda: grades(train(config, seed)))


def _frozen(results: Results, seed: int, data: pathlib.Path, weights: str) -> None:
    path = {"dataset.path": str(data)}
    for choice in ("none", "balanced"):
        config = frozen(weights).replace({**path, "train.class_weights": choice})

        def vgg(config: Any = config) -> dict[str, Any]:
            run = train(config, seed)
            return {**grades(run), "errors": surest_errors(run, 12)}

        results.add(f"vgg16 {choice}", seed, vgg)


def _two_classes(results: Results, seed: int, two: cnn_jax.Data) -> None:
    plain = SMALL.replace({"dataset.ordered": False})
    lines = {
        "two by accuracy": {"train.select": "accuracy"},
        "two none": {},
        "two balanced": {"train.class_weights": "balanced"},
        "two sampling": {"train.sampling": "balanced"},
    }
    for line, changes in lines.items():
        config = plain.replace(changes)
        results.add(line, seed, lambda c=config: ours(c, seed, two))
    for chosen in (False, True):
        line = "keras balanced" if chosen else "keras none"
        results.add(line, seed, lambda c=chosen: with_keras(seed, two, c))


def draw_errors(results: Results, data: pathlib.Path, path: pathlib.Path) -> None:
    """Draws the surest errors of frozen VGG16 with class weights, seed 0."""
    from matplotlib.figure import Figure

    from cnn_jax.reporting import figures
    from cnn_jax.reporting.figures import canvas  # noqa: F401 (sets the fonts)

    runs = results.of("vgg16 balanced")
    if not runs:
        return
    images = np.load(data, allow_pickle=False)["test_images"]
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    grid = figure.subplots(3, 4).ravel()
    for axes, error in zip(grid, runs[0]["errors"], strict=True):
        axes.imshow(images[error["image"]], interpolation="nearest")
        axes.set_title(
            f"test {error['image']}: is {error['label']}, said {error['said']} "
            f"({error['probability']:.2f})",
            fontsize=8,
        )
        axes.axis("off")
    figures.save(figure, path)


def _spread(runs: list[dict[str, Any]], key: str) -> str:
    values = [run[key] for run in runs]
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def _ends(run: dict[str, Any], key: str) -> str:
    low, high = run["intervals"][key]
    return f"{run[key]:.3f} ({low:.3f} to {high:.3f})"


TITLES = {
    "small none": "small CNN, no weights",
    "small balanced": "small CNN, class weights",
    "table balanced": "the same from a table with groups",
    "vgg16 none": "frozen VGG16, no weights",
    "vgg16 balanced": "frozen VGG16, class weights (`medical_vgg16`)",
    "two by accuracy": "small CNN, best epoch by accuracy",
    "two none": "small CNN, by AUC",
    "two balanced": "small CNN, by AUC, class weights",
    "two sampling": "small CNN, by AUC, balanced sampling",
    "keras none": "Keras, small CNN, by AUC",
    "keras balanced": "Keras, small CNN, by AUC, class weights",
}


def page(results: Results) -> str:
    """Returns the text of retina.md."""
    rows = []
    for line in ("small none", "small balanced", "table balanced", "vgg16 none", "vgg16 balanced"):
        if runs := results.of(line):
            columns = [_spread(runs, key) for key in ("auc", "quadratic_kappa", "accuracy")]
            first = [_ends(runs[0], key) for key in ("auc", "quadratic_kappa")]
            rows.append([TITLES[line], len(runs), *columns, *first])
    for name, (auc, accuracy) in PUBLISHED.items():
        rows.append([f"published: {name}", "", f"{auc:.3f}", "", f"{accuracy:.3f}", "", ""])
    headers = ["network", "seeds", "AUC", "quadratic kappa", "accuracy"]
    headers += ["AUC, seed 0", "kappa, seed 0"]
    recalls = []
    for line in ("small none", "small balanced", "vgg16 none", "vgg16 balanced"):
        if runs := results.of(line):
            means = np.mean([run["recalls"] for run in runs], axis=0)
            recalls.append([TITLES[line], *(f"{mean:.2f}" for mean in means)])
    points = []
    for line in TITLES:
        if line.startswith(("two", "keras")) and (runs := results.of(line)):
            columns = [_spread(runs, key) for key in ("auc", "sensitivity", "specificity")]
            half = [
                f"{statistics.mean(run['at_half'][key] for run in runs):.3f}"
                for key in ("sensitivity", "specificity")
            ]
            points.append([TITLES[line], len(runs), *columns, *half])
    device = jax.devices()[0].platform
    parts = [
        "# RetinaMNIST: class weights, AUC as the choice, and frozen features",
        "Made by `python benchmarks/retina.py` on RetinaMNIST (MedMNIST v2): 1,080, 120 and 400 "
        f"images of 28 x 28 pixels, five ordered grades. jax {jax.__version__} on {device}. "
        "The best epoch is that of the highest AUC on the 120 validation images, and training "
        "stops ten epochs (VGG16: five) after it. AUC is the mean over the grades, each against "
        "the rest. Means over the seeds with their range; behind them seed 0 with its interval of "
        "95 % over the 400 test images.",
        tables.markdown(rows, headers),
        "The published figures are those of MedMNIST v2, second hand. The images of the table are "
        "the "
        "same as PNG files, two that follow each other taken for one patient's, because the file "
        "does not say whose they are; its figures are those of the same seed from the .npz, and "
        "its intervals are over 200 groups.",
        "## Share of each grade that is found",
        tables.markdown(recalls, ["network", *(f"grade {grade}" for grade in GRADES)]),
        "## Two classes, 30 to 1",
        f"Grade 0 against grades 2 to 4, with {RATIO} healthy training images to one positive (486 "
        "and 16). Validation and test keep all their positive images (54 and 54; 174 and 180), "
        "because of 1 in 31 there would be two to choose by. The threshold is the one with a "
        "sensitivity of 0.9 on validation; the last two columns are at a probability of 1/2. Keras "
        "has the same network, scaling, batch size, rate, patience and choice by AUC.",
        tables.markdown(
            points,
            [
                "training",
                "seeds",
                "AUC",
                "sensitivity",
                "specificity",
                "sensitivity at 1/2",
                "specificity at 1/2",
            ],
        ),
        "## The surest errors",
        "![The 12 test images that frozen VGG16 with class weights is most wrong about]"
        "(retina_errors.png)",
        "Looked at, those of seed 0 are of two kinds. Bright, reddish images of grade 2 or 3, in "
        "which 28 pixels leave no lesion to be seen, are taken for healthy. Dark images with a "
        "bright spot in the middle are taken for grade 1, whatever they are: the network goes by "
        "how the picture was taken.",
    ]
    return "\n\n".join(parts) + "\n"


def main(argv: list[str]) -> int:
    """Trains what is left, and writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=pathlib.Path, required=True, help="retinamnist.npz")
    parser.add_argument("--weights", help="VGG16's Keras file, or imagenet; none: without VGG16")
    parser.add_argument("--pages", action="store_true", help="only write the page again")
    given = parser.parse_args(argv)
    results = Results(RESULTS / "retina.json")
    if not given.pages:
        measure(results, given.data.absolute(), given.weights)
    results.write()
    draw_errors(results, given.data, RESULTS / "retina_errors.png")
    (RESULTS / "retina.md").write_text(page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
