"""Do the promises of `trust` hold? By simulation at full size, and over splits of real test images.

    python benchmarks/trust.py --simulate                    2,000 draws of each simulation
    python benchmarks/trust.py --runs=RUN,... --strange=DIR  twenty splits of each run's test images
    python benchmarks/trust.py --write                       the tables once more

    python benchmarks/trust.py --costs=RUN                   processor time beside an evaluation

Simulations draw from classifiers whose true error at every threshold is known. Runs are ordinary
run directories on images with a test split; their logits are computed once and kept in RUN. DIR is
a folder of photographs of cats and dogs, which are reduced to the run's size. Results go to
docs/results/trust.json, and trust.md beside it is made of that.
"""

import argparse
import dataclasses
import datetime
import json
import math
import pathlib
import sys
import time
from typing import Any

import numpy as np
import scipy.stats

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import cnn_jax  # noqa: E402
from cnn_jax import files  # noqa: E402
from cnn_jax.data import Split, images, named  # noqa: E402
from cnn_jax.data import splits as data_splits  # noqa: E402
from cnn_jax.data.reading import resize  # noqa: E402
from cnn_jax.evaluation import intervals  # noqa: E402
from cnn_jax.options import Trust  # noqa: E402
from cnn_jax.reporting import tables  # noqa: E402
from cnn_jax.runs import environment, trust_images  # noqa: E402
from cnn_jax.runs.trained import Run  # noqa: E402
from cnn_jax.trust import (  # noqa: E402
    calibration,
    certificate,
    choices,
    corruptions,
    scores,
    sets,
    strangers,
    study,
)
from cnn_jax.trust.outputs import Outputs, Seen, hashes  # noqa: E402
from cnn_jax.trust.strangers import Bank  # noqa: E402
from cnn_jax.trust.verdicts import Judge  # noqa: E402
from tests.trust import simulated  # noqa: E402

RESULTS = ROOT / "docs" / "results"
ERRORS = (0.05, 0.02, 0.01, 0.005)
SPLITS = 20
DRAWS = 2000


def simulate(draws: int = DRAWS) -> dict[str, Any]:
    """Returns what the simulations find: how often each promise is broken."""
    random = np.random.default_rng(0)
    abstention = []
    for n, most, level in [
        (1000, 0.05, 0.05),
        (5000, 0.02, 0.05),
        (5000, 0.01, 0.05),
        (2000, 0.05, 0.01),
        (1000, 0.05, 0.2),
    ]:
        broken = nothing = 0
        answered = 0.0
        for _ in range(draws):
            tune, own = simulated.drawn(random, n // 2), simulated.drawn(random, n)
            found = certificate.certify(*tune, *own, most, level)
            if found.threshold is None:
                nothing += 1
                continue
            broken += simulated.true_risk(found.threshold) > most
            answered += 1 - found.threshold
        abstention.append(
            {
                "certifying": n,
                "max_error": most,
                "level": level,
                "broken": broken / draws,
                "nothing": nothing / draws,
                "answered": answered / draws,
                "possible": min(1.0, math.sqrt(3 * most / simulated.WORST)),
            }
        )
    return {
        "draws": draws,
        "abstention": abstention,
        "choice": _choice(random, draws // 4),
        "sets": _sets(random, draws),
        "p_values": _p_values(random, draws),
        "bounds": _bounds(random, draws * 10),
    }


def _choice(random: np.random.Generator, draws: int) -> dict[str, Any]:
    """Returns how often a promise is broken after a choice among 20 networks, paid for or not."""
    broken = {"paid": 0, "unpaid": 0}
    for _ in range(draws):
        fields = [simulated.drawn(random, 400) for _ in range(20)]
        best = min(fields, key=lambda field: field[1].sum())
        tune = simulated.drawn(random, 400)
        for name, level in (("paid", 0.1 / 20), ("unpaid", 0.1)):
            found = certificate.certify(*tune, *best, 0.05, level)
            if found.threshold is not None:
                broken[name] += simulated.true_risk(found.threshold) > 0.05
    return {"draws": draws, "level": 0.1, **{k: v / draws for k, v in broken.items()}}


def _sets(random: np.random.Generator, draws: int) -> list[dict[str, Any]]:
    """Returns the coverage of sets over draws of calibration images, beside its law."""
    rows = []
    logits, labels = simulated.logits(random, 20_000, 10)
    p = np.exp(calibration.log_softmax(logits))
    uniform = sets.uniforms(logits)
    every = np.arange(len(labels))
    for method in ("lac", "raps"):
        own = sets.scores(method, p, uniform)[every, labels]
        for n, alpha in ((100, 0.1), (1000, 0.1), (1000, 0.01)):
            covered = []
            for _ in range(draws):
                q = sets.quantile(own[random.choice(len(own), n, replace=False)], alpha)
                covered.append(float((own <= q).mean()))
            missed = math.floor((n + 1) * alpha + 1e-9)
            law = scipy.stats.beta(n + 1 - missed, missed)
            rows.append(
                {
                    "method": method,
                    "images": n,
                    "alpha": alpha,
                    "coverage": float(np.mean(covered)),
                    "expected": float(law.mean()),
                    "low": float(np.quantile(covered, 0.05)),
                    "law_low": float(law.ppf(0.05)),
                }
            )
    return rows


def _p_values(random: np.random.Generator, draws: int) -> list[dict[str, Any]]:
    """Returns the share of ordinary images with small p-values."""
    alphas = np.array([0.01, 0.05, 0.1])
    hits = np.zeros(3)
    for _ in range(draws):
        found = strangers.p_values(random.normal(size=499), random.normal(size=100))
        hits += (found[:, None] <= alphas).mean(axis=0) / draws
    return [{"alarms": float(a), "measured": float(h)} for a, h in zip(alphas, hits, strict=True)]


def _bounds(random: np.random.Generator, draws: int) -> list[dict[str, Any]]:
    """Returns how often Wilson's interval and the exact upper bound hold the truth."""
    rows = []
    for n, p in ((100, 0.05), (1000, 0.01), (1000, 0.2)):
        hits = random.binomial(n, p, draws)
        ends = {k: intervals.wilson(k, n) for k in set(hits.tolist())}
        inside = np.mean([ends[k][0] <= p <= ends[k][1] for k in hits.tolist()])
        above = {k: certificate.upper_bound(n, k, 0.05) for k in ends}
        rows.append(
            {
                "n": n,
                "p": p,
                "wilson": float(inside),
                "exact": float(np.mean([above[k] >= p for k in hits.tolist()])),
            }
        )
    return rows


def outputs_of(run: Run, network: trust_images.Network, split: Split, name: str) -> Outputs:
    """Returns what a network says of a split; it is kept in the run directory."""
    path = pathlib.Path(str(run.directory)) / f"trust_benchmark_{run.step}_{name}.npz"
    if not path.exists():
        said = network(split)
        with path.open("wb") as file:
            middle = np.zeros((len(said), 0)) if said.middle is None else said.middle
            np.savez(file, logits=said.logits, features=said.features, middle=middle)
    with np.load(path, allow_pickle=False) as stored:
        middle = stored["middle"]
        return Outputs(
            stored["logits"].astype(np.float64),
            stored["features"],
            np.asarray(split.labels, np.int64),
            list(split.ids),
            middle=middle if middle.shape[1] else None,
        )


def unseen(run: Run) -> Split:
    """Returns the images that neither trained nor chose the last checkpoint."""
    test, validation = run.split(), run.data.splits["validation"]
    if validation.images is test.images or set(validation.ids) == set(test.ids):
        return test
    return Split(
        np.concatenate([np.asarray(validation.images), np.asarray(test.images)]),
        np.concatenate([validation.labels, test.labels]),
        [*validation.ids, *test.ids],
    )


def parts(test: Outputs, seed: int) -> list[Outputs]:
    """Returns a random quarter to tune, half to certify, a quarter to report."""
    shuffled = np.random.default_rng(seed).permutation(len(test))
    ends = [len(test) // 4, 3 * len(test) // 4]
    return [test.take(part) for part in np.split(shuffled, ends)]


def measure(directory: str, strange: str | None, most: int, kept_: int) -> dict[str, Any]:
    """Returns what twenty splits of a run's test images show of its promises."""
    run = cnn_jax.load(directory, "last")
    network = trust_images.Network(run, "one")
    split = unseen(run)
    test = outputs_of(run, network, split, "test")
    train = run.split("train")
    order = np.argsort(hashes(train.ids))[:kept_]
    kept = data_splits.take(train, np.sort(order))
    known = outputs_of(run, network, kept, "bank")
    bank = Bank.of(known.features, known.middle)
    found: dict[str, Any] = {
        "name": pathlib.Path(directory).name,
        "model": run.experiment.model.name,
        "data": run.data_info.name,
        "images": len(test),
        "kept": len(known),
        "accuracy": float((test.logits.argmax(axis=1) == test.labels).mean()),
    }
    options = Trust(max_error=0.01)
    claims: dict[float, list[dict[str, Any]]] = {most: [] for most in ERRORS}
    records = []
    for seed in range(SPLITS):
        tune, certify, report = parts(test, seed)
        start = time.process_time()
        given = study.Roles(tune, certify, report, "a split")
        record, _ = study.study(given, bank, options, run.class_names)
        records.append(record)
        found["seconds_of_a_study"] = time.process_time() - start
        for claim in record["other_claims"]:
            claims[claim["max_error"]].append(claim)
    found["claims"] = [_claims(most, rows) for most, rows in claims.items()]
    for when in ("before", "after"):
        own = [record["calibration"][when] for record in records]
        names = ("nll", "brier", "ece", "ece_by_chance", "overconfidence")
        found[when] = {name: float(np.mean([o[name] for o in own])) for name in names}
    scaled = [r["calibration"]["scaling"]["temperature"] for r in records]
    found["temperature"] = float(np.mean(scaled))
    found["score"] = [r["score"] for r in records]
    found["false_alarms"] = float(
        np.mean([r["report"]["strange"] / r["report"]["images"] for r in records])
    )
    tables_ = [record["sets"]["table"] for record in records]
    found["sets"] = [
        {
            **{k: tables_[0][i][k] for k in ("wanted", "method", "class_conditional")},
            **{
                k: float(np.mean([t[i][k] for t in tables_]))
                for k in ("coverage", "worst_class", "mean_size")
            },
        }
        for i in range(len(tables_[0]))
    ]
    found["strangers"] = _strangers(run, network, split, test, bank, strange, most)
    return found


def _claims(most: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the mean over splits of what was promised, and of what other images showed."""
    kept = [row for row in rows if row["threshold"] is not None]
    if not kept:
        return {"max_error": most, "promised": 0}
    errors = np.array([row["report_error"] or 0.0 for row in kept])
    return {
        "max_error": most,
        "promised": len(kept),
        "coverage": float(np.mean([row["coverage"] for row in kept])),
        "report_share": float(np.mean([row["report_share"] for row in kept])),
        "report_error": float(errors.mean()),
        "held": int((errors <= most).sum()),
    }


def _strangers(
    run: Run,
    network: trust_images.Network,
    split: Split,
    test: Outputs,
    bank: Bank,
    strange: str | None,
    most: int,
) -> list[dict[str, Any]]:
    """Returns how well scores tell other images from the test images."""
    size = run.data_info.image_shape[0]
    others: dict[str, np.ndarray] = {}
    if run.data_info.image_shape[2] == 3:
        digits = cnn_jax.from_experiment(cnn_jax.Dataset(name="digits")).test.images
        others["digits, enlarged"] = np.repeat(resize(digits[:most], size), 3, axis=3)
    if strange is not None:
        how = images.like(run.data_info, 100)
        paths = named.expand([strange])
        paths = paths[:: max(1, len(paths) // most)][:most]
        photographs = np.stack([images.decode(path, how).pixels for path in paths])
        others["photographs, reduced"] = photographs
    some = data_splits.take(split, np.arange(min(most, len(split))))
    for kind in corruptions.KINDS:
        others[f"{kind}, strength 5"] = corruptions.corrupt(np.asarray(some.images), kind, 5)
    # Half of the test images say how far each part reaches, the other half are the ordinary ones.
    half = test.take(np.arange(0, len(test), 2))
    judge = Judge(
        calibration.Scaling.of_temperature(1.0, test.logits.shape[1]),
        "max_probability",
        np.zeros(0),
        sets.fit("lac", np.exp(calibration.log_softmax(half.logits)), half.labels, 0.1),
        "together",
        {},
        bank,
        np.zeros(0),
        0.05,
    )
    judge = dataclasses.replace(judge, spread=choices.spread(judge.parts(half)))
    known = _scores(judge, test.take(np.arange(1, len(test), 2)))
    rows = []
    for name, pixels in others.items():
        labels = np.zeros(len(pixels), np.int32)
        said = network(Split(pixels, labels, [str(i) for i in range(len(pixels))]))
        new = _scores(judge, said)
        row: dict[str, Any] = {"kind": name, "images": len(pixels)}
        for score in known:
            area, share = strangers.detection(known[score], new[score], 0.05)
            row[score] = {"auroc": area, "noticed": share}
        rows.append(row)
    return rows


def _scores(judge: Judge, seen: Seen) -> dict[str, np.ndarray]:
    logs = calibration.log_softmax(seen.logits)
    return {
        "largest probability": -scores.max_probability(seen.logits, logs),
        **judge.parts(seen),
        "together": judge.strangeness(seen),
    }


def page(results: dict[str, Any]) -> str:
    """Returns trust.md."""

    def percent(value: float, digits: int = 1) -> str:
        return f"{100 * value:.{digits}f} %"

    parts = [
        "# Does `trust` keep its promises?",
        "Made by `python benchmarks/trust.py`; its docstring says how. On a machine of two cores "
        "that other programs used too.",
    ]
    if made := results.get("simulations"):
        parts.append(f"## By simulation, {made['draws']:,} draws each ({made['date']})")
        parts.append(
            "Scores are uniform and P(wrong | score) = 0.3 (1 - score)^2, so the true error above "
            "every threshold is known. A promise is broken where that error is larger than "
            "promised; this may happen in as large a share of draws as the level says."
        )
        rows = [
            [
                f"{r['certifying']:,}",
                percent(r["max_error"]),
                percent(r["level"]),
                percent(r["broken"]),
                percent(r["nothing"]),
                percent(r["answered"]),
                percent(r["possible"]),
            ]
            for r in made["abstention"]
        ]
        head = ["certifying images", "max. error", "level", "broken", "nothing promised"]
        parts.append(tables.markdown(rows, [*head, "answers", "with the true error known"]))
        choice = made["choice"]
        parts.append(
            f"The best of 20 equal networks on the certifying images, {choice['draws']:,} draws, "
            f"level {percent(choice['level'])}: with the level divided by 20 the promise is broken "
            f"in {percent(choice['paid'])} of the draws, without in {percent(choice['unpaid'])}."
        )
        rows = [
            [
                r["method"].upper(),
                f"{r['images']:,}",
                percent(1 - r["alpha"]),
                percent(r["coverage"], 2),
                percent(r["expected"], 2),
                percent(r["low"], 2),
                percent(r["law_low"], 2),
            ]
            for r in made["sets"]
        ]
        head = ["sets", "images", "promised", "coverage", "by the Beta law", "lowest 5 %"]
        parts.append(tables.markdown(rows, [*head, "by the law"]))
        rows = [[percent(r["alarms"]), percent(r["measured"], 2)] for r in made["p_values"]]
        parts.append(tables.markdown(rows, ["false alarms allowed", "measured"]))
        rows = [[r["n"], r["p"], percent(r["wilson"]), percent(r["exact"])] for r in made["bounds"]]
        parts.append(
            tables.markdown(rows, ["n", "p", "in Wilson's interval", "below the exact bound"])
        )
    for run in results.get("runs", {}).values():
        parts += _run(run, percent)
    parts += [_STRANGERS, *_SHIFT] if results.get("runs") else []
    if "gains" in results:
        from benchmarks import trust_gains

        parts += trust_gains.page(results["gains"])
    if "costs" in results:
        parts += _costs(results["costs"])
    return "\n\n".join(parts) + "\n"


def _run(run: dict[str, Any], percent: Any) -> list[str]:
    parts = [
        f"## {run['name']}: {run['model']} on {run['data']} ({run['date']})",
        f"{run['images']:,} images that neither trained it nor chose the last checkpoint, "
        f"accuracy {run['accuracy']:.4f}, {SPLITS} random splits into a quarter to tune, half to "
        "certify and a quarter to report. "
        f"One study took {run['seconds_of_a_study']:.1f} s of processor time, of all threads "
        "together, with the logits at hand. Confidence 95 %. `held`: in how many "
        "splits the error of the reporting quarter, which scatters, was no larger than promised.",
    ]
    rows = [
        [percent(c["max_error"]), f"0 of {SPLITS}", "-", "-", "-", "-"]
        if not c["promised"]
        else [
            percent(c["max_error"]),
            f"{c['promised']} of {SPLITS}",
            percent(c["coverage"]),
            percent(c["report_share"]),
            percent(c["report_error"], 2),
            f"{c['held']} of {c['promised']}",
        ]
        for c in run["claims"]
    ]
    head = ["max. error", "promised", "answers", "measured: answers", "wrong", "held"]
    parts.append(tables.markdown(rows, head))
    rows = [
        [
            when,
            f"{run[when]['nll']:.4f}",
            f"{run[when]['brier']:.4f}",
            percent(run[when]["ece"], 2),
            percent(run[when]["ece_by_chance"], 2),
            f"{100 * run[when]['overconfidence']:+.1f} points",
        ]
        for when in ("before", "after")
    ]
    parts.append(f"Calibration by a temperature of {run['temperature']:.2f}:")
    head = ["", "NLL", "Brier", "ECE", "ECE by chance", "confidence less accuracy"]
    parts.append(tables.markdown(rows, head))
    rows = [
        [
            percent(s["wanted"]),
            s["method"].upper(),
            "each class" if s["class_conditional"] else "all",
            percent(s["coverage"]),
            percent(s["worst_class"]),
            f"{s['mean_size']:.2f}",
        ]
        for s in run["sets"]
    ]
    head = ["promised", "sets", "over", "coverage", "worst class", "mean size"]
    parts.append(tables.markdown(rows, head))
    parts.append(
        f"Ordinary images called strange at 1 %: {percent(run['false_alarms'], 2)}. AUROC of other "
        "images, and the share noticed at 5 % false alarms, by the largest probability, by the "
        "three parts of the second gate (energy, neighbours in what the last layer takes, the "
        f"middle convolution), and by these together; {run['kept']:,} training images are kept:"
    )
    kinds = run["strangers"]
    names = [name for name in kinds[0] if name not in ("kind", "images")]
    rows = [
        [
            s["kind"],
            f"{s['images']:,}",
            *(f"{100 * s[n]['auroc']:.1f}, {percent(s[n]['noticed'], 0)}" for n in names),
        ]
        for s in kinds
    ]
    means = [
        tuple(float(np.mean([s[n][what] for s in kinds])) for what in ("auroc", "noticed"))
        for n in names
    ]
    rows.append(["mean", "", *(f"{100 * a:.1f}, {percent(b, 0)}" for a, b in means)])
    parts.append(tables.markdown(rows, ["images", "number", *names]))
    return parts


_STRANGERS = (
    "**Strangers.** OpenOOD v1.5 has for ResNet-18 on CIFAR-10 mean AUROCs near and far of 88.03 "
    "and 90.73 with the largest probability, 90.64 and 92.96 with neighbours, on other images than "
    "these. With these smaller networks neighbours are no better than the largest probability: "
    "what the last layer takes has kept what tells the classes apart, and dropped much of what "
    "else an image is. With the frozen features of VGG16, which were learned on a thousand "
    "classes, they are better. Noise and digits show in the middle convolution, blur and contrast "
    "in the energy, and no part notices everything. Which part is best differs from network to "
    "network; together they are near the best one everywhere, which is why `trust` goes by them "
    "together unless the planted images speak against it. The photographs are of cats and dogs, "
    "two of the classes of CIFAR-10, at another scale: a shift, and hardly strangers."
)
_SHIFT = (
    "## Shift on purpose",
    "![accuracy, confidence, answers and errors under seven corruptions](trust_shift.png)",
    "`python launch.py trust --workdir=RUN --checkpoint=last --trust.shift=on` of `cifar10_94`, "
    "1,000 reporting images. The promise of 1 % holds for images like those that certified it: it "
    "breaks under most corruptions, also where few images are answered, and the second gate sees "
    "noise coming, strong pixelation and JPEG in part, and blur, contrast and rotation not at all.",
)


def _costs(found: dict[str, Any]) -> list[str]:
    return [
        f"## What it costs ({found['date']})",
        f"Processor time of all threads, {found['run']} on {found['images']:,} test images, by "
        "`--costs=RUN` after everything had been compiled once: an evaluation with features "
        f"{found['evaluation']:.1f} s, `trust` with its passes {found['trust']:.1f} s "
        f"({found['trust'] / found['evaluation']:.2f} times), of which the study of logits at hand "
        f"{found['study']:.1f} s.",
    ]


def costs(directory: str) -> dict[str, Any]:
    """Returns the processor time of an evaluation with features, of `trust`, and of its study."""
    run = cnn_jax.load(directory, "last")
    network = trust_images.Network(run, "one")
    split = run.split()
    network(split)  # is compiled and loaded

    def timed(work: Any) -> tuple[float, Any]:
        start = time.process_time()
        done = work()
        return time.process_time() - start, done

    evaluation, _ = timed(lambda: network(split))
    options, say = Trust(max_error=0.01), lambda _: None

    def whole() -> Any:
        given = trust_images.of_run(run, network, None, "", say)
        bank, _ = trust_images.bank(run, network, False, say)
        some = trust_images.reporting(run, given, None, trust_images.PLANTED)
        return given, bank, trust_images.strange(network, some)

    passes, (given, bank, strange) = timed(whole)
    alone, _ = timed(lambda: study.study(given, bank, options, run.class_names, planted=strange))
    return {
        "run": f"{run.experiment.model.name} on {run.data_info.name}",
        "images": len(split),
        "evaluation": evaluation,
        "trust": passes + alone,
        "study": alone,
    }


def add(name: str, found: Any, within: str | None = None) -> None:
    """Adds a result to trust.json and writes the page.

    Args:
        name: of the result.
        found: the result.
        within: the record that gets it; None: it is one of its own.
    """
    path = RESULTS / "trust.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    place = results if within is None else results.setdefault(within, {})
    place[name] = found
    files.write_json(path, results)
    (RESULTS / "trust.md").write_text(page(results))


def main() -> None:
    """Runs what the flags ask for and writes the results."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--simulate", action="store_true")
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--runs", default="")
    parser.add_argument("--strange")
    parser.add_argument("--most", type=int, default=1000, help="images of each strange kind")
    parser.add_argument("--kept", type=int, default=strangers.MOST, help="images of the bank")
    parser.add_argument("--costs")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    today = datetime.date.today().isoformat()
    if given.simulate:
        add("simulations", {"date": today, **simulate(given.draws)})
    for directory in filter(None, given.runs.split(",")):
        found = measure(directory, given.strange, given.most, given.kept)
        about = environment.environment()
        more = {"date": today, "cores": about["cores"], "processor": about["processor"]}
        add(found["name"], {**found, **more}, "runs")
    if given.costs:
        add("costs", {"date": today, **costs(given.costs)})
    if given.write:
        (RESULTS / "trust.md").write_text(page(json.loads((RESULTS / "trust.json").read_text())))


if __name__ == "__main__":
    main()
