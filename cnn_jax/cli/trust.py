"""The command `trust`: calibrates a run, and certifies how much it may answer on its own."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from cnn_jax import text
from cnn_jax.cli import console
from cnn_jax.cli.given import load_run
from cnn_jax.cli.invocation import Invocation
from cnn_jax.data import Split, images, named, outside
from cnn_jax.errors import RunError
from cnn_jax.options import Trust
from cnn_jax.reporting import tables, tensorboard
from cnn_jax.runs import loading, recorder, trusted, trusting
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.trained import Run
from cnn_jax.runs.trusted import Trusted
from cnn_jax.trust import costs, sentences


def run_command(invocation: Invocation) -> int:
    """Runs `trust` and returns the exit code: 1 where nothing could be promised.

    Raises:
        UsageError: there is no run, a setting is wrong, or there are too few images.
        RunError: the data are not those that the run was trained on, or cannot be read.
    """
    say = console.speaker(invocation.quiet)
    options = Trust(**invocation.trust)
    directory, run = load_run(invocation)
    matrix = None if options.costs is None else costs.read(options.costs, run.class_names)
    fresh: Split | None = None
    if options.path is not None:
        fresh = _outside(run, options.path, invocation.quiet)
    found = trusting.trust(
        run,
        options,
        fresh=fresh,
        source=f"fresh images of {options.path}",
        costs=matrix,
        views=invocation.views,
        more=_more(run, options, invocation),
        say=say,
    )
    if not recorder.is_writer():
        return 0
    for line in found.sentences:
        print(text.one_line(line))
    _print_tables(found)
    _print_more(found.record)
    _write(directory, run, found)
    print(f"predict    {console.command_line(invocation, 'predict', directory.path, 'IMAGE...')}")
    return 0 if any(claim["threshold"] is not None for claim in found.record["claims"]) else 1


def _outside(run: Run, path: str, quiet: bool) -> Split:
    """Returns labelled images of a folder, a table or an .npz file."""
    kinds = {".csv": "table", ".tsv": "table", ".npz": "npz"}
    kind = kinds.get(Path(path).suffix.lower(), "folder")
    section = dataclasses.replace(run.experiment.dataset, name=kind, path=path)
    split, notes = outside.load(section, run.data_info, quiet=quiet)
    for note in notes:
        print(text.one_line(note))
    return split


def _more(run: Run, options: Trust, invocation: Invocation) -> trusting.More:
    """Returns what the flags ask for beside the promise."""
    words = [] if options.shift is None else options.shift.split(",")
    places = [word for word in words if word != "on"]
    shifted = {place: _outside(run, place, invocation.quiet) for place in places}
    new = None
    if options.new is not None:
        how = images.like(run.data_info, run.experiment.dataset.max_megapixels)
        new = np.stack([images.decode(path, how).pixels for path in named.expand([options.new])])
    runs = [] if options.members is None else options.members.split(",")
    members = {place: loading.load(place, invocation.checkpoint) for place in runs}
    return trusting.More("on" in words, shifted, new, members)


def _print_tables(found: Trusted) -> None:
    record = found.record
    if rows := sentences.of_claims(record):
        print("\nWhat could be promised for other maximal errors, each claim by itself:")
        print(tables.table(rows, list(sentences.CLAIM_COLUMNS), "rrrrrr"))
    rows = [
        [
            row["score"],
            f"{row['augrc']:.5f}",
            f"{row['aurc']:.5f}",
            f"{row['excess_aurc']:.5f}",
            *(f"{100 * share:.1f} %" for share in row["coverage_at"].values()),
        ]
        for row in record["scores"]
    ]
    head = [
        "score",
        "AUGRC",
        "AURC",
        "excess",
        *(f"at {100 * float(e):g} %" for e in record["scores"][0]["coverage_at"]),
    ]
    print("\nHow well scores sort the errors last, and what they would answer at an error of:")
    print(tables.table(rows, head, "l" + "r" * (len(head) - 1)))
    print(f"It goes by {sentences.score_name(record['score'])}: {record['score_note']}.")


def _print_more(record: dict[str, Any]) -> None:
    def percent(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f} %"

    if rows := record.get("shift"):
        columns = ("accuracy", "ece", "answered", "error", "strange", "set_coverage")
        cells = [
            [row["shift"], row["strength"] or "-", *(percent(row[name]) for name in columns)]
            for row in rows
        ]
        head = ["shift", "strength", "right", "ECE", "answers", "wrong", "strange", "in the set"]
        print("\nUnder shift, with the temperature and the threshold of before:")
        print(tables.table(cells, head, "lrrrrrrr"))
    titles = {"views": "One view and the mean of several", "members": "Members and their mean"}
    for name, title in titles.items():
        rows = record.get(name, [])
        cells = [
            [
                row["member"],
                percent(row["accuracy"]),
                f"{row['nll']:.4f}",
                f"{100 * row['ece']:.2f} %",
                f"{100 * row['ece_by_chance']:.2f} %",
                percent(row["promised_coverage"]),
            ]
            for row in rows
        ]
        if cells:
            head = ["network", "right", "NLL", "ECE", "by chance", "may answer"]
            print(f"\n{title}, each with a temperature of its own:")
            print(tables.table(cells, head, "lrrrrr"))


def _write(directory: RunDirectory, run: Run, found: Trusted) -> None:
    """Writes trust.json, its arrays and figures; a warning says where that is not possible."""
    from cnn_jax.reporting import figures

    try:
        trusted.save(directory, found)
        print(f"written    {text.shown(directory.path / 'trust.json')}")
        drawn = figures.trust.of(found.record)
        for name, figure in drawn.items():
            path = directory.figures / f"trust_{name}.png"
            figures.save(figure, path)
            print(f"figure     {text.shown(path)}")
        with tensorboard.Addition(directory.path) as events:
            for name in ("reliability", "risk_coverage"):
                events.figure(run.step, f"trust/{name}", drawn[name])
            events.text(run.step, "trust", "\n\n".join(found.sentences))
    except (OSError, RunError) as error:  # an archive, a full disk: the figures stand above
        reason = getattr(error, "strerror", None) or str(error)
        logging.warning("%s is not written: %s", text.shown(directory.path), reason)
