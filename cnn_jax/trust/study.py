"""Makes the record that trust.json holds, of what a network said of three sets of images."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn_jax.options import Trust
from cnn_jax.trust import (
    calibration,
    certificate,
    choices,
    measured,
    roles,
    scores,
    sentences,
    sets,
    strangers,
    verdicts,
)
from cnn_jax.trust.certificate import Certificate
from cnn_jax.trust.outputs import Outputs, Seen
from cnn_jax.trust.strangers import Bank
from cnn_jax.trust.verdicts import Judge

VERSION = 1
Graded = tuple[np.ndarray, np.ndarray]  # what `_graded` returns


@dataclasses.dataclass(frozen=True)
class Roles:
    """The images that serve to tune, to certify and to report, and how they came to.

    Attributes:
        tune: what the network said of the tuning images.
        certify: likewise.
        report: likewise.
        source: where they are from, in words.
        chosen_among: among how many networks the same images chose this one; 1: they did not.
        notes: what a reader should know of them, in sentences.
    """

    tune: Outputs
    certify: Outputs
    report: Outputs
    source: str
    chosen_among: int = 1
    notes: tuple[str, ...] = ()


def study(
    given: Roles,
    bank: Bank | None,
    options: Trust,
    class_names: Sequence[str],
    *,
    costs: np.ndarray | None = None,
    planted: Mapping[str, Seen] | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Fits, certifies and reports.

    Args:
        given: the images.
        bank: features of training images; None: strangers are not judged.
        options: what is asked for.
        class_names: the names of the classes.
        costs: float [classes, classes], what saying the second for the first costs; None: every
            error costs 1.
        planted: {kind: what the network computes of images that are strange on purpose}.

    Returns:
        (trust.json without the network's own lines, the arrays of trust.npz).
    """
    tune, certify, report = given.tune, given.certify.one_a_group(), given.report
    level = (1 - options.confidence) / given.chosen_among
    scaling = calibration.fit(tune.logits, tune.labels, tune.numbers)
    made = _sets(certify, scaling, options)
    draft = Judge(
        scaling,
        "max_probability",
        np.full(len(class_names), -math.inf),
        made,
        "neighbours",
        {},
        bank,
        np.zeros(0),
        options.false_alarms,
    )
    draft, held = choices.gate(draft, tune.one_a_group(), planted or {})
    score, note = choices.score(draft, tune)
    draft = dataclasses.replace(draft, score=score)
    graded = [_graded(draft, part) for part in (tune, certify, report)]
    claims, found = _claims(graded, tune, certify, options, level, costs)
    judge = dataclasses.replace(draft, thresholds=found)
    said = judge(report)
    wrong = said.labels != report.labels
    logs = scaling(report.logits)
    plain = calibration.log_softmax(report.logits)
    own = None if bank is None else bank.distances(report.features)
    record: dict[str, Any] = {
        "version": VERSION,
        "data": _data(given),
        "settings": {
            **dataclasses.asdict(options),
            "costs": None if costs is None else costs.tolist(),
        },
        "class_names": list(class_names),
        "level": level,
        "calibration": {
            "scaling": scaling.to_dict(),
            "before": measured.calibrated(plain, report),
            "after": measured.calibrated(logs, report),
        },
        "score": score,
        "score_note": note,
        "scores": measured.compared(report.logits, logs, wrong, own),
        "claims": claims,
        "thresholds": [None if math.isinf(t) else float(t) for t in found],
        "other_claims": [] if costs is not None else _others(graded, tune, certify, report, level),
        "report": measured.answered(said, report, options.false_alarms),
        "risk_coverage": measured.curve(said.scores, wrong),
        "sets": {
            "made": made.to_dict(),
            "law": sets.coverage_law(int(made.counts.min()), made.alpha),
            "measured": sets.measure(said.sets, report.labels),
            "table": measured.set_table(
                (certify.logits, scaling(certify.logits)),
                (report.logits, logs),
                (certify.labels, report.labels),
            ),
        },
        "strangers": _strangers(judge, said, held, options, planted or {}),
    }
    record["sentences"] = sentences.of(record)
    arrays: dict[str, np.ndarray] = {}
    if bank is not None:
        arrays = {"bank": bank.features, "held_out": judge.held_out}
        if bank.middle is not None:
            arrays |= dict(zip(("mean", "inverse"), bank.middle, strict=True))
    return record, arrays


def _sets(certify: Outputs, scaling: calibration.Scaling, options: Trust) -> sets.Sets:
    uniform = sets.uniforms(certify.logits) if options.sets == "raps" else None
    return sets.fit(
        options.sets,
        np.exp(scaling(certify.logits)),
        certify.labels,
        round(1 - options.coverage, 10),
        class_conditional=options.per_class,
        uniform=uniform,
    )


def _graded(judge: Judge, outputs: Outputs) -> Graded:
    """Returns (scores, minus infinity for strange images; predicted classes)."""
    said = judge(outputs)
    strange = said.p_values <= judge.false_alarms
    return np.where(strange, -np.inf, said.scores), said.labels


def _claims(
    graded: Sequence[Graded],
    tune: Outputs,
    certify: Outputs,
    options: Trust,
    level: float,
    costs: np.ndarray | None,
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Returns the claims, one or one a class, and the threshold of each class."""
    classes = tune.logits.shape[1]
    (tune_scores, tune_said), (scores_, said) = graded[:2]
    tune_wrong, wrong = tune_said != tune.labels, said != certify.labels
    most = options.max_error
    if costs is not None:
        largest = float(costs.max())
        most = most / largest
        tune_wrong = costs[tune.labels, tune_said] / largest
        wrong = costs[certify.labels, said] / largest
    if not options.per_class:
        found = certificate.certify(
            tune_scores, tune_wrong, scores_, wrong, most, level, costs=costs is not None
        )
        return [_claim(found, None)], np.full(classes, _limit(found))
    claims, thresholds = [], np.full(classes, math.inf)
    for k in range(classes):
        a, b = tune_said == k, said == k
        found = certificate.certify(
            tune_scores[a],
            tune_wrong[a],
            scores_[b],
            wrong[b],
            most,
            level / classes,
            costs=costs is not None,
        )
        claims.append(_claim(found, k))
        thresholds[k] = _limit(found)
    return claims, thresholds


def _limit(found: Certificate) -> float:
    return math.inf if found.threshold is None else found.threshold


def _claim(found: Certificate, label: int | None) -> dict[str, Any]:
    """Returns a claim for JSON, of the images called a class; None: of all."""
    seen = found.errors / found.answered if found.answered else 0.0
    expected = max(found.expected, seen)
    answers = certificate.answers_needed(found.max_error, found.level, expected)
    return {"class": label, "answers_needed": answers, **found.to_dict()}


def _others(
    graded: Sequence[Graded], tune: Outputs, certify: Outputs, report: Outputs, level: float
) -> list[dict[str, Any]]:
    """Returns what could be promised for other maximal errors, each claim by itself."""
    (tune_scores, tune_said), (scores_, said), (new_scores, new_said) = graded
    rows = []
    for most in scores.ERRORS:
        found = certificate.certify(
            tune_scores,
            tune_said != tune.labels,
            scores_,
            said != certify.labels,
            most,
            level,
        )
        row = _claim(found, None)
        answers = new_scores >= _limit(found)
        row["report_share"] = float(answers.mean())
        wrong = (new_said != report.labels)[answers]
        row["report_error"] = float(wrong.mean()) if answers.any() else None
        rows.append(row)
    return rows


def _data(given: Roles) -> dict[str, Any]:
    parts = {}
    for name in ("tune", "certify", "report"):
        outputs: Outputs = getattr(given, name)
        parts[name] = {
            "images": len(outputs),
            "groups": None if outputs.groups is None else outputs.units,
            "digest": roles.digest(outputs.ids, outputs.labels),
        }
    return {
        "source": given.source,
        "chosen_among": given.chosen_among,
        "notes": list(given.notes),
        **parts,
    }


def _strangers(
    judge: Judge,
    said: verdicts.Verdicts,
    held: Outputs,
    options: Trust,
    planted: Mapping[str, Seen],
) -> dict[str, Any]:
    """Returns what is known of how strange images are noticed."""
    needed = strangers.least_images(options.false_alarms)
    found: dict[str, Any] = {
        "false_alarms": options.false_alarms,
        "gate": judge.gate,
        "spread": dict(judge.spread),
        "neighbours": 0 if judge.bank is None else judge.bank.neighbours,
        "kept": 0 if judge.bank is None else len(judge.bank.features),
        "images": len(held),
        "needed": needed,
        "judged": judge.bank is not None and 0 < needed <= len(held),
        "planted": {},
    }
    if judge.bank is None:
        return found
    p_values = {name: judge.p_values(strange) for name, strange in planted.items()}
    found["planted"] = measured.noticed(p_values, options.false_alarms)
    edges = np.linspace(0, 1, 21)
    found["histogram"] = {
        name: np.histogram(p, edges)[0].tolist()
        for name, p in {"report": said.p_values, **p_values}.items()
    }
    return found
