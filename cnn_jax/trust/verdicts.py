"""Verdicts: what a network with a certificate says of new images, or why it says nothing."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnn_jax.trust import scores, sets, strangers
from cnn_jax.trust.calibration import Scaling
from cnn_jax.trust.outputs import Seen
from cnn_jax.trust.sets import Sets
from cnn_jax.trust.strangers import Bank


@dataclasses.dataclass(frozen=True)
class Verdicts:
    """What is said of some images.

    Attributes:
        probabilities: float64 [n, classes], calibrated.
        labels: int [n], the most probable class.
        sets: bool [n, classes], the classes in the prediction set.
        scores: float64 [n], how sure.
        thresholds: float64 [n], what the score has to reach; infinite: nothing was certified.
        p_values: float64 [n], of being like the training images; 1 where that is not judged.
        answers: bool [n], whether the network answers.
        reasons: n texts; "" where it answers.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    sets: np.ndarray
    scores: np.ndarray
    thresholds: np.ndarray
    p_values: np.ndarray
    answers: np.ndarray
    reasons: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Judge:
    """Judges images by what trust.json and trust.npz hold.

    Attributes:
        scaling: makes calibrated log-probabilities of logits.
        score: the name of the score.
        thresholds: float64 [classes], for each predicted class; infinite: nothing was certified.
        made: how sets are made.
        gate: what is strange: one of `parts`, or "together", all of them.
        spread: {part: (median, how much larger the 95 % quantile is)} of ordinary images.
        bank: features of training images; None: strangers are not judged.
        held_out: float64 [m], how strange the images to compare with are, sorted.
        false_alarms: the p-value from which down an image counts as strange.
    """

    scaling: Scaling
    score: str
    thresholds: np.ndarray
    made: Sets
    gate: str
    spread: Mapping[str, tuple[float, float]]
    bank: Bank | None
    held_out: np.ndarray
    false_alarms: float

    def parts(self, seen: Seen) -> dict[str, np.ndarray]:
        """Returns {name: float64 [n]}, what is known of how unlike the training images some are."""
        assert self.bank is not None
        found = {"energy": -scores.energy(seen.logits, seen.logits)}
        found["neighbours"] = self.bank.distances(seen.features)
        if self.bank.middle is not None and seen.middle is not None:
            found["middle"] = self.bank.surprise(seen.middle)
        return found

    def strangeness(self, seen: Seen) -> np.ndarray:
        """Returns how unlike the training images some are by the gate, float64 [n]."""
        return self.joined(self.parts(seen))

    def joined(self, parts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the strangeness of parts by the gate, float64 [n].

        Together it is the sum of the squares of what each part is above its median, measured by how
        far the 95 % quantile of ordinary images is.
        """
        if self.gate != "together":
            return parts[self.gate]
        away = [(parts[name] - middle) / reach for name, (middle, reach) in self.spread.items()]
        return (np.maximum(away, 0) ** 2).sum(axis=0)

    def p_values(self, seen: Seen) -> np.ndarray:
        """Returns the p-values of images; 1 where strangers are not judged."""
        if self.bank is None or not len(self.held_out):
            return np.ones(len(seen))
        return strangers.p_values(self.held_out, self.strangeness(seen))

    def __call__(self, seen: Seen) -> Verdicts:
        """Judges images, of which it is told what the network computed."""
        logits = seen.logits
        logs = self.scaling(logits)
        p = np.exp(logs)
        labels = logs.argmax(axis=1)
        sure = scores.by_name(self.score)(logits, logs)
        needed = self.thresholds[labels]
        p_values = self.p_values(seen)
        strange = p_values <= self.false_alarms
        answers = (sure >= needed) & ~strange
        reasons = tuple(
            "" if a else reason(s, t, v if f else None)
            for a, s, t, v, f in zip(answers, sure, needed, p_values, strange, strict=True)
        )
        uniform = sets.uniforms(logits) if self.made.method == "raps" else None
        found = self.made(p, uniform)
        return Verdicts(p, labels, found, sure, needed, p_values, answers, reasons)


def reason(score: float, threshold: float, p_value: float | None) -> str:
    """Returns why an image gets no answer.

    Args:
        score: how sure the network is.
        threshold: what the score has to reach; infinite: nothing was certified.
        p_value: that of a strange image; None: it is not strange.
    """
    if p_value is not None:
        return f"unlike the training images: p = {p_value:.3g}"
    if np.isinf(threshold):
        return "nothing could be promised"
    digits = 2
    while f"{score:.{digits}f}" == f"{threshold:.{digits}f}" and digits < 12:
        digits += 1
    return f"not sure enough: {score:.{digits}f} < {threshold:.{digits}f}"


def of_record(record: dict[str, Any], stored: dict[str, np.ndarray]) -> Judge:
    """Returns the judge of what trust.json says, and of the arrays of trust.npz.

    Args:
        record: trust.json.
        stored: `bank` float16 [m, channels] and `held_out` float64 [n], with `mean` float32 [c] and
            `inverse` float32 [c, c] of the middle convolution, or {}.
    """
    gate = record["strangers"]
    bank = None
    if "bank" in stored:
        middle = (stored["mean"], stored["inverse"]) if "mean" in stored else None
        bank = Bank(stored["bank"], gate["neighbours"], middle)
    limits = [np.inf if t is None else t for t in record["thresholds"]]
    return Judge(
        Scaling.from_dict(record["calibration"]["scaling"]),
        record["score"],
        np.asarray(limits, np.float64),
        Sets.from_dict(record["sets"]["made"]),
        gate["gate"],
        {name: (float(a), float(b)) for name, (a, b) in gate["spread"].items()},
        bank,
        stored.get("held_out", np.zeros(0)),
        gate["false_alarms"],
    )


def names(chosen: np.ndarray, class_names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of the classes in a set, bool [classes]."""
    return tuple(class_names[int(i)] for i in np.flatnonzero(chosen))
