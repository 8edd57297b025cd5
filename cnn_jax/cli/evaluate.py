"""The command `evaluate`: measures a checkpoint on every example of a split."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from cnn_jax import processes, text
from cnn_jax.cli import console, findings
from cnn_jax.cli.given import load_run
from cnn_jax.cli.invocation import Invocation
from cnn_jax.data import Split, duplicates, outside
from cnn_jax.errors import UsageError, UserError
from cnn_jax.evaluation import confusion, records, shares, two_classes
from cnn_jax.evaluation.evaluator import Evaluation
from cnn_jax.reporting import evaluations, order
from cnn_jax.runs import evaluation_figures, predictions, recorder, trusting
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.runs.trained import Run
from cnn_jax.sections import IMAGES

# Settings that say where images are; the first ones also where those of the run lie by now.
_MOVED = ("dataset.path", "dataset.data_dir", "dataset.root")
_OUTSIDE = (*IMAGES, "dataset.data_dir", "dataset.bit_depth")


class _Examples(NamedTuple):
    """What is measured: a run on a split, which stands under a name, with notes for the reader."""

    directory: RunDirectory
    run: Run
    split: Split
    name: str
    notes: tuple[str, ...] = ()


def run_command(invocation: Invocation) -> int:
    """Evaluates, prints a table, writes result.json and figures, and returns the exit code.

    Where the run directory may not be written, the table is all, and a warning says so.
    """
    say = console.speaker(invocation.quiet)
    with processes.team().first():
        examples = _examples(invocation, say)
    _, run, split, name, notes = examples
    found = run.evaluate(split, views=invocation.views)
    found, calibrated = trusting.recalibrated(run, found, split, invocation.views)
    if invocation.views != "one":
        name += f"_{invocation.views}"
        examples = examples._replace(name=name)
    if run.data_info.multilabel:
        return _findings(invocation, examples, found)
    positive = two_classes.positive_class(run.experiment.dataset.positive, run.class_names)
    ordered = run.experiment.dataset.ordered
    record = records.record(
        found, split, run.data_info, run.step, positive=positive, ordered=ordered
    )
    if calibrated is not None:
        record["calibrated"] = calibrated
    if invocation.operating_point is not None:
        record["operating_point"] = _operating_point(invocation, run, split, found, positive)
    if not processes.team().is_first:
        return 0
    for line in notes:
        print(text.one_line(line))
    print(f"{name} accuracy {found.accuracy:.4f}, loss {found.loss:.4f}", end=" ")
    print(f"on {found.examples:,} examples (checkpoint of step {run.step})")
    never = shares.never_predicted(found.confusion)
    for line in shares.lines(found.confusion.sum(axis=1), never, run.class_names):
        print(text.one_line(line))
    for line in evaluations.lines(record):
        print(text.one_line(line))
    if calibrated is not None:
        print(evaluations.calibrated_line(calibrated))
    elif (why := trusting.why_not_calibrated(run, invocation.views)) is not None:
        print(f"calibrated no: {why}")
    print(evaluations.table(record, order.shown(run.class_names)))
    if positive is not None:
        rates = evaluations.named(record, two_classes.RATES, record["rate_intervals"])
        print(text.one_line(f"positive   {record['positive']} (--dataset.positive): {rates}"))
    if "operating_point" in record:
        print(_operating_line(record["operating_point"]))
    for line in evaluations.group_lines(record):
        print(text.one_line(line))
    for line in _worst_lines(run, split, found, invocation.worst):
        print(text.one_line(line))
    _write(invocation, examples, found, record)
    return 0


def _findings(invocation: Invocation, examples: _Examples, found: Evaluation) -> int:
    """Prints and writes the evaluation of images that may have several findings."""
    _, run, split, name, notes = examples
    rule = None
    if invocation.operating_point is not None:
        rule = _parse_operating_point(str(invocation.operating_point))
    record = findings.record(invocation, run, split, found, rule)
    if processes.team().is_first:
        head = f"{name} loss {found.loss:.4f} on {found.examples:,} examples "
        for line in [*notes, f"{head}(checkpoint of step {run.step})", *findings.lines(record)]:
            print(text.one_line(line) if line in notes else text.printable(line))
        _write(invocation, examples, found, record)
    return 0


def _write(
    invocation: Invocation, examples: _Examples, found: Evaluation, record: dict[str, Any]
) -> None:
    """Writes result.json, the table of predictions and the figures, and says where they are."""
    directory, run, split, name, _ = examples
    try:
        recorder.add_evaluation(directory, name, record)
        print(f"written    {text.shown(directory.path / 'result.json')}")
        best = recorder.best_step(run.history)
        name += "" if best in (None, run.step) else f"_step{run.step}"
        table = predictions.save(directory.path, name, found, split, run.data_info)
        print(f"           {text.shown(table)}")
        saved = evaluation_figures.save(
            name,
            found,
            split,
            run.data_info,
            run.history,
            directory,
            record,
            invocation.worst,
        )
        for path in saved:
            print(f"figure     {text.shown(path)}")
    except OSError as error:  # a colleague's run, an archive, a full disk: the figures stand above
        path = text.one_line(str(error.filename or directory.path))
        logging.warning("%s is not written: %s", path, error.strerror)
    print(f"predict    {console.command_line(invocation, 'predict', directory.path, 'IMAGE...')}")


def _examples(invocation: Invocation, say: Callable[[str], None]) -> _Examples:
    """Returns the run's own examples, or those from elsewhere.

    Images whose place was given are the run's own where they are those that it was trained on.
    """
    places = {path for path in invocation.overrides if path in _OUTSIDE}
    if places == {"dataset.bit_depth"}:  # without other images it would be another configuration
        places = set()
    failed: UserError | None = None
    if places <= set(_MOVED):
        directory, run = load_run(invocation)
        try:
            split, name = run.split(invocation.split), run.split_name(invocation.split)
            if name != (invocation.split or "test"):
                say(f"{run.data_info.name} has no test split: this is the validation split")
            return _Examples(directory, run, split, name)
        except UserError as error:
            if not places:
                raise
            failed = error
    settings = {p: v for p, v in invocation.overrides.items() if p not in places}
    directory, run = load_run(dataclasses.replace(invocation, overrides=settings))
    given = {path.removeprefix("dataset."): invocation.overrides[path] for path in places}
    section = dataclasses.replace(run.experiment.dataset, **given)
    try:
        split, notes = outside.load(
            section, run.data_info, invocation.split, quiet=invocation.quiet
        )
    except UserError as error:
        # What is wrong with it as data from elsewhere says less where it was to be the run's own.
        if failed is not None and section.path is None:
            raise failed from error
        raise
    where = section.path or section.name
    stem = text.file_name(Path(where).name.replace(".", "_"), "data")
    part = f"_{invocation.split}" if invocation.split else ""
    said = f"not the data of training: {len(split):,} images of {text.shown(Path(where))}"
    notes = (*notes, said, _trained_on(run, split))
    return _Examples(directory, run, split, f"outside_{stem}{part}", notes)


def _trained_on(run: Run, split: Split) -> str:
    """Returns a line on images from elsewhere that the run was trained on."""
    try:
        train = run.split("train")
    except UserError:
        return "the data of training are not here, so nobody can say whether it had images of these"
    both = duplicates.pairs(split, train)
    if both is None:
        return "the images of training are streamed: nobody has looked whether it had any of these"
    if not both:
        return f"none of them is equal to one of the {len(train):,} images of training"
    named = ", ".join(f"{one} = {other}" for one, other in both[:3])
    more = f" and {len(both) - 3} more" if len(both) > 3 else ""
    verb = "was" if len(both) == 1 else "were"
    return f"{text.plural(len(both), 'image')} of them {verb} trained on: {named}{more}"


def _operating_point(
    invocation: Invocation, run: Run, split: Split, found: Evaluation, positive: int | None
) -> dict[str, Any]:
    """Returns the rates at a threshold that validation images chose, or that was given."""
    if positive is None:
        raise UsageError(
            f"--operating_point={invocation.operating_point} is for two classes, and there are "
            f"{len(run.class_names)}"
        )
    rate, value = _parse_operating_point(str(invocation.operating_point))
    point: dict[str, Any] = {"rule": invocation.operating_point, "threshold": value}
    if rate != "threshold":
        validation = run.split("validation")
        chosen = found
        if validation is not split or invocation.views != "one":
            chosen = run.evaluate(validation, views=invocation.views)
        scores, is_positive = chosen.probabilities[:, positive], validation.labels == positive
        point["threshold"] = two_classes.threshold(scores, is_positive, rate, value)
        point |= {"chosen_on": "validation", "chosen_by": len(validation)}
    said = found.probabilities[:, positive] >= point["threshold"]
    predicted = np.where(said, positive, 1 - positive)
    matrix = np.zeros((2, 2), int)
    np.add.at(matrix, (split.labels, predicted), 1)
    point["confusion_matrix"] = matrix.tolist()
    return point | two_classes.rates(said, split.labels == positive, split.groups)


def _parse_operating_point(rule: str) -> tuple[str, float]:
    """Returns (sensitivity, specificity or threshold, its value) of a rule such as sensitivity:0.9.

    Raises:
        UsageError: it has another form, or a value that is not between 0 and 1.
    """
    name, _, value = rule.partition(":")
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if name not in ("sensitivity", "specificity", "threshold") or not 0 < number < 1:
        raise UsageError(
            f"--operating_point={rule}: give sensitivity:0.95, specificity:0.9 or threshold:0.3, "
            "with a number between 0 and 1"
        )
    return name, number


def _operating_line(point: dict[str, Any]) -> str:
    by = ""
    if "chosen_on" in point:
        by = f" by {point['rule']} of {point['chosen_by']:,} validation images"
    rates = evaluations.named(point, two_classes.RATES, point["rate_intervals"])
    return f"threshold  {point['threshold']:.4g}{by}: {rates}"


def _worst_lines(run: Run, split: Split, found: Evaluation, count: int) -> list[str]:
    """Returns a line for each of the errors that the network is surest of."""
    lines = []
    for i in confusion.surest_errors(found.probabilities, split.labels, count):
        p, names = found.probabilities[i], run.class_names
        said, true = names[int(p.argmax())], names[int(split.labels[i])]
        start = "          " if lines else "surest    "
        lines.append(f"{start} {split.ids[int(i)]}: {said} {p.max():.4f}, is {true}")
    return lines
