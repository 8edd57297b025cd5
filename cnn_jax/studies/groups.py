"""Groups runs that differ in nothing but their seed or fold; chooses and sorts the groups.

Settings that change no result, such as how many checkpoints are kept, may differ within a group.
"""

import collections
import dataclasses
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from cnn_jax import experiment, patterns, text
from cnn_jax.errors import UsageError
from cnn_jax.studies import seeds
from cnn_jax.studies.summaries import METRICS, RunSummary

_CONDITION = re.compile(r"([\w.]+)\s*(<=|>=|!=|=|<|>)\s*(.*)")
# A run may go on with others of these, since files may move; but they say which images it saw.
_OF_IMAGES = ("dataset.path", "dataset.root", "dataset.on_error", "dataset.follow_links")
_OF_KAPPA = "dataset.ordered"  # says which kappa --train.select=kappa goes by
# Settings that change no result.
HARMLESS = tuple(
    path
    for path, field in experiment.fields()
    if field.metadata["resumable"] and path not in (*_OF_IMAGES, _OF_KAPPA)
)
# Settings in which the runs of a group may differ.
_IGNORED = ("name", "seed", *HARMLESS)


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed, their fold, and settings that change no result.

    Attributes:
        runs: one per seed and fold.
        settings: the settings that all of them have, and the first one's name, seed and settings
            that change no result; of folds "*/5".
        note: how the group compares to the best one; "" where nothing can be said.
    """

    runs: tuple[RunSummary, ...]
    settings: dict[str, Any]
    note: str = ""

    def values(self, metric: str) -> list[float]:
        """Returns a metric of every run that has it."""
        return [run.metrics[metric] for run in self.runs if metric in run.metrics]

    def spread(self, metric: str) -> seeds.Spread:
        """Returns the mean (NaN where no run has it) and the deviation of a metric."""
        return seeds.fold(self.values(metric))

    @property
    def folds(self) -> dict[int, list[RunSummary]]:
        """{fold: its runs}, in order; {} where there are none."""
        found: dict[int, list[RunSummary]] = {}
        for run in self.runs:
            if (fold := run.settings.get("dataset.fold")) is not None:
                found.setdefault(patterns.parse_fold(fold)[0], []).append(run)
        return dict(sorted(found.items()))

    @property
    def largest_share(self) -> float | None:
        """The largest class's share of the validation images, the mean over folds, if known."""
        shares = [run.largest_share for run in self.runs if run.largest_share is not None]
        one = self.folds or len(set(shares)) == 1
        return math.fsum(shares) / len(shares) if shares and one else None

    @property
    def status(self) -> str:
        """The runs' status, or their statuses with the number of runs of each."""
        counts = collections.Counter(run.status for run in self.runs)
        if len(counts) == 1:
            return next(iter(counts))
        return ", ".join(f"{count} {status}" for status, count in counts.items())


def group(runs: Sequence[RunSummary]) -> list[Group]:
    """Returns the runs grouped by their settings without seed and fold, in order of appearance.

    A run that repeats settings, seed and fold of another is no further sample of the same group: it
    starts a group of repetitions.
    """
    groups: dict[tuple[str, int], list[RunSummary]] = {}
    seen: collections.Counter[str] = collections.Counter()
    for run in runs:
        settings = {k: v for k, v in _with_every_fold(run).items() if k not in _IGNORED}
        own = {name: run.settings.get(name) for name in ("seed", "dataset.fold")}
        repetition = json.dumps(settings | own, sort_keys=True)
        key = json.dumps(settings, sort_keys=True), seen[repetition]
        seen[repetition] += 1
        groups.setdefault(key, []).append(run)
    return [Group(tuple(members), _with_every_fold(members[0])) for members in groups.values()]


def _with_every_fold(run: RunSummary) -> dict[str, Any]:
    """Returns the settings of a run with what its fold is one of in place of the fold.

    Whether classes are grades counts where the run was chosen by kappa, and else is left at False.
    """
    fold = patterns.every_fold(run.settings.get("dataset.fold"))
    ordered = run.settings.get("train.select") == "kappa" and bool(run.settings.get(_OF_KAPPA))
    return {**run.settings, "dataset.fold": fold, _OF_KAPPA: ordered}


def differing(groups: Sequence[Group]) -> list[str]:
    """Returns the settings in which the groups differ, in the order of the Experiment."""
    return [path for path in _settings() if len({str(g.settings[path]) for g in groups}) > 1]


def keep(groups: Sequence[Group], where: str | None) -> list[Group]:
    """Returns the groups for which every condition holds.

    Args:
        groups: the groups to choose from.
        where: conditions on settings, metrics and the status, joined by commas, such as
            "model.name=mlp,seconds<60"; None: all groups.

    Raises:
        UsageError: a condition does not have that form, or names nothing that exists.
    """
    kept = list(groups)
    names = [*_settings(), "name", *METRICS, "status"]
    for condition in where.split(",") if where else []:
        match = _CONDITION.fullmatch(condition.strip())
        if match is None:
            raise UsageError(
                f"--where takes NAME=VALUE (also !=, <, <=, >, >=), joined by commas, not "
                f"{condition!r}"
            )
        name, relation, wanted = match.groups()
        _check_name("--where", name, names)
        kept = [each for each in kept if _holds(_value(each, name), relation, wanted)]
    return kept


def rank(groups: Sequence[Group], by: str | None) -> list[Group]:
    """Returns the groups sorted: by a metric the best first, by a setting ascending.

    Args:
        groups: the groups to sort; those without a value come last.
        by: a metric or a setting; "-NAME" turns the order around; None: the validation accuracy of
            the best checkpoint.

    Raises:
        UsageError: there is no such setting or metric.
    """
    name = (by or "best_validation_accuracy").removeprefix("-")
    _check_name("--sort", name, [*_settings(), "name", *METRICS])
    have = [each for each in groups if not _missing(_value(each, name))]
    rest = [each for each in groups if _missing(_value(each, name))]
    numeric = all(isinstance(_value(each, name), int | float) for each in have)
    have.sort(key=lambda each: _value(each, name) if numeric else str(_value(each, name)))
    descending = name in METRICS and METRICS[name][1]
    if descending != (by or "").startswith("-"):
        have.reverse()
    return [*have, *rest]


def _settings() -> list[str]:
    """Returns the settings that are the same in all runs of a group."""
    return [path for path, _ in experiment.fields() if path not in _IGNORED]


def _check_name(flag: str, name: str, names: list[str]) -> None:
    if name in HARMLESS:
        raise UsageError(f"{flag}: {name} changes no result, so runs are not told apart by it")
    if name not in names:
        tip = text.did_you_mean(name, names)
        raise UsageError(f"{flag}: there is no setting or metric {name!r}{tip}")


def _value(of: Group, name: str) -> Any:
    if name == "status":
        return of.status
    return of.spread(name).mean if name in METRICS else of.settings[name]


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _holds(value: Any, relation: str, wanted: str) -> bool:
    if relation in ("=", "!="):
        same = str(value).lower() == wanted.lower()
        if not same and isinstance(value, int | float) and not isinstance(value, bool):
            try:
                same = float(value) == float(wanted)
            except ValueError:
                same = False
        return same == (relation == "=")
    try:
        a, b = float(value), float(wanted)
    except (TypeError, ValueError):
        raise UsageError(
            f"--where: {relation} compares numbers, not {value!r} and {wanted!r}"
        ) from None
    return {"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[relation]
