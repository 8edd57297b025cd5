"""What gains how much in trust: scores, views, an ensemble of seeds, label smoothing, scalings.

    python benchmarks/trust_gains.py --members=RUN,RUN,RUN --unsmoothed=RUN

The first member is the network itself; RUN of `--unsmoothed` differs in its label smoothing alone.
All are judged on the same test images by the same twenty splits as in `benchmarks/trust.py`, with
the last checkpoint. What each network says is kept in its run directory. Results go to
docs/results/trust.json, of which `benchmarks/trust.py --write` makes the page.
"""

import argparse
import dataclasses
import datetime
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cnn_jax  # noqa: E402
from benchmarks import trust  # noqa: E402
from cnn_jax.reporting import tables  # noqa: E402
from cnn_jax.runs import trust_images  # noqa: E402
from cnn_jax.trust import (  # noqa: E402
    calibration,
    certificate,
    ensembles,
    reliability,
    scores,
    selective,
)
from cnn_jax.trust.outputs import Outputs  # noqa: E402
from cnn_jax.trust.sentences import score_name  # noqa: E402

ERRORS = (0.01, 0.005)
LEVEL = 0.05
SHOWN = ("max_probability", "margin", "negative_entropy", "gen", "p_norm")
SCALINGS = ("none", "temperature", "vector")


def said(directory: str, views: str) -> Outputs:
    """Returns what a run's last checkpoint says of its test images."""
    run = cnn_jax.load(directory, "last")
    name = "test" if views == "one" else f"test_{views}"
    return trust.outputs_of(run, trust_images.Network(run, views), run.split(), name)


def together(every: list[Outputs]) -> Outputs:
    """Returns the mean of the probabilities of several networks."""
    mean = ensembles.mean_probabilities([each.logits for each in every])
    return dataclasses.replace(every[0], logits=mean)


def measure(test: Outputs) -> dict[str, Any]:
    """Returns the mean over splits of what a network is worth, by each score and scaling."""
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in SHOWN}
    norms: list[str] = []
    temperatures: list[float] = []
    for seed in range(trust.SPLITS):
        parts = trust.parts(test, seed)
        scaling = calibration.temperature(parts[0].logits, parts[0].labels)
        temperatures.append(scaling.temperature)
        values = [_values(part, scaling) for part in parts]
        wrong = [part.logits.argmax(axis=1) != part.labels for part in parts]
        areas = {
            name: selective.RiskCoverage.of(value, wrong[0]).augrc
            for name, value in values[0].items()
            if name.startswith("p_norm_")
        }
        norms.append(min(areas, key=lambda name: areas[name]))
        for shown in SHOWN:
            name = norms[-1] if shown == "p_norm" else shown
            tune, certify, report = (value[name] for value in values)
            curve = selective.RiskCoverage.of(report, wrong[2])
            row = {"aurc": curve.aurc, "excess_aurc": curve.excess_aurc, "augrc": curve.augrc}
            for most in ERRORS:
                found = certificate.certify(tune, wrong[0], certify, wrong[1], most, LEVEL)
                row[f"answers_{most}"] = found.coverage
                limit = np.inf if found.threshold is None else found.threshold
                answers = report >= limit
                row[f"wrong_{most}"] = float(wrong[2][answers].mean()) if answers.any() else 0.0
            rows[shown].append(row)
    return {
        "error": float((test.logits.argmax(axis=1) != test.labels).mean()),
        "temperature": float(np.mean(temperatures)),
        "norm": max(set(norms), key=norms.count),
        "scores": {
            name: {key: float(np.mean([r[key] for r in own])) for key in own[0]}
            for name, own in rows.items()
        },
        "scalings": {kind: _scaled(test, kind) for kind in SCALINGS},
    }


def _values(part: Outputs, scaling: calibration.Scaling) -> dict[str, np.ndarray]:
    logs = scaling(part.logits)
    names = [name for name in scores.names(logs.shape[1]) if scores.may_decide(name)]
    return {name: scores.by_name(name)(part.logits, logs) for name in names}


def _scaled(test: Outputs, kind: str) -> dict[str, float]:
    """Returns likelihood and calibration over all test images, each half scaled by the other."""
    order = np.random.default_rng(0).permutation(len(test))
    halves = [test.take(part) for part in np.array_split(order, 2)]
    logs, labels = [], []
    for own, other in (halves, halves[::-1]):
        if kind == "none":
            logs.append(calibration.log_softmax(own.logits))
        else:
            fit = calibration.temperature if kind == "temperature" else calibration.vector_scaling
            logs.append(fit(other.logits, other.labels)(own.logits))
        labels.append(own.labels)
    whole, truth = np.concatenate(logs), np.concatenate(labels)
    p = np.exp(whole)
    found = reliability.calibration_error(p.max(axis=1), p.argmax(axis=1) == truth)
    return {
        "nll": calibration.nll(whole, truth),
        "brier": calibration.brier(p, truth),
        "ece": found.value,
        "ece_by_chance": found.by_chance,
        "ece_upper_by_chance": found.upper,
        "ece_squared": found.squared,
        "class_wise_ece": float(np.mean(reliability.class_wise(p, truth))),
    }


def gains(members: list[str], unsmoothed: str | None) -> dict[str, Any]:
    """Returns {network: what it is worth}."""
    many = "mirror_translate"
    rows: dict[str, Outputs] = {}
    for views, words in (("one", "one view"), (many, "six views")):
        every = [said(directory, views) for directory in members]
        rows[f"one network, {words}"] = every[0]
        if len(every) > 1:
            rows[f"{len(every)} seeds, {words}"] = together(every)
        if unsmoothed is not None:
            rows[f"without label smoothing, {words}"] = said(unsmoothed, views)
    return {name: measure(test) for name, test in rows.items()}


def page(found: Mapping[str, Any]) -> list[str]:
    """Returns the paragraphs of the page."""

    def percent(value: float, digits: int = 1) -> str:
        return f"{100 * value:.{digits}f} %"

    parts = [
        f"## What gains how much ({found['date']})",
        "`cifar10_94`, whose loss smooths labels by 0.2: one network, with the views of `--views="
        "mirror_translate`, the mean probability of three seeds, and the same network trained "
        "without label smoothing. Means over the same twenty splits; *answers* is the share of "
        "certifying images that may be answered at 1 % or 0.5 % errors with 95 % confidence (0 "
        "where nothing could be promised), *wrong* the errors among the answers of the reporting "
        "quarter. Of one run `trust --views=mirror_translate --trust.members=RUN,RUN` prints such "
        "rows. By the largest probability after a temperature, and by the best p-norm of the "
        "tuning images.",
    ]
    rows = []
    for name, network in found["networks"].items():
        for score in ("max_probability", "p_norm"):
            own = network["scores"][score]
            norm = network["norm"] if score == "p_norm" else score
            rows.append(
                [
                    name,
                    score_name(norm),
                    percent(network["error"], 2),
                    f"{network['scalings']['temperature']['nll']:.4f}",
                    *(percent(own[f"answers_{most}"]) for most in ERRORS),
                    percent(own["wrong_0.01"], 2),
                    f"{1000 * own['aurc']:.2f}",
                    f"{1000 * own['excess_aurc']:.2f}",
                ]
            )
    head = ["network", "score", "error", "NLL", "answers at 1 %", "at 0.5 %", "wrong at 1 %"]
    parts.append(tables.markdown(rows, [*head, "1000 AURC", "1000 excess"]))
    first = next(iter(found["networks"]))
    rows = [
        [
            score_name(found["networks"][first]["norm"] if name == "p_norm" else name),
            *(percent(own[f"answers_{most}"]) for most in ERRORS),
            *(f"{1000 * own[key]:.2f}" for key in ("augrc", "aurc", "excess_aurc")),
        ]
        for name, own in found["networks"][first]["scores"].items()
    ]
    parts.append(f"All scores that may decide, {first}:")
    head = ["score", "answers at 1 %", "at 0.5 %", "1000 AUGRC", "1000 AURC", "1000 excess"]
    parts.append(tables.markdown(rows, head))
    parts.append(
        "Calibration over all 10,000 test images, each half scaled by what the other one says. *by "
        "chance* is the expected calibration error (ECE) that perfect probabilities would show "
        "with so many images and bins, *up to* what 95 % of such networks stay below, and "
        "*debiased* the root of the mean squared error of the bins less its noise."
    )
    rows = [
        [
            name if kind == "none" else "",
            kind,
            f"{own['nll']:.4f}",
            f"{own['brier']:.4f}",
            *(percent(own[key], 2) for key in ("ece", "ece_by_chance", "ece_upper_by_chance")),
            *(percent(own[key], 2) for key in ("ece_squared", "class_wise_ece")),
        ]
        for name, network in found["networks"].items()
        for kind, own in network["scalings"].items()
    ]
    head = ["network", "scaling", "NLL", "Brier", "ECE", "by chance", "up to", "debiased"]
    parts.append(tables.markdown(rows, [*head, "class-wise ECE"]))
    return [*parts, *_read(found["networks"])]


def _read(networks: Mapping[str, Any]) -> list[str]:
    """Returns what the tables say of the targets, in words."""

    def answers(name: str) -> str:
        return f"{100 * networks[name]['scores']['max_probability']['answers_0.01']:.1f} %"

    def ece(name: str, kind: str = "temperature") -> str:
        own = networks[name]["scalings"][kind]
        return f"{100 * own['ece']:.2f} %"

    def chance(name: str) -> str:
        return f"{100 * networks[name]['scalings']['temperature']['ece_upper_by_chance']:.2f} %"

    one, many = "one network, one view", "one network, six views"
    plain, both = "without label smoothing, one view", "without label smoothing, six views"
    seeds = [name for name in networks if " seeds" in name]
    if not {one, many, plain, both} <= set(networks) or len(seeds) != 2:
        return []
    several = seeds[0].split(",")[0]
    return [
        "The target of 80 % at 1 % errors is one for several networks: one answers "
        f"{answers(one)}, with six views {answers(many)}, {several} {answers(seeds[0])} and "
        f"{answers(seeds[1])}. Averaging gains most, for it removes errors; no score gains as "
        "much, and which one is best at 0.5 % is chance: that promise rests on a few errors. "
        f"Training without label smoothing does not pay here: it answers {answers(plain)} and "
        f"{answers(both)}, for it makes more errors, and sorts them little better (excess AURC).",
        f"A temperature leaves an ECE of {ece(one)} (target 1.0 %), with six views {ece(many)}, "
        f"with {several} {ece(seeds[0])}. Of one network that is more than the bias of finite "
        f"bins, which stays below {chance(one)} in 95 % of cases. Without label smoothing it is "
        f"{ece(plain)}, which chance explains: smoothing bends the probabilities in a way that one "
        f"temperature does not straighten. Vector scaling leaves {ece(one, 'vector')} and can "
        "change answers; classes of equal size keep the temperature.",
    ]


def main() -> None:
    """Measures what the flags name and writes the results."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--members", required=True)
    parser.add_argument("--unsmoothed")
    given = parser.parse_args()
    found = gains(given.members.split(","), given.unsmoothed)
    today = datetime.date.today().isoformat()
    trust.add("gains", {"date": today, "networks": found})


if __name__ == "__main__":
    main()
