"""What a run writes for TensorBoard."""

import math
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import api_pb2, event_pb2, plugin_hparams_pb2, summary_pb2

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
    """Scalars, figures, text and hyperparameters in one event file of the run directory.

    The hyperparameters stand in the run's own file, so that the metrics of TensorBoard's HPARAMS
    table are the run's live curves. As a context manager it closes as "finished", or as
    "interrupted" where an exception passes through.

    Args:
        run_dir: where the event file is made; an earlier file of the same run stays beside it.
        hyperparameters: {dotted name: value}, all of them; None and lists become text, since
            tensorboardX drops them silently, and with them the column of every other run.
        resume_step: the step the run goes on from; points of earlier files at later steps are
            hidden from readers, those at `resume_step` itself stay. None for a fresh run, which
            hides all that earlier files hold.
        group: runs of one group are one row of the HPARAMS table, with the mean of their metrics.
            None: the run is a row of its own.
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
        # tensorboardX names a file by the second, and would write over that of a run which was
        # stopped and resumed within one. Readers take the files in the order of their names.
        number = sum(1 for _ in path.glob(_FILES))
        # Written here and now: tensorboardX.SummaryWriter keeps a queue that its flush leaves full.
        self._file: EventsWriter | None = EventsWriter(str(path / "events"), f".{number:04d}")
        self._flushed = time.monotonic()
        # A fresh run starts with a session too: one of TensorBoard's two readers takes the first
        # session of a directory for the original, and hides nothing on its account.
        start_session = _EVENT.SessionLog(status=_EVENT.SessionLog.START)
        self._write(0 if resume_step is None else resume_step + 1, session_log=start_session)
        experiment, start, self._end = _hparams(hyperparameters, group, first)
        # TensorBoard keeps the first summary it meets of each of these tags and ignores those of
        # later files, so a resumed run may repeat them: that serves a run killed before the first
        # reached the disk, and changes nothing otherwise.
        if not any(any(parent.glob(_FILES)) for parent in path.resolve().parents[:3]):
            # Of all descriptions of the table TensorBoard takes any: a sweep has but its own.
            self._write(0, summary=experiment)
        self._write(0, summary=start)
        self.flush()

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes {tag: number} at a step, numbers that are not finite among them."""
        point = _SUMMARY.Summary.Value
        points = [point(tag=tag, simple_value=float(value)) for tag, value in values.items()]
        self._write(step, summary=_SUMMARY.Summary(value=points))

    def figure(self, step: int, tag: str, figure: "Figure") -> None:
        """Writes a figure as an image."""
        from cnn_jax.reporting.figures import to_array  # whoever made the figure has loaded it

        self._write(step, summary=summary.image(tag, to_array(figure), dataformats="HWC"))

    def text(self, step: int, tag: str, text: str) -> None:
        """Writes text, which TensorBoard shows as Markdown."""
        self._write(step, summary=summary.text(tag, text))

    def flush(self) -> None:
        """Puts on disk what was written so far, which happens every ten seconds by itself.

        To be called before a checkpoint is saved: points up to the checkpoint's step are not
        written again by a run resumed from it.
        """
        self._open().flush()
        self._flushed = time.monotonic()

    def close(self, status: Literal["finished", "interrupted", "diverged"] = "finished") -> None:
        """Ends the session; calls after the first do nothing.

        A finished session is a success to TensorBoard and a diverged one a failure. An interrupted
        one has no status: the first that is written stays for good, and the run may be resumed.
        """
        if self._file is None:
            return
        if status != "interrupted":
            name = "STATUS_SUCCESS" if status == "finished" else "STATUS_FAILURE"
            info = _HPARAMS.SessionEndInfo(status=_API.Status.Value(name))
            content = _HPARAMS.HParamsPluginData(session_end_info=info).SerializeToString()
            self._end.value[0].metadata.plugin_data.content = content
            self._write(0, summary=self._end)
        self._file.close()
        self._file = None

    def __enter__(self) -> "EventWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close("finished" if kind is None else "interrupted")

    def _open(self) -> EventsWriter:
        if self._file is None:
            raise ValueError("the event writer is closed")
        return self._file

    def _write(self, step: int, **content: Any) -> None:
        self._open().write_event(_EVENT.Event(wall_time=time.time(), step=int(step), **content))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()


def write_sweep(
    directory: str | os.PathLike, hyperparameters: Mapping[str, Any], varied: Collection[str]
) -> None:
    """Writes what the HPARAMS table of a whole sweep shows, beside the directories of its runs.

    Args:
        directory: of the sweep, up to three levels above those of its runs. TensorBoard lists it
            as a run with no curves.
        hyperparameters: {dotted name: value} of what all runs vary.
        varied: the names of those that differ, whose columns come first.
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
    """Returns the summaries that describe the HPARAMS table, begin a session and end it."""
    values = {name: _hyperparameter(value) for name, value in hyperparameters.items()}
    summaries = summary.hparams(values, dict.fromkeys(_METRICS, 0))
    contents = [each.value[0].metadata.plugin_data for each in summaries]
    described, started = (_HPARAMS.HParamsPluginData.FromString(c.content) for c in contents[:2])
    for info in described.experiment.hparam_infos:
        if info.name in first:
            # The field `differs`, 7: true. TensorBoard shows such columns, and of the others so
            # many that there are five. The messages of tensorboardX do not know it yet.
            info.MergeFromString(b"\x38\x01")
    started.session_start_info.group_name = group or ""
    contents[0].content = described.SerializeToString()
    contents[1].content = started.SerializeToString()
    return summaries


def _hyperparameter(value: Any) -> bool | int | float | str:
    """Returns the value as one of the types that tensorboardX does not drop."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return "none" if value is None else str(value)
