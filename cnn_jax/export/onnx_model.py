"""A network as ONNX, converted by jax2onnx and computed by ONNX Runtime before it is given away."""

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from cnn_jax import cpu, extras
from cnn_jax.errors import RunError, UsageError
from cnn_jax.export import checking, program
from cnn_jax.export.checking import Checked
from cnn_jax.runs.trained import Run

FILE = "model.onnx"
DATA = f"{FILE}.data"
# How the file is computed, with nothing but ONNX Runtime.
LOADING = [
    "import onnxruntime",
    "",
    f'session = onnxruntime.InferenceSession("{FILE}")',
    "names = [each.name for each in session.get_outputs()]",
    'found = dict(zip(names, session.run(names, {"images": images})))  # see export.json',
]
_POOLS = {"max_pool": nn.max_pool, "avg_pool": nn.avg_pool}
_MOST_BYTES = 1_900_000_000  # of a file of protobuf; larger networks have their weights beside it
_BATCH = 64


def write(run: Run, made: program.Program, folder: Path, about: Mapping[str, Any]) -> Checked:
    """Writes the file, computes it with ONNX Runtime, and compares it with the run.

    Args:
        run: the run.
        made: its program, in float32.
        folder: where the file goes; weights of more than 1.9 GB go to a second file beside it.
        about: what its metadata say, as JSON has it.

    Raises:
        UsageError: the packages are not installed, or an operation cannot be converted.
        RunError: the file says something else than the run.
    """
    jax2onnx = extras.need("jax2onnx", "format=onnx", "onnx")
    onnx = extras.need("onnx", "format=onnx", "onnx")
    extras.need("onnxruntime", "format=onnx", "onnx")
    names = list(made.outputs())
    image = jax.ShapeDtypeStruct(("batch", *made.shape), made.dtype)  # pyright: ignore
    try:
        with cpu.using("plain"), extras.quiet():
            model = jax2onnx.to_onnx(
                _by_keyword(program.plain(made.apply)),
                [image],
                model_name=run.experiment.model.name,
                input_names=["images"],
                output_names=names,
            )
    except Exception as error:  # of the converter's plugins, of any kind
        raise UsageError(
            f"format=onnx: jax2onnx cannot convert this network: "
            f"{type(error).__name__}: {_first_line(error)}; format=stablehlo holds every network"
        ) from error
    for key, value in about.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value if isinstance(value, str) else json.dumps(value)
    path, size = folder / FILE, sum(x.nbytes for x in jax.tree.leaves(run.variables))
    if size > _MOST_BYTES:
        onnx.save_model(model, path, save_as_external_data=True, location=DATA)
    else:
        path.write_bytes(model.SerializeToString())
    del model
    compute, by = reader(path)
    return checking.check(run, compute, by, made.precision)


def _by_keyword(apply: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function in which Linen's pools may be called by position.

    While it converts, jax2onnx replaces them by functions that take keywords alone.
    """

    def traced(images: Any) -> Any:
        replaced = {name: getattr(nn, name) for name in ("max_pool", "avg_pool")}

        def pool(name: str) -> Callable[..., Any]:
            names = inspect.signature(_POOLS[name]).parameters

            def called(inputs: Any, *given: Any, **more: Any) -> Any:
                keywords = dict(zip(list(names)[1:], given, strict=False)) | more
                return replaced[name](inputs, **keywords)

            return called

        try:
            for name in replaced:
                setattr(nn, name, pool(name))
            return apply(images)
        finally:
            for name, own in replaced.items():
                setattr(nn, name, own)

    return traced


def reader(path: Path) -> tuple[checking.Compute, str]:
    """Returns the function in a file, and who computes it.

    Raises:
        RunError: ONNX Runtime cannot load the file.
    """
    runtime = extras.need("onnxruntime", "format=onnx", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors are of a type of its own
        raise RunError(f"ONNX Runtime cannot load the file: {_first_line(error)}") from error
    names = [each.name for each in session.get_outputs()]

    def compute(images: np.ndarray) -> dict[str, np.ndarray]:
        try:
            parts = [
                session.run(names, {"images": images[i : i + _BATCH]})
                for i in range(0, len(images), _BATCH)
            ]
        except Exception as error:
            raise RunError(f"ONNX Runtime cannot compute the file: {_first_line(error)}") from error
        joined = (np.concatenate(part) for part in zip(*parts, strict=True))
        return dict(zip(names, joined, strict=True))

    return compute, f"ONNX Runtime {runtime.__version__}"


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
