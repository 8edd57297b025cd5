"""Writes the event files that TensorBoard reads."""

import contextlib
import math
import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import api_pb2, event_pb2, plugin_hparams_pb2, summary_pb2

from cnn_jax.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The classes of protocol buffers exist at run time only, so for a type checker they are Any.
_API: Any = api_pb2
_EVENT: Any = event_pb2
_HPARAMS: Any = plugin_hparams_pb2
_SUMMARY: Any = summary_pb2

_METRICS = ("validation/accuracy", "validation/loss")
_FLUSH_SECONDS = 10.0
_FILES = "events.out.tfevents.*"


class EventWriter:
    """Writes scalars, figures, text and hyperparameters to one event file in a run directory.

    The hyperparameters are in the run's own file, so the metrics of TensorBoard's HPARAMS table are
    the run's live curves. As a context manager it closes as "finished", or as "interrupted" where
    an exception passes through.

    Args:
        run_dir: the directory of the new event file; an earlier file of the same run stays there.
        hyperparameters: {dotted name: value} of all settings. None and lists become text:
            tensorboardX drops them silently, and with them the column of every other run.
        resume_step: the step that the run goes on from. Readers do not see the points that earlier
            files have at later steps; those at `resume_step` itself stay. None: a fresh run, and
            readers see nothing of earlier files.
        group: the runs of one group are one row of the HPARAMS table, with the mean of their
            metrics. None: the run has a row of its own.
        first: the hyperparameters whose columns the table shows first.
    """

    def __init__(
        self,
        run_dir: str | os.PathLike,
        hyperparameters: Mapping[str, Any],
        resume_step: int | None = None,
        group: str | None = None,
        first: Collection[str] = (),
    ) -> None:
        path = Path(run_dir)
        path.mkdir(parents=True, exist_ok=True)
        # tensorboardX names a file by the second, so a run that is stopped and resumed within one
        # second would overwrite its file. Readers take the files in the order of their names.
        number = sum(1 for _ in path.glob(_FILES))
        # This writes at once; the flush of tensorboardX.SummaryWriter leaves events in its queue.
        self._path = str(path / "events.out.tfevents")
        self._file: EventsWriter | None = EventsWriter(str(path / "events"), f".{number:04d}")
        self._flushed = time.monotonic()
        # A fresh run starts a session too: one of TensorBoard's two readers takes the first
        # session of a directory for the original, and hides no points because of it.
        start_session = _EVENT.SessionLog(status=_EVENT.SessionLog.START)
        self._write(0 if resume_step is None else resume_step + 1, session_log=start_session)
        experiment, start, self._end = _hparams(hyperparameters, group, first)
        # A resumed run repeats these summaries, in case it was killed before the first reached the
        # disk. Where they did, nothing changes: TensorBoard keeps the first summary of a tag and
        # ignores those of later files.
        if not any(any(parent.glob(_FILES)) for parent in path.resolve().parents[:3]):
            # TensorBoard uses any one description of the table that it finds, so the runs of a
            # sweep write none beside that of the sweep.
            self._write(0, summary=experiment)
        self._write(0, summary=start)
        self.flush()

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes one point of some curves.

        Args:
            step: the training steps made so far.
            values: {tag: number}; a number that is not finite is written, a None is left out.
        """
        point = _SUMMARY.Summary.Value
        points = [
            point(tag=tag, simple_value=float(value))
            for tag, value in values.items()
            if value is not None
        ]
        self._write(step, summary=_SUMMARY.Summary(value=points))

    def figure(self, step: int, tag: str, figure: "Figure") -> None:
        """Writes a figure as an image."""
        from cnn_jax.reporting.figures import to_array  # loaded by the caller

        self._write(step, summary=summary.image(tag, to_array(figure), dataformats="HWC"))

    def precision_recall(
        self, step: int, tag: str, positive: np.ndarray, scores: np.ndarray
    ) -> None:
        """Writes a precision-recall curve at 127 thresholds, for the tab PR CURVES.

        Args:
            step: the training steps made so far.
            tag: its name.
            positive: bool [n], which examples are of the class.
            scores: float [n], the probability of the class.
        """
        self._write(step, summary=summary.pr_curve(tag, positive, scores.astype(np.float64)))

    def text(self, step: int, tag: str, text: str) -> None:
        """Writes a text, which TensorBoard shows as Markdown."""
        self._write(step, summary=summary.text(tag, printable(text)))

    def flush(self) -> None:
        """Puts everything written so far on disk, which else happens every ten seconds.

        Call it before a checkpoint is saved: a run that is resumed from the checkpoint does not
        write the points up to its step again.
        """
        with self._named():
            self._open().flush()
        self._flushed = time.monotonic()

    def close(self, status: Literal["finished", "interrupted", "diverged"] = "finished") -> None:
        """Ends the session; calls after the first do nothing.

        TensorBoard shows a finished session as a success and a diverged one as a failure. An
        interrupted session gets no status: a status cannot be changed once it is written, and the
        run may be resumed.
        """
        if self._file is None:
            return
        if status != "interrupted":
            name = "STATUS_SUCCESS" if status == "finished" else "STATUS_FAILURE"
            info = _HPARAMS.SessionEndInfo(status=_API.Status.Value(name))
            content = _HPARAMS.HParamsPluginData(session_end_info=info).SerializeToString()
            self._end.value[0].metadata.plugin_data.content = content
            self._write(0, summary=self._end)
        with self._named():
            file, self._file = self._file, None
            file.close()

    def __enter__(self) -> "EventWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close("finished" if kind is None else "interrupted")

    def _open(self) -> EventsWriter:
        if self._file is None:
            raise ValueError("the event writer is closed")
        return self._file

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Adds the file to an error of writing it, which names none."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from error

    def _write(self, step: int, **content: Any) -> None:
        event = _EVENT.Event(wall_time=time.time(), step=int(step), **content)
        with self._named():
            self._open().write_event(event)
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()


class Addition:
    """Adds figures and texts to the event files of a run that has ended.

    Args:
        run_dir: the run directory.
    """

    def __init__(self, run_dir: str | os.PathLike) -> None:
        number = sum(1 for _ in Path(run_dir).glob(_FILES))
        self._file = EventsWriter(str(Path(run_dir) / "events"), f".{number:04d}")

    def __enter__(self) -> "Addition":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def figure(self, step: int, tag: str, figure: "Figure") -> None:
        """Writes a figure as an image."""
        from cnn_jax.reporting.figures import to_array  # loaded by the caller

        self._add(step, summary.image(tag, to_array(figure), dataformats="HWC"))

    def text(self, step: int, tag: str, text: str) -> None:
        """Writes a text, which TensorBoard shows as Markdown."""
        self._add(step, summary.text(tag, printable(text)))

    def _add(self, step: int, content: Any) -> None:
        event = _EVENT.Event(wall_time=time.time(), step=step, summary=content)
        self._file.write_event(event)


def write_sweep(
    directory: str | os.PathLike, hyperparameters: Mapping[str, Any], varied: Collection[str]
) -> None:
    """Writes the description of the HPARAMS table of a whole sweep.

    Args:
        directory: the directory of the sweep, up to three levels above those of its runs.
            TensorBoard lists it as a run without curves.
        hyperparameters: {dotted name: value} of all settings.
        varied: the names of the settings that vary, whose columns come first.
    """
    if any(Path(directory).glob(_FILES)):
        return
    experiment, _, _ = _hparams(hyperparameters, None, varied)
    writer = EventsWriter(str(Path(directory) / "events"), ".0000")
    writer.write_event(_EVENT.Event(wall_time=time.time(), step=0, summary=experiment))
    writer.close()


def _hparams(
    hyperparameters: Mapping[str, Any], group: str | None, first: Collection[str]
) -> tuple[Any, Any, Any]:
    """Returns the three summaries that describe the HPARAMS table, start a session and end it."""
    values = {name: _hyperparameter(value) for name, value in hyperparameters.items()}
    summaries = summary.hparams(values, dict.fromkeys(_METRICS, 0))
    contents = [each.value[0].metadata.plugin_data for each in summaries]
    described, started = (_HPARAMS.HParamsPluginData.FromString(c.content) for c in contents[:2])
    for info in described.experiment.hparam_infos:
        if info.name in first:
            # Sets the field `differs` (number 7) to true, which tensorboardX does not know yet.
            # TensorBoard shows these columns, and others until there are five.
            info.MergeFromString(b"\x38\x01")
    started.session_start_info.group_name = group or ""
    contents[0].content = described.SerializeToString()
    contents[1].content = started.SerializeToString()
    return summaries


def _hyperparameter(value: Any) -> bool | int | float | str:
    """Returns the value as one of the types that tensorboardX does not drop."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return "none" if value is None else printable(str(value))
