"""The run directory: its files, its lock, and what they say of the run; `recorder` writes it.

config.json        the Experiment
environment.json   versions, devices, git commit and command line of every start
status.json        running, finished, diverged, interrupted or failed, with step and time
data.json          the data set as it was trained on: classes, splits, channel statistics
weights.json       the pretrained weights that the run started from, where it did
code.json          the user's own code that the run needs, where it does
history.json       one record an epoch
result.json        the results of training and evaluation
trust.json         what was promised of a checkpoint, and on which images; trust.npz its features
checkpoints/       states (see training/checkpoints.py)
figures/           PNG files
events.out.*       TensorBoard
"""

import contextlib
import datetime
import os
import pathlib
from collections.abc import Iterator
from typing import Any, Literal

from absl import logging

from cnn_jax import experiment, locks, places, processes
from cnn_jax.errors import RunError, UsageError
from cnn_jax.files import write_json
from cnn_jax.runs import sides, stored
from cnn_jax.text import shown

Status = Literal["running", "finished", "diverged", "interrupted", "pruned", "failed"]


class RunDirectory:
    """The files of a run by name.

    Attributes:
        path: the directory, absolute.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = places.place(path, "directory").resolve()

    @property
    def checkpoints(self) -> pathlib.Path:
        """Where states are."""
        return self.path / "checkpoints"

    @property
    def figures(self) -> pathlib.Path:
        """Where figures are."""
        return self.path / "figures"

    def exists(self) -> bool:
        """Returns whether a run was started here.

        Raises:
            UsageError: the directory may not be read.
        """
        try:
            if (self.path / "config.json").exists():
                return True
            return bool(stored.step_folders(self.checkpoints))  # each holds the configuration
        except OSError as e:
            raise UsageError(
                f"the directory {shown(self.path)} cannot be used: {e.strerror}"
            ) from e

    def check_exists(self) -> None:
        """Raises UsageError where no run was started here."""
        if not self.exists():
            raise UsageError(
                f"{shown(self.path)} is not a run directory (it has no config.json); "
                "give the directory that a training run was given at its start"
            )

    def config(self) -> experiment.Experiment:
        """Returns the run's experiment."""
        try:
            return experiment.from_dict(sides.read(self.path, "config", None))
        except (UsageError, TypeError) as e:
            raise RunError(f"{self.path / 'config.json'}: {e}") from e

    def read(self, name: str, default: Any = None) -> Any:
        """Returns the contents of `name`.json, or the default where there is none.

        A damaged file is named in a warning; see `sides`.
        """
        return sides.read(self.path, name, default)

    def about_weights(self, config: experiment.Experiment) -> dict[str, Any] | None:
        """Returns what weights.json says; None where the run did not start from weights.

        Raises:
            RunError: it is lost, and with it how the images are scaled.
        """
        about = self.read("weights")
        if about is None and config.transfer.weights is not None:
            raise RunError(
                f"{shown(self.path / 'weights.json')}, which says how the images are scaled, is "
                "damaged or not there; put the file back"
            )
        return about

    def write(self, name: str, value: Any) -> None:
        """Writes `name`.json."""
        write_json(self.path / f"{name}.json", value)

    def trained_seconds(self) -> float:
        """Returns how long the run was trained, in seconds."""
        history = self.read("history", [])
        return history[-1].get("seconds", 0.0) if history else 0.0

    def status(self) -> Status | None:
        """Returns the status last written."""
        return self.read("status", {}).get("status")

    def create(self) -> None:
        """Makes the directory.

        Raises:
            UsageError: it holds other files, or cannot be made or written.
            RunError: a folder of the run in it may not be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            others = [x.name for x in self.path.iterdir() if not x.name.startswith(".")]
        except OSError as e:
            raise UsageError(
                f"the directory {shown(self.path)} cannot be used: {e.strerror}"
            ) from e
        if others and not self.exists():
            some = ", ".join(sorted(others)[:3])
            raise UsageError(
                f"the directory {shown(self.path)} holds other files ({some}); "
                "give a new or an empty directory"
            )
        if not os.access(self.path, os.W_OK):
            raise UsageError(f"the directory {shown(self.path)} may not be written")
        for folder in (self.checkpoints, self.figures):
            if folder.exists() and not os.access(folder, os.W_OK):
                raise RunError(f"{shown(folder)} may not be written; give it back its permissions")

    def is_locked(self) -> bool:
        """Returns whether a process is writing here."""
        try:
            with open(self.path / ".lock") as lock:
                return locks.take(lock, shared=True) is False
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the right to write here; the system takes it back whenever the process ends.

        Raises:
            UsageError: another process holds it.
        """
        with open(self.path / ".lock", "w") as lock:
            held = locks.take(lock)
            if held is False:
                raise UsageError(
                    f"another process is training in {shown(self.path)}; "
                    "wait for it, stop it, or give another directory"
                )
            if held is None:
                logging.warning(
                    "%s is on a file system without locks: see to it that no other process trains "
                    "there",
                    shown(self.path),
                )
            yield


def new_directory(name: str) -> RunDirectory:
    """Returns a directory that is not there yet: runs/NAME-DATE-TIME below the current folder.

    Of several processes the first one names it.
    """
    return RunDirectory(processes.team().agree(lambda: str(_new_path(name))))


def _new_path(name: str) -> pathlib.Path:
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    base = pathlib.Path("runs") / f"{name}-{stamp}"
    path, number = base, 1
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path
