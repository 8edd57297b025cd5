"""What the tuning images choose: the score that decides, and the gate that notices strangers."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from cnn_jax.trust import scores, selective, strangers
from cnn_jax.trust.outputs import Outputs, Seen, hashes
from cnn_jax.trust.verdicts import Judge


def gate(judge: Judge, held: Outputs, planted: Mapping[str, Seen]) -> tuple[Judge, Outputs]:
    """Returns the judge with the gate that notices planted images best, and what it compares with.

    Half of the tuning images, by a hash, choose between the gates; the others make the p-values, so
    that these are as if the gate had been given. Where a half would be too few, the distance to
    neighbours is the gate and all of them make the p-values.
    """
    if judge.bank is None:
        return judge, held
    half = hashes([f"gate {name}" for name in held.ids]) % np.uint64(2) == 0
    rest = held.take(np.flatnonzero(~half))
    least = strangers.least_images(judge.false_alarms)
    if planted and half.any() and len(rest) >= least:
        known, held = held.take(np.flatnonzero(half)), rest
        usual = judge.parts(known)
        judge = dataclasses.replace(judge, spread=spread(usual))
        strange = [judge.parts(each) for each in planted.values()]
        areas = {}
        for name in ("together", *judge.spread):
            joined = dataclasses.replace(judge, gate=name).joined
            found = [strangers.detection(joined(usual), joined(each), 0.05) for each in strange]
            areas[name] = np.mean([area for area, _ in found])
        best = max(areas, key=lambda name: areas[name])
        judge = dataclasses.replace(judge, gate=best)
    found = np.sort(judge.strangeness(held))
    return dataclasses.replace(judge, held_out=found), held


def spread(parts: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Returns {part: (median, how much larger the 95 % quantile is, at least a little)}."""
    found = {}
    for name, values in parts.items():
        middle, high = np.quantile(values, (0.5, 0.95))
        found[name] = float(middle), float(max(high - middle, 1e-9 * max(1.0, abs(middle))))
    return found


def score(judge: Judge, tune: Outputs) -> tuple[str, str]:
    """Returns the score that decides, and why: the largest probability unless one is better."""
    logs = judge.scaling(tune.logits)
    wrong = logs.argmax(axis=1) != tune.labels
    usual = scores.max_probability(tune.logits, logs)
    names = [n for n in scores.names(logs.shape[1]) if scores.may_decide(n)]
    values = {name: scores.by_name(name)(tune.logits, logs) for name in names}
    areas = {n: selective.RiskCoverage.of(v, wrong).augrc for n, v in values.items()}
    best = min(areas, key=lambda name: areas[name])
    if best != "max_probability" and wrong.any():
        better, _ = selective.is_better(values[best], usual, wrong, tune.numbers)
        if better:
            ratio = f"AUGRC {areas[best]:.5f} and not {areas['max_probability']:.5f}"
            return best, f"it sorts the errors of the tuning images better: {ratio}"
    return "max_probability", "no other score sorts the errors of the tuning images clearly better"
