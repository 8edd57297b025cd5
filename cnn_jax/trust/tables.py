"""The tables of what trust.json holds, for the terminal and for the report."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from cnn_jax.trust.scores import ERRORS
from cnn_jax.trust.sentences import percent, score_name


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of words.

    Attributes:
        title: a line above it.
        columns: the heads.
        rows: the cells.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]


def claims(record: Mapping[str, Any]) -> Table:
    """Returns what could be promised for other maximal errors."""
    rows = []
    for claim in record["other_claims"]:
        kept = claim["threshold"] is not None
        rows.append(
            [
                percent(claim["max_error"]),
                percent(claim["coverage"]) if kept else "not promised",
                f"{claim['errors']:,} of {claim['answered']:,}",
                percent(claim["bound"], 2),
                percent(claim["report_share"]) if kept else "-",
                percent(claim["report_error"], 2) if claim["report_error"] is not None else "-",
            ]
        )
    columns = ("max. error", "answers", "wrong", "bound", "measured: answers", "wrong there")
    title = "What could be promised for other maximal errors, each claim by itself"
    return Table(title, columns, rows)


def scores(record: Mapping[str, Any]) -> Table:
    """Returns how well scores sort the errors last; of all p-norms the best one."""
    norms = [row["score"] for row in record["scores"] if row["score"].startswith("p_norm_")]
    shown = [row for row in record["scores"] if row["score"] not in norms[1:]]
    rows = [
        [
            score_name(row["score"]),
            *(f"{row[name]:.5f}" for name in ("augrc", "aurc", "excess_aurc")),
            *(f"{100 * row['coverage_at'][str(e)]:.1f} %" for e in ERRORS),
        ]
        for row in shown
    ]
    errors = [f"at {100 * e:g} %" for e in ERRORS]
    title = "How well scores sort the errors last, and what they would answer at an error"
    return Table(title, ("score", "AUGRC", "AURC", "excess", *errors), rows)


def shift(record: Mapping[str, Any]) -> Table:
    """Returns how shifted images fare."""
    names = ("accuracy", "confidence", "ece", "answered", "error", "strange", "set_coverage")
    rows = [
        [row["shift"], str(row["strength"] or "-"), *(_share(row[name]) for name in names)]
        for row in record.get("shift", [])
    ]
    columns = ("right", "said to be right", "ECE", "answers", "wrong", "strange", "in the set")
    title = "Under shift, with the temperature and the threshold of before"
    return Table(title, ("shift", "strength", *columns), rows)


def networks(name: str, title: str) -> Callable[[Mapping[str, Any]], Table]:
    """Returns the maker of the table of some networks on the same images.

    Args:
        name: "views" or "members".
        title: of the table.
    """

    def table(record: Mapping[str, Any]) -> Table:
        rows = [
            [
                row["member"],
                _share(row["accuracy"]),
                f"{row['nll']:.4f}",
                f"{100 * row['ece']:.2f} %",
                f"{100 * row['ece_by_chance']:.2f} %",
                _share(row["promised_coverage"]),
            ]
            for row in record.get(name, [])
        ]
        columns = ("network", "right", "NLL", "ECE", "by chance", "may answer")
        return Table(f"{title}, each with a temperature of its own", columns, rows)

    return table


def of(record: Mapping[str, Any]) -> list[Table]:
    """Returns the tables that have rows."""
    makers = (
        claims,
        scores,
        shift,
        networks("views", "One view, and the mean of several"),
        networks("members", "Networks and the mean of their probabilities"),
    )
    return [table for make in makers if (table := make(record)).rows]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
