"""Tables of images: which columns, which files, and one line for what cannot be."""

import csv
import io
import random
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from cnn_jax import data, experiment
from cnn_jax.data import outside, rows, table
from cnn_jax.errors import RunError, UsageError
from tests import tiny


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (4, 4), value).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "img").mkdir()
    for i in range(12):
        (tmp_path / "img" / f"{i}.png").write_bytes(png(20 * i))
    return tmp_path


def write(folder: Path, header: list[str], lines: list[list[Any]], name: str = "t.csv") -> str:
    with (folder / name).open("w", newline="") as file:
        csv.writer(file, delimiter="\t" if name.endswith("tsv") else ",").writerows(
            [header, *lines]
        )
    return str(folder / name)


def load(path: str, **settings: Any) -> data.Data:
    return data.load(experiment.Dataset(name="table", path=path, **settings), quiet=True)


def plain(count: int = 12) -> list[list[Any]]:
    return [[f"img/{i}.png", ["b", "a"][i % 2]] for i in range(count)]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet"])
def test_columns_are_found_by_their_names_and_said(folder, name):
    lines = [[f"img/{i}", ["sick", "well"][i % 2]] for i in range(12)]  # without their ending
    if name == "t.parquet":
        values = {"filename": [line[0] for line in lines], "diagnosis": [x[1] for x in lines]}
        pyarrow.parquet.write_table(pyarrow.table(values), folder / name)
        path = str(folder / name)
    else:
        path = write(folder, ["filename", "Diagnosis"], lines, name)
    found = load(path)
    assert found.info.class_names == ("sick", "well")
    assert found.info.sizes == {"train": 8, "validation": 2, "test": 2}
    assert any(note.startswith("image: the column 'filename'") for note in found.info.notes)
    train = found.train
    for image, label, name in zip(train.images, train.labels, train.ids, strict=True):
        number = int(Path(name).stem)
        assert (image == 20 * number).all()
        assert label == number % 2


def test_splits_groups_and_other_folders(folder):
    lines = [
        [f"{i}", i % 2 + 9, ("training", "VALID", "test")[i // 4], f"P{i // 2}"] for i in range(12)
    ]
    (folder / "tables").mkdir()
    path = write(folder / "tables", ["image", "label", "fold", "patient_id"], lines)
    with pytest.raises(RunError, match=r"line 2 names '0', which is not in"):
        load(path)
    found = load(path, root=str(folder / "img"))
    assert found.info.class_names == ("9", "10")  # as people count
    assert found.info.sizes == {"train": 4, "validation": 4, "test": 4}
    assert list(found.validation.groups or ()) == ["P2", "P2", "P3", "P3"]
    assert found.test.ids[0] == "8.png"
    lines[5][3] = "P0"
    path = write(folder / "tables", ["image", "label", "fold", "patient_id"], lines)
    with pytest.raises(RunError, match=r"train and validation share 1 group \(P0\)"):
        load(path, root=str(folder / "img"))


def test_columns_of_zeros_and_ones_name_the_class(folder):
    lines = [
        [f"img/{i}.png", float(i % 3 == 0), int(i % 3 == 1), int(i % 3 == 2)] for i in range(12)
    ]
    path = write(folder, ["path", "MEL", "NV", "BCC"], lines)
    found = load(path, label_columns="MEL,NV,BCC", test_fraction=0.0)
    assert found.info.class_names == ("BCC", "MEL", "NV")
    place = found.train.ids.index("img/1.png") if "img/1.png" in found.train.ids else 0
    number = int(Path(found.train.ids[place]).stem)
    expected = ("MEL", "NV", "BCC")[number % 3]
    assert found.info.class_names[found.train.labels[place]] == expected
    lines[3][2] = 1
    path = write(folder, ["path", "MEL", "NV", "BCC"], lines)
    with pytest.raises(RunError, match=r"line 5 has several classes \(MEL, NV\)"):
        load(path, label_columns="MEL,NV,BCC")


def test_images_inside_of_parquet(tmp_path):
    images = [{"bytes": png(20 * i), "path": f"{i}.png"} for i in range(12)]
    values = {"image": images, "label": [i % 2 for i in range(12)]}
    pyarrow.parquet.write_table(pyarrow.table(values), tmp_path / "t.parquet")
    found = load(str(tmp_path / "t.parquet"))
    name = found.train.ids[0]
    assert (found.train.images[0] == 20 * int(name.split()[2].removesuffix(".png"))).all()


@pytest.mark.parametrize(
    ("header", "change", "settings", "said"),
    [
        (["path", "label"], {0: ["../t.csv", "a"]}, {}, r"line 2 names '../t.csv', .* outside"),
        (["path", "label"], {0: ["/etc/passwd", "a"]}, {}, "outside"),
        (["path", "label"], {3: ["img/99.png", "a"]}, {}, r"line 5 names 'img/99.png', .*not in"),
        (["path", "label"], {3: ["img/3.png", " "]}, {}, "line 5 has no class"),
        (["path", "label"], {3: ["img/3.png", "a|b"]}, {}, r"several classes \(a\|b\)"),
        (["path", "label"], {3: ["img/2.png", "a"]}, {}, "img/2.png has two classes, a and b"),
        (["path", "label"], {3: ["img/3.png"]}, {}, "line 5 has 1 cells"),
        (["path", "file"], {}, {}, "the columns path and file; say which is the image"),
        (["picture", "label"], {}, {}, r"no column called path.*dataset\.image_column"),
        (["path", "label"], {}, {"label_column": "labl"}, "did you mean label"),
        (["path", "label"], {}, {"label_columns": "x,y"}, "no column 'x'"),
        (["path", "path"], {}, {}, "the column 'path' twice"),
    ],
)
def test_what_cannot_be_is_one_line(folder, header, change, settings, said):
    lines = plain()
    for row, line in change.items():
        lines[row] = line
    with pytest.raises((RunError, UsageError), match=said):
        load(write(folder, header, lines), **settings)


def test_bad_rows_can_be_skipped(folder):
    lines = [*plain(), ["img/99.png", "a"], ["img/1.png", "a"], ["img/2.png", "a"]]
    found = load(write(folder, ["path", "label"], lines), on_error="skip")
    assert sum(found.info.sizes.values()) == 11  # not 99, and not 2, which has two classes
    notes = "\n".join(found.info.notes)
    assert "which is not in" in notes
    assert "img/2.png has two classes, a and b" in notes
    assert "1 row repeated" in notes


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe1\x002\x00", b"\0\0", b"PAR1 no", b"path,label\n"]
)
def test_a_file_that_is_no_table(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(RunError, match=r"t\.csv"):
        load(str(tmp_path / "t.csv"))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_mutated_tables_end_in_one_line_or_are_read(folder, kind):
    if kind == "csv":
        path = Path(write(folder, ["path", "label"], plain()))
    else:
        path = folder / "t.parquet"
        values = dict(zip(("path", "label"), map(list, zip(*plain(), strict=True)), strict=True))
        pyarrow.parquet.write_table(pyarrow.table(values), path)
    whole, chance = path.read_bytes(), random.Random(0)
    config = experiment.Dataset(name="table", path=str(path))
    refused = 0
    for _ in range(300):
        path.write_bytes(tiny.mutated(whole, chance, torn=0.3))
        try:
            table.source(config)
        except (RunError, UsageError):
            refused += 1
    assert refused > 100


def test_a_spreadsheet_s_semicolons_and_mark_are_read(tmp_path):
    (tmp_path / "t.csv").write_bytes('\ufeffpath;label\r\n"a;b.png";x\r\n\r\nc.png;y\r\n'.encode())
    found = rows.read(tmp_path / "t.csv")
    assert found.columns == {"path": ["a;b.png", "c.png"], "label": ["x", "y"]}
    assert [found.where(i)[-6:] for i in range(2)] == ["line 2", "line 4"]


def test_classes_of_one_number_have_one_order(folder):
    lines = [[f"img/{i}.png", ["01", "10", "1"][i % 3]] for i in range(12)]
    path = write(folder, ["path", "label"], lines)
    assert load(path).info.class_names == ("01", "1", "10")


def test_settings_of_tables_belong_to_tables():
    with pytest.raises(UsageError, match=r"image_column belongs to dataset\.name=table"):
        experiment.Experiment(dataset=experiment.Dataset(image_column="x"))


@pytest.mark.parametrize("kind", ["pipes", "rows", "lists"])
def test_several_findings_as_names_as_rows_and_as_lists(folder, kind):
    findings = [["b", "a"], ["a"], [], ["b"]] * 3
    cells = [[f"img/{i}.png", names] for i, names in enumerate(findings)]
    if kind == "lists":
        values = {"path": [path for path, _ in cells], "label": [names for _, names in cells]}
        pyarrow.parquet.write_table(pyarrow.table(values), folder / "t.parquet")
        path = str(folder / "t.parquet")
    else:
        lines = [[path, "|".join(names)] for path, names in cells]
        if kind == "rows":
            lines = [[path, name] for path, names in cells for name in names or [""]]
        path = write(folder, ["path", "label"], lines)
    section = experiment.Dataset(name="table", path=path)
    found = data.load(section, quiet=True, multilabel=True)
    assert found.info.class_names == ("a", "b")
    for split in found.splits.values():
        for id_, row in zip(split.ids, split.labels, strict=True):
            names = findings[int(Path(id_).stem)]
            assert row.tolist() == [int("a" in names), int("b" in names)]
    assert "3 images without a finding: the cell is empty" in found.info.notes
    repeated = "3 rows repeated: each image counts once, with the findings of all of its rows"
    assert (repeated in found.info.notes) == (kind == "rows")
    if kind == "pipes":
        other = write(folder, ["path", "label"], plain(), "other.csv")
        _, notes = outside.load(experiment.Dataset(name="table", path=other), found.info)
        assert not [note for note in notes if "does not name" in note]
        other = write(folder, ["path", "label"], plain()[::2], "other.csv")
        _, notes = outside.load(experiment.Dataset(name="table", path=other), found.info)
        assert [note for note in notes if f"{other} does not name a: no image counts" in note]


def test_columns_of_several_findings_that_contradict_each_other_are_named(folder):
    lines = [[f"img/{i}.png", i % 2, 1] for i in range(12)]
    path = write(folder, ["path", "a", "b"], [*lines, ["img/0.png", 1, 1]])
    section = experiment.Dataset(name="table", path=path, label_columns="a,b")
    with pytest.raises(RunError, match=r"img/0.png has two classes, a\|b and b"):
        data.load(section, quiet=True, multilabel=True)
