"""Trust of a run: what is promised of it, and what predictions and evaluations make of that."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnn_jax import text
from cnn_jax.data import Split, arrays
from cnn_jax.errors import UsageError
from cnn_jax.evaluation import embedding
from cnn_jax.evaluation.evaluator import Evaluation
from cnn_jax.evaluation.predictions import Images, Predictions
from cnn_jax.options import Trust
from cnn_jax.runs import trust_images, trusted
from cnn_jax.runs.trusted import Trusted
from cnn_jax.trust import (
    calibration,
    comparisons,
    corruptions,
    reliability,
    study,
    verdicts,
)
from cnn_jax.trust.outputs import Seen

_CORRUPTED = 1000  # reporting images that are corrupted
_FILES = {"path", "shift", "new", "members", "costs"}  # settings that are values in Python
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class More:
    """What else is asked for than what a network can be trusted with.

    Attributes:
        corruptions: whether the reporting images are corrupted on purpose.
        shifted: {name: labelled images of another kind}.
        new: images without labels, as the run's are stored; None: there are none.
        members: {name: another `trained.Run` on the same data}.
    """

    corruptions: bool = False
    shifted: Mapping[str, Split] = dataclasses.field(default_factory=dict)
    new: np.ndarray | None = None
    members: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def of_run(run: Any, images: Any, labels: Any, settings: Mapping[str, Any]) -> Trusted:
    """Returns `trust` of a run as Python calls it; see `trained.Run.trust`."""
    views = settings.get("views", "one")
    known = {field.name for field in dataclasses.fields(Trust)} - _FILES
    given = {name: value for name, value in settings.items() if name not in ("views", "costs")}
    if unknown := [name for name in given if name not in known]:
        tip = text.did_you_mean(unknown[0], sorted(known))
        raise UsageError(f"trust has no setting {unknown[0]!r}{tip}")
    fresh = None if images is None else fresh_split(run, images, labels)
    return trust(run, Trust(**given), fresh=fresh, costs=settings.get("costs"), views=views)


def trust(
    run: Any,
    options: Trust,
    *,
    fresh: Split | None = None,
    source: str = "fresh images",
    costs: np.ndarray | None = None,
    views: str = "one",
    more: More | None = None,
    say: Say = lambda _: None,
) -> Trusted:
    """Finds out how far a network can be trusted.

    Args:
        run: a `trained.Run`.
        options: what is asked for.
        fresh: labelled images that nobody has used; None: of the run's own data.
        source: where they are from, in words.
        costs: float [classes, classes] of confusions, or None.
        views: over which views of each image logits are averaged; predictions then do so too.
        more: what else is asked for, or None.
        say: is told what is done.

    Raises:
        UsageError: there are too few images, or the labels are not one class an image.
        RunError: the data are not those that the run was trained on.
    """
    if run.data_info.multilabel:
        raise UsageError("trust is for one class an image, and these images may have several")
    if costs is None and options.max_error >= 1:
        raise UsageError(f"--trust.max_error must be less than 1, not {options.max_error!r}")
    for name, other in ({} if more is None else more.members).items():
        if other.class_names != run.class_names:
            raise UsageError(f"the member {name} knows other classes than this run")
    network = trust_images.Network(run, views)
    given = trust_images.of_run(run, network, fresh, source, say)
    bank, notes = trust_images.bank(run, network, fresh is not None, say)
    strange: Mapping[str, Seen] = {}
    if bank is not None:
        some = trust_images.reporting(run, given, fresh, trust_images.PLANTED)
        strange = trust_images.strange(network, some)
    given = dataclasses.replace(given, notes=(*given.notes, *notes))
    record, stored = study.study(
        given, bank, options, run.class_names, costs=costs, planted=strange
    )
    sha = trusted.digest(run.variables, run.data_info, run.experiment)
    record["network"] = {"sha256": sha, "step": run.step, "views": views}
    found = Trusted(record, stored)

    def of(other: Any, its_views: str) -> study.Roles:
        seen = trust_images.Network(other, its_views)
        return trust_images.of_run(other, seen, fresh, "", lambda _: None)

    def side_by_side(networks: Mapping[str, study.Roles]) -> list[dict[str, Any]]:
        return comparisons.side_by_side(networks, options, run.class_names, costs)

    said = []
    if views != "one":
        say("what the views gain over one")
        rows = side_by_side({"one view": of(run, "one"), views: given})
        record["views"] = rows
        said.append(comparisons.gain_sentence(f"Over the views {views}", *rows))
    if more is not None:
        said += _shifted(more, found, network, run, given, fresh, say)
        if more.new is not None:
            labels = np.zeros(len(more.new), np.int32)
            new = network(Split(more.new, labels, [str(i) for i in range(len(labels))]))
            record["new"] = comparisons.compared(found.judge, given.report, new)
            said.append(comparisons.drift_sentence(record["new"]))
        if more.members:
            members = {"this": given}
            for name, other in more.members.items():
                say(f"the member {name}")
                members[name] = of(other, views)
                if not members[name].certify.is_of(given.certify):
                    raise UsageError(
                        f"the member {name} cannot be certified by the images of this run: it was "
                        "trained on other data, or divided them in another way"
                    )
            rows = record["members"] = side_by_side(comparisons.with_mean(members))
            others = text.plural(len(members) - 1, "more network")
            start = f"Averaged with {others} ({len(members)} in all)"
            said.append(comparisons.gain_sentence(start, rows[0], rows[-1]))
    record["sentences"][-1:-1] = said
    return found


def _shifted(
    more: More,
    found: Trusted,
    network: trust_images.Network,
    run: Any,
    given: study.Roles,
    fresh: Split | None,
    say: Say,
) -> list[str]:
    """Adds to the record how shifted images fare; returns the sentence, or []."""
    record, judge = found.record, found.judge
    rows = [
        comparisons.shifted(judge, network(split), name) for name, split in more.shifted.items()
    ]
    if more.corruptions:
        some = trust_images.reporting(run, given, fresh, _CORRUPTED)
        for kind in corruptions.KINDS:
            say(f"{kind}, {len(corruptions.STRENGTHS)} strengths, {len(some):,} images")
            for strength in corruptions.STRENGTHS:
                images = corruptions.corrupt(np.asarray(some.images), kind, strength)
                outputs_ = network(dataclasses.replace(some, images=images))
                rows.append(comparisons.shifted(judge, outputs_, kind, strength))
    if not rows:
        return []
    record["shift"] = rows
    return [comparisons.shift_sentence(rows, record["settings"]["max_error"])]


def fresh_split(run: Any, given: Any, labels: Any = None) -> Split:
    """Returns images of the user's as a split like the run's.

    Args:
        run: a `trained.Run`.
        given: a Split, (images, labels), or images.
        labels: of images.
    """
    if isinstance(given, Split):
        made = arrays.make_split(given.images, given.labels, run.data_info, given.ids)
        return dataclasses.replace(made, groups=given.groups)
    if labels is None:
        given, labels = given
    return arrays.make_split(given, labels, like=run.data_info)


def predict(run: Any, images: Images, found: Trusted) -> Predictions:
    """Classifies images as what was promised of a network allows.

    Args:
        run: a `trained.Run`.
        images: as those of `Run.logits`.
        found: what was promised of it.
    """

    def forward(variables: Any, given: Any) -> Any:
        inputs = run.preprocess(given)
        return embedding.inside(run.assembly, variables, inputs, found.views)

    said = found.judge(trust_images.seen(*run.map(("trust", found.views), forward, images)))
    names = run.class_names
    return Predictions(
        tuple(names[i] for i in said.labels),
        said.labels,
        said.probabilities.astype(np.float32),
        names,
        tuple(verdicts.names(row, names) for row in said.sets),
        said.answers,
        said.p_values,
        said.reasons,
    )


def recalibrated(
    run: Any, found: Evaluation, split: Split, views: str
) -> tuple[Evaluation, dict[str, float] | None]:
    """Returns an evaluation with calibrated probabilities, and what they gain.

    Only by a temperature, which changes no answer and so no accuracy, and only for the views that
    it was fitted on; else the evaluation itself and None.

    Args:
        run: a `trained.Run`.
        found: its evaluation.
        split: the examples that it is of.
        views: the views that it averaged.
    """
    known = run.trusted
    if known is None or known.views != views or known.judge.scaling.kind != "temperature":
        return found, None
    p = np.asarray(found.probabilities, np.float64)
    # Of two classes 1 - p has the precision of float32 around 1.
    least = 1e-38 if p.shape[1] > 2 else float(np.finfo(np.float32).eps) / 2
    logits = np.log(np.maximum(p, least))
    logs = known.judge.scaling(logits)
    right = p.argmax(axis=1) == split.labels
    errors = [
        reliability.calibration_error(np.exp(values).max(axis=1), right)
        for values in (calibration.log_softmax(logits), logs)
    ]
    gained = {
        "temperature": known.judge.scaling.temperature,
        "nll_before": calibration.nll(calibration.log_softmax(logits), split.labels),
        "nll": calibration.nll(logs, split.labels),
        "ece_before": errors[0].value,
        "ece": errors[1].value,
        "ece_by_chance": errors[1].by_chance,
    }
    calibrated = np.exp(logs).astype(np.float32)
    return dataclasses.replace(found, probabilities=calibrated), gained


def why_not_calibrated(run: Any, views: str) -> str | None:
    """Returns why `recalibrated` leaves the probabilities as they are, although there is a promise.

    Args:
        run: a `trained.Run`.
        views: the views that an evaluation averages.
    """
    known = run.trusted
    if known is None:
        return None
    if known.views != views:
        return f"trust.json is of the views {known.views}, not of {views}"
    if known.judge.scaling.kind != "temperature":
        return "trust.json scales each class by itself, which can change an answer"
    return None
