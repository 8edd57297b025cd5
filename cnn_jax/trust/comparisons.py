"""What else can be asked of a network with a certificate: shift, drift of a batch, ensembles."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn_jax import text
from cnn_jax.options import Trust
from cnn_jax.trust import calibration, drift, ensembles, reliability, scores, study
from cnn_jax.trust.outputs import Outputs, Seen
from cnn_jax.trust.sentences import percent
from cnn_jax.trust.study import Roles
from cnn_jax.trust.verdicts import Judge

_SEEN = 0.05  # of shifted images that are called strange: somebody would notice
_FEW = 100  # new images, with which the tests find little


def shifted(judge: Judge, outputs: Outputs, name: str, strength: int = 0) -> dict[str, Any]:
    """Returns how accuracy, calibration and promise fare on shifted images.

    Args:
        judge: of the network.
        outputs: what it says of labelled images of another kind.
        name: of the shift.
        strength: of a corruption; 0: it has none.
    """
    said = judge(outputs)
    right = said.labels == outputs.labels
    surest = said.probabilities.max(axis=1)
    answers = said.answers
    return {
        "shift": name,
        "strength": strength,
        "images": len(outputs),
        "accuracy": float(right.mean()),
        "nll": calibration.nll(judge.scaling(outputs.logits), outputs.labels),
        "ece": reliability.calibration_error(surest, right).value,
        "confidence": float(surest.mean()),
        "answered": float(answers.mean()),
        "error": float((~right)[answers].mean()) if answers.any() else None,
        "strange": float((said.p_values <= judge.false_alarms).mean()),
        "set_coverage": float(said.sets[np.arange(len(right)), outputs.labels].mean()),
    }


def shift_sentence(rows: Sequence[Mapping[str, Any]], most: float) -> str:
    """Returns which shifts break the promise.

    Args:
        rows: of `shifted`.
        most: the maximal error that was promised.
    """
    broken = [r for r in rows if r["error"] is not None and r["error"] > most]
    said = (
        f"Under {len(rows)} shifts it answers {percent(min(r['answered'] for r in rows))} to "
        f"{percent(max(r['answered'] for r in rows))} of the images, and more than "
        f"{percent(most)} of its answers are wrong in {len(broken)}"
    )
    if not broken:
        return said + "."
    worst = max(broken, key=lambda r: r["error"])
    at = f" of strength {worst['strength']}" if worst["strength"] else ""
    return (
        f"{said}: most in {worst['shift']}{at}, where {percent(worst['error'])} are wrong and "
        f"{percent(worst['strange'])} of the images are called unlike the training images. In "
        f"{sum(r['strange'] >= _SEEN for r in broken)} of these {len(broken)} at least "
        f"{percent(_SEEN)} of the images are called so. The promise holds for images like those "
        "that certified it, and not here."
    )


def compared(judge: Judge, old: Outputs, new: Seen) -> dict[str, Any]:
    """Returns whether new images look like old ones, and the accuracy to be expected of them.

    Args:
        judge: of the network.
        old: the reporting images, which nobody has used.
        new: the new images.
    """
    known = old.one_a_group()
    values = []
    components = drift.components(
        np.asarray(known.features, np.float64), np.asarray(new.features, np.float64)
    )
    for seen, columns in zip((known, new), components, strict=True):
        z = seen.logits
        logs = judge.scaling(z)
        found = {
            "largest probability": scores.max_probability(z, logs),
            "energy": scores.energy(z, logs),
        }
        if judge.bank is not None:
            parts = judge.parts(seen)
            found["distance to training images"] = parts["neighbours"]
            found["strangeness"] = judge.joined(parts)
        values.append(found | columns)
    tests = drift.compare(*values)
    before, now = (scores.negative_entropy(z, judge.scaling(z)) for z in (known.logits, new.logits))
    right = known.logits.argmax(axis=1) == known.labels
    said = judge(new)
    return {
        "images": len(new),
        "tests": {name: dataclasses.asdict(test) for name, test in tests.items()},
        "accuracy_before": float(right.mean()),
        "expected_accuracy": drift.expected_accuracy(before, right, now),
        "answered": float(said.answers.mean()),
        "strange": float((said.p_values <= judge.false_alarms).mean()),
    }


def drift_sentence(found: Mapping[str, Any]) -> str:
    """Returns what `compared` found, in words."""
    changed = [name for name, test in found["tests"].items() if test["rejects"]]
    count = text.plural(found["images"], "new image")
    tests = f"{len(found['tests'])} tests, corrected for their number, at 5 %"
    if changed:
        told = f"The {count} can be told from those of before, by {', '.join(changed)} ({tests})."
    else:
        told = f"No difference is found between the {count} and those of before ({tests})."
        if found["images"] < _FEW:
            told = f"{told[:-1]}; with so few only a large one would be."
    return (
        f"{told} It would answer {percent(found['answered'])} of them, "
        f"{percent(found['strange'])} are unlike the training images. Its accuracy, "
        f"{percent(found['accuracy_before'])} before, is estimated at "
        f"{percent(found['expected_accuracy'])} (average thresholded confidence): no guarantee, "
        "only labels show it."
    )


def side_by_side(
    networks: Mapping[str, Roles],
    options: Trust,
    names: Sequence[str],
    costs: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """Returns how networks fare on the same images, without the second gate, a row each.

    Args:
        networks: {name: what a network said of the same images in the same roles}.
        options: what was promised.
        names: the names of the classes.
        costs: as those of `study.study`.
    """
    rows = []
    for name, given in networks.items():
        record, _ = study.study(given, None, options, names, costs=costs)
        after, claims = record["calibration"]["after"], record["claims"]
        rows.append(
            {
                "member": name,
                "accuracy": after["accuracy"],
                "nll": after["nll"],
                "ece": after["ece"],
                "ece_by_chance": after["ece_by_chance"],
                "temperature": record["calibration"]["scaling"]["temperature"],
                "promised_coverage": _promised(claims),
                "answered": record["report"]["share"],
                "error": record["report"]["error"],
            }
        )
    return rows


def _promised(claims: Sequence[Mapping[str, Any]]) -> float:
    """Returns the share of certifying images that may be answered, over all claims."""
    number = sum(claim["of"] for claim in claims)
    answered = sum(claim["answered"] for claim in claims if claim["threshold"] is not None)
    return answered / number if number else 0.0


def with_mean(members: Mapping[str, Roles]) -> dict[str, Roles]:
    """Returns the members, and as the last one "all N", the mean of their probabilities.

    Where images chose the checkpoint of each member, they chose the ensemble among all combinations
    of checkpoints: the promise pays for their number.

    Args:
        members: as the networks of `side_by_side`.
    """
    every = list(members.values())

    def together(role: str) -> Outputs:
        said = [getattr(each, role) for each in every]
        mean = ensembles.mean_probabilities([each.logits for each in said])
        return dataclasses.replace(said[0], logits=mean)

    parts = {role: together(role) for role in ("tune", "certify", "report")}
    chosen = math.prod(each.chosen_among for each in every)
    whole = dataclasses.replace(every[0], chosen_among=chosen, **parts)
    return {**members, f"all {len(every)}": whole}


def gain_sentence(start: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Returns what averaging gains, in words.

    Args:
        start: what is averaged, the beginning of the sentence.
        before: the row of this network, of `side_by_side`.
        after: that of the mean.
    """
    return (
        f"{start}, the error goes from {percent(1 - before['accuracy'])} to "
        f"{percent(1 - after['accuracy'])}, the negative log-likelihood from {before['nll']:.4f} "
        f"to {after['nll']:.4f}, and the share that may be answered at the promise from "
        f"{percent(before['promised_coverage'])} to {percent(after['promised_coverage'])}."
    )
