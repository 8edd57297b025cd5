"""Which folders are splits and classes, names of files that tell classes, and links."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnn_jax.data import folder, load, name_labels
from cnn_jax.data.cache import Encoded
from cnn_jax.errors import RunError, UsageError
from cnn_jax.experiment import Dataset, Experiment

RNG = np.random.default_rng(0)


def save(*paths: Path) -> None:
    """Writes images, no two of them equal."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(256, size=(4, 4, 3), dtype=np.uint8)).save(path)


def fill(folder: Path, *classes: str, count: int = 4) -> None:
    save(*(folder / name / f"{i}.png" for name in classes for i in range(count)))


def listed(root: Path, **settings):
    """Returns ({split: {class: number of images}}, notes) without opening an image."""
    found = folder.source(Dataset(name="folder", path=str(root), **settings))
    counts = {}
    for split, encoded in found.splits.items():
        assert isinstance(encoded, Encoded)
        labels = [label for _, block, _ in encoded.blocks() for label in block]
        numbers = np.bincount(labels, minlength=len(found.class_names)).tolist()
        counts[split] = dict(zip(found.class_names, numbers, strict=True))
    return counts, list(found.notes)


BOTH = {"cat": 4, "dog": 4}


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "valid", "test"),
        ("Training", "VAL", "Testing"),
        ("TRAIN", "dev", "eval"),
        ("training", "Validation", "evaluation"),
    ],
)
def test_splits_go_by_the_names_in_use(tmp_path, train, validation, test):
    for name in (train, validation, test):
        fill(tmp_path / name, "cat", "dog")
    assert listed(tmp_path) == ({"train": BOTH, "validation": BOTH, "test": BOTH}, [])


@pytest.mark.parametrize("names", [("val", "valid"), ("Test", "test"), ("dev", "validation")])
def test_two_names_of_a_split_are_refused(tmp_path, names):
    for name in ("train", *names):
        fill(tmp_path / name, "cat", "dog")
    with pytest.raises(RunError, match=f"has both {names[0]} and {names[1]}; remove one"):
        listed(tmp_path)


def test_a_folder_of_classes_by_no_known_name_is_refused(tmp_path):
    for name in ("train", "validation", "holdout"):
        fill(tmp_path / name, "cat", "dog")
    with pytest.raises(RunError, match=r"holdout has images of classes, but .*valid, val, dev"):
        listed(tmp_path)


def test_other_folders_beside_the_splits_are_noted(tmp_path):
    for name in ("train", "validation"):
        fill(tmp_path / name, "cat", "dog")
    (tmp_path / "annotations" / "xml").mkdir(parents=True)
    (tmp_path / "annotations" / "xml" / "0.xml").write_text("<a/>")
    save(tmp_path / "samples" / "0.png", tmp_path / "test" / "0.png")
    counts, notes = listed(tmp_path)
    assert list(counts) == ["train", "validation"]
    assert notes == [
        f"not used: {tmp_path}/{name}, which has no class folders"
        for name in ("annotations", "samples", "test")
    ]


@pytest.mark.parametrize("filled", [True, False])
def test_validation_without_class_folders_is_refused(tmp_path, filled):
    fill(tmp_path / "train", "cat", "dog")
    (tmp_path / "valid").mkdir()
    if filled:
        save(tmp_path / "valid" / "0.png")
    with pytest.raises(RunError, match="valid has no class folders"):
        listed(tmp_path)


def test_a_class_may_have_the_name_of_a_split(tmp_path):
    fill(tmp_path, "bus", "car", "train")
    assert listed(tmp_path) == ({"train": {"bus": 4, "car": 4, "train": 4}}, [])


def test_classes_named_like_splits_within_splits(tmp_path):
    for split in ("train", "val"):
        fill(tmp_path / split, "test", "train")
    want = {"test": 4, "train": 4}
    assert listed(tmp_path) == ({"train": want, "validation": want}, [])


@pytest.mark.parametrize("names", [("train",), ("train", "test"), ("train", "test1")])
def test_folders_that_are_splits_by_name_are_no_classes(tmp_path, names):
    for name in names:
        save(*(tmp_path / name / f"{i}.jpg" for i in range(3)))
    with pytest.raises(RunError, match="train has no class folders"):
        listed(tmp_path)


def test_splits_by_unknown_names_are_told_the_known_ones(tmp_path):
    for name in ("training_set", "test_set"):
        fill(tmp_path / name, "cat", "dog")
    with pytest.raises(
        RunError, match=r"_set has images of classes, but .*splits are train, training;"
    ):
        listed(tmp_path)


def kaggle(root: Path, split: str = "train") -> None:
    save(*(root / split / f"{name}.{i}.jpg" for name in ("cat", "dog") for i in range(4)))


def test_names_of_files_tell_the_class_and_the_error_says_how(tmp_path):
    kaggle(tmp_path)
    (tmp_path / "test1").mkdir()
    save(tmp_path / "test1" / "1.jpg")
    (tmp_path / "sampleSubmission.csv").write_text("id,label")
    (tmp_path / "test1").rename(tmp_path / "elsewhere")
    with pytest.raises(RunError) as caught:
        listed(tmp_path / "train")
    *_, flag = shlex.split(caught.value.for_command_line)
    assert flag == r"--dataset.label=^(cat|dog)\.\d"
    (tmp_path / "elsewhere").rename(tmp_path / "test1")
    counts, notes = listed(tmp_path, label=flag.partition("=")[2])
    assert counts == {"train": BOTH}
    assert notes == [
        f"not used: {tmp_path}/sampleSubmission.csv, in no class folder",
        f"not used: {tmp_path}/test1, which has no class folders",
    ]
    assert listed(tmp_path / "train", label=r"^(cat|dog)\.") == (counts, [])


def test_names_of_files_in_several_splits(tmp_path):
    kaggle(tmp_path)
    kaggle(tmp_path, "valid")
    save(tmp_path / "test" / "1.jpg")
    counts, notes = listed(tmp_path, label=r"^([a-z]+)\.")
    assert counts == {"train": BOTH, "validation": BOTH}
    assert notes == [
        f"--dataset.label tells no class of 1 of the files in {tmp_path}/test, such as '1.jpg'"
    ]
    kaggle(tmp_path, "holdout")
    with pytest.raises(RunError, match="holdout has images of classes, but"):
        listed(tmp_path, label=r"^([a-z]+)\.")


def test_an_image_that_the_label_does_not_fit_is_refused_or_left_out(tmp_path):
    kaggle(tmp_path)
    save(tmp_path / "train" / "Dog.9.jpg")
    label = r"^(cat|dog)\."
    message = f"tells no class of 1 of the files in {tmp_path}/train, such as 'Dog.9.jpg'"
    with pytest.raises(RunError, match=re.escape(message)):
        listed(tmp_path, label=label)
    counts, notes = listed(tmp_path, label=label, on_error="skip")
    assert counts == {"train": BOTH}
    assert notes == [f"--dataset.label {message}"]


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        ("^cat", UsageError, "has no group"),
        ("(cat", UsageError, "is no regular expression: missing"),
        ("(bird)", RunError, "tells no class of 8 of the files"),
        (r"^(cat)\.", RunError, "tells no class of 4 of the files"),
        ("(.)$", RunError, "the only class with images is 'g'"),
    ],
)
def test_labels_that_do_not_do(tmp_path, label, error, message):
    kaggle(tmp_path)
    with pytest.raises(error, match=message) as caught:
        listed(tmp_path, label=label)
    assert "\n" not in str(caught.value)


def test_a_label_belongs_to_a_folder():
    with pytest.raises(UsageError, match=r"dataset\.label belongs to dataset\.name=folder"):
        Experiment(dataset=Dataset(label="(a)"))


@pytest.mark.parametrize(
    ("names", "want"),
    [
        (["cat.0.jpg", "cat.1.jpg", "dog.0.jpg", "dog.1.jpg"], r"^(cat|dog)\.\d"),
        (["a_b_1.png", "a_b_2.png", "a_1.png", "a_2.png"], r"^(a_b|a)_\d"),
        (["x1.png", "x2.png", "y1.png", "y2.png"], r"^(x|y)\d"),
        ([f"{w}_{i}.jpg" for w in "abcdef" for i in range(9)], r"^(.*?[^\d._ -])[._ -]*\d"),
        (["cat.0.jpg", "cat.1.jpg"], None),
        (["cat.0.jpg", "dog.0.jpg"], None),
        (["a.jpg", "b.jpg"], None),
        ([], None),
    ],
)
def test_a_label_is_proposed_that_fits_every_name(names, want):
    found = name_labels.propose_label(names)
    assert found == want
    if found:
        words = {first for name in names for first in re.findall(r"^[a-z_]*[a-z]", name)}
        assert {label for name in names for label in re.findall(found, name)} == words


@pytest.fixture
def linked(tmp_path):
    """A folder of two splits, and one outside that has more images."""
    root = tmp_path / "root"
    for name in ("train", "validation"):
        fill(root / name, "cat", "dog")
    fill(tmp_path / "outside", "owl", count=3)
    return root


@pytest.mark.parametrize("what", ["file", "class", "split"])
def test_links_out_of_the_folder_are_followed_and_counted(linked, what):
    outside = linked.parent / "outside" / "owl"
    if what == "file":
        (linked / "train" / "cat" / "z.png").symlink_to(outside / "0.png")
        want = {"cat": 5, "dog": 4}
    elif what == "class":
        (linked / "train" / "bird").symlink_to(outside)
        (linked / "validation" / "bird").symlink_to(outside)
        want = {"bird": 3, **BOTH}
    else:
        (linked / "train").rename(linked.parent / "shared")
        (linked / "train").symlink_to("../shared")
        want = BOTH
    counts, notes = listed(linked)
    assert counts["train"] == want
    number = "2 links" if what == "class" else "1 link"
    assert notes == [
        f"followed {number} out of the folder; --dataset.follow_links=false refuses such"
    ]
    with pytest.raises(RunError, match=r"links to .*outside .*dataset.follow_links"):
        listed(linked, follow_links=False)


def test_linked_images_are_read_under_the_links_names(linked):
    (linked / "train" / "cat" / "z.png").symlink_to(linked.parent / "outside" / "owl" / "0.png")
    train = load(Dataset(name="folder", path=str(linked)), quiet=True).train
    assert "train/cat/z.png" in train.ids
    with Image.open(linked.parent / "outside" / "owl" / "0.png") as image:
        np.testing.assert_array_equal(train.images[train.ids.index("train/cat/z.png")], image)


@pytest.mark.parametrize("where", ["", "train", "train/cat"])
def test_loops_of_links_end(linked, where):
    (linked / where / "loop").symlink_to(linked, target_is_directory=True)
    counts, notes = listed(linked)
    assert counts == {"train": BOTH, "validation": BOTH}
    assert notes == [f"not used: {linked / where / 'loop'}, a link to a folder that it is in"]


def test_a_loop_by_way_of_a_folder_outside_ends(linked):
    (linked / "train" / "bird").symlink_to(linked.parent / "outside" / "owl")
    (linked.parent / "outside" / "owl" / "back").symlink_to(linked / "train")
    with pytest.raises(RunError, match="bird/back is a folder inside the class folder"):
        listed(linked)


def test_a_link_to_a_folder_that_is_gone_is_refused(linked):
    (linked / "train" / "bird").symlink_to("/not/mounted")
    with pytest.raises(RunError, match=r"bird links to /not/mounted, which cannot be found"):
        listed(linked)
    counts, notes = listed(linked, on_error="skip")
    assert counts["train"] == BOTH
    assert notes == [
        "followed 1 link out of the folder; --dataset.follow_links=false refuses such",
        f"{linked}/train/bird links to /not/mounted, which cannot be found",
    ]


def test_classes_that_differ_in_case_are_pointed_at(linked):
    (linked / "validation" / "cat").rename(linked / "validation" / "Cat")
    with pytest.raises(RunError, match=r"validation/Cat .* does not have \('cat' is written"):
        listed(linked)


def test_classes_that_differ_in_capital_letters_get_a_note(tmp_path):
    fill(tmp_path, "Cat", "cat", "dog")
    _, notes = listed(tmp_path)
    assert notes == ["the classes 'Cat' and 'cat' differ in capital letters only"]


def test_what_storage_leaves_behind_is_passed_over(tmp_path):
    for name in ("train", "val"):
        fill(tmp_path / name, "cat", "dog")
        (tmp_path / name / "@eaDir").mkdir()
        (tmp_path / name / "cat" / "@eaDir").mkdir()
    (tmp_path / "lost+found").mkdir()
    assert listed(tmp_path) == ({"train": BOTH, "validation": BOTH}, [])


def test_one_folder_too_high_is_told(tmp_path):
    fill(tmp_path / "my pets" / "train", "cat", "dog")
    with pytest.raises(RunError) as caught:
        listed(tmp_path)
    path = shlex.quote(f"--dataset.path={tmp_path}/my pets")
    assert f"if the data set begins there, give {path};" in caught.value.for_command_line


def test_one_folder_of_images_is_told_how_names_tell_classes(tmp_path):
    kaggle(tmp_path, "images")
    with pytest.raises(RunError) as caught:
        listed(tmp_path)
    label, path = shlex.split(caught.value.for_command_line)[-2:]
    assert label.startswith("--dataset.label=")
    assert path == f"--dataset.path={tmp_path}/images"
    counts, _ = listed(Path(path.partition("=")[2]), label=label.partition("=")[2])
    assert counts == {"train": BOTH}


def test_a_class_of_the_label_that_train_lacks_is_refused(tmp_path):
    kaggle(tmp_path)
    save(tmp_path / "val" / "owl.0.jpg")
    with pytest.raises(RunError, match=f"'owl' in {tmp_path}/val is a class that .* not have"):
        listed(tmp_path, label=r"^(\w+)\.")


# A folder a patient


@pytest.fixture
def images(tmp_path):
    return tmp_path / "images"


def patients_of(root):
    found = load(Dataset(name="folder", path=str(root), validation_fraction=0.3), quiet=True)
    groups = {name: set(split.groups or ()) for name, split in found.splits.items()}
    return found, groups


def test_a_folder_in_a_class_folder_is_a_patient_whose_images_stay_together(images):
    for number in range(12):
        for image in range(3):
            save(images / "ab"[number % 2] / f"p{number}" / f"{image}.png")
    found, groups = patients_of(images)
    assert set.union(*groups.values()) == {f"p{number}" for number in range(12)}
    assert sum(map(len, groups.values())) == 12
    assert found.train.ids[0].split("/")[0] == "a"
    assert "groups: the folders in class folders, DIR/CLASS/PATIENT/*" in found.info.notes
    by_image = Dataset(name="folder", path=str(images), group=r"p\d+/\d+")
    assert "p0/0" in (load(by_image, quiet=True).train.groups or ())


def test_a_patient_in_two_given_splits_is_refused(images):
    for split in ("train", "validation"):
        for name in "ab":
            for image in range(2):
                patient = "p7" if (split, name) != ("train", "a") else "p1"
                save(images / split / name / patient / f"{image}.png")
    with pytest.raises(RunError, match=r"train and validation share 1 group \(p7\)"):
        patients_of(images)


def test_folders_that_rather_are_classes_are_no_patients(images):
    for year in ("2019", "2020"):
        for name in ("cat", "dog"):
            save(images / year / name / "0.png")
    with pytest.raises(RunError, match="has the folders cat, dog: are these the classes"):
        patients_of(images)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["a/p1/x/0.png", "b/p2/0.png"], "p1 is a folder inside the class folder"),
        (["a/p1/0.png", "a/0.png", "b/p2/0.png"], "p1 is a folder inside the class folder"),
        (["a/train/0.png", "b/train/0.png"], "train is a folder inside the class folder"),
        (["data/cat/0.png", "data/dog/0.png"], "if the data set begins there, give "),
    ],
)
def test_other_folders_in_class_folders_are_refused(images, paths, message):
    save(*(images / path for path in paths))
    with pytest.raises(RunError, match=message):
        patients_of(images)


def test_an_empty_folder_of_a_patient_is_named(images):
    for number in range(8):
        save(images / "ab"[number % 2] / f"p{number}" / "0.png")
    (images / "a" / "p9").mkdir()
    with pytest.raises(RunError, match=r"a/p9 has no images; .*on_error=skip"):
        patients_of(images)
