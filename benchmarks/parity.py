"""Compares the models with Keras', torchvision's and timm's: same weights, images and numbers.

    python benchmarks/parity.py
    python benchmarks/parity.py --models=resnet50,densenet121 --sizes=odd

The reference gets random weights, including batch statistics, scales and biases; the library writes
them to a file, `cnn_jax.pretrained` reads it, and both networks see the same image. The largest
difference of features and of logits, divided by the largest value, must stay below 1e-4.
Keras (on its JAX backend) is a development dependency; torchvision and timm are compared if they
are installed.
Every model runs in a process of its own, and its figures replace its earlier ones in
docs/results/parity.json and docs/results/parity.md.
"""

import argparse
import datetime
import importlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["KERAS_BACKEND"] = "jax"

import jax  # noqa: E402 (the script runs from anywhere)
import numpy as np  # noqa: E402

from cnn_jax import files, models  # noqa: E402
from cnn_jax.export import keras_weights  # noqa: E402
from cnn_jax.pretrained import weights as pretrained  # noqa: E402
from cnn_jax.reporting import tables  # noqa: E402
from cnn_jax.runs.environment import environment  # noqa: E402

RESULTS = ROOT / "docs" / "results"
TOLERANCE = 1e-4
CLASSES = 1000
KERAS = keras_weights.APPLICATIONS
NEWER = (
    "efficientnet_b0",
    "efficientnet_b2",
    "efficientnet_b3",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "convnext_tiny",
    "convnext_small",
)
TORCH = ("vgg11_bn", "alexnet", "googlenet", "resnet18", "resnet50", "densenet121", *NEWER)
# Our name of timm's, and of its networks with TensorFlow's padding.
TIMM = {
    "resnet50": "resnet50",
    "efficientnet_b0": "efficientnet_b0",
    "efficientnet_b2": "tf_efficientnet_b2",
    "efficientnet_b3": "efficientnet_b3",
    "mobilenet_v3_large": "tf_mobilenetv3_large_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "convnext_tiny": "convnext_tiny",
    "convnext_small": "convnext_small",
}
# Torchvision pools the map in front of these tops to one size; our models do not.
FIXED_TOP = ("vgg11_bn", "alexnet")
NATIVE = {"inception_v3": 299, "efficientnet_b2": 260, "efficientnet_b3": 300}
ODD = 197  # not a multiple of any stride; large enough for AlexNet and Inception
# Compiled once and run once.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def randomise(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray | None:
    """Returns random values for a vector of parameters or statistics, None for a kernel."""
    if len(shape) != 1:
        return None
    if any(part in name for part in ("variance", "var", "gamma", "scale")):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return 0.1 * rng.standard_normal(shape, np.float32)


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Computes the largest difference, divided by the largest value."""
    if ours.shape != theirs.shape:
        raise ValueError(f"shapes {ours.shape} and {theirs.shape}")
    if not np.std(theirs) > 1e-3 * np.abs(theirs).max():
        raise ValueError("the reference is nearly constant, so that its equal says nothing")
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def run_ours(
    name: str, weights: pretrained.Weights, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (features, logits) of a model of this project with all of the weights."""
    options = dict(weights.options)
    if "auxiliary" in models.REGISTRY[name].options:
        options["auxiliary"] = False
    model = models.create(name, CLASSES, **options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = pretrained.merge(shapes, weights, "backbone|head")

    def forward(variables, images):
        features = model.apply(variables, images, method="forward_features")
        return features, model.apply(variables, features, method="forward_head")

    features, logits = jax.jit(forward, compiler_options=FAST)(variables, images)
    return np.asarray(features), np.asarray(logits)


def compare_keras(name: str, size: int) -> dict[str, float]:
    """Returns the differences to Keras Applications: features without top, and logits."""
    keras = importlib.import_module("keras")
    h5py = importlib.import_module("h5py")
    legacy = importlib.import_module("keras.src.legacy.saving.legacy_h5_format")
    build = getattr(keras.applications, KERAS[name])
    rng = np.random.default_rng(size)

    def draw(_, shape, dtype=None):
        """Draws kernels in NumPy, because JAX would compile Keras' own draw for each shape."""
        scale = (2 / (np.prod(shape[:-1]) + np.prod(shape[:-2]) * shape[-1])) ** 0.5
        return scale * rng.standard_normal(shape, np.float32)

    keras.initializers.VarianceScaling.__call__ = draw
    images = rng.standard_normal((1, size, size, 3), np.float32)
    # EfficientNet divides by 255 inside; the other two leave that out if asked to.
    pixels = images * np.float32(255 if name.startswith("efficientnet") else 1)
    bare = name.startswith(("mobilenet", "convnext"))
    more = {"include_preprocessing": False} if bare else {}
    found = {}
    for top in (True, False):
        theirs = build(
            weights=None,
            include_top=top,
            input_shape=(size, size, 3),
            classes=CLASSES,
            classifier_activation=None,
            **more,
        )
        for variable in theirs.weights:
            if variable.path.startswith("normalization"):  # of pixels, not of a batch
                continue
            value = randomise(variable.path, tuple(variable.shape), rng)
            if value is not None:
                variable.assign(value)
        # ConvNeXt without top ends with a normalisation that belongs to no network.
        whole = top or not name.startswith("convnext")
        cut = theirs if whole else keras.Model(theirs.input, theirs.layers[-1].input)
        state = [[v.value for v in cut.trainable_variables]]
        state.append([v.value for v in cut.non_trainable_variables])
        forward = jax.jit(lambda a, b, x, m=cut: m.stateless_call(a, b, x)[0])
        reference = np.asarray(forward.lower(*state, pixels).compile(FAST)(*state, pixels))
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "weights.h5")
            with h5py.File(path, "w") as file:
                legacy.save_weights_to_hdf5_group(file, theirs)
            del theirs, cut, state
            weights = pretrained.load(str(path), name)
        if top:
            _, logits = run_ours(name, weights, images)
            found["logits"] = difference(logits, reference)
        else:
            found["features"] = difference(run_features(name, weights, images), reference)
    return found


def run_features(name: str, weights: pretrained.Weights, images: np.ndarray) -> np.ndarray:
    """Returns the features of a model with the backbone's weights and another head."""
    model = models.create(name, 1, head="pooled", **weights.options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    merged = pretrained.merge(shapes, weights)
    backbone = {
        collection: {"backbone": leaves["backbone"]} for collection, leaves in merged.items()
    }
    forward = jax.jit(
        lambda variables, x: model.apply(variables, x, method="forward_features"),
        compiler_options=FAST,
    )
    return np.asarray(forward(backbone, images))


def compare_torch(name: str, size: int, source: str) -> dict[str, float]:
    """Returns the differences to torchvision or timm: features and logits, after safetensors."""
    torch = importlib.import_module("torch")
    save = importlib.import_module("safetensors.torch").save_file
    torch.set_num_threads(1)
    if source == "timm":
        theirs = importlib.import_module("timm").create_model(TIMM[name]).eval()
    else:
        networks = importlib.import_module("torchvision").models
        more = {"aux_logits": True, "init_weights": False} if name == "googlenet" else {}
        theirs = getattr(networks, name)(weights=None, num_classes=CLASSES, **more).eval()
    rng = np.random.default_rng(size)
    images = rng.standard_normal((1, size, size, 3), np.float32)
    state = theirs.state_dict()
    for key, value in state.items():
        kind = "scale" if key.endswith("weight") else key.rpartition(".")[2]
        vector = randomise(kind, tuple(value.shape), rng)
        if vector is not None:
            value.copy_(torch.from_numpy(vector))
    kept = {}
    last = "inception5b" if name == "googlenet" else "layer4" if "resnet" in name else "features"
    hook = lambda _, __, output: kept.update(features=output)  # noqa: E731
    if source == "torch":
        getattr(theirs, last).register_forward_hook(hook)
    with torch.no_grad():
        x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        logits = theirs(x).numpy()
        features = kept["features"] if source == "torch" else theirs.forward_features(x)
    features = features.relu() if name.startswith("densenet") else features  # it comes before it
    features = features.numpy().transpose(0, 2, 3, 1)
    with tempfile.TemporaryDirectory() as folder:
        save(state, pathlib.Path(folder, "model.safetensors"))
        if source == "timm":
            config = {"architecture": TIMM[name], "pretrained_cfg": theirs.pretrained_cfg}
            files.write_json(pathlib.Path(folder, "config.json"), config)
        weights = pretrained.load(folder, name)
    if name in FIXED_TOP and size != 224:
        return {"features": difference(run_features(name, weights, images), features)}
    our_features, our_logits = run_ours(name, weights, images)
    return {
        "features": difference(our_features, features),
        "logits": difference(our_logits, logits),
    }


def measure(source: str, name: str, sizes: list[int]) -> dict:
    """Returns the record of a model beside one library."""
    library = {"keras": "keras", "torch": "torchvision", "timm": "timm"}[source]
    records = []
    for size in sizes:
        keras = source == "keras"
        found = compare_keras(name, size) if keras else compare_torch(name, size, source)
        records.append({"size": size, **found, "equal": max(found.values()) < TOLERANCE})
    here = environment()
    packages = {**here["packages"], library: importlib.metadata.version(library)}
    if source != "keras":
        packages["torch"] = importlib.metadata.version("torch")
    return {
        "model": name,
        "reference": library,
        "date": datetime.date.today().isoformat(),
        "sizes": records,
        "processor": f"{here['cores']} cores, {here['processor']}",
        "packages": packages,
    }


def write(records: list[dict]) -> None:
    """Writes parity.json and the page that shows it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    files.write_json(RESULTS / "parity.json", records)
    rows = [
        [
            f"`{record['model']}`",
            f"{record['reference']} {record['packages'][record['reference']]}",
            f"{size['size']} x {size['size']}",
            f"{size['features']:.1e}",
            f"{size['logits']:.1e}" if "logits" in size else "",
            "yes" if size["equal"] else "NO",
            record["date"],
        ]
        for record in records
        for size in record["sizes"]
    ]
    headers = ["model", "reference", "image", "features", "logits", "equal", "date"]
    packages = ", ".join(
        f"{name} {records[-1]['packages'][name]}"
        for name in ("jax", "flax", "numpy")
        if name in records[-1]["packages"]
    )
    (RESULTS / "parity.md").write_text(
        "# Parity\n\n"
        "The models beside the same networks of other libraries, with the same random weights "
        "(batch\nstatistics, scales and biases included), which went through a file of the "
        "library's own layout: the\nlargest difference of the features (for Keras, of the network "
        "without top) and of the logits, over\nthe largest value. Equal is below "
        f"{TOLERANCE:g}; 0.0e+00 is the same to the bit.\n\n"
        "Made by `python benchmarks/parity.py`, in float32 on "
        f"{records[-1]['processor']};\n{packages}.\n\n"
        f"{tables.markdown(rows, headers)}\n\n"
        "[parity.json](parity.json) has every version.\n"
    )


def main() -> int:
    """Compares and writes; returns 1 if a difference is too large."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--models", help="names, separated by commas; all of them otherwise")
    parser.add_argument("--sizes", choices=["both", "native", "odd"], default="both")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # in the process of one model
    options = parser.parse_args()

    def sizes(name: str) -> list[int]:
        native = NATIVE.get(name, 224)
        return {"both": [native, ODD], "native": [native], "odd": [ODD]}[options.sizes]

    if options.one:
        source, name = options.one
        print(json.dumps(measure(source, name, sizes(name))))
        return 0
    pairs = [("keras", name) for name in KERAS]
    if importlib.util.find_spec("torch") and importlib.util.find_spec("torchvision"):
        pairs += [("torch", name) for name in TORCH]
    if importlib.util.find_spec("torch") and importlib.util.find_spec("timm"):
        pairs += [("timm", name) for name in TIMM]
    if options.models:
        pairs = [pair for pair in pairs if pair[1] in options.models.split(",")]
    path = RESULTS / "parity.json"
    earlier = json.loads(path.read_text()) if path.exists() else []
    records = {(record["reference"], record["model"]): record for record in earlier}
    for source, name in pairs:
        command = [sys.executable, __file__, "--one", source, name, f"--sizes={options.sizes}"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        record = json.loads(output.splitlines()[-1])
        records[record["reference"], name] = record
        order = list(KERAS) + list(TORCH)
        write(sorted(records.values(), key=lambda r: (r["reference"], order.index(r["model"]))))
        for size in record["sizes"]:
            print(name, record["reference"], size, flush=True)
    return 0 if all(s["equal"] for r in records.values() for s in r["sizes"]) else 1


if __name__ == "__main__":
    sys.exit(main())
