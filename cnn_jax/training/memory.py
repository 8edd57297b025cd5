"""The memory that a run needs, phase by phase, against what the machine has."""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import jax

from cnn_jax import experiment, runtime
from cnn_jax.data import DataInfo
from cnn_jax.describe.memory import evaluation_estimate, memory_estimate
from cnn_jax.errors import UsageError
from cnn_jax.training import costs, features
from cnn_jax.training.plan import Plan

# An estimate of more than so many times the machine's memory is refused.
_REFUSED = 2.0
# Activations of a network for each number of an image: no registered model holds half as many.
_PER_PIXEL = 500


def estimate(
    plan: Plan, config: experiment.Experiment, info: DataInfo, devices: int = 1
) -> dict[str, dict[str, int]]:
    """Returns {what runs: {part: bytes}} on one device, each with its "total".

    The parts of a phase are those of `memory_estimate`, and "data", the splits that wait on the
    devices; caching the features and validation have their step and the data.

    Args:
        plan: the plan of the run.
        config: the experiment.
        info: the data set.
        devices: over how many a batch is spread.
    """
    model, shape = plan.assembly.model, info.image_shape
    bytes_each = 2 if config.train.precision == "bfloat16" else 4
    cached = plan.prefixes[: plan.cached_stages]
    data = _data(plan, info, config.dataset.resident_limit)
    traced = plan.assembly.shapes, plan.layers
    found: dict[str, dict[str, int]] = {}
    if cached:
        step = evaluation_estimate(model, shape, features.PIECE, bytes_each, traced=traced)
        found["caching the features"] = {"step": step, "total": step}
    for phase in plan.phases:
        parts = memory_estimate(
            model,
            shape,
            -(-plan.batch_size // devices),
            costs.slots(plan.optimizer),
            bytes_each,
            trainable=phase.groups,
            cached=cached,
            traced=traced,
        )
        total = parts.pop("total") + data
        found[f"training from epoch {phase.first_epoch + 1}"] = {
            **parts,
            "data": data,
            "total": total,
        }
    batch = min(config.dataset.eval_batch_size, info.sizes["validation"])
    step = evaluation_estimate(model, shape, -(-batch // devices), bytes_each, cached, traced)
    found["validation"] = {"step": step, "data": data, "total": step + data}
    return found


def _data(plan: Plan, info: DataInfo, limit: float) -> int:
    """Returns the bytes of the splits that training puts on the devices."""
    size = (1 if info.dtype == "uint8" else 4) * math.prod(info.image_shape)
    if plan.cached_stages:
        model, images = plan.assembly.model, jax.ShapeDtypeStruct((1, *info.image_shape), "float32")
        output: Any = jax.eval_shape(
            functools.partial(model.apply, stop=plan.cached_stages, method=model.forward_features),
            plan.assembly.shapes,
            images,
        )
        size = 4 * math.prod(output.shape)
    total = 0
    for name in ("train", "validation"):
        views = max(1, plan.cached_views) if name == "train" else 1
        split = views * info.sizes[name] * size
        if name == "train" and info.streamed and not plan.cached_stages:
            continue
        total += split if split <= limit * 2**30 else 0
    return total


def lines(found: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Returns a line for each entry of `estimate`."""
    shown = []
    for what, parts in found.items():
        listed = ", ".join(
            f"{name.replace('_', ' ')} {size / 2**20:,.1f}"
            for name, size in parts.items()
            if size and name != "total"
        )
        head = "memory     " if not shown else "           "
        shown.append(f"{head}{what}: about {parts['total'] / 2**20:,.0f} MiB: {listed}")
    return shown


def available() -> int | None:
    """Returns the bytes that one device of this process has, or None where nothing tells."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and stats.get("bytes_limit"):
        return int(stats["bytes_limit"])
    if jax.default_backend() != "cpu":
        return None
    return runtime.host_memory()


def check_plan(plan: Plan, config: experiment.Experiment, info: DataInfo, devices: int = 1) -> None:
    """Refuses a run that would need far more memory than the machine has; see `check`.

    The layers are traced, which takes up to two seconds, only where a rough bound does not do.
    """
    has = available()
    if has is None:
        return
    largest = max(plan.batch_size, min(config.dataset.eval_batch_size, info.sizes["validation"]))
    images = 4 * math.prod(info.image_shape) * -(-largest // devices)
    parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(plan.assembly.shapes))
    if _PER_PIXEL * images + 4 * 5 * parameters > has:
        check(estimate(plan, config, info, devices), has)


def check(found: Mapping[str, Mapping[str, int]], has: int | None) -> None:
    """Refuses what would need far more memory than there is.

    Args:
        found: of `estimate`.
        has: of `available`.

    Raises:
        UsageError: the largest estimate is over twice of it.
    """
    what = max(found, key=lambda name: found[name]["total"])
    needed = found[what]["total"]
    if has is None or needed <= _REFUSED * has:
        return
    flags = ["a smaller --dataset.batch_size"]
    if what == "validation":
        flags = ["a smaller --dataset.eval_batch_size"]
    flags += ["a smaller --dataset.image_size", "--train.precision=bfloat16"]
    raise UsageError(
        f"{what} needs about {_gib(needed)} of memory, and this machine has {_gib(has)}; "
        f"give {', '.join(flags)}, or a smaller model"
    )


def out_of_memory(error: Exception) -> str:
    """Returns one line on memory that JAX or NumPy could not get: what was needed, what helps."""
    found = re.search(
        r"([\d.]+) ?(bytes|[KMGT]i?B)", str(error).splitlines()[0] if str(error) else ""
    )
    more = "" if found is None else f": {_readable(found[1], found[2])} more could not be had"
    has = available()
    there_is = "" if has is None else f"; the machine has {_gib(has)}"
    return (
        f"out of memory{more}{there_is}. Smaller values of --dataset.batch_size, "
        "--dataset.eval_batch_size or --dataset.image_size, --dataset.resident_limit=0 and "
        "--train.precision=bfloat16 need less"
    )


def _readable(number: str, unit: str) -> str:
    if unit != "bytes":
        return f"{number} {unit}"
    size = float(number)
    return _gib(int(size)) if size >= 2**30 else f"{size / 2**20:,.1f} MiB"


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
