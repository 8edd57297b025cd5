"""Which images of a run serve to tune, certify and report, and what the network says of them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from cnn_jax import distributed, text
from cnn_jax.data import Split, duplicates, splits
from cnn_jax.errors import RunError, UsageError, UserError
from cnn_jax.evaluation import embedding
from cnn_jax.runs.directory import RunDirectory
from cnn_jax.trust import outputs, roles, strangers
from cnn_jax.trust.outputs import Outputs, Seen
from cnn_jax.trust.planted import planted
from cnn_jax.trust.strangers import Bank
from cnn_jax.trust.study import Roles

PLANTED = 50  # images of each strange kind
_BATCH = 200  # images in one pass at most: the last one of each kind is filled up
Say = Callable[[str], None]


class Network:
    """Runs a trained network over images, with one compiled program.

    Args:
        run: a `trained.Run`.
        views: over which views of each image logits are averaged.
    """

    def __init__(self, run: Any, views: str):
        self._run, self._views = run, views
        self._mesh = distributed.make_mesh()
        self._step = embedding.make_step_inside(run.assembly, self._mesh, views)

    def __call__(self, split: Split) -> Outputs:
        """Returns what the network says of the examples of a split."""
        found = embedding.embed(
            self._step,
            self._mesh,
            self._run.variables,
            split,
            batch_size=min(self._run.experiment.dataset.eval_batch_size, _BATCH),
            resident_limit=0.0,
        )
        said = seen(*found)
        if not np.isfinite(said.logits).all():
            raise RunError("the network says numbers that are not finite: nothing can be promised")
        return Outputs(
            said.logits,
            said.features,
            np.asarray(split.labels, np.int64),
            list(split.ids),
            None if split.groups is None else list(split.groups),
            middle=said.middle,
        )


def seen(logits: np.ndarray, features: np.ndarray, middle: np.ndarray) -> Seen:
    """Returns what `embedding.inside` computed of some images."""
    logits = outputs.of_all_classes(logits)
    return Seen(logits, features, middle=middle if middle.shape[1] else None)


def of_run(run: Any, network: Network, fresh: Split | None, source: str, say: Say) -> Roles:
    """Returns what the network says of the images of each role."""
    if fresh is not None:
        fresh, notes = _unknown(run, fresh)
        say(f"{text.plural(len(fresh), 'fresh image')}: a quarter to tune, half to certify")
        return _divided(network(fresh), source, 1, notes)
    own = run.data.splits
    given = _of_own(run, network, own, say)
    return dataclasses.replace(given, notes=(*given.notes, *_sizes(given.certify, own)))


def _sizes(certify: Outputs, own: dict[str, Split]) -> tuple[str, ...]:
    """Returns a note where the groups that certify are not as large as those of all the data.

    Splits of groups take the large ones first, and so hold other groups where sizes differ.
    """
    if certify.groups is None:
        return ()
    every = [name for split in own.values() for name in split.groups or ()]
    here, all_ = len(certify) / certify.units, len(every) / len(set(every))
    if 1 / 1.5 < here / all_ < 1.5:
        return ()
    return (
        f"A group that certifies has {here:.1f} images in the mean, and one of all the data "
        f"{all_:.1f}: what is promised is of groups like the former.",
    )


def _of_own(run: Any, network: Network, own: dict[str, Split], say: Say) -> Roles:
    """Returns what the network says of its own data in each role."""
    test, calibration = own.get("test"), own.get("calibration")
    if test is not None and _same(test, own["validation"]):
        test = None
    if calibration is not None:
        named = "images held out of 'train' to calibrate (dataset.calibration_fraction)"
        say(f"{text.plural(len(calibration), 'image')} held out to calibrate")
        said = network(calibration)
        if test is None:
            return _divided(said, named, 1)
        parts = roles.divide(said.ids, said.groups, roles.THIRDS)
        tune, certify = map(said.take, parts)
        _check_enough(tune, certify)
        return Roles(tune, certify, network(test), f"{named}, reported on the split test")
    if test is not None:
        say(f"the {len(test):,} images of the split test, divided by a hash of their names")
        note = "No setting may have been chosen by the split test."
        return _divided(network(test), "the split test, divided by a hash", 1, (note,))
    chosen = chosen_among(run)
    what = "the split test, which is the validation split too" if "test" in own else "validation"
    say(f"{what} is all there is: {len(own['validation']):,} images, divided by a hash")
    better = "fresh images (trust.path) or dataset.calibration_fraction have no such fault."
    note = f"These images validated the training, but did not choose this checkpoint; {better}"
    if chosen > 1:
        note = (
            "What is said of sets and of strange images, and what is measured, is a little too "
            f"favourable and no guarantee, for the same images chose this network; {better}"
        )
    notes = (note,)
    return _divided(network(own["validation"]), f"{what}, divided by a hash", chosen, notes)


def _divided(said: Outputs, source: str, chosen: int, notes: tuple[str, ...] = ()) -> Roles:
    """Returns a quarter to tune by, half to certify with, a quarter to report on."""
    parts = roles.divide(said.ids, said.groups, roles.QUARTERS)
    tune, certify, report = map(said.take, parts)
    _check_enough(tune, certify, report)
    return Roles(tune, certify, report, source, chosen, notes)


def _check_enough(*parts: Outputs) -> None:
    if min(map(len, parts)) < 2:
        count = sum(map(len, parts))
        raise UsageError(
            f"{text.plural(count, 'image')} (or groups of them) are too few to tune, certify and "
            "report on; give more"
        )


def _same(one: Split, other: Split) -> bool:
    """Returns whether two splits are the same images."""
    if one.images is other.images:
        return True
    if one.identity is not None and one.identity == other.identity:
        return True
    same_shape = one.images.shape == other.images.shape
    return same_shape and bool((np.asarray(one.images) == np.asarray(other.images)).all())


def chosen_among(run: Any) -> int:
    """Returns among how many checkpoints and trials validation images chose this network.

    A checkpoint that was asked for by name, the last or that of a step, was not chosen by them. In
    a sweep all trials have been compared by them, whatever the checkpoint.
    """
    directory = run.directory
    if directory is not None and directory.parent.parent.name == "trials":
        epochs = 0
        for other in sorted(directory.parent.parent.glob("*/seed*")):
            if (other / "config.json").exists():
                epochs += max(1, len(RunDirectory(other).read("history", [])))
        return max(epochs, 1)
    return max(1, len(run.history)) if run.checkpoint == "best" else 1


def _unknown(run: Any, fresh: Split) -> tuple[Split, tuple[str, ...]]:
    """Returns the fresh images without those that the run was trained or validated on."""
    try:
        own = run.data.splits
    except UserError:
        return fresh, (
            "The training images are not at hand: equal images among the fresh ones "
            "cannot be left out.",
        )
    known: set[str] = set()
    notes: tuple[str, ...] = ()
    for name in ("train", "validation"):
        equal = duplicates.pairs(fresh, own[name])
        if equal is None:
            notes = (
                f"The {name} images are streamed: equal images among the fresh ones were not "
                "looked for.",
            )
        known |= {own_id for own_id, _ in equal or ()}
    if not known:
        return fresh, notes
    new = np.array([name not in known for name in fresh.ids])
    count = int((~new).sum())
    left = f"{text.plural(count, 'fresh image')} left out: the network has seen them."
    if not new.any():
        raise UsageError("trust: all of the fresh images are among those of training")
    return splits.take(fresh, np.flatnonzero(new)), (*notes, left)


def bank(
    run: Any, network: Network, may_lack: bool, say: Say
) -> tuple[Bank | None, tuple[str, ...]]:
    """Returns the bank of some training images, or None and why."""
    try:
        train = run.data.splits["train"]
    except UserError as error:
        if not may_lack:
            raise
        return None, (f"The training images are not at hand ({error}).",)
    order = np.argsort(outputs.hashes(train.ids), kind="stable")[: strangers.MOST]
    say(f"the features of {len(order):,} training images, to tell strange ones by")
    known = network(splits.take(train, np.sort(order)))
    return Bank.of(known.features, known.middle), ()


def reporting(run: Any, given: Roles, fresh: Split | None, most: int) -> Split:
    """Returns some of the reporting images, the first ones by a hash of their names.

    Args:
        run: a `trained.Run`.
        given: the roles.
        fresh: the images that they were made of; None: the run's own.
        most: how many.
    """
    wanted = set(given.report.ids)
    own = {} if fresh is not None else run.data.splits
    source: Split = fresh or own.get("test") or own.get("calibration") or own["validation"]
    there = np.array([i for i, name in enumerate(source.ids) if name in wanted], np.int64)
    order = np.argsort(outputs.hashes([str(source.ids[int(i)]) for i in there]), kind="stable")[
        :most
    ]
    return splits.take(source, np.sort(there[order]))


def strange(network: Network, ordinary: Split) -> dict[str, Seen]:
    """Returns {kind: what the network computes of strange images made of ordinary ones}."""
    kinds = planted(np.asarray(ordinary.images))
    images = np.concatenate(list(kinds.values()))
    labels = np.zeros(len(images), np.int32)
    said = network(Split(images, labels, [str(i) for i in range(len(images))]))
    found, start = {}, 0
    for name, some in kinds.items():
        found[name] = said.take(np.arange(start, start + len(some)))
        start += len(some)
    return found
