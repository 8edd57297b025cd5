"""trust.json and trust.npz of a run: what was promised, and whether it holds for a checkpoint.

trust.json is bound to the network by a sha256 of its variables and of how it reads images;
trust.npz, with features of training images, to trust.json by its own sha256. Of another network, or
where one of them cannot be read, nothing is promised, and a warning says so.
"""

import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from cnn_jax import files
from cnn_jax.data import DataInfo
from cnn_jax.experiment import Experiment
from cnn_jax.runs import leaves
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.trust import sentences, verdicts
from cnn_jax.trust.verdicts import Judge

_ARRAYS = "trust.npz"
_READ = ("class_names", "image_shape", "mean", "std", "dtype", "bit_depth", "resize")


@dataclasses.dataclass(frozen=True)
class Trusted:
    """What was found and promised of a network.

    Attributes:
        record: what trust.json holds.
        arrays: what trust.npz holds.
    """

    record: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The record in sentences."""
        return tuple(self.record["sentences"])

    @property
    def judge(self) -> Judge:
        """Judges new images."""
        return verdicts.of_record(self.record, self.arrays)

    @property
    def views(self) -> str:
        """The views of an image that the promise is about."""
        return self.record["network"]["views"]

    def __repr__(self) -> str:
        return "\n".join(self.sentences)


def digest(variables: Any, info: DataInfo, config: Experiment) -> str:
    """Returns the sha256 (hex) of a network: its variables, and how it reads images."""
    described = info.to_dict()
    reads = {name: described.get(name) for name in _READ}
    if described.get("crop_share", 1) != 1:  # runs that began before there was the setting had 1
        reads["crop_share"] = described["crop_share"]
    reads |= {"normalize": config.dataset.normalize, "precision": config.train.precision}
    sha = hashlib.sha256(json.dumps(reads, sort_keys=True).encode())
    sha.update(leaves.digest(variables).encode())
    return sha.hexdigest()


def save(directory: RunDirectory, found: Trusted) -> None:
    """Writes trust.npz, then trust.json."""
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=False, **found.arrays)  # pyright: ignore[reportArgumentType]
    content = packed.getvalue()
    files.write_whole(directory.path / _ARRAYS, lambda file: file.write(content))
    sha = hashlib.sha256(content).hexdigest()
    directory.write("trust", {**found.record, "arrays_sha256": sha})


def of_run(run: Any) -> Trusted | None:
    """Returns what was promised of a network; None: nothing, or not of this one (a warning).

    Args:
        run: a `trained.Run`.
    """
    if run.directory is None or not (run.directory / "trust.json").exists():
        return None
    directory, step = RunDirectory(run.directory), run.step
    record = directory.read("trust")
    if record is None:
        return None
    network = digest(run.variables, run.data_info, run.experiment)
    named = record["class_names"] == list(run.class_names)
    if not named or record["network"]["sha256"] != network:
        logging.warning("%s", sentences.void(record["network"]["step"], step))
        return None
    arrays = _arrays(directory, record)
    if arrays is None:
        logging.warning(
            "%s is damaged, not there, or not of trust.json: nothing is promised; run trust again",
            directory.path / _ARRAYS,
        )
        return None
    return Trusted(record, arrays)


def _arrays(directory: RunDirectory, record: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    try:
        content = (directory.path / _ARRAYS).read_bytes()
        if hashlib.sha256(content).hexdigest() != record.get("arrays_sha256"):
            return None
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile):
        return None
    bank, held = arrays.get("bank", np.zeros((0, 0))), arrays.get("held_out", np.zeros(0))
    mean, inverse = arrays.get("mean", np.zeros(0)), arrays.get("inverse", np.zeros((0, 0)))
    least = record["strangers"]["neighbours"]
    right = bank.ndim == 2 and held.ndim == mean.ndim == 1 and least <= len(bank)
    right = (
        right and inverse.shape == mean.shape * 2 and ("mean" in arrays) == ("inverse" in arrays)
    )
    return arrays if right and {each.dtype.kind for each in arrays.values()} <= {"f"} else None
