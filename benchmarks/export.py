"""Exports every registered model in every format that holds it, and compares with the run.

    python benchmarks/export.py
    python benchmarks/export.py --models=vgg16,resnet50 --formats=onnx,safetensors --torch=PYTHON
    python benchmarks/export.py --missing --torch=PYTHON    # go on where it was stopped
    python benchmarks/export.py --formats=stablehlo --alone=PYTHON   # JAX and flatbuffers

Each model has random weights (scales, biases and batch statistics too) and its smallest image. The
figures are the largest difference of logits over the largest logit, on 32 random images: of the
file computed by JAX, ONNX Runtime or Keras; of safetensors by torchvision and timm, where --torch
names a Python that has them, else that our own reader finds the same weights to the bit. "-" is a
format that does not hold the network, in the words of the command. Every model runs in a process of
its own, and its figures replace its earlier ones in docs/results/export.json and export.md.
"""

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

# Compiled once and run once.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)
ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402

import cnn_jax  # noqa: E402
from cnn_jax import cpu, files, models, trees  # noqa: E402
from cnn_jax.assembly import assemble  # noqa: E402
from cnn_jax.errors import UserError  # noqa: E402
from cnn_jax.export import program  # noqa: E402
from cnn_jax.export.exporting import FORMATS, export_run  # noqa: E402
from cnn_jax.reporting import tables  # noqa: E402
from cnn_jax.runs.trained import Run  # noqa: E402

RESULTS = ROOT / "docs" / "results"
CLASSES, IMAGES = 7, 32
# Beside the models with their own heads: heads of transfer learning, and a module of a user's own.
# Keras' ResNets have their stride in another convolution, and TensorFlow pads otherwise.
MORE = (
    "resnet50/1x1",
    "vgg16/pooled",
    "vgg16/pooled_dense128",
    "resnet50/pooled_dense128",
    "alexnet/pooled",
    "efficientnet_b0/same",
    "mobilenet_v3_large/same",
    "mobilenet_v3_small/pooled_dense128",
    "convnext_tiny/pooled",
)
SETTINGS = {"1x1": "model.bottleneck_stride", "same": "model.padding"}
OWN = "a user's own module"

# Run by the Python that has torchvision. Its operators for detection may be of another build of
# torch than the one that is there, and then torchvision cannot be imported without a stand-in.
TORCH = """
import json, sys, numpy, torch
try:
    import torchvision
except RuntimeError:
    for name in [n for n in sys.modules if n.startswith("torchvision")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision
found = []
for lines in "\\n".join(json.load(open("export.json"))["load"]).split("# or "):
    names = {}
    exec("#" + lines if found else lines, names)
    with torch.no_grad():
        found.append(names["net"](torch.from_numpy(numpy.load(sys.argv[1]))).numpy())
numpy.save(sys.argv[2], found)
said = {"torch": torch.__version__, "torchvision": torchvision.__version__}
if "timm" in sys.modules:
    said["timm"] = sys.modules["timm"].__version__
print(json.dumps(said))
"""

# Run by the Python that has JAX and flatbuffers alone.
ALONE = """
import importlib.util, sys, numpy, jax
from jax import export
assert not importlib.util.find_spec("cnn_jax") and not importlib.util.find_spec("flax")
network = export.deserialize(bytearray(open("model.stablehlo", "rb").read())).call
numpy.save(sys.argv[2], network(numpy.load(sys.argv[1]))["logits"])
print(jax.__version__)
"""


class Own(nn.Module):
    """A network that this package knows nothing of."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Maps images to logits."""
        for features in (8, 16):
            x = nn.Conv(features, (3, 3))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.Dropout(0.2, deterministic=not train)(x.mean(axis=(1, 2)))
        return nn.Dense(CLASSES)(x)


def make_run(name: str) -> Run:
    """Returns a run of a model with random weights, as though it were trained."""
    model, _, head = name.partition("/")
    rng = np.random.default_rng(0)
    if name == OWN:
        shape, own = (16, 16, 3), Own()
    else:
        entry, own = models.REGISTRY[model], None
        shape = (*np.maximum(entry.smallest, 8).tolist(), entry.input_shape[2])
    images = rng.integers(0, 256, (8 * CLASSES, *shape), np.uint8)
    labels = np.arange(len(images)) % CLASSES
    held_out = rng.integers(0, 256, (IMAGES, *shape), np.uint8)
    data = cnn_jax.from_arrays(images, labels, validation=(held_out, np.arange(IMAGES) % CLASSES))
    settings: dict[str, Any] = {"dataset.normalize": "standardize"}
    if own is None:
        more = {SETTINGS.get(head, "model.head"): head}
        settings |= {"model.name": model, **(more if head else {})}
    config = cnn_jax.Experiment().replace(settings)
    assembly = assemble(config, data.info, model=own)
    inputs = np.zeros((1, *shape), np.float32)
    with cpu.using("plain"):
        drawn = jax.jit(assembly.model.init)(jax.random.key(0), inputs)

    def disturbed(path: str, array: Any) -> np.ndarray:
        leaf = path.rpartition("/")[2]
        if leaf in ("scale", "var"):
            return rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
        if leaf in ("bias", "mean"):
            return (0.1 * rng.standard_normal(array.shape)).astype(np.float32)
        return np.asarray(array)

    flat = trees.flatten({k: v for k, v in drawn.items() if k in ("params", "batch_stats")})
    variables = trees.unflatten({path: disturbed(path, x) for path, x in flat.items()})
    return Run(config, assembly, data.info, [], lambda: (variables, 0), None, data)


def by_torch(run: Run, folder: pathlib.Path, python: str) -> tuple[float, dict[str, str]]:
    """Returns the difference of torchvision's and timm's logits, and who computed them."""
    images = run.split("validation").images
    scaled = np.asarray(run.preprocess(np.asarray(images))).transpose(0, 3, 1, 2)
    with tempfile.TemporaryDirectory() as place:
        given, taken = f"{place}/x.npy", f"{place}/y.npy"
        np.save(given, np.ascontiguousarray(scaled))
        command = [python, "-c", TORCH, given, taken]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        theirs = np.load(taken)
    with cpu.using("xla"):
        ours = run.logits(np.asarray(images))
    return float(np.abs(theirs - ours).max() / np.abs(ours).max()), json.loads(done.stdout)


def by_jax(run: Run, folder: pathlib.Path, python: str) -> dict[str, float]:
    """Returns how far another environment is from the run, and from the function of the file."""
    images = np.asarray(run.split("validation").images)
    with tempfile.TemporaryDirectory() as place:
        given, taken = f"{place}/x.npy", f"{place}/y.npy"
        np.save(given, images)
        without = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [python, "-I", "-c", ALONE, given, taken]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, env=without)
        theirs = np.load(taken)
    with cpu.using("plain"):
        function = np.asarray(jax.jit(program.of_run(run).apply)(images)["logits"])
    with cpu.using("xla"):
        ours = run.logits(images)
    scale = np.abs(ours).max()
    apart = {"run": float(np.abs(theirs - ours).max() / scale)}
    return apart | {"function": float(np.abs(theirs - function).max() / scale)}


def measure(name: str, formats: list[str], torch: str | None, alone: str | None) -> dict[str, Any]:
    """Returns the record of a model."""
    run = make_run(name)
    record: dict[str, Any] = {"model": name, "shape": list(run.data_info.image_shape)}
    record |= {"date": datetime.date.today().isoformat(), "formats": {}, "versions": {}}
    with tempfile.TemporaryDirectory() as place:
        for format in formats:
            start, folder = time.process_time(), pathlib.Path(place) / format
            try:
                made = export_run(run, format, folder)
            except UserError as error:
                record["formats"][format] = {"refused": str(error)}
                continue
            checked = made.checked
            found: dict[str, Any] = {
                "by": checked.by,
                "difference": checked.differences.get("logits", checked.largest),
                "bytes": made.file.stat().st_size,
                "seconds": round(time.process_time() - start, 1),
            }
            if format == "safetensors" and torch is not None:
                found["difference"], versions = by_torch(run, folder, torch)
                found["by"] = (
                    "torchvision and timm, strict" if "timm" in versions else "torchvision"
                )
                record["versions"] |= versions
            if format == "stablehlo" and alone is not None:
                found["alone"] = by_jax(run, folder, alone)
            record["formats"][format] = found
            record["versions"] |= made.record["versions"]
    return record


def write(records: list[dict[str, Any]]) -> None:
    """Writes export.json and the page that shows it."""
    files.write_json(RESULTS / "export.json", records)
    rows = []
    for record in records:
        row = [f"`{record['model']}`", " x ".join(map(str, record["shape"]))]
        for format in FORMATS:
            found = record["formats"].get(format)
            if found is None or "refused" in found:
                row.append("" if found is None else "-")
            elif found["by"].startswith("our own reader"):
                row.append("bits")
            else:
                row.append(f"{found['difference']:.1e}")
        rows.append([*row, record["date"]])
    versions: dict[str, str] = {}
    for record in records:
        versions |= record["versions"]
    said = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    largest = max(
        (found["difference"], record["model"], format)
        for record in records
        for format, found in record["formats"].items()
        if "difference" in found
    )
    (RESULTS / "export.md").write_text(
        "# Exported networks beside their runs\n\n"
        f"{len(records)} networks, each with random weights (scales, biases and batch statistics "
        "too) at its\nsmallest image, exported by `cnn_jax.export_run`: the largest difference of "
        f"the logits over the\nlargest logit, on {IMAGES} random images. StableHLO is computed "
        "by JAX from the file, ONNX by\nONNX Runtime, both from uint8 pixels; safetensors by "
        "torchvision, or timm, or both where\nthere is a file for each, with `strict=True` "
        "(`bits`: only our own reader\ntook the file, and found the same weights to the bit); "
        "Keras by a network of `keras.applications` that loads the file.\n`NAME/HEAD` is a head of "
        "transfer learning, `/1x1` and `/same` are Keras' form of a network. A dash: the\nformat "
        "does not hold the network, and the command says why.\n\n"
        f"The largest is {largest[0]:.1e} (`{largest[1]}`, {largest[2]}).\n\n"
        f"{tables.markdown(rows, ['model', 'image', *FORMATS, 'date'])}\n\n"
        f"{_alone(records)}{_speed()}"
        f"Made by `python benchmarks/export.py --torch=PYTHON`, with {said}.\n"
        "[export.json](export.json) has the sizes of files, processor seconds and the words of "
        "refusals.\n"
    )


def _alone(records: list[dict[str, Any]]) -> str:
    """Returns the paragraph on files that JAX and flatbuffers alone compute."""
    found = {
        record["model"]: record["formats"]["stablehlo"]["alone"]
        for record in records
        if "alone" in record["formats"].get("stablehlo", {})
    }
    if not found:
        return ""
    names = ", ".join(f"`{name}`" for name in found)
    function = max(each["function"] for each in found.values())
    same = "the same bits as" if function == 0 else f"within {function:.1e} of"
    largest = max(each["run"] for each in found.values())
    return (
        "## In an environment of JAX and flatbuffers alone\n\n"
        f"There the StableHLO files of {names} give {same}\nthe function that they were made of "
        f"gives here. From the run it is at most {largest:.1e} of the largest logit away: XLA "
        "compiles two programs,\none with the weights as arguments and one with them as constants, "
        "and these round float32 differently.\n\n"
    )


def _speed() -> str:
    """Returns the section on speed, of what benchmarks/export_speed.py wrote."""
    path = RESULTS / "export_speed.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_text())
    rows = []
    for each in found["records"]:
        row = [f"`{each['model']}`", each["batch"]]
        for name in ("ours", "onnxruntime", "stablehlo"):
            middle, low, high = each["rates"][name]
            row.append(f"{middle:.3g} ({low:.3g} to {high:.3g})")
        rows.append([*row, f"{each['rates']['ours'][0] / each['rates']['onnxruntime'][0]:.2f}"])
    apart = max(max(each["differences"].values()) for each in found["records"])
    headers = ["model", "batch", "ours", "ONNX Runtime", "StableHLO, by JAX", "ours / ONNX Runtime"]
    versions = found["versions"]
    return (
        "## Speed\n\nImages per second at 224 x 224 in float32, from uint8 pixels to "
        "probabilities: the median of rounds in which\nall took turns (slowest to fastest), on "
        f"{found['processor']}, on which small\nprocesses of others ran: the ranges show it; "
        f"{found['date']}, jax {versions['jax']}, onnxruntime {versions['onnxruntime']}. Ours is "
        "the run itself,\nwith the convolutions that `predict` uses. Logits differ by at most "
        f"{apart:.1e} of the largest.\n\n"
        f"{tables.markdown(rows, headers, 'lrrrrr')}\n\n"
        "Made by `python benchmarks/export_speed.py`.\n\n"
    )


def main() -> int:
    """Compares and writes; returns 1 if a difference is too large."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    names = [*models.REGISTRY, *MORE, OWN]
    parser.add_argument("--models", default=",".join(names), help="names, separated by commas")
    parser.add_argument("--formats", default=",".join(FORMATS), help="separated by commas")
    parser.add_argument("--torch", help="a Python that has torch, torchvision, timm, safetensors")
    parser.add_argument("--alone", help="a Python that has JAX and flatbuffers, not this package")
    parser.add_argument("--missing", action="store_true", help="only what has no figure yet")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # in the process of one model
    options = parser.parse_args()
    formats = options.formats.split(",")
    if options.one:
        print(json.dumps(measure(options.one, formats, options.torch, options.alone)))
        return 0
    path = RESULTS / "export.json"
    earlier = json.loads(path.read_text()) if path.exists() else []
    records = {record["model"]: record for record in earlier}
    for name in options.models.split(","):
        known = records[name]["formats"] if options.missing and name in records else {}
        wanted = [each for each in formats if each not in known]
        if not wanted:
            continue
        command = [sys.executable, __file__, "--one", name, f"--formats={','.join(wanted)}"]
        command += [f"--torch={options.torch}"] if options.torch else []
        command += [f"--alone={options.alone}"] if options.alone else []
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        record = json.loads(output.splitlines()[-1])
        kept = records.get(name, {})
        record["formats"] = kept.get("formats", {}) | record["formats"]
        record["versions"] = kept.get("versions", {}) | record["versions"]
        records[name] = record
        write([records[each] for each in names if each in records])
        said = {f: x.get("difference", "-") for f, x in record["formats"].items()}
        print(name, said, flush=True)
    found = [x for r in records.values() for x in r["formats"].values() if "difference" in x]
    return 0 if all(each["difference"] < 1e-4 for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
