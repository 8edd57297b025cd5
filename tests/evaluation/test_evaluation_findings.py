"""Several findings in one image: from a table to what predict lists, against scikit-learn."""

import csv
import json
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as reference

import cnn_jax
from cnn_jax import data, experiment, losses
from cnn_jax.cli.main import main
from cnn_jax.data import folds, splits
from cnn_jax.errors import RunError, UsageError
from cnn_jax.evaluation import findings, metrics, validation
from cnn_jax.evaluation.selection import Rule

NAMES = ("effusion", "mass", "nodule")


def picture(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns an image in which each finding is a bright third."""
    pixels = generator.integers(0, 60, (9, 9)).astype(np.uint8)
    for i in np.flatnonzero(labels):
        pixels[3 * i : 3 * i + 3] += 150
    return pixels


def write_table(folder: Path, one_hot: bool) -> Path:
    """Writes 90 images of up to three findings, 30 of them test, two images a patient."""
    generator = np.random.default_rng(0)
    header = ["path", *(NAMES if one_hot else ["label"]), "split", "patient"]
    rows: list[list[Any]] = []
    for i in range(90):
        labels = generator.random(3) < (0.5, 0.3, 0.3)
        if not one_hot and not labels.any():
            labels[0] = True
        Image.fromarray(picture(labels, generator)).save(folder / f"{i}.png")
        listed = "|".join(name for name, has in zip(NAMES, labels, strict=True) if has)
        own = labels.astype(int).tolist() if one_hot else [listed]
        split = ("train", "test", "validation")[i % 6 // 2]
        rows.append([f"{i}.png", *own, split, f"p{i // 2}"])
    path = folder / "table.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.mark.parametrize("one_hot", [True, False])
def test_a_table_of_several_findings_is_rows_of_0_and_1(tmp_path, one_hot):
    table = write_table(tmp_path, one_hot)
    columns = ",".join(NAMES) if one_hot else None
    section = experiment.Dataset(name="table", path=str(table), label_columns=columns)
    found = data.load(section, multilabel=True, quiet=True)
    assert found.info.multilabel
    assert found.info.class_names == NAMES
    assert found.train.labels.dtype == np.uint8
    assert found.train.labels.shape == (30, 3)
    with table.open() as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    for name, labels in zip(found.train.ids, found.train.labels, strict=True):
        row = rows[name]
        want = [int(row[n]) if one_hot else int(n in row["label"].split("|")) for n in NAMES]
        assert labels.tolist() == want
    assert found.info.class_counts["train"] == tuple(found.train.labels.sum(axis=0).tolist())
    if one_hot:  # without a finding, too
        assert (found.train.labels.sum(axis=1) == 0).any()
    with pytest.raises(RunError, match=r"several classes .*, where each.*multilabel"):
        data.load(section, quiet=True)
    again = data.DataInfo.from_dict(json.loads(json.dumps(found.info.to_dict())))
    assert again == found.info


def test_what_is_held_out_keeps_the_combinations():
    generator = np.random.default_rng(0)
    labels = (generator.random((400, 3)) < (0.5, 0.3, 0.1)).astype(np.uint8)
    images = np.zeros((400, 4, 4, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.arange(400) % 256, np.arange(400) // 256
    made = cnn_jax.from_arrays(images, labels, validation=0.25, multilabel=True)
    assert made.validation.labels.shape == (100, 3)
    whole = np.bincount(splits.strata(labels), minlength=8)
    held = np.bincount(labels @ np.array([4, 2, 1]), minlength=8)  # the same, by their digits
    assert (whole == held).all()
    part = np.bincount(made.validation.labels @ np.array([4, 2, 1]), minlength=8)
    assert np.abs(part - held / 4).max() <= 1
    for groups in (None, [str(i // 2) for i in range(400)]):
        train = data.Split(images, labels, list(map(str, range(400))), groups)
        each = [folds.hold_out(train, f"{i}/4", NAMES, []) for i in (1, 2, 3, 4)]
        assert sum(len(fold["validation"]) for fold in each) == 400
        for fold in each:
            found = fold["validation"].labels.mean(axis=0)
            np.testing.assert_allclose(found, labels.mean(axis=0), atol=0.05)
    for other in (labels[:, :1].repeat(3, axis=1) * 2, np.full((400, 3), 0.5)):
        with pytest.raises(UsageError, match="rows of 0 and 1"):
            cnn_jax.from_arrays(images, other, multilabel=True)
    with pytest.raises(UsageError, match=r"not one-hot.*multilabel"):
        cnn_jax.from_arrays(images, labels)


def test_the_loss_is_the_mean_of_the_findings():
    logits = np.random.default_rng(0).normal(0, 3, (5, 3))
    labels = np.random.default_rng(1).integers(0, 2, (5, 3), np.uint8)
    p = 1 / (1 + np.exp(-logits))
    want = -np.where(labels == 1, np.log(p), np.log(1 - p)).mean(axis=1)
    x = jnp.asarray(logits, jnp.float32)
    np.testing.assert_allclose(losses.multilabel(x, jnp.asarray(labels)), want, rtol=1e-5)
    np.testing.assert_allclose(metrics.probabilities(x, True), p, rtol=1e-5)
    right = ((p >= 0.5) == labels).mean(axis=1)
    np.testing.assert_allclose(metrics.right(x, jnp.asarray(labels)), right)
    sure = jnp.asarray([[1e4, -1e4]], jnp.float32)
    for target in ([[0, 1]], [[1, 0]]):
        value, slope = jax.value_and_grad(
            lambda z, t=target: losses.multilabel(z, jnp.asarray(t))[0]
        )(sure)
        assert np.isfinite(value)
        assert np.isfinite(slope).all()


@pytest.fixture(scope="module")
def found():
    generator = np.random.default_rng(2)
    labels = (generator.random((200, 3)) < (0.5, 0.3, 0.05)).astype(np.uint8)
    p = 1 / (1 + np.exp(-(generator.normal(size=(200, 3)) + 2 * labels - 1)))
    info: Any = types.SimpleNamespace(class_names=NAMES, multilabel=True)
    split = data.Split(np.zeros((200, 1, 1, 1), np.uint8), labels, [""] * 200)
    evaluation: Any = types.SimpleNamespace(loss=0.5, examples=200, probabilities=p)
    return evaluation, split, info


def test_the_figures_of_each_finding_are_those_of_scikit_learn(found):
    evaluation, split, info = found
    made = findings.record(evaluation, split, info, 7)
    p, labels = evaluation.probabilities, split.labels
    assert made["auc"] == pytest.approx(reference.roc_auc_score(labels, p))
    average = reference.average_precision_score(labels, p)
    assert made["average_precision"] == pytest.approx(average)
    assert made["all_right"] == pytest.approx(reference.accuracy_score(labels, p >= 0.5))
    matrices = reference.multilabel_confusion_matrix(labels, p >= 0.5)
    for c, each in enumerate(made["per_class"]):
        assert each["confusion"] == matrices[c].tolist()
        assert each["recall"] == pytest.approx(reference.recall_score(labels[:, c], p[:, c] >= 0.5))
        assert each["auc"] == pytest.approx(reference.roc_auc_score(labels[:, c], p[:, c]))
        low, high = each["intervals"]["auc"]
        assert low < each["auc"] < high
    low, high = made["intervals"]["auc"]
    assert low < made["auc"] < high
    json.dumps(made)


def test_the_metrics_that_choose_are_means_over_the_findings(found):
    evaluation, split, _ = found
    said = evaluation.probabilities >= 0.5
    got = {
        metric: validation.measured(Rule(metric), evaluation, split.labels)[f"validation_{metric}"]
        for metric in ("auc", "macro_f1", "balanced_accuracy")
    }
    balanced = [reference.balanced_accuracy_score(split.labels[:, c], said[:, c]) for c in range(3)]
    assert got == {
        "auc": pytest.approx(reference.roc_auc_score(split.labels, evaluation.probabilities)),
        "macro_f1": pytest.approx(reference.f1_score(split.labels, said, average="macro")),
        "balanced_accuracy": pytest.approx(np.mean(balanced)),
    }
    with pytest.raises(UsageError, match="kappa has no meaning"):
        Rule("kappa").check([1, 1], multilabel=True)
    with pytest.raises(UsageError, match="needs validation images with a finding"):
        Rule("auc").check([0, 0], multilabel=True)
    Rule("auc").check([0, 1], multilabel=True)


def test_from_a_table_to_what_predict_lists(tmp_path, capsys):
    table = write_table(tmp_path, one_hot=True)
    run = tmp_path / "run"
    flags = ["--dataset.name=table", f"--dataset.path={table}", f"--workdir={run}"]
    flags += [f"--dataset.label_columns={','.join(NAMES)}", "--model.name=mlp"]
    flags += ["--dataset.image_size=none", "--dataset.batch_size=30", "--train.epochs=25"]
    flags += [
        "--train.loss=multilabel",
        "--train.class_weights=balanced",
        "--train.select=auc",
        "--optimizer.learning_rate=3e-3",
    ]
    flags += ["--logging.figures_every=25", "--logging.projector_images=20"]
    assert main(["train", *flags]) == 0
    said = capsys.readouterr().out
    assert "chosen by  AUC" in said
    assert "largest class" not in said
    assert main(["evaluate", f"--workdir={run}", "--operating_point=sensitivity:0.9"]) == 0
    said = capsys.readouterr().out
    assert "ranking    AUC" in said
    record = json.loads((run / "result.json").read_text())["evaluation"]["test"]
    assert record["auc"] > 0.9
    assert record["groups"] == 15
    for each in record["per_class"]:
        assert f"{each['class']} " in said
        assert each["operating_point"]["chosen_on"] == "validation"
    with (run / "predictions_test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    assert all(0 <= float(row["p_mass"]) <= 1 for row in rows)
    some = max(rows, key=lambda row: row["predicted"].count("|"))
    assert main(["predict", f"--workdir={run}", str(tmp_path / some["id"])]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert some["predicted"]
    for name in NAMES:
        assert (name in line) == (name in some["predicted"].split("|"))
    assert main(["report", str(run)]) == 0
    assert "of the findings are right on 30 examples" in (run / "report.html").read_text()
    loaded = cnn_jax.load(run)
    assert loaded.predict(str(tmp_path / some["id"])).classes == (some["predicted"],)


def test_what_counts_each_image_for_one_class_is_refused():
    labels = np.tile(np.array([[1, 1], [0, 1], [1, 0], [0, 0]], np.uint8), (10, 1))
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8, 1)).astype(np.uint8)
    made = cnn_jax.from_arrays(images, labels, multilabel=True)
    balanced = {"train.sampling": "balanced"}
    with pytest.raises(UsageError, match="may have several findings"):
        cnn_jax.create(made, model="mlp", loss="multilabel", settings=balanced)
    with pytest.raises(UsageError, match=r"several findings each: use train\.loss=multilabel"):
        cnn_jax.create(made, model="mlp")
    one = cnn_jax.from_arrays(images, labels[:, 0])
    with pytest.raises(UsageError, match=r"multilabel=True"):
        cnn_jax.create(one, model="mlp", loss="multilabel")
