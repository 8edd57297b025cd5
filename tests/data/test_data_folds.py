"""Folds: every image is validated on once, groups stay whole, classes keep their shares."""

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import StratifiedGroupKFold

from cnn_jax.data import folds, from_arrays, load, register_dataset
from cnn_jax.data.splits import Split
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Dataset, Experiment
from tests.data.test_data_groups import made

NAMES = ("cat", "dog", "owl")


def split_of(labels, groups=None) -> Split:
    labels = np.asarray(labels, np.int32)
    ids = [f"{i}.png" for i in range(len(labels))]
    return Split(np.zeros((len(labels), 1, 1, 1), np.uint8), labels, ids, groups)


def parts_of(split, count, notes=None):
    found = [
        folds.hold_out(split, f"{k}/{count}", NAMES, [] if notes is None else notes)
        for k in range(1, count + 1)
    ]
    for parts in found:
        assert sorted([*parts["train"].ids, *parts["validation"].ids]) == sorted(split.ids)
    return found


@pytest.mark.parametrize("count", [2, 5, 10])
def test_every_image_is_in_one_fold_and_classes_differ_by_one_at_most(count):
    labels = np.random.default_rng(0).choice(3, 157, p=[0.8, 0.1, 0.1])
    found = parts_of(split_of(labels), count)
    ids = [each for parts in found for each in parts["validation"].ids]
    assert len(ids) == len(set(ids)) == 157
    counts = np.array([np.bincount(p["validation"].labels, minlength=3) for p in found])
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert np.ptp(counts.sum(axis=1)) <= 1


def test_the_order_of_the_examples_changes_nothing():
    split = made(30, 2)
    own = list(split.groups or ())
    order = np.random.default_rng(1).permutation(len(split)).tolist()
    own_ids = list(split.ids)
    ids = [own_ids[i] for i in order]
    for groups in (None, own):
        mixed = None if groups is None else [own[i] for i in order]
        one = dict(zip(own_ids, folds.assign(split.labels, split.ids, groups, 5), strict=True))
        other = dict(zip(ids, folds.assign(split.labels[order], ids, mixed, 5), strict=True))
        assert one == other


@pytest.mark.parametrize("seed", range(4))
def test_groups_stay_whole_and_classes_are_spread_as_scikit_learn_spreads_them(seed):
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 9, 80)
    owners = np.repeat(np.arange(80), sizes)
    rare = random.random(80) < 0.15
    labels = np.where(rare[owners], 2, random.integers(2, size=len(owners)))
    split = split_of(labels, [f"p{i}" for i in owners])
    found = parts_of(split, 5)
    for parts in found:
        assert not set(parts["train"].groups or ()) & set(parts["validation"].groups or ())
    ids = [each for parts in found for each in parts["validation"].ids]
    assert len(ids) == len(set(ids)) == len(labels)

    def uneven(counts: np.ndarray) -> float:
        """Returns how far a class's share of a fold is from a fifth of it, at worst."""
        return float(np.abs(counts / counts.sum(axis=0) - 0.2).max())

    ours = np.array([np.bincount(p["validation"].labels, minlength=3) for p in found])
    reference = StratifiedGroupKFold(5).split(labels, labels, owners)
    theirs = np.array([np.bincount(labels[held], minlength=3) for _, held in reference])
    assert uneven(ours) <= max(1.2 * uneven(theirs), 0.05)


def test_what_cannot_be_divided_is_refused():
    with pytest.raises(RunError, match=r"dataset.fold=1/5: there are 4 images to divide into 5"):
        parts_of(split_of([0, 1, 0, 1]), 5)
    with pytest.raises(RunError, match=r"there are 2 groups to divide into 3 folds"):
        parts_of(split_of([0, 1, 0, 1], ["a", "a", "b", "b"]), 3)
    with pytest.raises(RunError, match=r"of the class 'owl' there is one image"):
        parts_of(split_of([0, 1, 0, 1, 2]), 2)
    with pytest.raises(RunError, match=r"of the class 'dog' there is one group"):
        parts_of(split_of([0, 0, 0, 1, 1], ["a", "b", "c", "d", "d"]), 2)


@pytest.mark.parametrize("fold", ["", "2", "0/5", "6/5", "1/1", "02/5", "1/101", "a/b", "1/5/9"])
def test_a_fold_is_one_of_some(fold):
    with pytest.raises(UsageError, match="is not FOLD/FOLDS, such as 2/5"):
        Experiment(dataset=Dataset(fold=fold))


@pytest.fixture
def patients(tmp_path):
    """A folder of 24 patients with three images each, of two classes."""
    random = np.random.default_rng(0)
    for patient in range(24):
        for i in range(3):
            path = (
                tmp_path
                / "photos"
                / ("sick" if patient % 3 == 0 else "well")
                / f"p{patient:02}_{i}.png"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(256, size=(4, 4), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def section(path, fold, **more) -> Dataset:
    return Dataset(name="folder", path=str(path), group=r"(p\d+)_", fold=fold, **more)


def test_of_a_folder_the_test_images_stay_and_the_rest_is_divided_by_patient(patients):
    found = [load(section(patients, f"{k}/4"), quiet=True) for k in range(1, 5)]
    tests = {tuple(data.test.ids) for data in found}
    assert len(tests) == 1
    (test,) = tests
    held = [each for data in found for each in data.validation.ids]
    assert len(held) == len(set(held)) == 72 - len(test)
    for data in found:
        sets = [{each[-8:-6] for each in data.splits[name].ids} for name in data.splits]
        assert sum(map(len, sets)) == len(set.union(*sets)) == 24
        assert set(data.validation.labels) == {0, 1}
    (note,) = (note for note in found[1].info.notes if note.startswith("validation: fold 2 of 4"))
    assert "'train' that are not held out for testing" in note
    assert "whole groups" in note
    assert len({data.info.digest for data in found}) == 4
    whole = [load(section(patients, f"{k}/4", test_fraction=0.0), quiet=True) for k in range(1, 5)]
    assert sum(len(data.validation) for data in whole) == 72
    assert "test" not in whole[0].splits


def test_of_given_splits_train_is_divided_and_test_stays(monkeypatch):
    from cnn_jax.data import registry

    monkeypatch.setattr(registry, "REGISTRY", {})
    random = np.random.default_rng(0)
    images = random.integers(256, size=(30, 4, 4, 1), dtype=np.uint8)
    labels = np.arange(30) % 2
    pairs = [(images[a:b], labels[a:b]) for a, b in ((0, 20), (20, 24), (24, 30))]
    register_dataset("three_splits", lambda: pairs)
    found = [load(Dataset(name="three_splits", fold=f"{k}/5"), quiet=True) for k in range(1, 6)]
    assert [len(data.validation) for data in found] == [4] * 5
    assert all(len(data.test) == 6 and len(data.train) == 16 for data in found)
    assert "not used: the split validation; the folds are of 'train'" in found[0].info.notes
    with pytest.raises(UsageError, match=r"leave dataset.validation_split out"):
        Experiment(dataset=Dataset(fold="1/5", validation_split="validation"))


def test_arrays_are_divided_by_the_argument_validation():
    random = np.random.default_rng(0)
    images = random.integers(256, size=(40, 4, 4, 1), dtype=np.uint8)
    labels = np.arange(40) % 2
    found = [from_arrays(images, labels, validation=f"{k}/4", test=0.2) for k in range(1, 5)]
    held = [each for data in found for each in data.validation.ids]
    assert sorted([*held, *found[0].test.ids], key=int) == [str(i) for i in range(40)]
    rows = np.eye(2, dtype=np.uint8)[labels]
    both = from_arrays(
        images, rows | (np.arange(40) % 4 == 0)[:, None], validation="1/2", multilabel=True
    )
    assert len(both.validation) == 20
    with pytest.raises(UsageError, match=r"^validation=5/4 is not FOLD/FOLDS"):
        from_arrays(images, labels, validation="5/4")
    with pytest.raises(RunError, match=r"^validation=1/50: there are 40 images"):
        from_arrays(images, labels, validation="1/50")
