"""A network as StableHLO, by `jax.export`: one file that JAX runs on CPU, GPU and TPU.

It is read with `jax` and `flatbuffers` alone. The graph has the plain operations of XLA, and JAX
keeps them readable for at least six months (jax.export, "compatibility guarantees").
"""

from pathlib import Path

import jax
import numpy as np
from jax import export

from cnn_jax import cpu, extras
from cnn_jax.errors import RunError
from cnn_jax.export import checking, program
from cnn_jax.export.checking import Checked
from cnn_jax.runs.trained import Run

FILE = "model.stablehlo"
# How the file is computed, with nothing but JAX and flatbuffers.
LOADING = [
    "from jax import export",
    "",
    f'network = export.deserialize(bytearray(open("{FILE}", "rb").read())).call',
    "found = network(images)  # see export.json",
]
PLATFORMS = ("cpu", "cuda", "tpu")
_BATCH = 64


def write(run: Run, made: program.Program, folder: Path) -> Checked:
    """Writes the file, reads it again, and compares it with the run.

    Args:
        run: the run.
        made: its program.
        folder: where the file goes.

    Raises:
        UsageError: flatbuffers is not installed.
        RunError: the file says something else than the run.
    """
    extras.need("flatbuffers", "format=stablehlo", "stablehlo")
    (batch,) = export.symbolic_shape("batch")
    image = jax.ShapeDtypeStruct((batch, *made.shape), made.dtype)
    with cpu.using("plain"):
        exported = export.export(jax.jit(made.apply), platforms=PLATFORMS)(image)
    path = folder / FILE
    path.write_bytes(exported.serialize())
    del exported
    return checking.check(run, reader(path), "JAX, from the file,", made.precision)


def reader(path: Path) -> checking.Compute:
    """Returns the function in a file, of images of any number."""
    try:
        call = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)
    except ValueError as error:
        raise RunError(f"{path} is not a file of jax.export") from error

    def compute(images: np.ndarray) -> dict[str, np.ndarray]:
        parts = [call(images[i : i + _BATCH]) for i in range(0, len(images), _BATCH)]
        return {name: np.concatenate([np.asarray(p[name]) for p in parts]) for name in parts[0]}

    return compute
