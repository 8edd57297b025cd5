"""The command: files, errors of a split, confusions, and what it refuses."""

import json
import shlex

import numpy as np
import pytest
from PIL import Image

from cnn_jax.reporting.figures import explanations
from cnn_jax.reporting.figures.explanations import Panel


def test_it_explains_files_and_the_worst_errors(main, finished, digits, tmp_path, capsys):
    photo = np.kron(digits.splits["test"].images[0], np.ones((4, 5, 1))).astype(np.uint8)
    Image.fromarray(photo[..., 0]).save(tmp_path / "a photo.png")
    code = main(
        "explain",
        f"--workdir={finished}",
        "a photo.png",
        "--explain.worst=3",
        "--explain.box=0,0,0.5,1",
        "--explain.steps=8",
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    place = finished / "explanations"
    found = json.loads((place / "explanations.json").read_text())["explanations"]
    assert [one["image"] for one in found] == ["a photo.png"]
    assert set(found[0]["maps"]) == {"occlusion", "ig"}  # an MLP has no feature map
    assert np.shape(found[0]["maps"]["ig"]["values"]) == digits.info.image_shape[:2]
    assert found[0]["maps"]["ig"]["regions"]["box"][1] == pytest.approx(0.5)
    with Image.open(place / "a_photo.png") as picture:
        assert picture.size[0] > 600
    worst = json.loads((place / "worst_test" / "explanations.json").read_text())["explanations"]
    p = [one["probabilities"][one["class"]] for one in worst]
    assert len(worst) == 3
    assert p == sorted(p, reverse=True)
    assert all(one["true"] != one["class"] for one in worst)
    assert (place / "worst_test" / "overview.png").exists()
    assert "3 of " in said.out
    assert "no feature map" in said.out
    assert "by chance" in said.out
    assert said.out.startswith("network    ")
    following = dict(line.split(maxsplit=1) for line in said.out.splitlines()[-2:])
    assert list(following) == ["confusions", "page"]
    assert following["page"].endswith("page '--workdir=a run'")

    (tmp_path / "no photo.png").write_bytes(b"nothing")
    both = ("a photo.png", "no photo.png", "--explain.methods=occlusion", "--format=json")
    assert main("explain", f"--workdir={finished}", *both) == 1
    assert "no photo.png: " in capsys.readouterr().err
    assert main("explain", f"--workdir={finished}", *both, "--dataset.on_error=skip") == 0
    printed = json.loads(capsys.readouterr().out)["explanations"]
    assert [one["image"] for one in printed] == ["a photo.png"]

    words = shlex.split(following["confusions"])
    assert main(*words[words.index("explain") :], "--format=json") == 0
    printed = json.loads(capsys.readouterr().out)["explanations"]
    names = {printed[0]["true"], printed[0]["class"]}
    assert all({one["true"], one["class"]} == names for one in printed)

    assert "calibrated" not in said.out
    assert main("trust", f"--workdir={finished}", "--trust.max_error=0.2") == 0
    capsys.readouterr()
    assert main("explain", f"--workdir={finished}", *both[:1], both[2]) == 0
    assert "p is what the network itself says" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "explain needs images"),
        (["a.png", "--explain.class=ten"], "a.png"),
        (["--explain.worst=2", "--explain.class=ten"], "no class 'ten'"),
        (["--explain.worst=2", "--explain.methods=hirescam"], "no feature map"),
        (["--explain.worst=2", "--explain.layer=conv"], "is no layer"),
        (["--explain.worst=0"], "at least 1"),
        (["--explain.pair=1"], "two classes or auto"),
        (["--explain.pair=1,1"], "two classes"),
        (["--explain.units=a"], "takes numbers"),
        (["--explain.units=0"], "no feature map"),
        (["--explain.maximise", "--explain.worst=1"], "needs --explain.units"),
        (["--explain.worst=1", "--explain.box=0,0,2,1"], "TOP,LEFT,BOTTOM,RIGHT"),
        (["--explain.worst=1", "--split=train", "--format=csv"], "one of table, json"),
    ],
)
def test_what_it_refuses(main, trained, capsys, flags, words):
    assert main("explain", f"--workdir={trained[0]}", "--quiet", *flags) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert words in error


def test_a_weak_map_looks_weak_and_colours_mean_signs():
    image = np.full((8, 8, 3), 128, np.uint8)
    values = np.zeros((8, 8))
    values[0, 0], values[7, 7], values[4, 4] = 1, -1, 0.05
    picture = explanations.overlaid(image, values, 1.0)
    red, blue, weak, none = picture[0, 0], picture[7, 7], picture[4, 4], picture[2, 2]
    assert red[0] > red[2] + 0.2
    assert blue[2] > blue[0] + 0.2
    assert np.abs(weak - none).max() < 0.05
    assert np.ptp(none) == 0
    panel = Panel("a", values, 1.0, "logits", ["one"])
    figure = explanations.explanation(
        image, [panel], {"$x$": 0.7, "b": 0.3}, "why?", "b", (0, 0, 1, 1)
    )
    assert len(figure.axes) == 4  # the image, the map, its scale, the bars
