"""What takes the recorder's place where a run has no directory."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from cnn_jax.data import DataInfo, Split
from cnn_jax.evaluation.evaluator import Evaluation
from cnn_jax.runs import callbacks, figures, stored


class Unrecorded:
    """Stands in for a recorder where a run has no directory: it writes nothing.

    It keeps the best variables, by `stored.rank_of`, in memory, and the last ones.

    Args:
        info: what is known of the data.
        positive: `dataset.positive`.
        told: callbacks, which are told the points of the curves.

    Attributes:
        writes: whether somebody is told the points.
        path: no directory.
    """

    path = None

    def __init__(self, info: DataInfo, positive: str | None, told: callbacks.Callbacks) -> None:
        self.writes = bool(told)
        self._info, self._positive, self._told = info, positive, told
        self._kept: dict[str, tuple[Any, int]] = {}
        self._best = (-math.inf, -math.inf, 0)

    def __enter__(self) -> "Unrecorded":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def _ignore(self, *_: Any, **__: Any) -> None:
        """Does nothing."""

    begin = start = add_result = add_feature_seconds = _ignore
    projector = interrupted = diverged = restore = _ignore

    def point(self, step: int, values: dict[str, float | None]) -> None:
        """Tells the callbacks one point of some curves."""
        self._told.point(step, values)

    def epoch_figures(
        self, step: int, epoch: int, last: bool, params: Any, found: Evaluation, split: Split
    ) -> None:
        """Tells the callbacks AUC."""
        del epoch, last, params
        if self.writes:
            self.point(step, figures.areas(found, split, self._info, self._positive))

    def finish(self, history: list[dict[str, Any]], flops: int) -> None:
        """Tells the callbacks how the run ended."""
        self._told.finish(callbacks.result_of(history, flops))

    def projector_examples(self, available: int) -> int:
        """Returns 0: nobody looks at a projector."""
        del available
        return 0

    def save(self, step: int, state: Any, meta: dict[str, Any], total_steps: int) -> None:
        """Keeps a copy of the variables, where the state is the best so far or the last one."""
        rank = stored.rank_of(meta, step)
        is_best = rank is not None and rank > self._best
        if not is_best and step < total_steps:
            return
        kept = (jax.tree.map(jnp.copy, state.variables()), step)
        if rank is not None and is_best:
            self._best = rank
            self._kept["best"] = kept
        self._kept["last"] = kept

    def last_good_state(self, step: int) -> str:
        """Returns where the last finite state is, in words."""
        del step
        return "none is kept without a workdir"

    def best_variables(self, checkpoint: str = "best") -> tuple[dict[str, Any], int]:
        """Returns (variables on the devices, step) of the best epoch, or of the last one."""
        return self._kept[checkpoint]
