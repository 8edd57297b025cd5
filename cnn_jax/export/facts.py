"""What the files of a run say of it, for its card."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from cnn_jax import text
from cnn_jax.data import DataInfo
from cnn_jax.experiment import Experiment
from cnn_jax.runs import evaluations

MOST_CLASSES = 100  # that are named in a card and have a row
UNKNOWN = "**Not known**: "


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a run, for its card.

    Attributes:
        config: the experiment.
        info: what is known of the data.
        step: that of the checkpoint; None: not known.
        history: one record an epoch.
        training: what result.json says of training; {}: nothing.
        evaluations: {split: record} of this checkpoint.
        starts: what environment.json says of each start; []: nothing.
        trust: what trust.json says of this checkpoint; None: nothing.
        origin: of `about.origin_of`; None: it was trained from scratch.
        asked: which checkpoint was asked for: "best", "last", or a step.
        trained: whether it was trained here; else its weights are those of others as they are.
        export: the record of the export that the card is beside; None: there is none.
    """

    config: Experiment
    info: DataInfo
    step: int | None
    history: list[dict[str, Any]]
    training: Mapping[str, Any]
    evaluations: Mapping[str, Mapping[str, Any]]
    starts: list[dict[str, Any]]
    trust: Mapping[str, Any] | None
    origin: Mapping[str, Any] | None
    asked: str = "best"
    trained: bool = True
    export: Mapping[str, Any] | None = None

    @property
    def chosen(self) -> bool:
        """Whether the validation images chose this checkpoint among the others."""
        return bool(self.history) and self.step == evaluations.best_step(self.history)


def plain(words: str) -> str:
    """Returns words that are data, such as the name of a class, as one line without markup."""
    return text.one_line(words).replace("<", "&lt;").replace("[", "\\[").replace("`", "'")
