"""Gathers what the page of a run holds: the network, pictures, and what JAX made of them."""

import base64
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import cpu
from cnn_jax.data import Split
from cnn_jax.errors import UsageError
from cnn_jax.evaluation import metrics
from cnn_jax.page import pictures, recorded, shifts, tracing, weights
from cnn_jax.page.program import UnsupportedError
from cnn_jax.page.steps import steps_of
from cnn_jax.runs.trained import Run

# A network of more numbers, or of more multiplications for an image, does not run in the page.
MOST_PARAMETERS = 2_050_000
MOST_MACS = 400_000_000
# Of the largest logit. In bfloat16, which has eight binary digits, sums that are rounded at other
# places differ by one in the last digit, and so do all numbers behind them.
_TOLERANCE = {"bfloat16": 0.05}
_MOST_TESTED = 1000
_MOST_TEST_NUMBERS = 100_000


def gather(
    run: Run,
    *,
    baseline: Run | None = None,
    advice: dict[str, Any] | None = None,
    images: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Returns what the page of a run holds, as JSON has it.

    Args:
        run: the run.
        baseline: another one with the same images and classes, to compare with.
        advice: what advise.json of an `advise` says.
        images: whether pictures of the data, and what the network says of each, are in the page.
        say: is told what is measured.

    Raises:
        UsageError: the baseline has other images or classes, or does not run in the page; or an
            image of the run may have several findings.
        RunError: the images of the run cannot be read.
    """
    info = run.data_info
    if info.multilabel:
        raise UsageError(
            "the page is about images of one class each, and this run has several findings in one "
            "image"
        )
    if baseline is not None and (
        baseline.data_info.image_shape != info.image_shape
        or baseline.data_info.class_names != info.class_names
    ):
        what = "that run has other images or classes, and could not be shown the same pictures"
        raise UsageError(f"the baseline: {what}", on_command_line=f"--page.baseline: {what}")
    split = run.split() if images else None
    span = pictures.span_of(info.dtype, split)
    contents: dict[str, Any] = {
        "model": run.experiment.model.name,
        "data": info.name,
        "classes": list(info.class_names),
        "shape": list(info.image_shape),
        "span": span,
        "step": run.step,
        "split": run.split_name() if images else None,
        "synthetic": not images,
        "advice": advice,
        "trust": trust_of(run.trusted.record) if run.trusted is not None else None,
    }
    hard: list[int] = []
    if split is not None:
        contents["test"], hard = _tested(run, split)
    stored, labels = pictures.choose(split, info.image_shape, hard)
    contents["images"] = [
        {"data": base64.b64encode(image.tobytes()).decode(), "label": label}
        for image, label in zip(stored, labels, strict=True)
    ]
    contents["network"] = network_of(run, stored, span, split, say)
    if baseline is not None:
        contents["baseline"] = network_of(baseline, stored, span, split, say)
        if not contents["baseline"]["live"]:
            what = f"it does not run in the page: {contents['baseline']['why']}"
            raise UsageError(f"the baseline: {what}", on_command_line=f"--page.baseline: {what}")
        contents["baseline"]["model"] = baseline.experiment.model.name
    return contents


def trust_of(record: dict[str, Any]) -> dict[str, Any]:
    """Returns what the page takes from trust.json: calibration, a threshold, the sentences.

    Args:
        record: what trust.json holds.
    """
    scaling, limits = record["calibration"]["scaling"], set(record["thresholds"])
    by_classes = scaling["kind"] != "temperature"
    threshold, why = None, ""
    if record["network"]["views"] != "one":
        why = "the promise is about the mean over views of an image, and the page looks once"
    elif record["score"] != "max_probability":
        why = f"the run goes by another score than the largest probability, {record['score']}"
    elif limits == {None}:
        why = "for no threshold could it be shown that the answers above it are right often enough"
    elif len(limits) > 1:
        why = "the run has a threshold of its own for each class"
    else:
        (threshold,) = limits
    return {
        "temperature": 1.0 if by_classes else scaling["temperature"],
        "weights": scaling["weights"] if by_classes else None,
        "offsets": scaling["offsets"] if by_classes else None,
        "threshold": threshold,
        "most_wrong": record["settings"].get("max_error"),
        "confidence": record["settings"].get("confidence"),
        "why": why,
        "sentences": record["sentences"],
    }


def network_of(
    run: Run,
    stored: np.ndarray,
    span: Sequence[float],
    split: Split | None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Returns a network as the page holds it, with what JAX makes of the first pictures.

    Args:
        run: the network.
        stored: uint8 pictures `[n, height, width, channels]`.
        span: (low, high), the numbers that 0 and 255 stand for.
        split: images to measure on what the small numbers cost; None: it is not measured.
        say: is told what is measured.
    """
    model, variables = run.assembly.model, run.variables
    counts = [leaf.size for leaf in jax.tree.leaves(variables["params"])]

    def apply(variables: Any, images: Any) -> Any:
        return model.apply(variables, run.preprocess(images))

    about: dict[str, Any] = {"live": False, "parameters": int(sum(counts))}
    info = run.data_info
    traced, why = None, ""
    try:
        traced = tracing.trace(apply, variables, info.image_shape, info.dtype)
        about["macs"] = traced.forward.macs
        if about["parameters"] > MOST_PARAMETERS:
            why = f"it has {about['parameters']:,} parameters, and {MOST_PARAMETERS:,} are the most"
        elif traced.forward.macs > MOST_MACS:
            why = f"an image takes {traced.forward.macs / 1e6:,.0f} million multiplications"
    except UnsupportedError as error:
        why = f"it has an operation that the page does not compute ({error})"
    if traced is None or why:
        say(f"the network does not run in the page: {why}; recorded maps take its place")
        steps = [] if traced is None else steps_of(traced)
        return {**about, "why": why, **recorded.record(run, stored, span, steps)}
    packed, kept, kind = weights.pack(traced.leaves)
    as_stored = jax.tree.unflatten(jax.tree.structure(variables), kept)
    forward = jax.jit(apply, compiler_options=cpu.compiler_options())
    checked = pictures.values_of(stored[: pictures.CHECKED], span, info.dtype)
    logits = np.asarray(forward(as_stored, checked), np.float32)
    about |= {
        "live": True,
        "kind": kind,
        "forward": traced.forward.to_json(),
        "gradient": None if traced.gradient is None else traced.gradient.to_json(),
        "map": traced.feature_map,
        "weights": packed,
        "steps": [dataclasses.asdict(step) for step in steps_of(traced)],
        "tolerance": _TOLERANCE.get(run.experiment.train.precision, 1e-3),
        "check": [[float(x) for x in row] for row in logits],
        "filters": _first_filters(traced, kept),
        "first_dense": _first_dense(traced),
        "layers": traced.names,
    }
    if split is not None:
        about["cost"] = _cost(forward, variables, as_stored, split)
        before, after, count = (about["cost"][key] for key in ("before", "after", "examples"))
        say(
            f"{run.experiment.model.name}: accuracy {after:.4f} with weights as {kind}, "
            f"{before:.4f} with those of training, on {count:,} images"
        )
        about["shifted"] = shifts.measure(
            lambda images: forward(as_stored, images), split, traced.forward.macs
        )
    return about


def _first_filters(traced: tracing.Network, kept: list[np.ndarray]) -> dict[str, Any] | None:
    """Returns the kernel of the first layer, where that is a convolution of the image."""
    program = traced.forward
    for operation in program.operations:
        if operation.result in program.fixed:
            continue
        if operation.name in ("conv", "matmul"):
            leaf = program.constants.get(_value(operation.operands[1]), (None, None))[0]
            if operation.name != "conv" or leaf is None:
                return None
            values = [round(float(x), 5) for x in kept[leaf].ravel()]
            return {"shape": list(kept[leaf].shape), "values": values}
    return None


def _first_dense(traced: tracing.Network) -> int | None:
    """Returns the leaf that is the first layer's weights, where that is dense in all pixels."""
    program = traced.forward
    pixels = int(np.prod(program.shapes[program.inputs[0]]))
    for operation in program.operations:
        if operation.result in program.fixed or operation.name not in ("conv", "matmul"):
            continue
        value = _value(operation.operands[1])
        if operation.name == "conv" or program.shapes[value][1] != pixels:
            return None
        while value not in program.constants:  # reshaped from [pixels, units]
            (maker,) = [each for each in program.operations if each.result == value]
            if maker.name != "reshape":
                return None
            value = _value(maker.operands[0])
        return program.constants[value][0]
    return None


def _value(operand: Any) -> int:
    return operand if isinstance(operand, int) else -1


def _cost(forward: Any, before: Any, after: Any, split: Split) -> dict[str, Any]:
    """Measures accuracy with the run's own variables and with the page's."""
    count = min(_MOST_TESTED, len(split))
    right, largest = np.zeros(2, int), 0.0
    for images, labels in shifts.batches(split, count):
        p, q = (
            np.asarray(metrics.probabilities(jnp.asarray(forward(each, images))[: len(labels)]))
            for each in (before, after)
        )
        right += [int((each.argmax(1) == labels).sum()) for each in (p, q)]
        largest = max(largest, float(np.abs(p - q).max()))
    return {
        "before": right[0] / count,
        "after": right[1] / count,
        "examples": count,
        "largest": largest,
    }


def _tested(run: Run, split: Split) -> tuple[dict[str, Any], list[int]]:
    """Returns logits and labels of the split, for temperature and threshold, and hard examples."""
    outputs = max(1, len(run.class_names))
    count = min(_MOST_TESTED, len(split), max(50, _MOST_TEST_NUMBERS // outputs))
    logits = run.logits(np.asarray(split.images[:count]))
    labels = np.asarray(split.labels[:count])
    tested = {
        "logits": base64.b64encode(logits.astype("<f2").tobytes()).decode(),
        "outputs": int(logits.shape[1]),
        "labels": labels.tolist(),
        "of": len(split),
    }
    probabilities = np.asarray(metrics.probabilities(jnp.asarray(logits)))
    return tested, pictures.hard_ones(probabilities, labels)
