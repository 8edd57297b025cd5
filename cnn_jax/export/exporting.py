"""Exports a run: the network in a format, a record beside it, checked before it has its name."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from cnn_jax import files, places
from cnn_jax.errors import UsageError
from cnn_jax.export import (
    about,
    card,
    folders,
    keras_weights,
    onnx_model,
    program,
    stablehlo,
    torch_weights,
)
from cnn_jax.export.checking import Checked
from cnn_jax.runs.trained import Run
from cnn_jax.runs.untrained import Untrained
from cnn_jax.text import did_you_mean

Format = Literal["stablehlo", "onnx", "safetensors", "keras"]
# What the differences are counted in, where it is no plain number.
UNITS = {
    "logits": " of the largest logit",
    "weights": " (to the bit)",
    "answers": " of the images",
    "sets": " of the images",
}
FORMATS: tuple[str, ...] = get_args(Format)


@dataclasses.dataclass(frozen=True)
class Export:
    """An export that was written.

    Attributes:
        folder: where it is.
        file: the file of the network.
        record: what export.json says.
        checked: how far it is from the run.
    """

    folder: Path
    file: Path
    record: dict[str, Any]
    checked: Checked

    def __repr__(self) -> str:
        return f"<Export {self.file}: {self.checked.largest:.2g} from the run>"


def export_run(
    run: Run,
    format: Format | str,
    output: str | os.PathLike[str] | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> Export:
    """Writes the network of a run for others to use, who need nothing of this package.

        made = cnn_jax.export_run(run, "onnx", "cats_or_dogs")

    The folder holds the network, `export.json` with all that belongs to it (classes, shapes,
    scaling, temperature and thresholds, licence and source of pretrained weights, versions, sha256)
    and a card, `README.md`. The network is compared with the run on validation images first; where
    it says something else, nothing is written. An earlier export in the folder is replaced at once.

    Args:
        run: the run.
        format: "stablehlo" or "onnx", whose graphs take the stored pixels of any number of images;
            "safetensors", weights under torchvision's names, or "keras", weights that the networks
            of `keras.applications` load.
        output: the folder; None: `export/FORMAT` in the run directory.
        say: is told what is done.

    Raises:
        UsageError: the format cannot hold this network, its package is not installed, or the folder
            holds other files.
        RunError: the file says something else than the run, or cannot be written.
    """
    if format not in FORMATS:
        tip = did_you_mean(str(format), list(FORMATS))
        raise UsageError(f"the format is one of {', '.join(FORMATS)}, not {format!r}{tip}")
    if output is None and run.directory is None:
        raise UsageError("the run has no directory: give the folder to export to as output")
    given = run.directory / "export" / format if output is None else places.place(output, "output")  # pyright: ignore[reportOptionalOperand]
    place = Path(given).absolute()
    with folders.whole(place) as folder:
        name, checked, record = _write(run, format, folder, say)
        record |= {"check": checked.to_dict(), "file": name, "files": _listed(folder)}
        (folder / folders.CARD).write_text(card.of_run(run, record))
        record["files"] = _listed(folder)
        files.write_json(folder / folders.RECORD, record)
    return Export(place, place / name, record, checked)


def _listed(folder: Path) -> list[dict[str, Any]]:
    return [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": files.sha256(path)}
        for path in sorted(folder.iterdir())
    ]


def _write(
    run: Run, format: str, folder: Path, say: Callable[[str], None]
) -> tuple[str, Checked, dict[str, Any]]:
    """Writes the network; returns (name of its file, how it was checked, the record so far)."""
    step = ", not trained here," if isinstance(run, Untrained) else f" of step {run.step}"
    say(f"exporting  {run.experiment.model.name}{step} as {format}")
    if format == "safetensors":
        record = about.of_run(run, format, None)
        checked, record["left_out"] = torch_weights.write(run, folder)
        record["load"] = torch_weights.loading(run)
        return torch_weights.FILE, checked, record
    if format == "keras":
        record = about.of_run(run, format, None)
        checked = keras_weights.write(run, folder)
        record["load"] = keras_weights.loading(run)
        return keras_weights.FILE, checked, record
    made = program.of_run(run, "float32" if format == "onnx" else None)
    record = about.of_run(run, format, made)
    if format == "stablehlo":
        checked = stablehlo.write(run, made, folder)
        record["load"] = stablehlo.LOADING
        return stablehlo.FILE, checked, record
    checked = onnx_model.write(run, made, folder, record)
    record["load"] = onnx_model.LOADING
    return onnx_model.FILE, checked, record
