"""Weights under torchvision's and Keras' names: the way there and back."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

import cnn_jax
from cnn_jax import cpu, models, trees
from cnn_jax.assembly import assemble
from cnn_jax.errors import UsageError
from cnn_jax.export import keras_weights, torch_weights
from cnn_jax.pretrained import exported, layouts, torch_files
from cnn_jax.pretrained import weights as pretrained
from cnn_jax.runs import weights as run_weights
from cnn_jax.runs.trained import Run

# The whole families are in benchmarks/export.py.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def drawn(shapes):
    """Variables by chance, with statistics that a network could have."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if leaf.ndim > 1:  # as He et al. draw kernels, so that a deep network stays finite
            deviation = (2 / np.prod(leaf.shape[:-1])) ** 0.5
            return rng.standard_normal(leaf.shape, np.float32) * np.float32(deviation)
        low = 0.5 if path.endswith(("scale", "var")) else -0.2
        return rng.uniform(low, low + 0.6, leaf.shape).astype(np.float32)

    return trees.unflatten({path: draw(path, x) for path, x in trees.flatten(shapes).items()})


def make_run(name: str, size: Any = 32, channels: Any = 3, **settings: Any) -> Run:
    """A run of a model as though it were trained."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (12, size, size, channels), np.uint8)
    labels = np.arange(12) % 3
    data = cnn_jax.from_arrays(images, labels, validation=(images[:4], labels[:4]))
    config = cnn_jax.Experiment().replace({"model.name": name, **settings})
    assembly = assemble(config, data.info)
    variables = drawn(assembly.shapes)
    return Run(config, assembly, data.info, [], lambda: (variables, 0), None, data)


@pytest.mark.parametrize(
    ("name", "size", "settings", "lines"),
    [
        ("resnet18", 32, {}, 0),
        ("vgg11_bn", 32, {"model.head": "pooled"}, 2),
        ("alexnet", 63, {"model.head": "pooled_dense128"}, 2),
        ("googlenet", 32, {"dataset.normalize": "standardize"}, 0),
        ("densenet121", 32, {"model.head": "pooled_dense128", "dataset.normalize": "caffe"}, 1),
        ("inception_v3", 75, {}, 6),
        ("convnext_tiny", 32, {"model.head": "pooled"}, 2),
    ],
)
def test_a_file_of_torchvisions_names_comes_back_to_the_bit(tmp_path, name, size, settings, lines):
    run = make_run(name, size, **settings)
    checked, left_out = torch_weights.write(run, tmp_path)
    assert checked.differences == {"weights": 0.0}
    layout = layouts.with_head(layouts.find(name), run.experiment.model.head)
    assert len(torch_weights.changes(run, layout)) == lines
    found = pretrained.load(str(tmp_path / "model.safetensors"), name)
    back = pretrained.merge(run.assembly.shapes, found, ".*")
    for mine, theirs in zip(jax.tree.leaves(run.variables), jax.tree.leaves(back), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    expected = {"standardize": None, "caffe": "caffe"}
    asked = settings.get("dataset.normalize")
    assert found.preprocessing == expected.get(asked, "unit")
    if name in ("resnet18", "inception_v3") and not lines:
        config = json.loads((tmp_path / "config.json").read_text())
        assert config["architecture"] == name
        assert config["pretrained_cfg"]["std"] == [1.0, 1.0, 1.0]
        assert not left_out
    elif left_out:
        assert "config.json" in left_out[0]


@pytest.mark.parametrize(
    ("name", "settings", "architecture", "others"),
    [
        ("mobilenet_v3_small", {}, "mobilenetv3_small_100", ["torchvision.safetensors"]),
        ("mobilenet_v3_small", {"model.padding": "same"}, "tf_mobilenetv3_small_100", []),
        ("efficientnet_b0", {"model.padding": "same"}, "tf_efficientnet_b0", []),
    ],
)
def test_the_newer_families_are_written_for_timm(tmp_path, name, settings, architecture, others):
    run = make_run(name, **settings)
    checked, _ = torch_weights.write(run, tmp_path)
    assert checked.largest <= 1e-6
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] == architecture
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"model.safetensors", "config.json", *others}
    text = "\n".join(torch_weights.loading(run))
    assert f'net = timm.create_model("{architecture}", num_classes=3)' in text
    assert ("torchvision" in text) == bool(others)
    for file in ("model.safetensors", *others):
        found = pretrained.load(str(tmp_path / file), name)
        back = trees.flatten(pretrained.merge(run.assembly.shapes, found, ".*"))
        for path, mine in trees.flatten(run.variables).items():
            np.testing.assert_allclose(mine, back[path], 1e-6, 1e-9)
        assert found.options == {"padding": settings.get("model.padding", "symmetric")}
    # Another timm would read the files by its own names, without our metadata.
    with safetensors.safe_open(tmp_path / "model.safetensors", "numpy") as file:
        names = set(file.keys())
    assert {"conv_stem.weight", "classifier.bias"} <= names


@pytest.mark.parametrize(
    ("resize", "share", "said"),
    [("crop", 0.875, ("center", 0.875)), ("squash", 1.0, ("squash", 1.0)), ("pad", 1.0, None)],
)
def test_timms_configuration_says_how_images_are_fitted(tmp_path, resize, share, said):
    run = make_run("resnet18")
    run.data_info = dataclasses.replace(run.data_info, resize=resize, crop_share=share)
    _, left_out = torch_weights.write(run, tmp_path)
    if said is None:
        assert any("timm does not fit images of another aspect by 'pad'" in one for one in left_out)
        assert not (tmp_path / "config.json").exists()
    else:
        config = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
        assert (config["crop_mode"], config["crop_pct"]) == said


@pytest.mark.parametrize(
    ("loss", "count", "words"),
    [
        ("binary_cross_entropy", 1, "its sigmoid is the probability of the second class"),
        ("multilabel", 3, "the sigmoid of each is the probability of its class"),
        ("cross_entropy", 2, "their softmax is the probabilities"),
    ],
)
def test_an_export_says_how_logits_become_probabilities(tmp_path, loss, count, words):
    images = np.zeros((12, 32, 32, 3), np.uint8)
    several = loss == "multilabel"
    labels = np.eye(3, dtype=np.uint8)[np.arange(12) % 3] if several else np.arange(12) % 2
    validation = (images[:6], labels[:6])
    data = cnn_jax.from_arrays(images, labels, validation=validation, multilabel=several)
    config = cnn_jax.Experiment().replace({"model.name": "resnet18", "train.loss": loss})
    assembly = assemble(config, data.info)
    variables = drawn(assembly.shapes)
    run = Run(config, assembly, data.info, [], lambda: (variables, 0), None, data)
    made = cnn_jax.export_run(run, "safetensors", tmp_path / "out")
    record = json.loads((made.folder / "export.json").read_text())
    (output,) = record["outputs"]
    assert (output["name"], output["shape"]) == ("logits", ["batch", count])
    assert words in output["meaning"]
    function = "softmax" if loss == "cross_entropy" else "sigmoid"
    assert any(f"torch.{function}(net(images)" in line for line in record["load"])
    assert any(words in line for line in record["load"])
    assert (made.folder / "config.json").exists() == (function == "softmax")
    reason = "timm takes the softmax of logits, and of this network's it is the sigmoid"
    assert any(reason in line for line in record["left_out"]) == (function == "sigmoid")
    assert words in (made.folder / "README.md").read_text()


def test_the_lines_that_load_a_file_name_its_network():
    lines = torch_weights.loading(make_run("vgg11", 64, **{"model.head": "default"}))
    assert "net = torchvision.models.vgg11(num_classes=3)" in lines
    assert "net.avgpool = torch.nn.Identity()" in lines
    assert "net.classifier[0] = torch.nn.Linear(2048, 4096)" in lines
    lines = keras_weights.loading(make_run("vgg16", 32, **{"model.head": "pooled"}))
    assert '    include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg",' in lines
    assert "# probabilities: keras.ops.softmax(net(images))" in lines


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "lenet5"}, "torchvision's files are written for vgg11, .*, not for lenet5"),
        ({"name": "resnet18", "channels": 1}, "images of 3 channels, and this run 1"),
        ({"name": "resnet50", "model.bottleneck_stride": "1x1"}, "and this run has .*=1x1: with"),
        ({"name": "alexnet", "size": 63, "model.local_response_norm": True}, "norm=False"),
    ],
)
def test_what_torchvision_does_not_have_is_refused(tmp_path, settings, message):
    with pytest.raises(UsageError, match=message):
        cnn_jax.export_run(make_run(**settings), "safetensors", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_keras_does_not_have_is_refused(tmp_path):
    for run, message in (
        (make_run("resnet18"), "and no resnet18"),
        (make_run("resnet50"), "one with bottleneck_stride=1x1, and this run has"),
    ):
        with pytest.raises(UsageError, match=message):
            cnn_jax.export_run(run, "keras", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "settings"),
    [
        ("vgg16", 32, {"model.head": "pooled_dense128"}),
        ("resnet50", 32, {"model.bottleneck_stride": "1x1"}),
        ("inception_v3", 75, {}),
        ("efficientnet_b0", 32, {"model.padding": "same"}),
        ("mobilenet_v3_small", 32, {"model.padding": "same", "model.head": "pooled"}),
        ("convnext_tiny", 32, {"model.head": "pooled_dense128"}),
    ],
)
def test_keras_says_the_same(keras, tmp_path, name, size, settings):
    run = make_run(name, size, **settings)
    made = cnn_jax.export_run(run, "keras", tmp_path / "out")
    assert made.checked.images == 4
    assert made.checked.differences["logits"] < 1e-5
    again = run_weights.load(str(made.folder), name)
    assert (again.classes, again.preprocessing) == (3, "unit")
    back = trees.flatten(pretrained.merge(run.assembly.shapes, again, ".*"))
    for path, mine in trees.flatten(run.variables).items():
        np.testing.assert_allclose(mine, back[path], 1e-6, 1e-6)


def test_a_scale_is_taken_into_the_variance(tmp_path):
    """Torchvision's Inception has scales, of either sign, where ours has none."""
    layers = layouts.find("inception_v3").layers
    conv, norm = layers[0], layers[1]
    rng = np.random.default_rng(2)
    kernel = rng.standard_normal((3, 3, 3, 4)).astype(np.float32)
    scale = np.array([1.5, -0.7, 0.0, 1.0], np.float32)
    bias, mean = (rng.standard_normal(4).astype(np.float32) for _ in range(2))
    var = rng.uniform(0.5, 2, 4).astype(np.float32)
    arrays: dict[str, np.ndarray] = {f"{conv.path}/kernel": kernel}
    arrays |= {f"{norm.path}/scale": scale, f"{norm.path}/bias": bias}
    arrays |= {f"{norm.path}/mean": mean, f"{norm.path}/var": var}
    torch_files.write(tmp_path / "w.safetensors", arrays, layers, {})
    found = pretrained.load(str(tmp_path / "w.safetensors"), "inception_v3").arrays
    x = rng.standard_normal((5, 27)).astype(np.float32)

    def forward(values, scale):
        y = x @ values[f"{conv.path}/kernel"].reshape(27, 4) - values[f"{norm.path}/mean"]
        y = y / np.sqrt(values[f"{norm.path}/var"] + 1e-3)
        return y * scale + values[f"{norm.path}/bias"]

    assert f"{norm.path}/scale" not in found
    assert forward(found, 1) == pytest.approx(forward(arrays, scale), abs=1e-4)


def test_metadata_of_a_stranger_are_refused(tmp_path):
    layers = layouts.find("resnet18").layers
    said = {torch_files.METADATA: json.dumps({"head": "../..", "preprocessing": "unit"})}
    torch_files.write(tmp_path / "w.safetensors", {}, layers, said)
    with pytest.raises(cnn_jax.RunError, match="its metadata have a head"):
        pretrained.load(str(tmp_path / "w.safetensors"), "resnet18")


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[]"])
def test_metadata_that_are_not_ours_are_a_line(tmp_path, text):
    layers = layouts.find("resnet18").layers
    torch_files.write(tmp_path / "w.safetensors", {}, layers, {torch_files.METADATA: text})
    with pytest.raises(cnn_jax.RunError, match="its metadata are not ours") as raised:
        pretrained.load(str(tmp_path / "w.safetensors"), "resnet18")
    assert "\n" not in str(raised.value)


def test_an_export_is_known_by_its_content_under_any_name(tmp_path):
    files = [{"name": "model.weights.h5", "sha256": "a" * 64}]
    record = {"head": "pooled", "preprocessing": {"name": "torch"}, "files": files}
    (tmp_path / "export.json").write_text(json.dumps(record))
    said = {"head": "pooled", "preprocessing": "torch"}
    assert exported.beside(tmp_path / "renamed.h5", "a" * 64) == said
    assert exported.beside(tmp_path / "model.weights.h5", "b" * 64) == {}


def test_another_run_takes_the_backbone_of_an_export(tmp_path):
    """The scaling is the file's own, and the head is not asked for."""
    run = make_run("resnet18", 32, **{"model.head": "pooled_dense128"})
    made = cnn_jax.export_run(run, "safetensors", tmp_path / "out")
    found = run_weights.load(str(made.folder), "resnet18")
    assert found.preprocessing_reason == "the file's own"
    model = models.create("resnet18", 5)
    with cpu.using("plain"):
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    merged = pretrained.merge(shapes, found)
    kernel = run.variables["params"]["backbone"]["stem"]["conv"]["conv"]["kernel"]
    np.testing.assert_array_equal(
        merged["params"]["backbone"]["stem"]["conv"]["conv"]["kernel"], kernel
    )


def test_a_graph_is_no_file_of_weights(tmp_path):
    (tmp_path / "export.json").write_text('{"file": "model.onnx"}')
    with pytest.raises(UsageError, match=r"whose model\.onnx is a graph, not weights"):
        run_weights.load(str(tmp_path), "resnet18")
