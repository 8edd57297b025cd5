"""Data sets that a user registers under a name."""

import numpy as np
import pytest

from cnn_jax.data import from_arrays, load, register_dataset, registry
from cnn_jax.errors import UsageError
from cnn_jax.experiment import Dataset

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (100, 6, 6, 1)).astype(np.uint8)
LABELS = np.arange(100) % 2
PAIR = (IMAGES, LABELS)


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    monkeypatch.setattr(registry, "REGISTRY", {})


def test_a_pair_is_split_as_the_section_says():
    register_dataset("mine", lambda: PAIR)
    section = Dataset(name="mine", validation_fraction=0.2, test_fraction=0.3)
    data = load(section)
    assert data.info.name == "mine"
    assert data.info.sizes == {"train": 50, "validation": 20, "test": 30}
    without = load(section, test=False)
    assert without.info.sizes == {"train": 50, "validation": 20}
    assert without.info.digest == data.info.digest
    few = load(Dataset(name="mine", train_examples=10))
    assert few.info.sizes == {"train": 10, "validation": 10, "test": 10}
    assert few.info.class_counts["train"] == (5, 5)


def test_pairs_are_train_validation_and_test():
    register_dataset("two", lambda: (PAIR, (IMAGES[:10], LABELS[:10])))
    assert load(Dataset(name="two")).info.sizes == {"train": 100, "validation": 10}
    register_dataset("three", lambda: [PAIR, (IMAGES[:10], LABELS[:10]), (IMAGES[:4], LABELS[:4])])
    data = load(Dataset(name="three"))
    assert data.info.sizes == {"train": 100, "validation": 10, "test": 4}
    chosen = load(Dataset(name="three", validation_split="test"))
    assert chosen.info.sizes["validation"] == 4
    assert any("selected on test images" in note for note in chosen.info.notes)


def test_data_of_from_arrays_is_taken_as_it_is():
    made = from_arrays(IMAGES, LABELS, validation=0.25, class_names=["even", "odd"])
    register_dataset("made", lambda: made)
    data = load(Dataset(name="made"))
    assert data.info.class_names == ("even", "odd")
    assert data.info.sizes == {"train": 75, "validation": 25}
    assert data.info.digest == made.info.digest
    assert data.info.notes == made.info.notes
    assert np.shares_memory(data.train.images, made.train.images)


def test_a_function_of_the_section_gets_it():
    @register_dataset("sized")
    def sized(section):
        return np.resize(IMAGES, (100, section.image_size, section.image_size, 1)), LABELS

    assert load(Dataset(name="sized", image_size=9)).info.image_shape == (9, 9, 1)

    @register_dataset("optional")
    def optional(count=20):
        return IMAGES[:count], LABELS[:count]

    assert sum(load(Dataset(name="optional")).info.sizes.values()) == 20


def test_pixels_are_resized_and_floats_are_not():
    register_dataset("mine", lambda: PAIR)
    assert load(Dataset(name="mine", image_size=6)).info.image_shape == (6, 6, 1)
    assert load(Dataset(name="mine", image_size=8)).info.image_shape == (8, 8, 1)
    register_dataset("of_floats", lambda: (IMAGES / np.float32(7), LABELS))
    with pytest.raises(UsageError, match=r"image_size=8: .*are floats of 6x6.*leave it out"):
        load(Dataset(name="of_floats", image_size=8))


def test_floats_keep_their_units():
    register_dataset("floats", lambda: (IMAGES / np.float32(7), LABELS))
    info = load(Dataset(name="floats")).info
    assert info.dtype == "float32"
    assert info.mean[0] == pytest.approx(IMAGES.mean() / 7, rel=0.05)


WRONG = [None, IMAGES, (IMAGES,), (PAIR,) * 4, {"train": PAIR}, [1, PAIR]]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_function_must_return_is_said(wrong):
    register_dataset("wrong", lambda: wrong)
    with pytest.raises(UsageError, match=r"the data set 'wrong': .*"):
        load(Dataset(name="wrong"))


def test_a_name_is_given_once():
    def mine():
        return PAIR

    def other():
        return PAIR

    assert register_dataset("mine", mine) is mine
    assert registry.REGISTRY["mine"].defined_in == __file__
    register_dataset("mine", mine)
    with pytest.raises(UsageError, match=rf"already a data set 'mine' \(in {__file__}\)"):
        register_dataset("mine", other)
    for name in ("digits", "cifar10", "folder", "arrays"):
        with pytest.raises(UsageError, match=f"already a data set '{name}'"):
            register_dataset(name, other)


def test_registered_names_are_suggested():
    register_dataset("my_flowers", lambda: PAIR)
    with pytest.raises(UsageError, match="did you mean my_flowers"):
        load(Dataset(name="my_flower"))


def test_a_run_on_arrays_says_where_it_can_be_used():
    with pytest.raises(UsageError) as caught:
        load(Dataset(name="arrays"))
    assert str(caught.value) == (
        "the run was trained on arrays given in Python; use it there: run = cnn_jax.load(DIR); "
        "run.evaluate((images, labels)); cnn_jax.explain_images(run, images)"
    )
