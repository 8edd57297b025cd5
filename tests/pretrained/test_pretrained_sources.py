"""Where weights come from: timm's names and folders, wrappers' prefixes, the hub, Keras models."""

import contextlib
import hashlib
import http.server
import json
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from cnn_jax.data import scaling
from cnn_jax.errors import RunError, UsageError
from cnn_jax.pretrained import hub, imagenet
from cnn_jax.pretrained import weights as pretrained
from cnn_jax.pretrained.layout import Source
from cnn_jax.runs import weights as run_weights
from tests.pretrained.test_pretrained_layouts import tiny, to_keras, to_torch, write

NEWER = ("efficientnet_b0", "mobilenet_v3_small", "convnext_tiny")
ONE: Any = np.float32(1e-3 - 1e-5)  # TensorFlow's epsilon minus ours


def save(folder, model, source: Source = "timm", prefix="", config: Any = None, **more: Any):
    """Writes a file with one of its layouts, and returns the model's arrays."""
    arrays = tiny(model)
    tensors = {f"{prefix}{name}": x for name, x in to_torch(model, arrays, source).items()}
    folder.mkdir(exist_ok=True)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    if config is not None:
        said = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], **more}
        values = {"architecture": config, "pretrained_cfg": said}
        (folder / "config.json").write_text(json.dumps(values))
    return arrays


def assert_same(found, arrays, shift: Any = 0.0):
    assert found.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        more = shift if name.endswith("/var") else 0
        np.testing.assert_array_equal(found.arrays[name], array + np.float32(more))


@pytest.mark.parametrize("model", NEWER)
@pytest.mark.parametrize("source", ["torch", "timm"])
def test_files_of_newer_networks(tmp_path, model, source):
    arrays = save(tmp_path, model, source)
    found = pretrained.load(str(tmp_path / "model.safetensors"), model)
    shift = -ONE if (model, source) == ("mobilenet_v3_small", "timm") else 0
    assert_same(found, arrays, shift)
    assert found.classes == 4
    assert found.options == ({} if model == "convnext_tiny" else {"padding": "symmetric"})
    assert found.preprocessing == "torch"


@pytest.mark.parametrize("model", NEWER)
@pytest.mark.parametrize("keras3", [False, True])
def test_keras_files_of_newer_networks(tmp_path, model, keras3):
    arrays = tiny(model)
    layers = to_keras(model, arrays)
    for name, leaves in layers.items():
        if name.endswith(("depthwise", "dwconv")):  # Keras' own layer for it
            leaves["kernel"] = leaves["kernel"].transpose(0, 1, 3, 2)
    if model == "mobilenet_v3_small" and not keras3:  # the names of the published files
        layers["Conv/BatchNorm"] = layers.pop("conv_bn")
        layers["expanded_conv/depthwise/BatchNorm"] = layers.pop("expanded_conv_depthwise_bn")
        layers["Conv_2"] = layers.pop("conv_2")
        layers["Logits"] = layers.pop("logits")
    mean, std = map(np.array, scaling.MEAN_AND_STD["torch"])
    if model == "efficientnet_b0":
        layers["normalization_1"] = {"mean": mean, "variance": std}  # as published
    found = pretrained.load(write(tmp_path / "w.h5", layers, keras3), model)
    assert_same(found, arrays, ONE if model == "efficientnet_b0" else 0)
    expected = {"mobilenet_v3_small": "symmetric"}.get(model, "torch")
    assert found.preprocessing == expected
    if model == "efficientnet_b0":
        layers["normalization_1"] = {"mean": 0 * mean, "variance": 0 * mean + 1}
        built = pretrained.load(write(tmp_path / "built", layers), model)
        assert built.preprocessing == "unit"
        layers["normalization_1"] = {"mean": 0 * mean + 0.3, "variance": std}
        with pytest.raises(RunError, match=r"by the mean \[0\.3, .* which is not known here"):
            pretrained.load(write(tmp_path / "other", layers), model)


def test_a_folder_of_timms_brings_its_preprocessing(tmp_path):
    folder = tmp_path / "tf"
    said = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 240, 224], "crop_pct": 0.9}
    said |= {"interpolation": "bicubic", "crop_mode": "center"}
    arrays = save(folder, "mobilenet_v3_small", config="tf_mobilenetv3_small_100", **said)
    for path in (folder, folder / "model.safetensors"):
        found = run_weights.load(str(path), "mobilenet_v3_small")
        assert_same(found, arrays)
        assert (found.preprocessing, found.options) == ("symmetric", {"padding": "same"})
        assert (found.evaluated, found.input_size) == (("crop", 0.9), (240, 224))
        assert found.interpolation == "bicubic"
    assert run_weights.channels(str(folder)) == 3


@pytest.mark.parametrize(
    ("architecture", "more", "error"),
    [
        ("resnetblur18", {}, "says that its weights are of resnetblur18, not of resnet18"),
        ("resnet18", {"mean": [0.1] * 3}, r"scales images with the mean \[0\.1, .* not known here"),
        ("resnet18", {"mean": "red"}, "is damaged, or not timm's"),
        ("resnet18", {"input_size": 5}, "is damaged, or not timm's"),
        ("resnet18", {"input_size": [224, 224]}, r"input_size is \[channels, .*not \[224, 224\]"),
        ("resnet18", {"input_size": [3, 0, 224]}, "input_size is "),
        ("resnet18", {"crop_pct": 10**400}, "is damaged, or not timm's"),
    ],
)
def test_what_a_folder_says_of_itself_must_be_known(tmp_path, architecture, more, error):
    save(tmp_path / "w", "resnet18", config=architecture, **more)
    with pytest.raises((RunError, UsageError), match=error) as raised:
        run_weights.load(str(tmp_path / "w"), "resnet18")
    assert "\n" not in str(raised.value)


def test_a_network_that_was_changed_when_it_was_built_is_refused(tmp_path):
    save(tmp_path, "resnet18", config="resnet18")
    values = json.loads((tmp_path / "config.json").read_text())
    values["model_args"] = {"num_classes": 10}
    (tmp_path / "config.json").write_text(json.dumps(values))
    pretrained.load(str(tmp_path), "resnet18")
    values["model_args"] = ["a"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"model_args are names and values, not \['a'\]"):
        pretrained.load(str(tmp_path), "resnet18")
    values["model_args"] = {"output_stride": 8}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(RunError, match=r"was built with .*output_stride.* which ours is not"):
        pretrained.load(str(tmp_path), "resnet18")


@pytest.mark.parametrize("prefix", ["module.", "model.backbone.", "_orig_mod.module.encoder."])
def test_prefixes_of_wrappers_are_taken_off(tmp_path, prefix):
    arrays = save(tmp_path, "resnet18", prefix=prefix)
    assert_same(pretrained.load(str(tmp_path), "resnet18"), arrays)


def test_the_backbone_loads_whatever_the_number_of_classes(tmp_path):
    arrays = save(tmp_path, "resnet18")
    flat = {
        f"{'batch_stats' if name.endswith(('mean', 'var')) else 'params'}/{name}": array * 0
        for name, array in arrays.items()
    }
    flat["params/head/logits/kernel"] = np.zeros((4, 7), np.float32)
    flat["params/head/logits/bias"] = np.zeros(7, np.float32)
    variables = traverse_util.unflatten_dict(flat, sep="/")
    found = pretrained.load(str(tmp_path), "resnet18")
    merged: Any = traverse_util.flatten_dict(pretrained.merge(variables, found), sep="/")
    assert not merged["params/head/logits/kernel"].any()
    kernel = "backbone/stage4/block2/conv2/conv/kernel"
    np.testing.assert_array_equal(merged[f"params/{kernel}"], arrays[kernel])
    with pytest.raises(RunError, match=r"logits/bias has shape \(4,\) in the file and \(7,\)"):
        pretrained.merge(variables, found, ".*")


def test_a_file_of_another_network_is_told_by_its_names(tmp_path):
    save(tmp_path, "resnet34")
    variables = {"params": traverse_util.unflatten_dict(tiny("resnet18"), sep="/")}
    with pytest.raises(
        RunError, match=r"the file is of resnet34 \(model\.name=resnet34\)"
    ) as error:
        pretrained.merge(variables, pretrained.load(str(tmp_path), "resnet18"))
    assert "\n" not in str(error.value)


# Whole Keras models.


def archive(path, model="resnet50", layer: Any = None, **members: Any):
    """Writes a .keras file of a model, with the members that are given added or replaced."""
    h5 = Path(write(path.with_suffix(".h5"), to_keras(model, tiny(model)), keras3=True))
    layers = [
        {"class_name": "Conv2D", "config": {"name": "conv1_conv"}},
        *([layer] if layer else []),
    ]
    config = {"class_name": "Functional", "config": {"name": model, "layers": layers}}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in {
            "metadata.json": b"{}",
            "config.json": json.dumps(config).encode(),
            "model.weights.h5": h5.read_bytes(),
            **members,
        }.items():
            if content is not None:
                file.writestr(name, content)
    return str(path)


def test_the_weights_of_a_whole_keras_model(tmp_path):
    found = pretrained.load(archive(tmp_path / "m.keras"), "resnet50")
    assert found.arrays.keys() == tiny("resnet50").keys()
    assert found.options == {"bottleneck_stride": "1x1"}
    digest = hashlib.sha256((tmp_path / "m.keras").read_bytes()).hexdigest()
    assert found.sha256 == digest


@pytest.mark.parametrize(
    ("more", "error"),
    [
        (
            {"layer": {"class_name": "Lambda", "config": {"name": "secret", "function": "..."}}},
            "Lambda 'secret'",
        ),
        (
            {
                "layer": {
                    "class_name": "Functional",
                    "config": {"layers": [{"class_name": "Lambda", "config": {"name": "deep"}}]},
                }
            },
            "Lambda 'deep'",
        ),
        ({"../evil.py": b"1"}, r"path leads out of its folder: '\.\./evil\.py'"),
        ({"/etc/evil": b"1"}, "path leads out"),
        ({"a\\..\\..\\b": b"1"}, "path leads out"),
        ({"model.weights.h5": bytes(200 << 20)}, "would grow from .* to 209,715,200 bytes"),
        ({"config.json": b"{"}, "is damaged, or no Keras model"),
        ({"config.json": b"[" * 100_000}, "is damaged, or no Keras model"),
        ({"config.json": None}, "it has no config.json"),
        ({"model.weights.h5": b"no HDF5"}, "is damaged or not a file of weights"),
    ],
)
def test_keras_models_that_are_refused(tmp_path, more, error):
    path = archive(tmp_path / "m.keras", **more)
    with pytest.raises((RunError, UsageError), match=error) as raised:
        pretrained.load(path, "resnet50")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "evil.py").exists()


def headers(content, of_files, of_directory, value):
    """Sets a byte of every header of a zip file, of its files' own and those in the directory."""
    for mark, offset in ((b"PK\x03\x04", of_files), (b"PK\x01\x02", of_directory)):
        start = content.find(mark)
        while start >= 0:
            content[start + offset] = value
            start = content.find(mark, start + 4)


@pytest.mark.parametrize(
    ("of_files", "of_directory", "value"),
    [(6, 8, 1), (8, 10, 14), (8, 10, 12), (8, 10, 99)],
    ids=["encrypted", "lzma", "bz2", "an unknown method"],
)
def test_an_archive_that_cannot_be_unpacked_is_one_line(tmp_path, of_files, of_directory, value):
    path = tmp_path / "m.keras"
    content = bytearray(Path(archive(path)).read_bytes())
    headers(content, of_files, of_directory, value)
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"m\.keras is damaged, or no Keras model"):
        pretrained.load(str(path), "resnet50")


def test_bytes_that_have_changed_in_a_keras_model_are_no_stack_trace(tmp_path):
    path = tmp_path / "m.keras"
    whole = Path(archive(path)).read_bytes()
    random = np.random.default_rng(0)
    said = []
    for _ in range(60):
        content = bytearray(whole)
        for place in random.integers(len(content), size=10):
            content[place] = random.integers(256)
        content[random.integers(len(content) - 400, len(content))] ^= 1  # of the directory
        path.write_bytes(content)
        with contextlib.suppress(RunError, UsageError):
            pretrained.load(str(path), "resnet50")
            said.append("loaded")
    assert len(said) < 30


def test_half_a_keras_model_is_refused(tmp_path):
    path = tmp_path / "m.keras"
    archive(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(RunError, match=r"m\.keras is damaged"):
        pretrained.load(str(path), "resnet50")


# The hub.


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A loopback hub; yields the files of its one repository, owner/net."""
    library: Any = pytest.importorskip("huggingface_hub", reason="an extra")
    files: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self, body=False):
            place = self.path.partition("?")[0]
            repository, _, rest = place.lstrip("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            error = {
                repository != "owner/net": "RepoNotFound",
                repository == "owner/gated": "GatedRepo",
                revision != "main": "RevisionNotFound",
            }.get(True, "EntryNotFound")
            content = None if error != "EntryNotFound" else files.get(name)
            self.send_response(200 if content is not None else 403 if "Gated" in error else 404)
            self.send_header("X-Repo-Commit", "1" * 40)
            if content is None:
                self.send_header("X-Error-Code", error)
                self.send_header("Content-Length", "0")
            else:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body and content is not None:
                self.wfile.write(content)

        def do_GET(self):
            self.do_HEAD(body=True)

        def log_message(self, format, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    original = library.hf_hub_download

    def download(*arguments, **options):
        cache = tmp_path / "hub"
        return original(*arguments, endpoint=address, cache_dir=cache, token=False, **options)

    monkeypatch.setattr(library, "hf_hub_download", download)
    monkeypatch.setattr(hub, "_is_offline", lambda: False)
    yield files
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.filterwarnings("ignore")  # the hub's own
def test_weights_of_the_hub_are_kept_and_checked(tmp_path, served):
    arrays = save(tmp_path / "w", "resnet18", config="resnet18", crop_pct=0.95)
    with pytest.raises(RunError, match=r"config\.json of hf://owner/net .* no such file; or put"):
        run_weights.load("hf://owner/net", "resnet18")
    with pytest.raises(RunError, match="no such repository"):
        run_weights.load("hf://owner/other", "resnet18")
    with pytest.raises(RunError, match="there is no such revision"):
        run_weights.load("hf://owner/net@v2", "resnet18")
    with pytest.raises(RunError, match="asks for an agreement first; log in with 'hf auth login'"):
        run_weights.load("hf://owner/gated", "resnet18")
    served |= {path.name: path.read_bytes() for path in (tmp_path / "w").iterdir()}
    found = run_weights.load("hf://owner/net", "resnet18")
    assert_same(found, arrays)
    assert found.evaluated == ("crop", 0.95)
    path = hub.fetch("hf://owner/net@main")
    assert str(path) == found.source
    blob = path.resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\1")
    with pytest.raises(RunError, match="its sha256 is not"):
        run_weights.load("hf://owner/net", "resnet18")


@pytest.mark.filterwarnings("ignore")
def test_without_a_network_the_hub_is_its_cache(tmp_path, served, monkeypatch):
    arrays = save(tmp_path / "w", "resnet18", config="resnet18")
    served |= {path.name: path.read_bytes() for path in (tmp_path / "w").iterdir()}
    run_weights.load("hf://owner/net", "resnet18")
    monkeypatch.setattr(hub, "_is_offline", lambda: True)
    assert_same(run_weights.load("hf://owner/net", "resnet18"), arrays)
    with pytest.raises(
        RunError, match=r"cannot be reached; or put https://huggingface\.co/owner/x"
    ):
        run_weights.load("hf://owner/x", "resnet18")


@pytest.mark.parametrize("name", ["hf://resnet50", "hf://a/b/c", "hf://../x", "hf://a/b@"])
def test_what_is_no_repository_is_refused(name):
    with pytest.raises(UsageError, match="is not hf://OWNER/NAME"):
        hub.fetch(name)


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"pip install 'cnn-jax\[hub\]'"):
        hub.fetch("hf://timm/resnet50.a1_in1k")


def test_the_classes_of_imagenet_are_a_thousand_names():
    names = imagenet.class_names()
    assert len(names) == len(set(names)) == 1000
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")
