"""Measures ONNX Runtime and the StableHLO file beside this package, from uint8 pixels to answers.

    python benchmarks/export_speed.py --prepare=FOLDER     # exports the networks
    python benchmarks/export_speed.py --folder=FOLDER      # measures, alone on the machine

All take turns in one process on the same images: a round computes each once, and the figures are
images per second in the median round, with the slowest and the fastest. Ours is the run's own
forward pass as `predict` uses it, with the convolutions that this machine has. The figures go to
docs/results/export_speed.json, and from there into docs/results/export.md.
"""

import argparse
import datetime
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jax  # noqa: E402
import numpy as np  # noqa: E402

import cnn_jax  # noqa: E402
from cnn_jax import cpu, files, runtime, trees  # noqa: E402
from cnn_jax.assembly import assemble  # noqa: E402
from cnn_jax.export import about, onnx_model, stablehlo  # noqa: E402
from cnn_jax.export.exporting import export_run  # noqa: E402
from cnn_jax.runs.environment import environment  # noqa: E402
from cnn_jax.runs.trained import Run  # noqa: E402

RESULT = ROOT / "docs" / "results" / "export_speed.json"
SIDE, BATCHES, ROUNDS = 224, (1, 32), {1: 15, 32: 3}


def make_run(model: str) -> Run:
    """Returns a run of a network with random weights for 1,000 classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (8, SIDE, SIDE, 3), np.uint8)
    names = [f"class {number}" for number in range(1000)]
    data = cnn_jax.from_arrays(
        images, np.arange(8), validation=(images, np.arange(8)), class_names=names
    )
    config = cnn_jax.Experiment().replace({"model.name": model, "dataset.normalize": "torch"})
    assembly = assemble(config, data.info)

    def draw(path: str, leaf: Any) -> np.ndarray:
        if leaf.ndim > 1:
            scale = (2 / np.prod(leaf.shape[:-1])) ** 0.5
            return rng.standard_normal(leaf.shape, np.float32) * np.float32(scale)
        fill = np.ones if path.endswith(("scale", "var")) else np.zeros
        return fill(leaf.shape, np.float32)

    flat = {path: draw(path, leaf) for path, leaf in trees.flatten(assembly.shapes).items()}
    variables = trees.unflatten(flat)
    return Run(config, assembly, data.info, [], lambda: (variables, 0), None, data)


def measure(model: str, folder: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the records of a network, one a batch size."""
    run = make_run(model)
    assembly, variables = run.assembly, jax.device_put(run.variables)

    def forward(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits: Any = assembly.model.apply(variables, assembly.preprocess(images, None))
        return logits, jax.nn.softmax(logits)

    jitted = jax.jit(forward, compiler_options=cpu.compiler_options())
    by_onnx, _ = onnx_model.reader(folder / model / "onnx" / onnx_model.FILE)
    by_file = stablehlo.reader(folder / model / "stablehlo" / stablehlo.FILE)
    them: dict[str, Callable[[np.ndarray], Any]] = {
        "ours": lambda images: jax.device_get(jitted(variables, images))[0],
        "onnxruntime": lambda images: by_onnx(images)["logits"],
        "stablehlo": lambda images: by_file(images)["logits"],
    }
    records = []
    for batch in BATCHES:
        images = np.random.default_rng(1).integers(0, 256, (batch, SIDE, SIDE, 3), np.uint8)
        said = {name: compute(images) for name, compute in them.items()}
        scale = np.abs(said["ours"]).max()
        apart = {name: float(np.abs(said[name] - said["ours"]).max() / scale) for name in them}
        seconds: dict[str, list[float]] = {name: [] for name in them}
        for _ in range(ROUNDS[batch]):
            for name, compute in them.items():
                start = time.perf_counter()
                compute(images)
                seconds[name].append(time.perf_counter() - start)
        rates = {
            name: [batch / float(f(taken)) for f in (np.median, max, min)]
            for name, taken in seconds.items()
        }
        records.append({"model": model, "batch": batch, "rates": rates, "differences": apart})
        print(records[-1], flush=True)
    return records


def main() -> int:
    """Exports or measures; returns 0."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--models", default="resnet50,vgg16", help="separated by commas")
    parser.add_argument("--prepare", metavar="FOLDER", help="export to this folder")
    parser.add_argument("--folder", help="where the exports are")
    options = parser.parse_args()
    models = options.models.split(",")
    runtime.start()
    if options.prepare:
        for model in models:
            for format in ("onnx", "stablehlo"):
                print(export_run(make_run(model), format, f"{options.prepare}/{model}/{format}"))
        return 0
    if not options.folder:
        parser.error("give --prepare=FOLDER or --folder=FOLDER")
    records = [each for model in models for each in measure(model, pathlib.Path(options.folder))]
    here = environment()
    files.write_json(
        RESULT,
        {
            "records": records,
            "date": datetime.date.today().isoformat(),
            "processor": f"{here['cores']} cores, {here['processor']}",
            "versions": about.versions(),
        },
    )
    print(json.dumps(records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
