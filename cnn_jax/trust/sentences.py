"""What trust.json says, in sentences that a person can act on."""

from collections.abc import Mapping, Sequence
from typing import Any

from cnn_jax import text

_SCORES = {
    "max_probability": "the largest probability",
    "energy": "the energy of the logits",
    "max_logit": "the largest logit",
    "neighbours": "the distance to training images",
    "margin": "the margin of the two largest probabilities",
    "negative_entropy": "the entropy",
    "gen": "the generalised entropy (GEN)",
}
_GATES = {
    "neighbours": "the distance to their nearest neighbours among these",
    "energy": "the energy of the logits",
    "middle": "what the middle convolution says",
    "together": "energy, nearest neighbours among these and middle convolution, together",
}
_MOST_NAMED = 5


def percent(share: float, digits: int = 1) -> str:
    """Returns "83.1 %"; small shares keep two figures: "0.042 %"."""
    value = 100 * share
    while 0 < abs(value) < 10 ** (1 - digits) and digits < 6:
        digits += 1
    shown = f"{value:.{digits}f}"
    return f"{shown.rstrip('0').rstrip('.') if '.' in shown else shown} %"


def points(share: float) -> str:
    """Returns "6.1 points" of a difference of shares."""
    return f"{100 * abs(share):.1f} points"


def of(record: Mapping[str, Any]) -> list[str]:
    """Returns the sentences of a record: data, promise, probabilities, sets, strangers, limits."""
    return [
        *_data(record["data"], record["settings"], record["level"]),
        *_promises(record),
        _measured(record["report"]),
        *_calibration(record["calibration"]),
        *_sets(record["sets"]),
        _strangers(record["strangers"], record["report"]),
        _limits(record["data"]),
    ]


def _data(data: Mapping[str, Any], settings: Mapping[str, Any], level: float) -> list[str]:
    def part(name: str) -> str:
        found = data[name]
        groups = "" if found["groups"] is None else f" of {found['groups']:,} groups"
        return f"{found['images']:,} images{groups} to {name}"

    parts = ", ".join(map(part, ("tune", "certify", "report")))
    lines = [f"Data: {data['source']}: {parts}.", *data["notes"]]
    if data["chosen_among"] > 1:
        risk = 1 - settings["confidence"]
        lines.append(
            f"The same images chose this network among {data['chosen_among']:,} (checkpoints and "
            f"trials), so every test is made at the level {level:.3g}, which is {risk:.3g} divided "
            f"by {data['chosen_among']:,}: the promise pays for that choice. What a person "
            "compared on them by hand is not counted."
        )
    return lines


def _promises(record: Mapping[str, Any]) -> list[str]:
    claims, names = record["claims"], record["class_names"]
    if claims[0]["class"] is None:
        said = _promise(claims[0], record, "such images")
        reachable = [c for c in record["other_claims"] if c["threshold"] is not None]
        if claims[0]["threshold"] is None and reachable:
            least = min(reachable, key=lambda claim: claim["max_error"])
            said += (
                f" A maximal error of {percent(least['max_error'])} could be promised, for "
                f"{percent(least['coverage'])} of the images: --trust.max_error="
                f"{least['max_error']:g}."
            )
        return [said]
    kept = [c for c in claims if c["threshold"] is not None]
    lost = [c for c in claims if c["threshold"] is None]
    lines = [
        f"Called {names[c['class']]}: {_promise(c, record, 'images called so')}"
        for c in kept[:_MOST_NAMED]
    ]
    if len(kept) > _MOST_NAMED:
        lines.append(f"The same holds for {len(kept) - _MOST_NAMED} more classes; see trust.json.")
    if kept:
        lines.append(
            "The promises of all classes hold together: each test is made at "
            f"{claims[0]['level']:.3g}, its share of what may go wrong."
        )
    if lost:
        said = _listed([names[c["class"]] for c in lost])
        lines.append(
            f"NOT promised for {said}: " + _refusal(lost[0], record["settings"]["confidence"])
        )
    return lines


def _promise(claim: Mapping[str, Any], record: Mapping[str, Any], of: str) -> str:
    settings, most = record["settings"], record["settings"]["max_error"]
    confidence = percent(settings["confidence"])
    if claim["threshold"] is None:
        return f"NOT promised: {_refusal(claim, settings['confidence'])}"
    said = (
        f"It may answer {percent(claim['coverage'])} of {of} on its own; among those it answers, "
    )
    if settings["costs"] is None:
        said += f"at most {percent(most)} are wrong"
        found = f"{claim['errors']:,} of {claim['answered']:,} answers wrong"
    else:
        said += f"an answer costs at most {most:g} in the mean"
        found = f"{claim['answered']:,} answers"
    unit = "images" if record["data"]["certify"]["groups"] is None else "groups"
    bound = claim["bound"] * (most / claim["max_error"])
    shown = percent(bound, 2) if settings["costs"] is None else f"{bound:.3g}"
    return (
        f"{said} (with {confidence} confidence, by {claim['of']:,} held-out {unit}: {found}, "
        f"exact bound {shown})."
    )


def _refusal(claim: Mapping[str, Any], confidence: float) -> str:
    most, answered = claim["max_error"], claim["answered"]
    right = f"{claim['needed']:,} answers without an error"
    if claim["of"] < claim["needed"]:
        said = (
            f"there are {claim['of']:,} images to certify with, and a maximal error of "
            f"{percent(most)} needs at least {right}."
        )
    elif claim["expected"] >= most:
        said = (
            f"no threshold reaches a maximal error of {percent(most)}: where it is surest, "
            f"{percent(claim['expected'])} of the tuning images are wrong."
        )
    else:
        said = (
            f"{claim['errors']:,} of {answered:,} answers at the first threshold are wrong, which "
            f"does not prove a maximal error of {percent(most)}; it takes {right}"
        )
        more = claim["answers_needed"]
        said += f", or about {more:,} with errors as rare as in these images." if more else "."
    if answered and claim["bound"] < 1:
        said += (
            f" Provable now: {percent(claim['bound'])}, with {percent(confidence)} confidence, "
            f"for the surest {percent(answered / claim['of'])}."
        )
    return said


def _measured(report: Mapping[str, Any]) -> str:
    every = f"Answering all, {percent(report['error_without_abstention'])} would be wrong."
    if not report["certified"]:
        return f"With no promise it answers none of the {report['images']:,} other images. {every}"
    share = _with_interval(report["share"], report["share_interval"])
    said = (
        f"Measured on {report['images']:,} other images: it answers {report['answered']:,} of them "
        f"({share})"
    )
    if report["error"] is not None:
        error = _with_interval(report["error"], report["error_interval"])
        said += f", {report['wrong']:,} wrongly ({error})"
    return (
        f"{said}. It is not sure enough of {report['unsure']:,}, and finds "
        f"{report['strange']:,} unlike the training images. {every}"
    )


def _calibration(found: Mapping[str, Any]) -> list[str]:
    before, after, scaling = found["before"], found["after"], found["scaling"]
    gap = before["overconfidence"]
    low, high = before["overconfidence_interval"]
    if low <= 0 <= high:
        said = f"Its probabilities were right to {points(gap)}, which chance alone explains"
    else:
        word = "sure" if gap > 0 else "unsure"
        said = f"Its probabilities were too {word} by {points(gap)}"
    if scaling["note"]:
        said += f"; no temperature was fitted: {scaling['note']}."
    elif scaling["kind"] == "temperature":
        said += (
            f"; divided by a temperature of {scaling['temperature']:.2f} they are right to "
            f"{points(after['overconfidence'])}."
        )
    else:
        said += (
            "; with a weight and an offset for each class (vector scaling) they are right to "
            f"{points(after['overconfidence'])}."
        )
    bins = (
        f"Expected calibration error {percent(before['ece'], 2)} before, "
        f"{percent(after['ece'], 2)} after; perfect probabilities would show "
        f"{percent(after['ece_by_chance'], 2)} with so many images, and up to "
        f"{percent(after['ece_upper_by_chance'], 2)}. Negative log-likelihood "
        f"{before['nll']:.4f} before, {after['nll']:.4f} after."
    )
    return [said, bins]


def _sets(found: Mapping[str, Any]) -> list[str]:
    made, measured = found["made"], found["measured"]
    wanted = percent(1 - made["alpha"])
    within = " within each class" if made["class_conditional"] else ""
    low, high = found["law"]
    few = [q for q in made["quantiles"] if q is None]
    if len(few) == len(made["quantiles"]):
        return [
            f"Sets that hold the true class for {wanted} of images need at least "
            f"{-(-1 // made['alpha']) - 1:.0f} images to certify with; now every class is in them."
        ]
    said = (
        f"Sets of classes hold the true class for at least {wanted} of images{within} (between "
        f"{percent(low)} and {percent(high)} for 9 of 10 draws of the held-out images); "
        f"measured: {percent(measured['coverage'])}, {measured['mean_size']:.2f} classes in the "
        f"mean, one class for {percent(measured['single'])}, none for "
        f"{percent(measured['empty'])}."
    )
    return [said]


def _strangers(found: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    alarms = percent(found["false_alarms"])
    if not found["false_alarms"]:
        return "Whether an image is unlike the training images is not judged, as asked."
    if not found["kept"]:
        return (
            "Whether an image is unlike the training images is not judged: there are no training "
            "images at hand."
        )
    if not found["judged"]:
        return (
            f"Whether an image is unlike the training images is not judged: {alarms} of false "
            f"alarms takes {found['needed']:,} tuning images, and there are {found['images']:,}."
        )
    measured = _with_interval(report["strange"] / report["images"], report["strange_interval"])
    said = (
        f"Of ordinary images at most {alarms} are called unlike the training images (by "
        f"{_GATES[found['gate']]}), on average; measured: {measured}."
    )
    if found["planted"]:
        each = ", ".join(f"{name} {percent(p['noticed'])}" for name, p in found["planted"].items())
        said += f" Of strange ones it notices: {each}. No share of others is promised."
    return said


def _limits(data: Mapping[str, Any]) -> str:
    del data
    return (
        "All this holds for images drawn like these, counted over many of them, with labels that "
        "are right: not for another place, camera or year (fresh labelled images from there "
        "measure it), not for one image, not against somebody who makes images to mislead it."
    )


def _with_interval(value: float, ends: Sequence[float] | None) -> str:
    if ends is None:
        return percent(value)
    return f"{percent(value)}, {percent(ends[0])} to {percent(ends[1])}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def score_name(name: str) -> str:
    """Returns a score in words."""
    if name.startswith("p_norm_"):
        return f"the largest logit over the {name.removeprefix('p_norm_')}-norm"
    return _SCORES.get(name, name)


def void(recorded: int, step: int) -> str:
    """Returns why trust.json does not hold for a checkpoint.

    Args:
        recorded: the step of the checkpoint that it is of.
        step: of the checkpoint at hand.
    """
    of = f"step {recorded}" if recorded != step else "other weights or settings"
    return text.one_line(
        f"trust.json is of another checkpoint ({of}, here step {step}): its promises are void, and "
        "the probabilities are not calibrated; run trust again"
    )
