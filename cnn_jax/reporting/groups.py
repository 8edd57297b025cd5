"""The table of what is trained and what is frozen, and what the optimizer keeps for it."""

import math
from collections.abc import Sequence
from typing import Any

from cnn_jax import experiment
from cnn_jax.build import Assembly
from cnn_jax.reporting import summary, tables
from cnn_jax.training import freezing

# Numbers that the optimizer keeps for each trainable parameter.
SLOTS = {"adam": 2, "adamw": 2, "sgd": 1, "muon": 1}


def slots(config: experiment.Optimizer) -> int:
    """Returns how many float32 numbers are kept for each trainable parameter."""
    none = config.name == "sgd" and config.momentum == 0
    return (0 if none else SLOTS[config.name]) + (config.ema_decay is not None)


def rows(assembly: Assembly, config: experiment.Experiment) -> list[dict[str, Any]]:
    """Returns one record for each part of the network, such as backbone/block5.

    `parameters` are counted, `optimizer_bytes` are what the optimizer and the moving average keep
    once the part is trained, `since_epoch` counts from 1 and is None where it is never trained.
    """
    last = assembly.phases[-1].groups
    parts: dict[str, dict[str, Any]] = {}
    for path, leaf in freezing.flatten(assembly.shapes["params"]).items():
        group = last.get(path)
        names = path.split("/")
        # A part that is trained in part is told apart by its layers.
        name = "/".join(names[:2])
        key = f"{name} {group}"
        if key not in parts:
            scale = None if group is None else group.lr_scale
            parts[key] = {
                "name": name,
                "parameters": 0,
                "since_epoch": None if group is None else group.since + 1,
                "learning_rate": None if scale is None else scale * config.optimizer.learning_rate,
                "optimizer_bytes": 0,
            }
        size = math.prod(leaf.shape)
        parts[key]["parameters"] += size
        if group is not None:
            parts[key]["optimizer_bytes"] += 4 * size * slots(config.optimizer)
    return list(parts.values())


def step_costs(assembly: Assembly, cut: int) -> list[str]:
    """Returns a line for each phase: the FLOPs of its step against those of a full fine-tune.

    Args:
        assembly: model and phases.
        cut: so many of the backbone's first stages are cached and not run.
    """
    table = summary.layer_table(assembly.model, assembly.image_shape)
    everything = freezing.flatten(assembly.shapes["params"])
    full = summary.step_flops(table, everything)["total"]
    lines = []
    for phase in assembly.phases:
        names = assembly.model.stage_names
        cost = summary.step_flops(table, phase.groups, names, cut)["total"]
        cached = f", {cut} of {len(names)} stages cached" if cut else ""
        lines.append(
            f"from epoch {phase.first_epoch + 1}: {cost / 1e6:,.1f} MFLOP an image and step, "
            f"{cost / full:.2%} of a full fine-tune ({full / 1e6:,.1f}){cached}"
        )
    return lines


def run_flops(
    assembly: Assembly,
    config: experiment.Experiment,
    images: int,
    cut: int,
    epochs: int,
    rows: Sequence[summary.LayerRow] | None = None,
) -> int:
    """Returns what training costs, in FLOPs: the cached stages once, then the steps of all epochs.

    A padded batch is a whole one. Validation, and what the optimizer does for each parameter, are
    left out.

    Args:
        assembly: model and phases.
        config: the experiment.
        images: in the training set.
        cut: so many of the backbone's first stages are cached.
        epochs: that were trained.
        rows: the model's layer table, where it is at hand.
    """
    table = summary.layer_table(assembly.model, assembly.image_shape) if rows is None else rows
    names, size = assembly.model.stage_names, config.dataset.batch_size
    firsts = [phase.first_epoch for phase in assembly.phases]
    total = 0
    for phase, end in zip(assembly.phases, [*firsts[1:], epochs], strict=True):
        step = summary.step_flops(table, phase.groups, names, cut)
        trained = max(0, min(end, epochs) - phase.first_epoch)
        total += trained * math.ceil(images / size) * size * step["total"]
    if cut:
        forward = summary.step_flops(table, assembly.phases[0].groups, names, cut)["forward"]
        whole = summary.step_flops(table, assembly.phases[0].groups, names)["forward"]
        total += max(1, config.transfer.cache_views) * images * (whole - forward)
    return total


def render(records: list[dict[str, Any]]) -> str:
    """Returns the records as a text table."""

    def state(record: dict[str, Any]) -> str:
        since = record["since_epoch"]
        if since is None:
            return "frozen"
        return "trained" if since == 1 else f"trained from epoch {since}"

    lines = [
        [
            record["name"],
            f"{record['parameters']:,}",
            state(record),
            "" if record["learning_rate"] is None else f"{record['learning_rate']:g}",
            f"{record['optimizer_bytes']:,}",
        ]
        for record in records
    ]
    total = [
        "total",
        f"{sum(record['parameters'] for record in records):,}",
        "",
        "",
        f"{sum(record['optimizer_bytes'] for record in records):,}",
    ]
    return tables.table(
        [*lines, total], ["part", "parameters", "state", "learning rate", "optimizer bytes"]
    )
