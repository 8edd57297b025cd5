"""The command `trust`: calibrates a run, and certifies how much it may answer on its own."""

import dataclasses
from pathlib import Path

import numpy as np
from absl import logging

from cnn_jax import extras, places, text
from cnn_jax.cli import console
from cnn_jax.cli.given import load_run
from cnn_jax.cli.invocation import Invocation
from cnn_jax.data import Split, images, named, outside
from cnn_jax.errors import RunError, UsageError
from cnn_jax.options import Trust
from cnn_jax.reporting import tables, tensorboard
from cnn_jax.runs import loading, trusted, trusting
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.trained import Run
from cnn_jax.runs.trusted import Trusted
from cnn_jax.trust import costs, sentences
from cnn_jax.trust import tables as trust_tables


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
        fresh = _outside(run, options.path, "path", invocation.quiet)
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
    for line in found.sentences:
        print(text.one_line(line))
    _print_tables(found)
    _write(directory, run, found)
    print(f"predict    {console.command_line(invocation, 'predict', directory.path, 'IMAGE...')}")
    return 0 if any(claim["threshold"] is not None for claim in found.record["claims"]) else 1


def _outside(run: Run, path: str, flag: str, quiet: bool) -> Split:
    """Returns labelled images of a folder, a table or an .npz file, given by --trust.FLAG."""
    if not places.place(path, f"--trust.{flag}").exists():
        raise UsageError(f"--trust.{flag}: there is no folder or file {path}")
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
    folders = [word for word in words if word != "on"]
    shifted = {folder: _outside(run, folder, "shift", invocation.quiet) for folder in folders}
    new = None
    if options.new is not None:
        how = images.like(run.data_info, run.experiment.dataset.max_megapixels)
        new = np.stack([images.decode(path, how).pixels for path in named.expand([options.new])])
    runs = [] if options.members is None else options.members.split(",")
    members = {place: loading.load(place, invocation.checkpoint) for place in runs}
    return trusting.More("on" in words, shifted, new, members)


def _print_tables(found: Trusted) -> None:
    for table in trust_tables.of(found.record):
        print(f"\n{text.one_line(table.title)}:")
        numbers = "r" * (len(table.columns) - 1)
        print(tables.table(table.rows, list(table.columns), f"l{numbers}"))
    record = found.record
    print(f"It goes by {sentences.score_name(record['score'])}: {record['score_note']}.")


def _write(directory: RunDirectory, run: Run, found: Trusted) -> None:
    """Writes trust.json, its arrays and figures; a warning says where that is not possible."""
    try:
        trusted.save(directory, found)
        print(f"written    {text.shown(directory.path / 'trust.json')}")
        drawn = {}
        if extras.can_draw():
            from cnn_jax.reporting import figures

            drawn = figures.trust.of(found.record)
            for name, figure in drawn.items():
                path = directory.figures / f"trust_{name}.png"
                figures.save(figure, path)
                print(f"figure     {text.shown(path)}")
        with tensorboard.Addition(directory.path) as events:
            for name in (name for name in ("reliability", "risk_coverage") if name in drawn):
                events.figure(run.step, f"trust/{name}", drawn[name])
            events.text(run.step, "trust", "\n\n".join(found.sentences))
    except (OSError, RunError) as error:  # an archive, a full disk: the figures stand above
        reason = getattr(error, "strerror", None) or str(error)
        logging.warning("%s is not written: %s", text.shown(directory.path), reason)
