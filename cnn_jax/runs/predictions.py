"""predictions_SPLIT.csv: what an evaluation said of each example, for other programs to read."""

import csv
import io
from pathlib import Path

from cnn_jax import files, text
from cnn_jax.data import DataInfo, Split
from cnn_jax.evaluation import findings
from cnn_jax.evaluation.evaluator import Evaluation

_MOST_CLASSES = 100  # that have a column; more would be a file of hundreds of megabytes


def save(directory: Path, name: str, found: Evaluation, split: Split, info: DataInfo) -> Path:
    """Writes a row for each example: id, group, label, predicted, and a probability for each class.

    With more than 100 classes only those of the two named classes: `p_label` and `p_predicted`.
    Several findings stand in label and predicted with | between them.

    Args:
        directory: the run directory.
        name: of the evaluation, "test" say.
        found: the evaluation.
        split: its examples.
        info: names the classes.

    Returns:
        The file. The column group is there where there are groups.
    """
    grouped = split.groups is not None
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    group = ["group"] if grouped else []
    every = len(info.class_names) <= _MOST_CLASSES or info.multilabel
    names = [f"p_{each}" for each in info.class_names] if every else ["p_label", "p_predicted"]
    writer.writerow(["id", *group, "label", "predicted", *names])
    if info.multilabel:
        for i, (p, label) in enumerate(zip(found.probabilities, split.labels, strict=True)):
            own = [split.groups[i]] if split.groups is not None else []
            sets = [findings.named(each, info.class_names) for each in (label, p >= 0.5)]
            row = [text.printable(str(cell)) for cell in (split.ids[i], *own, *sets)]
            writer.writerow([*row, *(f"{value:.6g}" for value in p)])
        return _write(directory, name, lines.getvalue())
    said = found.probabilities.argmax(axis=1)
    for i, (p, label) in enumerate(zip(found.probabilities, split.labels, strict=True)):
        own = [split.groups[i]] if split.groups is not None else []
        classes = [info.class_names[int(label)], info.class_names[int(said[i])]]
        row = [text.printable(str(cell)) for cell in (split.ids[i], *own, *classes)]
        shown = p if every else p[[label, said[i]]]
        writer.writerow([*row, *(f"{value:.6g}" for value in shown)])
    return _write(directory, name, lines.getvalue())


def _write(directory: Path, name: str, content: str) -> Path:
    path = directory / f"predictions_{name}.csv"
    files.write_whole(path, lambda file: file.write(content.encode()))
    return path
