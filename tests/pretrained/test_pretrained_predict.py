"""`predict` with weights for ImageNet and no training, on a MobileNetV3 of two blocks."""

import json
from typing import Any

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util
from PIL import Image

import cnn_jax
from cnn_jax import models
from cnn_jax.data.scaling import normalize
from cnn_jax.models import mobilenet_v3
from cnn_jax.pretrained import imagenet, layouts, newer_layouts
from tests.pretrained.test_pretrained_layouts import to_torch

NAME, SIZE = "mobilenet_v3_small", 32
WORDS = ["predict", "--config=imagenet_predict", f"--model.name={NAME}"]


@pytest.fixture
def network(tmp_path, monkeypatch):
    """Writes a folder of timm's; returns its variables."""
    rows = mobilenet_v3.STAGES[NAME]
    monkeypatch.setitem(mobilenet_v3.STAGES, NAME, (rows[0], rows[1][1:]))
    monkeypatch.setitem(layouts.LAYOUTS, NAME, newer_layouts.LAYOUTS[NAME])
    found = newer_layouts._mobilenet_v3(mobilenet_v3.STAGES[NAME])
    monkeypatch.setitem(layouts.LAYOUTS, NAME, found)
    image = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), np.float32)
    shapes = jax.eval_shape(models.create(NAME, 1000).init, jax.random.key(0), image)
    rng, flat = np.random.default_rng(0), {}
    leaves: Any = traverse_util.flatten_dict(shapes, sep="/")
    for path, leaf in leaves.items():
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 1
        array = rng.standard_normal(leaf.shape, np.float32) * np.float32((2 / fan_in) ** 0.5)
        flat[path] = np.abs(array) + 0.5 if path.endswith(("var", "scale")) else array
    arrays = {path.partition("/")[2]: array for path, array in flat.items()}
    write(tmp_path / "net", arrays)
    return traverse_util.unflatten_dict(flat, sep="/"), arrays


def write(folder, arrays):
    folder.mkdir()
    safetensors.numpy.save_file(to_torch(NAME, arrays, "timm"), folder / "model.safetensors")
    said = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, SIZE, SIZE]}
    said |= {"crop_pct": 0.8, "interpolation": "bicubic"}
    config = {"architecture": "tf_mobilenetv3_small_100", "pretrained_cfg": said}
    (folder / "config.json").write_text(json.dumps(config))


def test_predict_without_training(network, main, tmp_path, capsys):
    pixels = np.random.default_rng(1).integers(0, 256, (50, 80, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    words = [*WORDS, "--transfer.weights=net", "photo.png"]
    assert main(*words, "--format=json") == 0
    said = capsys.readouterr()
    (found,) = json.loads(said.out)["predictions"]
    assert said.err.splitlines()[1].split()[:3] == ["images", "80.0%", "of"]
    # The middle 80 % of the short side, by Pillow's bicubic filter.
    middle = Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BICUBIC, (20, 5, 60, 45))
    x = normalize(np.asarray(middle)[None], "symmetric")
    logits = jax.jit(models.create(NAME, 1000, padding="same").apply)(network[0], x)
    expected = np.asarray(jax.nn.softmax(logits))[0]
    names = imagenet.class_names()
    assert found["class"] == names[int(expected.argmax())]
    mine = np.array([found["probabilities"][name] for name in names])
    np.testing.assert_allclose(mine, expected, rtol=1e-3)
    run = cnn_jax.load_pretrained(NAME, "net")
    again = run.predict([tmp_path / "photo.png"])
    np.testing.assert_allclose(again.probabilities[0], mine, atol=1e-6)
    assert again.classes == (found["class"],)
    assert main(*words) == 0
    assert "trust" not in capsys.readouterr().out  # nothing here could calibrate it


def test_weights_for_other_classes_are_refused(network, main, tmp_path, capsys):
    arrays = {**network[1]}
    for leaf in ("kernel", "bias"):
        arrays[f"head/logits/{leaf}"] = arrays[f"head/logits/{leaf}"][..., :7]
    write(tmp_path / "seven", arrays)
    assert main(*WORDS, "--transfer.weights=seven", "photo.png") == 2
    assert "has 7 outputs, and without training it names" in capsys.readouterr().err
    assert main("predict", "photo.png") == 2
    assert "or --config=imagenet_predict" in capsys.readouterr().err
