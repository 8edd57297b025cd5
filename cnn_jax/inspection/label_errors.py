"""Training labels that networks find unlikely which were not trained on them."""

import csv
import dataclasses
import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from cnn_jax import extras, files, text
from cnn_jax.data import Data, Split
from cnn_jax.errors import RunError, UsageError
from cnn_jax.inspection import confident, out_of_fold
from cnn_jax.inspection.out_of_fold import Say
from cnn_jax.runs.trained import Run

METHODS = ("auto", "retrain", "heads")
_SEEN = 25


@dataclasses.dataclass(frozen=True)
class LabelErrors:
    """The training labels of a data set, the least likely first.

    Attributes:
        split: the training examples.
        class_names: label i is class_names[i].
        order: int [n], positions in the split, by the probability of the given class.
        probabilities: float32 [n, classes], out of fold, in the order of the split.
        doubted: bool [n], in the order of the split: confidently of another class than the label.
        joint: float [classes, classes], the estimated shares of (label, true class).
        method: "retrain" or "heads".
        folds: how many.
    """

    split: Split
    class_names: tuple[str, ...]
    order: np.ndarray
    probabilities: np.ndarray
    doubted: np.ndarray
    joint: np.ndarray
    method: str
    folds: int

    def __repr__(self) -> str:
        return (
            f"<LabelErrors: {int(self.doubted.sum()):,} of {len(self.split):,} training labels are "
            f"doubted, out of {self.folds} folds>"
        )

    @property
    def suggested(self) -> np.ndarray:
        """The most probable class of each example, int [n], in the order of the split."""
        return self.probabilities.argmax(axis=1)

    @property
    def share(self) -> float:
        """The share of the labels that are wrong, as confident learning estimates it."""
        return float(1 - np.trace(self.joint))

    def rows(self, most: int | None = None) -> list[list[Any]]:
        """Returns [id, label, suggested, probability of the label, of the suggested, doubted]."""
        found, suggested = [], self.suggested
        for i in self.order[:most].tolist():
            label, other, p = int(self.split.labels[i]), int(suggested[i]), self.probabilities[i]
            names = self.class_names[label], self.class_names[other]
            found.append(
                [str(self.split.ids[i]), *names, float(p[label]), float(p[other]), self.doubted[i]]
            )
        return found

    def save(self, directory: str | os.PathLike[str]) -> list[Path]:
        """Writes label_errors.csv, .json and .png into a directory, and returns their paths.

        The table has every training example, the least likely label first.

        Raises:
            RunError: a file cannot be written.
        """
        folder = Path(directory)
        lines = io.StringIO(newline="")
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(["id", "label", "suggested", "p_label", "p_suggested", "doubted"])
        for id_, label, other, p, q, doubted in self.rows():
            names = [text.printable(name) for name in (id_, label, other)]
            writer.writerow([*names, f"{p:.6g}", f"{q:.6g}", int(doubted)])
        about = {
            "method": self.method,
            "folds": self.folds,
            "examples": len(self.split),
            "doubted": int(self.doubted.sum()),
            "estimated_share_wrong": self.share,
            "classes": list(self.class_names),
            "joint": self.joint.tolist(),
        }
        table, summary = folder / "label_errors.csv", folder / "label_errors.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            content = lines.getvalue().encode()
            files.write_whole(table, lambda file: file.write(content))
            files.write_json(summary, about)
        except OSError as error:
            where = error.filename or folder
            raise RunError(f"{where} cannot be written: {error.strerror or error}") from error
        if not extras.can_draw():
            return [table, summary]
        from cnn_jax.inspection import pictures  # imports Matplotlib

        picture = folder / "label_errors.png"
        pictures.save_labels(self.split, self.rows(_SEEN), self.order[:_SEEN], picture)
        return [table, summary, picture]


def find(
    run: Run,
    data: Data | None = None,
    *,
    folds: int = 4,
    method: str = "auto",
    epochs: int | None = None,
    say: Say | None = None,
    progress: bool = False,
    setting: str = "folds",
) -> LabelErrors:
    """Ranks the training labels of a run by how likely they are to networks that never saw them.

        found = cnn_jax.find_label_errors(run)
        found.rows(10)
        found.save("doubted")

    Args:
        run: the run.
        data: its data; None: they are loaded.
        folds: how many networks or heads, each of which leaves out one part of the examples.
        method: "retrain" trains the run's experiment anew for each fold; "heads" fits a linear
            classifier on the run's features for each fold, which is out of fold only where the
            backbone was not trained on these labels; "auto" takes "heads" where the run left the
            backbone frozen, else "retrain".
        epochs: of the networks that are trained anew; None: as many as the run had.
        say: shows a line; None: no line is shown.
        progress: whether training shows a bar.
        setting: what the number of folds was given as, for messages.

    Raises:
        UsageError: there is no such method, or the data have several findings in an image.
        RunError: there are too few examples of a class.
    """
    if not isinstance(run, Run):
        raise UsageError(f"give a run, such as cnn_jax.load(DIR), not {type(run).__name__}")
    say = say or (lambda _: None)
    if method not in METHODS:
        raise UsageError(f"method is one of {', '.join(METHODS)}, not {method!r}")
    if run.data_info.multilabel:
        raise UsageError("the labels of images with several findings are not ranked")
    if data is None:
        data = Data(run.data_info, {n: run.split(n) for n in ("train", "validation")})
    fold_of = out_of_fold.assign(data, folds, setting)
    config = out_of_fold.shortened(run.experiment, epochs)
    if method == "auto":
        frozen = out_of_fold.backbone_is_frozen(config, data)
        method = "heads" if frozen else "retrain"
    if method == "heads":
        probabilities = out_of_fold.by_heads(run, data, fold_of, say)
    else:
        probabilities = out_of_fold.by_retraining(config, data, fold_of, say, progress=progress)
    return ranked(data.train, data.info.class_names, probabilities, method, folds)


def ranked(
    split: Split, class_names: tuple[str, ...], probabilities: np.ndarray, method: str, folds: int
) -> LabelErrors:
    """Returns the labels of a split, ranked by probabilities that are out of fold."""
    labels = np.asarray(split.labels)
    own = probabilities[np.arange(len(labels)), labels]
    likely = confident.confident_classes(labels, probabilities)
    return LabelErrors(
        split=split,
        class_names=class_names,
        order=np.lexsort((confident.margins(labels, probabilities), own)),
        probabilities=probabilities,
        doubted=(likely >= 0) & (likely != labels),
        joint=confident.estimated_joint(labels, probabilities),
        method=method,
        folds=folds,
    )
