"""Turns raw measurements into rows, verdicts, tables and the figure, by pure functions."""

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.peers.plan import PEERS, Cell, Workload, is_seconds
from cnn_jax.errors import RunError
from cnn_jax.reporting import tables

Record = dict[str, Any]
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}
START_SECONDS = 4.0
MEMORY = 1.1
_COLOURS = {"ours": "#0072B2", "keras": "#D55E00", "torch": "#00735C"}  # Okabe and Ito, 2008


def foreign_share(before: Sequence[float], after: Sequence[float], cores: int) -> float:
    """Returns the share of the machine's time that other programs used, from 0 to 1.

    Args:
        before: (seconds by the clock, processor seconds of all programs, our own part of them).
        after: the same at a later time.
        cores: the number of cores of the machine.
    """
    clock, busy, own = (b - a for a, b in zip(before, after, strict=True))
    return max(0.0, busy - own) / (max(clock, 1e-9) * cores)


def check_losses(workload: str, losses: Mapping[Cell, Sequence[float]]) -> None:
    """Checks that all cells compute the same: that the losses of their first steps agree.

    Each loss is compared with that of the first cell. It may differ by 1e-4 of it in float32, and
    by 2e-2 in bfloat16.

    Raises:
        RunError: the losses of a step differ by more.
    """
    (first, reference), *others = losses.items()
    for cell, found in others:
        precisions = {PEERS[cell.peer].precision, PEERS[first.peer].precision}
        tolerance = max(TOLERANCE[precision] for precision in precisions)
        for step, (theirs, ours) in enumerate(zip(found, reference, strict=True), start=1):
            if not abs(theirs - ours) <= tolerance * abs(ours):  # nan must not pass
                raise RunError(
                    f"{workload}: the loss of step {step} is {theirs:.7g} with {cell} and "
                    f"{ours:.7g} with {first}, more than {tolerance:g} apart: they do not compute "
                    "the same, and nothing is reported"
                )


def summarize(records: Iterable[Record], workloads: Mapping[str, Workload]) -> list[Record]:
    """Returns one row for every workload and cell, in their order.

    `median`, `minimum`, `maximum` and `iqr` (the distance between the quartiles) are in images per
    second, or in seconds, over the rounds that were kept; `ratio` is our speed over the peer's.
    """
    groups: dict[tuple[str, Cell], list[Record]] = {}
    for record in records:
        cell = Cell(record["peer"], record["variant"])
        groups.setdefault((record["workload"], cell), []).append(record)
    rows = [_row(name, cell, some, workloads[name]) for (name, cell), some in groups.items()]
    order = list(workloads)
    rows.sort(key=lambda row: (order.index(row["workload"]), list(PEERS).index(row["peer"])))
    ceiling = find(rows, "ceiling", "ours")
    for row in rows:
        ours = _ours(rows, row["workload"])
        row["ratio"] = _speed(ours) / _speed(row) if ours and _speed(row) else None
        top = ceiling["gflops"] if ceiling else None
        row["ceiling_share"] = row["gflops"] / top if top and row["gflops"] else None
    return rows


def _row(name: str, cell: Cell, records: list[Record], workload: Workload) -> Record:
    kept = [record for record in records if record["kept"]]
    seconds = is_seconds(workload)
    values = [r["seconds"] if seconds else r["images"] / r["seconds"] for r in kept]
    quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [0.0, 0.0, 0.0]
    median = statistics.median(values) if values else None
    flops = records[0]["flops"]
    return {
        "workload": name,
        "peer": cell.peer,
        "variant": cell.variant,
        "unit": "s" if seconds else "products/s" if workload.kind == "product" else "images/s",
        "median": median,
        "minimum": min(values, default=None),
        "maximum": max(values, default=None),
        "iqr": quartiles[2] - quartiles[0],
        "rounds": len(kept),
        "dropped": len(records) - len(kept),
        "memory_mib": max((r["memory_mib"] or 0 for r in records), default=0) or None,
        "gflops": median * flops / 1e9 if median and flops else None,
        "values": values,
    }


def find(rows: Iterable[Record], workload: str, peer: str, variant: str = "") -> Record | None:
    """Returns the row of a cell, or None where it was not measured."""
    wanted = (workload, peer, variant)
    return next((r for r in rows if (r["workload"], r["peer"], r["variant"]) == wanted), None)


def _speed(row: Record) -> float:
    """Returns a number that is larger for a faster cell, or 0 if no round was kept."""
    if not row["median"]:
        return 0.0
    return 1 / row["median"] if row["unit"] == "s" else row["median"]


def _ours(rows: Iterable[Record], workload: str) -> Record | None:
    """Returns the row of our fastest float32 cell, with a warm start; None if there is none."""
    found = [
        row
        for row in rows
        if row["workload"] == workload
        and PEERS[row["peer"]].environment == "ours"
        and PEERS[row["peer"]].precision == "float32"
        and row["variant"] in ("", "warm")
        and row["median"]
    ]
    return max(found, key=_speed, default=None)


def verdicts(rows: Sequence[Record], workloads: Mapping[str, Workload]) -> list[Record]:
    """Returns the targets with the measured ratios.

    Each has workload, what (the measure), ours (our fastest cell), peer (the fastest peer, or the
    one with the least memory), ratio, target and met (None if there is no target).
    """
    found: list[Record] = []
    for name, workload in workloads.items():
        here = [row for row in rows if row["workload"] == name and row["median"]]
        ours = _ours(here, name)
        if not ours:
            continue
        theirs = [r for r in here if PEERS[r["peer"]].environment != "ours"]
        single = [r for r in theirs if PEERS[r["peer"]].precision == "float32"]
        plain = [r for r in single if not r["variant"]]
        reordered = [r for r in single if r["variant"]]
        half = [r for r in theirs if r not in single]
        fastest = max((r for r in here if r not in theirs and r["variant"] != "cached"), key=_speed)
        installed = [r for r in plain if not PEERS[r["peer"]].tuned]
        installed = installed if len(installed) < len(plain) else []
        races = [
            ("speed", ours, plain, workload.target),
            ("speed, peers as installed", ours, installed, workload.target),
            ("identical graph", ours, reordered, 1.0),
            ("bfloat16 (stretch)", fastest, half, 1.0),
        ]
        if workload.kind == "start":
            races[:2] = [("speed", ours, [r for r in plain if r["peer"] == "keras-tf"], 1.0)]
            most = START_SECONDS
            met = ours["median"] <= most
            found.append(_verdict(ours, ours, "seconds, at most", ours["median"], most, met))
        for what, mine, rivals, target in races:
            if rivals:
                best = max(rivals, key=_speed)
                ratio = _speed(mine) / _speed(best)
                met = ratio >= (target or 0)
                found.append(_verdict(mine, best, what, ratio, target, met))
        lean = [r for r in plain if r["memory_mib"]]
        if workload.kind in ("train", "forward") and lean:
            best = min(lean, key=lambda row: row["memory_mib"])
            ratio = ours["memory_mib"] / best["memory_mib"]
            met = ratio <= MEMORY
            found.append(_verdict(ours, best, "memory, at most", ratio, MEMORY, met))
    return found


def _verdict(
    ours: Record, row: Record, what: str, ratio: float, target: float | None, met: bool
) -> Record:
    return {
        "workload": row["workload"],
        "what": what,
        "ours": ours["peer"],
        "peer": row["peer"],
        "ratio": ratio,
        "target": target,
        "met": None if target is None else met,
    }


def tabulate(
    rows: Sequence[Record], verdicts: Sequence[Record], markdown: bool = False
) -> tuple[str, str]:
    """Returns the table of the targets and the table of all measurements."""
    make = tables.markdown if markdown else tables.table
    targets = [
        [
            v["workload"],
            v["what"],
            v["ours"],
            v["peer"],
            f"{v['ratio']:.2f}",
            "" if v["target"] is None else f"{v['target']:g}",
            {True: "yes", False: "no", None: ""}[v["met"]],
        ]
        for v in verdicts
    ]
    lines = [
        [
            row["workload"],
            str(Cell(row["peer"], row["variant"])),
            _number(row["median"]),
            row["unit"],
            f"{_number(row['minimum'])} to {_number(row['maximum'])}" if row["median"] else "",
            "" if row["ratio"] is None else f"{row['ratio']:.2f}",
            _number(row["gflops"]),
            f"{row['ceiling_share']:.0%}" if row["ceiling_share"] else "",
            _number(row["memory_mib"]),
            row["rounds"],
            row["dropped"],
        ]
        for row in rows
    ]
    headers = ["workload", "peer", "median", "", "range", "ours/peer", "GFLOP/s", "of ceiling"]
    return (
        make(
            targets,
            ["workload", "what", "ours", "fastest or leanest peer", "ratio", "target", "met"],
        ),
        make(lines, [*headers, "peak MiB", "rounds", "dropped"]),
    )


def page(result: Mapping[str, Any]) -> str:
    """Returns the text of speed.md from the contents of speed.json."""
    packages = "; ".join(
        f"{name}: {', '.join(f'{k} {v}' for k, v in found.items())}"
        for name, found in result["packages"].items()
    )
    made = (
        f"Made on {result['date']} by `python benchmarks/run.py --rounds={result['rounds']} "
        f"--seconds={result['seconds']:g}`\n(peers: {', '.join(result['peers'])})\n"
        f"at commit {result['commit']}, on {result['cores']} cores, {result['processor']}.\n"
        f"{packages}."
    )
    reading = (
        "ours/peer is the speed of our fastest float32 cell over that of the peer. `ours`\n"
        "convolves with oneDNN, and with Winograd's algorithm (fewer multiplications) where that\n"
        "is faster; `ours-onednn` does without Winograd's algorithm, `ours-xla` convolves with\n"
        "XLA. Except in ResNet and airbench, our max-pools come before bias and ReLU, and the\n"
        "last row and column of an odd height or width, which a pool leaves out, are not\n"
        "computed. `reordered` peers do the same. GFLOP/s count for all peers the operations of\n"
        "`ours-onednn`, so `ours` can exceed the ceiling. Our peak memory is that of a process\n"
        "whose programs are in the compilation cache. `cached`: training on features that were\n"
        "computed before; `malloc`: with our settings of the allocator."
    )
    tables = tabulate(result["rows"], result["verdicts"], markdown=True)
    parts = ["# Speed", made, reading, *result["notes"], *tables, "![speed](speed.png)"]
    return "\n\n".join(parts) + "\n"


def _number(value: float | None) -> str:
    """Returns a number with three digits, or more if it is 1,000 or above."""
    if value is None:
        return ""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(max(value, 1e-3))))}f}"


def draw(
    rows: Sequence[Record], verdicts: Sequence[Record], workloads: Mapping[str, Workload]
) -> Figure:
    """Draws a panel of bars for every workload, with ranges over rounds and dashed targets."""
    names = [n for n in workloads if any(r["workload"] == n and r["median"] for r in rows)]
    columns = min(3, len(names)) or 1
    lines = math.ceil(len(names) / columns) or 1
    figure = Figure(figsize=(6 * columns, 4 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes, name in itertools.zip_longest(grid, names):
        if name is None:
            axes.set_axis_off()
            continue
        here = [r for r in rows if r["workload"] == name and r["median"]]
        here.sort(key=_speed)
        medians = [r["median"] for r in here]
        spread = [
            [r["median"] - r["minimum"] for r in here],
            [r["maximum"] - r["median"] for r in here],
        ]
        colours = [_COLOURS[r["peer"].split("-")[0]] for r in here]
        hatches = ["//" if r["variant"] else "" for r in here]
        labels = [str(Cell(r["peer"], r["variant"])) for r in here]
        axes.barh(labels, medians, xerr=spread, color=colours, hatch=hatches, ecolor="#555555")
        axes.set_title(name)
        axes.set_xlabel(here[0]["unit"])
        for verdict in verdicts:
            rival = find(rows, name, verdict["peer"])
            is_speed = (verdict["workload"], verdict["what"]) == (name, "speed")
            if rival and is_speed and verdict["target"]:
                power = -1 if rival["unit"] == "s" else 1
                at = rival["median"] * verdict["target"] ** power
                axes.axvline(at, color="black", linestyle="--")
                axes.set_xlabel(f"{here[0]['unit']}, dashed: target of ours")
        axes.spines[["top", "right"]].set_visible(False)
    return figure
