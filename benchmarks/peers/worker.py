"""The common part of all measured processes: commands and answers, as lines of JSON.

{"prepare": work} builds the network of a workload, {"run": steps, "each": bool} runs it. Output
that libraries print themselves goes to stderr. A peer's own file runs with the packages of that
peer only, so this module needs nothing but NumPy.
"""

import importlib.metadata
import json
import os
import re
import resource
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

PACKAGES = ("jax", "jaxlib", "flax", "keras", "tensorflow-cpu", "torch", "numpy", "pillow")


class Result(NamedTuple):
    """The result of some steps.

    Attributes:
        seconds: the time that they took, until their last result was there.
        images: the number of images.
        losses: the mean loss of each step; empty if `each` was false.
    """

    seconds: float
    images: int
    losses: list[float]


# (steps, each: whether to return the loss of each step) -> result
Run = Callable[[int, bool], Result]


def serve(prepare: Callable[[dict[str, Any]], Run]) -> None:
    """Answers commands from standard input until it is closed."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run: Run | None = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "prepare" in command:
                run = prepare(command["prepare"])
                answer: dict[str, Any] = {"versions": versions()}
            else:
                assert run is not None, "prepare comes first"
                answer = run(command["run"], command["each"])._asdict()
            answer["memory_mib"] = peak_memory()
        except Exception as error:  # the benchmark has to report any error
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def versions() -> dict[str, str]:
    """Returns the versions of those PACKAGES that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def peak_memory() -> float:
    """Returns the peak of the resident memory of this process, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def load(work: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Returns a workload's images and labels in batches, and its parameters by path.

    Images are uint8 [batches, batch, height, width, channels], labels int32 [batches, batch]. If
    there are no parameters, the library draws its own.
    """
    with np.load(work["file"], allow_pickle=False) as file:
        arrays = dict(file)
    images, labels = arrays.pop("images"), arrays.pop("labels")
    shape = (-1, work["batch"])
    return (
        images.reshape(*shape, *images.shape[1:]),
        labels.reshape(shape),
        {} if work["own_parameters"] else arrays,
    )


def take(parameters: dict[str, np.ndarray], path: str) -> np.ndarray:
    """Removes one parameter from those that are not used yet, and returns it."""
    if path not in parameters:
        raise ValueError(f"{path} is in benchmarks/peers/networks.py and not in cnn_jax.models")
    return parameters.pop(path)


def check_all_taken(parameters: dict[str, np.ndarray]) -> None:
    """Raises ValueError if parameters are left over."""
    if parameters:
        raise ValueError(
            f"in cnn_jax.models and not in benchmarks/peers/networks.py: {', '.join(parameters)}"
        )


def is_frozen(work: dict[str, Any], path: str) -> bool:
    """Returns whether a parameter is frozen; the pattern is one of `--transfer.freeze`."""
    frozen = work["frozen"]
    return bool(frozen) and re.search(rf"(?:^|/)(?:{frozen})(?:/|$)", path) is not None


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the mean cross-entropy of logits [n, classes], in float64."""
    z = logits.astype(np.float64)
    z -= z.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return float(-log_p[np.arange(len(labels)), labels].mean())
