"""The names of other projects' files, and what is different there, on files with tiny arrays."""

import functools
from typing import Any

import h5py
import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from cnn_jax import models
from cnn_jax.errors import RunError, UsageError
from cnn_jax.pretrained import layouts
from cnn_jax.pretrained import weights as pretrained
from cnn_jax.pretrained.layout import Source

KINDS = {
    frozenset({"kernel"}): "conv",
    frozenset({"kernel", "bias"}): "conv or dense",
    frozenset({"scale", "bias", "mean", "var"}): "batch_norm",
    frozenset({"bias", "mean", "var"}): "batch_norm",
    frozenset({"scale", "bias"}): "layer_norm",
    frozenset({"scale"}): "scale",
}
NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


@functools.cache
def variables_of(model: str) -> dict[str, Any]:
    """{path: shape and dtype} of a model with a thousand classes."""
    entry = models.REGISTRY[model]
    network = models.create(model, 1000)
    images = jax.ShapeDtypeStruct((1, *entry.input_shape), np.float32)
    shapes: Any = jax.eval_shape(network.init, jax.random.key(0), images)
    return {
        name.partition("/")[2]: leaf
        for name, leaf in traverse_util.flatten_dict(shapes, sep="/").items()
    }


def tiny(model, seed=0):
    """{path: random array} of a model's variables, each axis cut to at most 4."""
    rng = np.random.default_rng(seed)
    flattened = [f"{x.path}/kernel" for x in layouts.find(model).layers if x.flattened]
    arrays = {}
    for path, leaf in variables_of(model).items():
        shape = [min(size, 4) for size in leaf.shape]
        if path in flattened:
            shape[0] = 4 * 3 * 3  # of a map of 3 x 3
        arrays[path] = rng.standard_normal(shape, np.float32)
    return arrays


def layers_of(arrays):
    """{path of a layer: {leaf: array}}."""
    found: dict[str, dict] = {}
    for path, array in arrays.items():
        layer, _, leaf = path.rpartition("/")
        found.setdefault(layer, {})[leaf] = array
    return found


# Others differ from the first of their kind in numbers alone.
MORE = ("efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "convnext_small")


@pytest.mark.parametrize(
    "model",
    [pytest.param(m, marks=pytest.mark.slow) if m in MORE else m for m in layouts.LAYOUTS],
)
def test_a_layout_has_the_layers_of_its_model(model):
    found = layers_of(variables_of(model))
    layers = layouts.find(model).layers
    assert sorted(layer.path for layer in layers) == sorted(found)
    for layer in layers:
        leaves = found[layer.path]
        assert layer.kind in KINDS[frozenset(leaves)]
        if "kernel" in leaves:
            assert leaves["kernel"].ndim == {"conv": 4, "dense": 2}[layer.kind]
        if layer.norm is not None:
            assert "bias" not in leaves
            assert "mean" in found[layer.norm]
    for source in layouts.find(model).conventions:
        names = [layer.name(source) for layer in layers]
        assert None not in names
        assert len(set(names)) == len(names)


# len(torchvision.models.NAME(weights=None).state_dict()), torchvision 0.28; GoogLeNet with its
# auxiliary classifiers, and 344 without.
TENSORS = {
    "vgg11": 22,
    "vgg16_bn": 97,
    "alexnet": 16,
    "googlenet": 364,
    "resnet18": 122,
    "resnet34": 218,
    "resnet50": 320,
    "densenet121": 727,
    "densenet169": 1015,
    "densenet201": 1207,
    # In 0.29, and as many in timm 1.0.31.
    "efficientnet_b0": 360,
    "mobilenet_v3_large": 312,
    "mobilenet_v3_small": 244,
    "convnext_tiny": 182,
}


@pytest.mark.parametrize(("model", "number"), TENSORS.items())
def test_as_many_tensors_as_torchvision_has(model, number):
    norms = sum(layer.kind == "batch_norm" for layer in layouts.find(model).layers)
    assert len(variables_of(model)) + norms == number  # each of which counts its batches


@pytest.mark.parametrize(
    ("model", "theirs", "ours"),
    [
        ("vgg16_bn", "features.40", "backbone/block5/conv3/conv"),
        ("vgg16_bn", "features.41", "backbone/block5/conv3/bn"),
        ("alexnet", "features.8", "backbone/block4/conv"),
        ("alexnet", "features.10", "backbone/block5/conv"),
        ("alexnet", "classifier.4", "head/fc2"),
        ("alexnet", "classifier.6", "head/logits"),
        ("googlenet", "conv3.bn", "backbone/stem/conv3/bn"),
        ("googlenet", "inception4d.branch3.1.conv", "backbone/inception4d/branch3/conv"),
        ("googlenet", "inception5b.branch4.1.bn", "backbone/inception5b/branch4/bn"),
        ("googlenet", "aux2.fc2", "auxiliary_inception4d/logits"),
        ("googlenet", "fc", "head/logits"),
        ("inception_v3", "Conv2d_4a_3x3.bn", "backbone/stem/conv5/bn"),
        ("inception_v3", "Mixed_6a.branch3x3dbl_3.conv", "backbone/mixed3/double_3/conv"),
        ("inception_v3", "Mixed_6d.branch7x7dbl_5.conv", "backbone/mixed6/branch7x2_5/conv"),
        ("inception_v3", "Mixed_7a.branch7x7x3_4.bn", "backbone/mixed8/branch7_4/bn"),
        ("inception_v3", "Mixed_7c.branch3x3dbl_3b.conv", "backbone/mixed10/fork2_3b/conv"),
        ("resnet18", "layer4.1.bn2", "backbone/stage4/block2/conv2/bn"),
        ("resnet34", "layer3.0.downsample.0", "backbone/stage3/block1/projection/conv"),
        ("resnet50", "layer1.0.downsample.1", "backbone/stage1/block1/projection/bn"),
        ("resnet152", "layer3.35.conv3", "backbone/stage3/block36/conv3/conv"),
        ("densenet121", "features.norm0", "backbone/stem/conv/bn"),
        ("densenet121", "features.transition3.conv", "backbone/block3/transition"),
        ("densenet121", "features.norm5", "backbone/block4/bn"),
        ("densenet201", "features.denseblock3.denselayer48.norm2", "backbone/block3/layer48/bn2"),
    ],
)
def test_names_of_torchvision(model, theirs, ours):
    names = {layer.torch: layer.path for layer in layouts.find(model).layers}
    assert names[theirs] == ours


def to_torch(model, arrays, source: Source = "torch"):
    """The tensors of torchvision's or timm's file, from a model's variables."""
    layers, tensors = layers_of(arrays), {}
    for layer in layouts.find(model).layers:
        name = layer.name(source)
        if layer.kind == "scale":
            tensors[name] = layers[layer.path]["scale"][:, None, None]
            continue
        if layer.kind in ("batch_norm", "layer_norm"):
            for leaf, array in layers[layer.path].items():
                tensors[f"{name}.{NORM[leaf]}"] = array
            if layer.kind == "batch_norm":
                tensors[f"{name}.num_batches_tracked"] = np.array(7, np.int64)
            continue
        kernel = layers[layer.path]["kernel"]
        if kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
        elif layer.flattened:
            kernel = kernel.reshape(3, 3, 4, -1).transpose(3, 2, 0, 1).reshape(-1, 36)
        else:
            kernel = kernel.T
        tensors[f"{name}.weight"] = kernel
        if "bias" in layers[layer.path]:
            tensors[f"{name}.bias"] = layers[layer.path]["bias"]
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("model", "preprocessing", "options"),
    [
        ("vgg11_bn", "torch", {}),
        ("alexnet", "torch", {"local_response_norm": False}),
        ("googlenet", "symmetric", {}),
        ("resnet18", "torch", {}),
        ("resnet50", "torch", {"bottleneck_stride": "3x3"}),
        ("densenet121", "torch", {}),
    ],
)
def test_torch_files_of_every_family(tmp_path, model, preprocessing, options):
    arrays = tiny(model)
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(to_torch(model, arrays), path)
    weights = pretrained.load(str(path), model)
    assert weights.preprocessing == preprocessing
    assert weights.options == options
    assert weights.classes == 4
    assert weights.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(weights.arrays[name], array)


def test_densenets_of_2017_have_another_spelling(tmp_path):
    arrays = tiny("densenet121")
    path = tmp_path / "w.safetensors"
    old = {}
    for name, tensor in to_torch("densenet121", arrays).items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            name = name.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
        old[name] = tensor
    assert "features.denseblock2.denselayer3.norm.2.running_mean" in old
    safetensors.numpy.save_file(old, path)
    assert pretrained.load(str(path), "densenet121").arrays.keys() == arrays.keys()


def test_a_larger_resnet_does_not_load_in_part(tmp_path):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file(to_torch("resnet34", tiny("resnet34")), path)
    variables = {"params": traverse_util.unflatten_dict(tiny("resnet18"), sep="/")}
    with pytest.raises(RunError, match=r"the model lacks .*\(backbone/layer1\.2\.bn1"):
        pretrained.merge(variables, pretrained.load(str(path), "resnet18"))


# Keras.

LEAVES = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}


def to_keras(model, arrays):
    """{layer of Keras: {weight: array}} from a model's variables, in Keras' order."""
    found = layers_of(arrays)
    layers = {}
    for layer in layouts.find(model).layers:
        leaves = found[layer.path]
        if layer.kind == "scale":
            layers[layer.keras] = {"variable": leaves["scale"]}
        elif layer.kind in ("batch_norm", "layer_norm"):
            layers[layer.keras] = {LEAVES[n]: leaves[n] for n in LEAVES if n in leaves}
        else:
            layers[layer.keras] = {n: leaves[n] for n in ("kernel", "bias") if n in leaves}
    return layers


def write(path, layers, keras3=False, named=True):
    """Writes Keras' old layout, or with `keras3` the groups of `.weights.h5`."""
    with h5py.File(path, "w") as file:
        if not keras3:
            file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, weights in layers.items():
            group = file.create_group(f"layers/{name}/vars" if keras3 else name)
            if keras3 and named:
                group.attrs["name"] = name
            if not keras3:
                group.attrs["weight_names"] = [f"{name}/{leaf}:0".encode() for leaf in weights]
            for number, (leaf, array) in enumerate(weights.items()):
                group[str(number) if keras3 else f"{name}/{leaf}:0"] = array
    return str(path)


@pytest.mark.parametrize("keras3", [False, True])
@pytest.mark.parametrize("model", ["resnet50", "inception_v3", "densenet121"])
def test_keras_files_of_every_family(tmp_path, model, keras3):
    arrays = tiny(model)
    layers = to_keras(model, arrays)
    weights = pretrained.load(write(tmp_path / "w.h5", layers, keras3), model)
    assert weights.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_allclose(weights.arrays[name], array, rtol=1e-6, atol=1.1e-8)
    assert weights.classes == 4
    assert weights.options == ({"bottleneck_stride": "1x1"} if model == "resnet50" else {})


def test_a_bias_before_a_normalisation_moves_into_its_mean(tmp_path):
    arrays = tiny("resnet50")
    layers = to_keras("resnet50", arrays)
    bias = np.arange(1, 5, dtype=np.float32)
    layers["conv3_block2_1_conv"]["bias"] = bias
    weights = pretrained.load(write(tmp_path / "w.h5", layers), "resnet50").arrays
    norm = "backbone/stage2/block2/conv1/bn"
    np.testing.assert_array_equal(weights[f"{norm}/mean"], arrays[f"{norm}/mean"] - bias)
    np.testing.assert_array_equal(weights[f"{norm}/bias"], arrays[f"{norm}/bias"])
    assert weights.keys() == arrays.keys()


@pytest.mark.parametrize(
    ("model", "layer", "norm", "above"),
    [
        ("resnet50", "conv1_bn", "backbone/stem/conv/bn", 1e-8),
        ("densenet121", "pool3_bn", "backbone/block2/bn", 1e-8),
        ("inception_v3", "batch_normalization_5", "backbone/mixed0/branch1_1/bn", 0.0),
    ],
)
def test_another_epsilon_moves_into_the_variance(tmp_path, model, layer, norm, above):
    layers = to_keras(model, tiny(model))
    layers[layer]["moving_variance"][:] = 1e-6
    weights = pretrained.load(write(tmp_path / "w.h5", layers), model).arrays
    np.testing.assert_allclose(weights[f"{norm}/var"], 1e-6 + above, rtol=1e-6)


def test_the_densenets_of_2018_have_slashes_and_another_name_of_the_top(tmp_path):
    arrays = tiny("densenet121")
    layers = to_keras("densenet121", arrays)
    layers["conv1/conv"] = layers.pop("conv1_conv")
    layers["conv1/bn"] = layers.pop("conv1_bn")
    layers["fc1000"] = layers.pop("predictions")
    weights = pretrained.load(write(tmp_path / "w.h5", layers), "densenet121")
    assert weights.arrays.keys() == arrays.keys()
    assert weights.classes == 4


def test_a_densenet_within_a_model_keeps_its_names(tmp_path):
    layers = to_keras("densenet121", tiny("densenet121"))
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = [b"densenet121"]
        group = file.create_group("densenet121")
        names = {
            f"densenet121/{name.replace('conv1_', 'conv1/', name in ('conv1_conv', 'conv1_bn'))}"
            f"/{leaf}:0": array
            for name, weights in layers.items()
            for leaf, array in weights.items()
        }
        # An attribute holds 64 KiB at most, so Keras spreads long ones.
        for number, part in enumerate(np.array_split([n.encode() for n in names], 4)):
            group.attrs[f"weight_names{number}"] = part
        for name, array in names.items():
            group[name] = array
    weights = pretrained.load(str(tmp_path / "w.h5"), "densenet121")
    assert weights.arrays.keys() == tiny("densenet121").keys()


def renumbered(layers, offset):
    """The layers of InceptionV3 in another session and in another order."""
    other = {}
    for name in reversed(layers):
        prefix, _, number = name.rpartition("_")
        if number.isdecimal():
            other[f"{prefix}_{int(number) + offset}"] = layers[name]
        elif name in ("conv2d", "batch_normalization"):
            other[f"{name}_{offset}"] = layers[name]
        else:
            other[name] = layers[name]
    return other


@pytest.mark.parametrize("offset", [1, 95])
def test_layers_that_keras_numbered_go_by_their_order(tmp_path, offset):
    arrays = tiny("inception_v3")
    layers = renumbered(to_keras("inception_v3", arrays), offset)
    assert f"conv2d_{93 + offset}" in layers
    assert "conv2d" not in layers
    weights = pretrained.load(write(tmp_path / "w.h5", layers), "inception_v3")
    assert weights.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(weights.arrays[name], array)


def test_more_numbered_layers_than_the_network_has_are_refused(tmp_path):
    layers = to_keras("inception_v3", tiny("inception_v3"))
    layers["conv2d_94"] = layers["conv2d_93"]
    with pytest.raises(RunError, match=r"95 layers called conv2d .* the network 94"):
        pretrained.load(write(tmp_path / "w.h5", layers), "inception_v3")


@pytest.mark.parametrize("model", ["resnet50", "inception_v3", "densenet121"])
def test_files_of_an_early_keras_3_are_refused_where_layers_branch(tmp_path, model):
    layers = to_keras(model, tiny(model))
    numbers = layouts.numbered(layouts.find(model).layers)
    unnamed = dict(zip(numbers, layers.values(), strict=True))
    path = write(tmp_path / "w.weights.h5", unnamed, keras3=True, named=False)
    with pytest.raises(RunError, match="kept no names of layers") as error:
        pretrained.load(path, model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "kind", "takes"),
    [
        ("resnet18", "keras", "torchvision's safetensors"),
        ("vgg16_bn", "keras", "torchvision's safetensors"),
    ],
)
def test_layouts_that_are_not_known_for_a_model_are_named(tmp_path, model, kind, takes):
    path = tmp_path / "w"
    if kind == "keras":
        write(path, {"conv": {"kernel": np.ones((1, 1, 1, 1), np.float32)}})
    else:
        safetensors.numpy.save_file({"fc.weight": np.ones((1, 1), np.float32)}, path)
    with pytest.raises(UsageError, match=f"not known for {model}; take {takes}"):
        pretrained.load(str(path), model)


# Both collections.


def test_parameters_and_statistics_are_merged_and_selected_alike(tmp_path):
    arrays = tiny("resnet18")
    safetensors.numpy.save_file(to_torch("resnet18", arrays), tmp_path / "w")
    weights = pretrained.load(str(tmp_path / "w"), "resnet18")
    flat = {
        f"{'batch_stats' if name.endswith(('mean', 'var')) else 'params'}/{name}": array * 0
        for name, array in arrays.items()
    }
    variables = traverse_util.unflatten_dict(flat, sep="/")
    for pattern, inside in [(None, "backbone/"), ("stage2", "backbone/stage2/"), (".*", "")]:
        merged = traverse_util.flatten_dict(pretrained.merge(variables, weights, pattern), sep="/")
        assert merged.keys() == flat.keys()
        for name, array in merged.items():
            path = name.partition("/")[2]
            expected = arrays[path] if path.startswith(inside) else flat[name]
            np.testing.assert_array_equal(array, expected)
    only = pretrained.merge(variables, weights, "stem/conv/bn/mean")
    np.testing.assert_array_equal(
        only["batch_stats"]["backbone"]["stem"]["conv"]["bn"]["mean"],
        arrays["backbone/stem/conv/bn/mean"],
    )


def test_a_file_without_statistics_does_not_fit(tmp_path):
    arrays = tiny("resnet18")
    tensors = to_torch("resnet18", arrays)
    kept = {name: x for name, x in tensors.items() if not name.endswith("running_var")}
    safetensors.numpy.save_file(kept, tmp_path / "w")
    variables = {"params": traverse_util.unflatten_dict(arrays, sep="/")}
    with pytest.raises(RunError, match=r"the file lacks 20 arrays \(backbone/.*/bn/var"):
        pretrained.merge(variables, pretrained.load(str(tmp_path / "w"), "resnet18"))
