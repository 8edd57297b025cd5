"""What a trained network computes, as one function of images as they are stored."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cnn_jax import cpu
from cnn_jax.assembly import Assembly, assemble
from cnn_jax.errors import UsageError
from cnn_jax.evaluation import embedding, metrics
from cnn_jax.export import judging
from cnn_jax.runs.trained import Run

# What each output is, in the order in which a file has them.
MEANING = {
    "logits": "what the last layer says of each output, before calibration",
    "probabilities": "of each class",
    "answers": "whether the network answers on its own: sure enough, and the image is none of a "
    "kind that it was not trained on",
    "p_values": "small where an image is unlike the training images; 1 where that is not judged",
    "sets": "which classes are in the set that holds the true one with the promised coverage",
}


@dataclasses.dataclass(frozen=True)
class Program:
    """A network as one function.

    Attributes:
        apply: maps images [n, height, width, channels], as they are stored, to outputs by name.
        shape: (height, width, channels) of an image.
        dtype: of the stored images, "uint8" or "float32".
        precision: what the network computes in, "float32" or "bfloat16".
    """

    apply: Callable[[jax.Array], dict[str, jax.Array]]
    shape: tuple[int, int, int]
    dtype: str
    precision: str

    def outputs(self) -> dict[str, Any]:
        """Returns shapes and types of the outputs by name, of one image, in a fixed order."""
        one = jax.ShapeDtypeStruct((1, *self.shape), self.dtype)
        with cpu.using("plain"):
            found = jax.eval_shape(self.apply, one)
        return {name: found[name] for name in MEANING if name in found}


def of_run(run: Run, precision: str | None = None) -> Program:
    """Returns the program of a run, with its variables, and its verdicts where trust promised them.

    Args:
        run: the run.
        precision: "float32" or "bfloat16" to compute in; None: the run's.

    Raises:
        UsageError: the run cannot be built in that precision.
    """
    assembly = run.assembly
    own = run.experiment.train.precision
    if precision is not None and precision != own:
        assembly = _rebuilt(run, precision)
    variables = jax.device_get(run.variables)
    trusted = run.trusted
    judge = None if trusted is None else trusted.judge
    views = "one" if trusted is None else trusted.views

    def apply(images: jax.Array) -> dict[str, jax.Array]:
        inputs = assembly.preprocess(images, None)
        if judge is None:
            logits: Any = assembly.model.apply(variables, inputs)
            p = metrics.probabilities(logits, assembly.multilabel)
            return {"logits": logits, "probabilities": p}
        logits, features, middle = embedding.inside(assembly, variables, inputs, views)
        return {"logits": logits, **judging.judge(judge, logits, features, middle)}

    info = run.data_info
    return Program(apply, info.image_shape, info.dtype, precision or own)


def _rebuilt(run: Run, precision: str) -> Assembly:
    """Returns model and preprocessing of a run in another precision."""
    if run.directory is None:
        raise UsageError(
            f"the run computes in {run.experiment.train.precision}, which this format does not "
            "hold, and it has no directory to build it anew from; train it with a workdir"
        )
    config = run.experiment.replace({"train.precision": precision})
    try:
        return assemble(config, run.data_info, run.assembly.about_weights)
    except UsageError as error:
        raise UsageError(
            f"the run computes in {run.experiment.train.precision}, which this format does not "
            f"hold, and it cannot be built in {precision}: {error}"
        ) from error


def activation(multilabel: bool, outputs: int) -> tuple[str, str]:
    """Returns the function that makes probabilities of logits, and what they are, in words."""
    if multilabel:
        return "sigmoid", "the sigmoid of each is the probability of its class, on its own"
    if outputs == 1:
        words = "its sigmoid is the probability of the second class, and the first has the rest"
        return "sigmoid", words
    return "softmax", "their softmax is the probabilities of the classes"


def plain(apply: Callable[..., Any]) -> Callable[..., tuple[jax.Array, ...]]:
    """Returns a function whose outputs are a tuple, in the order of their names in `MEANING`."""

    def named(images: jax.Array) -> tuple[jax.Array, ...]:
        found = apply(images)
        return tuple(jnp.asarray(found[name]) for name in MEANING if name in found)

    return named
