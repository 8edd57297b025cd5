import dataclasses
import pickle
import subprocess
import sys
import zipfile
from typing import Any

import h5py
import numpy as np
import pytest
import safetensors.numpy

from cnn_jax import files
from cnn_jax.errors import RunError, UsageError
from cnn_jax.patterns import matches
from cnn_jax.pretrained import catalogue, download, hdf5, layouts
from cnn_jax.pretrained import weights as pretrained


def arrays_for(names, seed=0):
    """Tiny arrays of the right number of axes for layers: {layer: [kernel, bias]}."""
    rng = np.random.default_rng(seed)
    return {
        name: [
            rng.normal(size=(2, 2) if name in ("fc1", "fc2", "predictions") else (3, 3, 2, 2)),
            rng.normal(size=2),
        ]
        for name in names
    }


def keras_names(model):
    return [str(layer.keras) for layer in layouts.find(model).layers]


NAMES = keras_names("vgg16")


def write_legacy(path, layers, weight_names="{layer}/{leaf}:0"):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, arrays in layers.items():
            group = file.create_group(layer)
            names = [weight_names.format(layer=layer, leaf=leaf) for leaf in ("kernel", "bias")]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, array in zip(names, arrays, strict=True):
                group[name] = np.float32(array)
    return path


def write_torch(path, tensors):
    safetensors.numpy.save_file(
        {name: np.ascontiguousarray(array, np.float32) for name, array in tensors.items()}, path
    )
    return path


@pytest.mark.parametrize("weight_names", ["{layer}/{leaf}:0", "{layer}_{leaf}_1:0"])
def test_legacy_files_by_layer_name(tmp_path, weight_names):
    layers = arrays_for(NAMES)
    path = write_legacy(tmp_path / "w.h5", layers, weight_names)
    weights = pretrained.load(str(path), "vgg16")
    assert len(weights.arrays) == 32
    np.testing.assert_array_equal(
        weights.arrays["backbone/block3/conv2/kernel"], np.float32(layers["block3_conv2"][0])
    )
    np.testing.assert_array_equal(weights.arrays["head/fc2/bias"], np.float32(layers["fc2"][1]))
    assert weights.preprocessing == "caffe"
    assert "assumed" in weights.preprocessing_reason
    assert weights.classes == 2
    assert len(weights.sha256) == 64


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_published_file_is_known_by_either_checksum(tmp_path, monkeypatch, algorithm):
    path = write_legacy(tmp_path / "w.h5", arrays_for(NAMES), "{layer}/{leaf}:0")
    sums = {"md5": None, "sha256": None} | {algorithm: files.checksum(path, algorithm)}
    entry = next(each for each in catalogue.ENTRIES if each.model == "vgg16")
    entry = dataclasses.replace(entry, name="known.h5", **sums)
    monkeypatch.setattr(catalogue, "ENTRIES", [entry])
    monkeypatch.setattr(hdf5, "check", lambda path: pytest.fail("it was checked once more"))
    found = pretrained.load(str(path), "vgg16")
    assert "known.h5" in found.preprocessing_reason


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own
def test_models_within_models_and_dropout_state_from_keras(tmp_path, keras):
    layer = keras.layers
    base = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layer.Conv2D(4, 3, name="block1_conv1"),
            layer.Conv2D(4, 3, name="block1_conv2"),
        ],
        name="vgg16",
    )
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            base,
            layer.GlobalAveragePooling2D(),
            layer.Dropout(0.2),
            layer.Dense(1, name="answer"),
        ]
    )
    model.compile(optimizer="adam", loss="mse")
    model.save_weights(tmp_path / "w.weights.h5")
    model.save(tmp_path / "model.h5")
    for name in ("w.weights.h5", "model.h5"):
        arrays = pretrained.load(str(tmp_path / name), "vgg16").arrays
        assert sorted(arrays) == [
            "backbone/block1/conv1/bias",
            "backbone/block1/conv1/kernel",
            "backbone/block1/conv2/bias",
            "backbone/block1/conv2/kernel",
            "head/answer/bias",
            "head/answer/kernel",
        ]
        np.testing.assert_array_equal(
            arrays["backbone/block1/conv2/kernel"], base.layers[1].kernel.numpy()
        )


def test_keras3_file_without_names_goes_by_the_order_of_the_layers(tmp_path):
    layers = arrays_for(NAMES)
    path = tmp_path / "w.weights.h5"
    with h5py.File(path, "w") as file:
        known = layouts.find("vgg16").layers
        for name, group in zip(NAMES, layouts.numbered(known), strict=True):
            for number, array in enumerate(layers[name]):
                file[f"layers/{group}/vars/{number}"] = np.float32(array)
    arrays = pretrained.load(str(path), "vgg16").arrays
    for layer in layouts.find("vgg16").layers:
        np.testing.assert_array_equal(
            arrays[f"{layer.path}/kernel"], np.float32(layers[str(layer.keras)][0])
        )


@pytest.mark.parametrize("link", ["external", "soft", "storage", "virtual"])
def test_hdf5_files_that_point_outside_are_refused(tmp_path, link):
    other = write_legacy(tmp_path / "other.h5", arrays_for(["block1_conv1"]))
    path = write_legacy(tmp_path / "w.h5", arrays_for(["block1_conv1"]))
    name = "block1_conv1/block1_conv1/kernel:0"
    with h5py.File(path, "r+") as file:
        del file[name]
        if link == "external":
            file[name] = h5py.ExternalLink(str(other), name)
        elif link == "soft":
            file[name] = h5py.SoftLink("/block1_conv1/block1_conv1/bias:0")
        elif link == "storage":
            file.create_dataset(name, (4,), "f4", external=[(str(other), 0, 16)])
        else:
            layout = h5py.VirtualLayout((2,), "f4")
            layout[:] = h5py.VirtualSource(str(other), name, shape=(2,))
            file.create_virtual_dataset(name, layout)
    with pytest.raises(RunError, match=r"link|another file"):
        pretrained.load(str(path), "vgg16")


def test_hdf5_files_that_declare_too_much_or_run_in_circles_are_refused(tmp_path):
    path = tmp_path / "huge.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("layers/conv2d/vars/0", (1 << 20, 1 << 12), "f4", chunks=(64, 64))
        file["layers/conv2d/vars/1"] = np.zeros(2, np.float32)
    with pytest.raises(RunError, match="more than"):
        pretrained.load(str(path), "vgg16")
    path = tmp_path / "circle.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_group("layers")["again"] = file["/"]
    with pytest.raises(RunError, match="groups"):
        pretrained.load(str(path), "vgg16")


def test_torch_names_order_of_axes_and_of_the_flattened_map(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {}
    for layer in layouts.find("vgg11").layers:
        shape = (5, 3, 3, 2) if "backbone" in layer.path else (6, 7)
        if layer.flattened:
            shape = (6, 5 * 2 * 2)
        tensors[f"{layer.torch}.weight"] = rng.normal(size=shape)
        tensors[f"{layer.torch}.bias"] = rng.normal(size=shape[0])
    weights = pretrained.load(str(write_torch(tmp_path / "w", tensors)), "vgg11")
    conv = tensors["features.0.weight"].astype(np.float32)
    ours = weights.arrays["backbone/block1/conv1/kernel"]
    assert ours.shape == (3, 2, 3, 5)
    assert ours[1, 0, 2, 4] == conv[4, 2, 1, 0]
    features = rng.normal(size=(2, 2, 5)).astype(np.float32)  # height, width, channels
    fc1 = tensors["classifier.0.weight"].astype(np.float32)
    np.testing.assert_allclose(
        features.reshape(-1) @ weights.arrays["head/fc1/kernel"],
        fc1 @ features.transpose(2, 0, 1).reshape(-1),
        rtol=1e-5,
    )
    np.testing.assert_array_equal(
        weights.arrays["head/fc2/kernel"], tensors["classifier.3.weight"].T.astype(np.float32)
    )
    assert weights.preprocessing == "torch"
    assert weights.classes == 6


def test_layout_of_vgg16_has_torchvisions_numbers():
    assert [int(str(x.torch).split(".")[1]) for x in layouts.find("vgg16").layers[:-3]] == [
        *(0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    ]


class Evil:
    def __reduce__(self):
        return (sys.exit, ("a pickle was run",))


@pytest.mark.parametrize("name", ["w.pt", "w.pth", "w.h5", "w.safetensors"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_pickles_are_refused_by_content_and_never_run(tmp_path, name, wrapped):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Evil()))
    if wrapped:
        content = path.read_bytes()
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
    with pytest.raises(UsageError, match=r"pickle, which runs .* safetensors"):
        pretrained.load(str(path), "vgg16")


def test_a_good_file_with_a_wrong_suffix_is_read(tmp_path):
    path = write_legacy(tmp_path / "w.pt", arrays_for(NAMES))
    assert pretrained.load(str(path), "vgg16").classes == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, world, this is text", "no known format"),
        (b"\x05\0\0\0\0\0\0\0{nope" + bytes(50), "damaged"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "damaged"),
    ],
)
def test_files_that_are_nothing_are_named(tmp_path, content, message):
    path = tmp_path / "w.h5"
    path.write_bytes(content)
    with pytest.raises((UsageError, RunError), match=message) as error:
        pretrained.load(str(path), "vgg16")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_truncated_files_missing_files_and_whole_models_are_named(tmp_path):
    path = write_legacy(tmp_path / "w.h5", arrays_for(NAMES))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(RunError, match="damaged"):
        pretrained.load(str(path), "vgg16")
    path = write_torch(tmp_path / "w.safetensors", {"features.0.weight": np.zeros((2, 3, 3, 3))})
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(RunError, match="damaged"):
        pretrained.load(str(path), "vgg16")
    with pytest.raises(UsageError, match="no file or run directory"):
        pretrained.load(str(tmp_path / "absent.h5"), "vgg16")
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(RunError, match=r"is no Keras model: it has no config\.json"):
        pretrained.load(str(tmp_path / "m.keras"), "vgg16")


def test_values_that_are_not_finite_are_named(tmp_path):
    layers = arrays_for(NAMES)
    layers["block4_conv1"][0][0, 0, 0, 0] = np.nan
    path = write_legacy(tmp_path / "w.h5", layers)
    with pytest.raises(RunError, match="not finite in backbone/block4/conv1/kernel"):
        pretrained.load(str(path), "vgg16")


def test_models_without_known_files_are_named(tmp_path):
    path = write_legacy(tmp_path / "w.h5", arrays_for(NAMES))
    with pytest.raises(UsageError, match=r"vgg16.*not for model.name=lenet5"):
        pretrained.load(str(path), "lenet5")
    with pytest.raises(UsageError, match=r"no ImageNet weights for model\.name=lenet5"):
        pretrained.load("imagenet", "lenet5")


@pytest.mark.parametrize("top", [False, True])
def test_imagenet_is_the_catalogues_file_with_its_preprocessing(tmp_path, monkeypatch, top):
    path = write_legacy(tmp_path / "w.h5", arrays_for(NAMES))
    asked = []
    monkeypatch.setattr(download, "fetch", lambda entry: asked.append(entry) or path)
    weights = pretrained.load("imagenet", "vgg16", include=".*" if top else "block[1-4]")
    assert asked == [catalogue.find("vgg16", top)]
    assert weights.preprocessing == "caffe"
    assert asked[0].name in weights.preprocessing_reason


# Merging.


def fitting(head_outputs=2):
    params: dict[str, Any] = {"backbone": {}, "head": {}}
    for name in NAMES:
        kernel, bias = arrays_for([name])[name]
        leaves = {"kernel": np.zeros(kernel.shape, "f4"), "bias": np.zeros(bias.shape, "f4")}
        if "_" in name:
            block, conv = name.split("_")
            params["backbone"].setdefault(block, {})[conv] = leaves
        else:
            params["head"][name] = leaves
    params["head"]["predictions"]["bias"] = np.zeros(head_outputs, "f4")
    return {"params": params}


@pytest.fixture
def weights(tmp_path):
    return pretrained.load(str(write_legacy(tmp_path / "w.h5", arrays_for(NAMES))), "vgg16")


def leaf(variables, path, collection="params") -> Any:
    found = variables[collection]
    for part in path.split("/"):
        found = found[part]
    return found


def test_by_default_the_backbone_is_loaded_and_the_head_stays(weights):
    variables = fitting(head_outputs=9)
    merged = pretrained.merge(variables, weights)
    for path, array in weights.arrays.items():
        if path.startswith("backbone"):
            np.testing.assert_array_equal(leaf(merged, path), array)
        else:
            assert leaf(merged, path) is leaf(variables, path)
    assert not leaf(variables, "backbone/block1/conv1/kernel").any()  # the argument is not changed


def test_a_pattern_takes_a_part_and_everything_takes_the_head(weights):
    merged = pretrained.merge(fitting(), weights, "block[1-3]")
    loaded = {path for path in weights.arrays if leaf(merged, path).any()}
    assert loaded == {
        path for path in weights.arrays if path[9:15] in ("block1", "block2", "block3")
    }
    everything = pretrained.merge(fitting(), weights, ".*")
    assert all((leaf(everything, path) == array).all() for path, array in weights.arrays.items())


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("block[1-4]", "backbone/block1/conv1/kernel", True),
        ("block[1-4]", "backbone/block5/conv1/kernel", False),
        ("block1", "backbone/block10/conv1/kernel", False),
        ("block1|head", "head/fc1/bias", True),
        ("block1/conv2", "backbone/block1/conv2/kernel", True),
        ("conv", "backbone/block1/conv2/kernel", False),
        ("backbone", "backbone/block1/conv2/kernel", True),
    ],
)
def test_patterns_match_whole_parts_of_a_path(pattern, path, expected):
    assert matches(pattern, path) == expected


def test_weights_that_do_not_fit_say_what_and_load_nothing(weights):
    variables = fitting()
    params = variables["params"]
    params["backbone"]["block1"]["conv1"]["kernel"] = np.zeros((3, 3, 1, 2), "f4")
    params["backbone"]["block2"]["conv9"] = {"kernel": np.zeros(1, "f4")}
    del params["backbone"]["block5"]["conv3"]
    with pytest.raises(RunError) as error:
        pretrained.merge(variables, weights)
    message = str(error.value)
    for text in [
        "the file lacks 1 array (backbone/block2/conv9/kernel)",
        "the model lacks 2 arrays (backbone/block5/conv3/",
        "backbone/block1/conv1/kernel has shape (3, 3, 2, 2) in the file and (3, 3, 1, 2)",
        "The model has 31 arrays",
        "the file has 32 arrays",
        "transfer.include=PATTERN",
        weights.source,
    ]:
        assert text in message
    assert "\n" not in message
    assert len(message) < 1000


def test_another_number_of_classes_fails_only_where_the_head_is_asked_for(weights):
    pretrained.merge(fitting(head_outputs=9), weights)
    with pytest.raises(RunError, match=r"predictions/bias has shape \(2,\) .* \(9,\)"):
        pretrained.merge(fitting(head_outputs=9), weights, ".*")


def test_a_larger_network_of_the_family_does_not_load_in_part(tmp_path):
    names = keras_names("vgg19")
    path = write_legacy(tmp_path / "w.h5", arrays_for(names))
    weights = pretrained.load(str(path), "vgg16")
    with pytest.raises(RunError, match=r"the model lacks 6 arrays .*block3_conv4"):
        pretrained.merge(fitting(), weights)


def test_patterns_that_select_nothing_or_are_none_are_refused(weights):
    with pytest.raises(UsageError, match="selects no parameters"):
        pretrained.merge(fitting(), weights, "blok1")
    with pytest.raises(UsageError, match="regular expression"):
        pretrained.merge(fitting(), weights, "block[1")


def test_a_file_whose_reading_never_ends_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "w.h5"
    write_legacy(path, arrays_for(NAMES))
    monkeypatch.setattr(hdf5, "_BASE_SECONDS", 1)
    monkeypatch.setattr(
        hdf5,
        "_CHILD",
        hdf5._CHILD.replace(
            "hdf5.read_within", "hdf5.layers = lambda *_: iter(int, 1)\nhdf5.read_within"
        ),
    )
    with pytest.raises(RunError, match="does not end within 1 s of"):
        pretrained.load(str(path), "vgg16")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("import os; os.abort()", "reading it crashes"),
        ("raise MemoryError", "GiB of memory"),
    ],
)
def test_a_file_that_crashes_its_reader_is_refused(tmp_path, monkeypatch, fault, message):
    path = tmp_path / "w.h5"
    write_legacy(path, arrays_for(NAMES))
    broken = f"def broken(*_):\n    {fault}\nhdf5.layers = broken\nhdf5.read_within"
    monkeypatch.setattr(hdf5, "_CHILD", hdf5._CHILD.replace("hdf5.read_within", broken))
    with pytest.raises(RunError, match=message):
        pretrained.load(str(path), "vgg16")


def test_the_reader_of_hdf5_imports_no_jax():
    code = "import sys; from cnn_jax.pretrained import hdf5; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
