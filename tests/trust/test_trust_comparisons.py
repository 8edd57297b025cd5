"""Corruptions, shift, drift and ensembles."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from cnn_jax.options import Trust
from cnn_jax.trust import comparisons, corruptions, verdicts
from cnn_jax.trust.study import Roles
from tests.trust.test_trust_study import CLASSES, found, made, whole


def smooth(n: int = 3, side: int = 20) -> np.ndarray:
    grid = np.linspace(0, 3, side)
    waves = 128 + 90 * np.sin(grid[:, None] * [[1]] + grid[None])[..., None] * [1.0, 0.6, -0.4]
    return np.stack([np.roll(waves, i, axis=1) for i in range(n)]).astype(np.uint8)


@pytest.mark.parametrize("kind", list(corruptions.KINDS))
def test_a_corruption_grows_with_its_strength_and_keeps_the_shape(kind):
    images = smooth()
    far = []
    for strength in (1, 5):
        changed = corruptions.corrupt(images, kind, strength)
        assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
        far.append(float(np.abs(changed.astype(float) - images).mean()))
    assert 0 < far[0] < far[1]
    assert (corruptions.corrupt(images, kind, 5) == changed).all()
    scaled = corruptions.corrupt(images.astype(np.float32), kind, 1)
    assert scaled.dtype == np.float32


def test_rotation_is_that_of_pillow_and_jpeg_like_its_own():
    images = smooth(1, 32)
    turned = corruptions.corrupt(images, "rotation", 3)[0]
    own = [
        np.asarray(Image.fromarray(images[0]).rotate(a, Image.Resampling.BILINEAR), float)
        for a in (-15, 15)
    ]
    inner = (slice(9, -9), slice(9, -9))
    assert min(np.abs(turned[inner] - o[inner]).max() for o in own) < 6
    noisy = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 1)).astype(np.uint8)
    # A constant block is only rounded, and noise loses what the quanta are larger than.
    flat = np.full((1, 16, 16, 1), 77, np.uint8)
    assert np.abs(corruptions.corrupt(flat, "jpeg", 1).astype(int) - 77).max() <= 1
    assert corruptions.corrupt(noisy, "jpeg", 5).std() < noisy.std()


@pytest.fixture(scope="module")
def judge():
    record, arrays = found(Trust(max_error=0.1))
    return verdicts.of_record(whole(record), arrays)


def test_shift_shows_where_the_promise_breaks(judge):
    usual, worse = made(1500, 3), made(1500, 9)
    swapped = np.where(np.arange(1500) % 3 == 0, (worse.labels + 1) % 3, worse.labels)
    worse = dataclasses.replace(worse, labels=swapped)
    rows = [
        comparisons.shifted(judge, usual, "none"),
        comparisons.shifted(judge, worse, "labels", 2),
    ]
    assert rows[0]["error"] < 0.13 < rows[1]["error"]
    assert rows[0]["accuracy"] > rows[1]["accuracy"] + 0.2
    said = comparisons.shift_sentence(rows, 0.13)
    assert "wrong in 1: most in labels of strength 2" in said
    assert comparisons.shift_sentence(rows[:1], 0.5).endswith("wrong in 0.")


def test_a_batch_is_told_from_those_of_before_or_not(judge):
    old, like = made(1500, 3), made(700, 11)
    same = comparisons.compared(judge, old, like)
    assert not any(test["rejects"] for test in same["tests"].values())
    truth = (like.logits.argmax(axis=1) == like.labels).mean()
    assert same["expected_accuracy"] == pytest.approx(truth, abs=0.05)
    assert "No difference is found between the" in comparisons.drift_sentence(same)
    changed = dataclasses.replace(like, logits=like.logits / 5, features=like.features + 2)
    other = comparisons.compared(judge, old, changed)
    assert other["tests"]["largest probability"]["rejects"]
    assert other["expected_accuracy"] < same["expected_accuracy"] - 0.1
    assert "largest probability" in comparisons.drift_sentence(other)


def test_an_ensemble_is_more_accurate_than_its_members():
    random = np.random.default_rng(0)
    members = {}
    base = [made(n, seed) for n, seed in ((600, 1), (1200, 2), (600, 3))]
    for name in "abc":
        noisy = [
            dataclasses.replace(o, logits=o.logits + 6 * random.normal(size=o.logits.shape))
            for o in base
        ]
        members[name] = Roles(noisy[0], noisy[1], noisy[2], "made", 2)
    networks = comparisons.with_mean(members)
    assert networks["all 3"].chosen_among == 8
    rows = comparisons.side_by_side(networks, Trust(max_error=0.15), CLASSES)
    assert [row["member"] for row in rows] == ["a", "b", "c", "all 3"]
    assert rows[3]["accuracy"] > max(row["accuracy"] for row in rows[:3])
    assert rows[3]["nll"] < min(row["nll"] for row in rows[:3])
    said = comparisons.gain_sentence("Averaged", rows[0], rows[-1])
    assert f"from {rows[0]['nll']:.4f} to {rows[3]['nll']:.4f}" in said
    each = comparisons.side_by_side(members, Trust(max_error=0.3, per_class=True), CLASSES)[0]
    assert 0 < each["promised_coverage"] < 1
