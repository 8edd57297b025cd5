"""McNemar's test, exact and by groups, and which runs it is made of."""

import csv
import itertools
import json

import numpy as np
import pytest
from scipy import stats

from cnn_jax.studies import mcnemar
from tests.studies.test_compare import compared, make


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (3, 9), (12, 12), (40, 18)])
def test_the_exact_test_is_the_binomials(b, c):
    want = 1.0 if b + c == 0 else min(1.0, 2 * stats.binom.cdf(min(b, c), b + c, 0.5))
    assert mcnemar.exact(b, c) == pytest.approx(want)
    assert mcnemar.by_groups([1] * b + [-1] * c) == pytest.approx(want)


def test_groups_of_any_size_have_either_sign_by_chance():
    differences = [3, -1, 2, 0, 4, -2, 1]
    sizes, observed = [abs(d) for d in differences], abs(sum(differences))
    sums = [
        abs(np.dot(signs, sizes)) for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    want = np.mean([each >= observed for each in sums])
    assert mcnemar.by_groups(differences) == pytest.approx(want)
    many = [3] * 1000 + [-2] * 1400  # too many to be exact
    assert mcnemar.by_groups(many) == pytest.approx(
        2 * stats.norm.sf(200 / np.sqrt(9 * 1000 + 4 * 1400))
    )


def predictions(path, said, groups=None, ids=None):
    with (path / "predictions_test.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *(["group"] if groups else []), "label", "predicted", "p_a"])
        for i, right in enumerate(said):
            own = [groups[i]] if groups else []
            writer.writerow([ids[i] if ids else f"{i}.png", *own, "a", "ab"[not right], 0.5])


def test_compare_tests_runs_on_the_same_images(tmp_path, capsys):
    runs = [make(tmp_path / name, [a], model__name=m) for name, a, m in
            (("x", 0.9, "mlp"), ("y", 0.8, "lenet5"), ("z", 0.7, "mnist_cnn"))]  # fmt: skip
    assert "McNemar" not in compared(capsys, tmp_path)
    predictions(runs[0], [1] * 18 + [0, 1])
    predictions(runs[1], [1] * 10 + [0] * 8 + [1, 1])
    predictions(runs[2], [1] * 5)  # of other images
    text = " ".join(compared(capsys, tmp_path).split())
    assert f"McNemar's test against {runs[0]}, on the same 20 images of test:" in text
    line = "right where that is wrong 1 times, wrong where that is right 8 times, p = 0.039"
    assert f"{runs[1]}: {line}" in text
    assert str(runs[2]) not in text.partition("McNemar")[2]
    records = json.loads(compared(capsys, tmp_path, "--format=json"))
    (found,) = (record["mcnemar"] for record in records if "mcnemar" in record)
    assert (found[0]["only_first"], found[0]["only_second"]) == (8, 1)
    assert found[0]["p"] == pytest.approx(stats.binomtest(1, 9).pvalue)

    # All of the eight images are of one patient: that is one observation.
    groups = [f"p{i}" for i in range(10)] + ["ill"] * 8 + ["q", "r"]
    for run, said in zip(runs[:2], ([1] * 18 + [0, 1], [1] * 10 + [0] * 8 + [1, 1]), strict=True):
        predictions(run, said, groups)
    text = " ".join(compared(capsys, tmp_path).split())
    assert "by groups" in text
    assert "wrong where that is right 8 times, p = 1 (a tie)" in text
    (runs[1] / "predictions_test.csv").write_bytes(b"id,label\n\xff\x00")
    assert "McNemar" not in compared(capsys, tmp_path)


def test_images_that_are_mere_numbers_need_the_same_data(tmp_path, capsys):
    runs = [make(tmp_path / n, [a], model__name=m) for n, a, m in
            (("x", 0.9, "mlp"), ("y", 0.8, "lenet5"))]  # fmt: skip
    for run in runs:
        predictions(run, [1, 0, 1], ids=["0", "1", "2"])
    assert "McNemar" in compared(capsys, tmp_path)
    data = json.loads((runs[1] / "data.json").read_text()) | {"digest": "1" * 64}
    (runs[1] / "data.json").write_text(json.dumps(data))
    assert "McNemar" not in compared(capsys, tmp_path)
