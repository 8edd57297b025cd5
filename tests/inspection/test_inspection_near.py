"""Nearly equal images are found, in two splits and in two classes, and others are not."""

import numpy as np
import pytest
from PIL import Image

from cnn_jax.data import Split
from cnn_jax.inspection import candidates, near, registration, thumbnails

RNG = np.random.default_rng(3)


def scene(size: int = 64) -> Image.Image:
    """Returns a picture of smooth patches, as a photograph has them: noise at several scales."""
    total = np.zeros((size, size, 3))
    for cells, weight in ((4, 60), (8, 40), (16, 25)):
        coarse = Image.fromarray(RNG.integers(256, size=(cells, cells, 3), dtype=np.uint8))
        total += weight / 100 * np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


def array(image: Image.Image, size: int) -> np.ndarray:
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def split(images, labels, name) -> Split:
    return Split(np.stack(images), np.array(labels, np.int32), [f"{name}{i}" for i in range(99)])


CHANGES = {
    "equal": lambda image: image,
    "brighter": lambda image: image.point(lambda value: 40 + 0.6 * value),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "cut": lambda image: image.crop((5, 3, 60, 59)),
    "stretched": lambda image: image.crop((0, 5, 64, 59)),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "framed": lambda image: Image.fromarray(np.pad(image, ((3, 3), (3, 3), (0, 0)))),
}


@pytest.fixture(scope="module")
def originals():
    return [scene() for _ in range(60)]


@pytest.mark.parametrize("size", [32, 48])
def test_copies_in_another_split_are_found_and_nothing_else(originals, size):
    changed = [change(originals[i]) for i, change in enumerate(CHANGES.values())]
    others = [scene() for _ in range(40)]
    train = split([array(image, size) for image in originals], [i % 2 for i in range(60)], "a")
    images = [array(image, size) for image in [*changed, *others]]
    test = split(images, [i % 2 for i in range(len(images))], "b")
    found = near.find({"train": train, "test": test})
    assert found.threshold == near.LEAST
    expected = {(i, i) for i in range(len(CHANGES))}
    assert {pair.positions for pair in found.pairs} == expected
    assert {pair.one.split for pair in found.pairs} == {"train"}
    mirrored = {pair.other.id for pair in found.pairs if pair.mirrored}
    assert mirrored == {f"b{list(CHANGES).index('mirrored')}"}
    similarity = {pair.positions[0]: pair.similarity for pair in found.pairs}
    assert similarity[0] == pytest.approx(1, abs=1e-3)
    assert [pair.similarity for pair in found.pairs] == sorted(similarity.values(), reverse=True)


def test_in_one_split_only_two_classes_count_unless_all_are_asked_for(originals):
    images = [array(image, 32) for image in originals]
    labels = [0] * 30 + [1] * 30
    images[1], images[40] = images[0], images[2]
    parts = {"train": split(images, labels, "a")}
    assert [pair.positions for pair in near.find(parts).pairs] == [(2, 40)]
    every = near.find(parts, within=True).pairs
    assert {pair.positions for pair in every} == {(0, 1), (2, 40)}
    first = every[0]
    assert (first.one.label, first.other.label, first.similarity) == (0, 0, 1.0)


def test_one_split_under_two_names_is_no_copy(originals):
    one = split([array(image, 32) for image in originals], [i % 2 for i in range(60)], "a")
    assert near.find({"train": one, "validation": one}).pairs == ()


def test_blocks_find_what_one_product_of_all_finds(monkeypatch, originals):
    images = [array(image, 32) for image in originals]
    parts = {
        "train": split(images, [i % 3 for i in range(60)], "a"),
        "test": split([images[i][:, ::-1] for i in (50, 3, 17)], [0, 1, 2], "b"),
    }
    whole = near.find(parts)
    assert {pair.positions for pair in whole.pairs} == {(50, 0), (3, 1), (17, 2)}
    assert all(pair.mirrored for pair in whole.pairs)
    for name, size in (("_ROWS", 25), ("_COLUMNS", 33), ("_TASK", 50)):
        monkeypatch.setattr(near if name == "_TASK" else candidates, name, size)
    assert {pair.positions for pair in near.find(parts).pairs} == {
        pair.positions for pair in whole.pairs
    }


def test_the_similarity_of_given_pairs(originals):
    images = [array(image, 32) for image in originals[:9]]
    labels = [0] * 9
    one = split(images, labels, "a")
    other = split(
        [*images[:3], *(image[:, ::-1] for image in images[3:6]), *images[:3]], labels, "b"
    )
    found = near.similarity_of(one, other)
    np.testing.assert_allclose(found[:6], 1, atol=1e-3)
    assert found[6:].max() < near.LEAST


def test_images_that_all_are_alike_need_more(originals):
    """X-rays, say: one picture with little differences."""
    base = array(originals[0], 32).astype(float)
    images = [
        np.clip(base + RNG.normal(0, 6, base.shape), 0, 255).astype(np.uint8) for _ in range(60)
    ]
    labels = [i % 2 for i in range(30)]
    parts = {"train": split(images[:30], labels, "a"), "test": split(images[30:], labels, "b")}
    found = near.find(parts)
    assert found.threshold is not None
    assert found.threshold > near.LEAST
    assert found.pairs == ()


def test_images_of_eight_pixels_are_not_compared():
    tiny = Split(np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 0, 1]), list("abcd"))
    assert near.find({"train": tiny}) == near.Found()


def test_the_largest_products_of_each_row_are_among_those_returned():
    products = RNG.normal(size=(7, 1003)).astype(np.float32)
    rows, columns = candidates._largest(products, 5)
    for row in range(7):
        best = set(np.argsort(-products[row])[:5].tolist())
        assert best <= set(columns[rows == row].tolist())


def test_the_descriptor_of_a_mirror_image_is_a_permutation():
    images = RNG.integers(256, size=(5, 32, 32, 3)).astype(np.float32)
    order = thumbnails.mirror_order(3)
    mirrored = thumbnails.describe(images[:, :, ::-1])
    np.testing.assert_allclose(thumbnails.describe(images)[:, order], mirrored, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(mirrored, axis=1), 1, rtol=1e-5)


def test_thumbnails_are_means_over_equal_areas():
    images = RNG.integers(256, size=(3, 96, 64, 1), dtype=np.uint8)
    ((_, block),) = thumbnails.blocks(images)
    expected = images.reshape(3, 32, 3, 32, 2, 1).mean(axis=(2, 4))
    np.testing.assert_allclose(block, expected, rtol=1e-5)
    floats = (images / 255 * 7 - 3).astype(np.float32)
    ((_, block),) = thumbnails.blocks(floats)
    low, high = images.min(), images.max()
    np.testing.assert_allclose(block, (expected - low) * (255 / (high - low)), atol=0.01)


def test_registration_finds_a_stretch_and_a_shift(originals):
    templates = thumbnails.grey(np.stack([array(image, 32) for image in originals[:20]]))
    templates = registration.blur(registration.blur(templates))
    # A part of each, so that nothing from outside of it is seen.
    truth = np.tile((0.9, 0.06, 0.93, -0.03), (20, 1)).astype(np.float32)
    pictures, _ = registration.warp(templates, truth)
    back = np.array([1 / 0.9, -0.06 / 0.9, 1 / 0.93, 0.03 / 0.93])
    start = np.tile(registration.IDENTITY, (20, 1)).astype(np.float32)
    found = registration.register(templates, pictures, start, steps=8)
    assert np.median(np.abs(found - back), axis=0).max() < 0.01
    assert (registration.alike(templates, pictures, found) > 0.9).mean() > 0.8
