"""What training costs: the parts of a network with their optimizer state, and FLOPs."""

import math
from collections.abc import Sequence
from typing import Any

from cnn_jax import experiment
from cnn_jax.describe import layer_table
from cnn_jax.describe.layer_table import LayerRow
from cnn_jax.reporting import tables
from cnn_jax.training.plan import Plan
from cnn_jax.trees import flatten

# Numbers that the optimizer keeps for each trainable parameter.
SLOTS = {"adam": 2, "adamw": 2, "sgd": 1, "muon": 1}


def slots(config: experiment.Optimizer) -> int:
    """Returns the number of float32 values that are kept for each trainable parameter.

    Of a user's own optimizer nothing is known, and only the moving average counts.
    """
    none = config.name == "sgd" and config.momentum == 0
    return (0 if none else SLOTS.get(config.name, 0)) + (config.ema_decay is not None)


def parts(plan: Plan) -> list[dict[str, Any]]:
    """Returns one record for each part of the network, such as backbone/block5.

    `parameters` is their number, `optimizer_bytes` what the optimizer and the moving average keep
    once the part is trained, `since_epoch` counts from 1 and is None where it is never trained.
    """
    last = plan.phases[-1].groups
    records: dict[str, dict[str, Any]] = {}
    for path, leaf in flatten(plan.assembly.shapes["params"]).items():
        group = last.get(path)
        names = path.split("/")
        # A part that is trained in part is told apart by its layers.
        name = "/".join(names[:2])
        key = f"{name} {group}"
        if key not in records:
            scale = None if group is None else group.lr_scale
            rate = plan.optimizer.learning_rate
            records[key] = {
                "name": name,
                "parameters": 0,
                "since_epoch": None if group is None else group.first_epoch + 1,
                "learning_rate": None if scale is None else scale * rate,
                "optimizer_bytes": 0,
            }
        size = math.prod(leaf.shape)
        records[key]["parameters"] += size
        if group is not None:
            records[key]["optimizer_bytes"] += 4 * size * slots(plan.optimizer)
    return list(records.values())


def render(records: list[dict[str, Any]]) -> str:
    """Returns the records of `parts` as a text table."""

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


def report(plan: Plan, transfer: experiment.Transfer) -> list[str]:
    """Returns lines on what is trained and what it costs, where not everything is trained alike."""
    if transfer.freeze == "none" and not transfer.lr_scale:
        return []
    return [*render(parts(plan)).splitlines(), *step_costs(plan)]


def step_flops(plan: Plan, phase: int, table: Sequence[LayerRow]) -> int:
    """Returns the FLOPs of a step for one image, without the cached stages."""
    groups, prefixes = plan.phases[phase].groups, plan.prefixes
    return layer_table.step_flops(table, groups, prefixes, plan.cached_stages)["total"]


def step_costs(plan: Plan) -> list[str]:
    """Returns a line for each phase: the FLOPs of its step against those of a full fine-tune."""
    table = plan.layers
    everything = flatten(plan.assembly.shapes["params"])
    full = layer_table.step_flops(table, everything)["total"]
    lines = []
    for number, phase in enumerate(plan.phases):
        cost = step_flops(plan, number, table)
        cut, stages = plan.cached_stages, len(plan.prefixes)
        cached = f", {cut} of {stages} stages cached" if cut else ""
        lines.append(
            f"from epoch {phase.first_epoch + 1}: {cost / 1e6:,.1f} MFLOP an image and step, "
            f"{cost / full:.2%} of a full fine-tune ({full / 1e6:,.1f}){cached}"
        )
    return lines


def run_flops(plan: Plan, epochs: int, table: Sequence[LayerRow] | None = None) -> int:
    """Returns the FLOPs of training: the cached stages once, then the steps of all epochs.

    A padded batch is a whole one. Validation, and what the optimizer does for each parameter, are
    left out.

    Args:
        plan: the plan of the run.
        epochs: the epochs that were trained.
        table: the model's layer table, where it is at hand.
    """
    table = plan.layers if table is None else table
    firsts = [phase.first_epoch for phase in plan.phases]
    total = 0
    for number, (phase, end) in enumerate(zip(plan.phases, [*firsts[1:], epochs], strict=True)):
        trained = max(0, min(end, epochs) - phase.first_epoch)
        images = plan.steps_per_epoch * plan.batch_size
        total += trained * images * step_flops(plan, number, table)
    if plan.cached_stages:
        groups, prefixes, cut = plan.phases[0].groups, plan.prefixes, plan.cached_stages
        behind = layer_table.step_flops(table, groups, prefixes, cut)["forward"]
        whole = layer_table.step_flops(table, groups, prefixes)["forward"]
        total += max(1, plan.cached_views) * plan.num_examples * (whole - behind)
    return total
