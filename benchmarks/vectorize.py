"""Where does `--sweep.vectorize` pay? Sweeps with a process a setting against one for all of them.

    python benchmarks/vectorize.py
    python benchmarks/vectorize.py --cases=mlp,lenet5

Each case is a sweep over learning rates, made three ways: one process after the other, two at once,
and all settings in one program. A way starts with nothing compiled and the images decoded, and is
timed from the start of the command to its end. Nothing else may run. Results go to
docs/results/vectorize.md and .json, in place of a case's earlier ones.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cnn_jax import run, runtime  # noqa: E402 (the script runs from anywhere)
from cnn_jax.reporting import tables  # noqa: E402

RESULTS = ROOT / "docs" / "results"
SETTINGS = 4
_CIFAR = ["--config=cifar10_cnn", "--dataset.validation_split=none"]

# {case: (what it is, its flags)}
CASES: dict[str, tuple[str, list[str]]] = {
    "mlp": (
        "MLP, digits, 20 epochs",
        ["--config=digits_lenet", "--model.name=mlp", "--train.epochs=20"],
    ),
    "lenet5": ("LeNet-5, digits, 20 epochs", ["--config=digits_lenet", "--train.epochs=20"]),
    "study_cnn": (
        "study CNN, 5,000 images of CIFAR-10, 4 epochs",
        [*_CIFAR, "--dataset.train_examples=5000", "--train.epochs=4"],
    ),
    "resnet20": (
        "ResNet-20, 2,000 images of CIFAR-10, 3 epochs",
        [
            *[*_CIFAR, "--model.name=resnet20", "--dataset.train_examples=2000"],
            *["--dataset.batch_size=128", "--train.epochs=3"],
        ],
    ),
}
WAYS = {
    "one by one": [],
    "two at once": ["--sweep.parallel=2"],
    "together": [f"--sweep.vectorize={SETTINGS}"],
}


def sweep(flags: list[str], more: list[str], cache: pathlib.Path) -> float:
    """Returns the seconds of a sweep from a cache without compiled programs."""
    shutil.rmtree(cache / "xla", ignore_errors=True)
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, str(ROOT / "launch.py"), "sweep", *flags, *more]
        command += ["--sweep.space=optimizer.learning_rate=[1e-4,3e-4,1e-3,3e-3]"]
        command += ["--sweep.method=grid", f"--workdir={place}/sweep", "--quiet"]
        command += ["--logging.figures_every=none", "--logging.projector_images=0"]
        began = time.perf_counter()
        environment = {**os.environ, "CNN_JAX_CACHE": str(cache)}
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        histories = list(pathlib.Path(place).glob("sweep/**/history.json"))
        if len(histories) != SETTINGS:
            raise SystemExit(f"error: {len(histories)} runs were made, not {SETTINGS}")
    return seconds


def write(records: list[dict[str, Any]]) -> None:
    """Writes the records and their table."""
    run.write_json(RESULTS / "vectorize.json", records)
    rows = [
        [
            CASES[record["case"]][0],
            *(f"{record['seconds'][way]:.0f}" for way in WAYS),
            f"{record['seconds']['one by one'] / record['seconds']['together']:.2f}",
            f"{record['seconds']['two at once'] / record['seconds']['together']:.2f}",
        ]
        for record in records
    ]
    headers = [*(f"{way}, s" for way in WAYS), "together is faster by", "than two at once"]
    last = records[-1]
    (RESULTS / "vectorize.md").write_text(
        "# Several settings in one program\n\n"
        f"Seconds that a sweep over {SETTINGS} learning rates takes, one setting a process or all\n"
        "of them in one (`--sweep.vectorize`), from the start of the command to its end, with\n"
        "nothing compiled beforehand.\n\n"
        f"{tables.markdown(rows, ['what', *headers])}\n\n"
        f"One program for all pays against one process at a time for {_paying(records, 0)};\n"
        f"against two processes at once for {_paying(records, 1)}. It starts and compiles\n"
        "once, which is most of the time of small networks, and then has the same sums to do.\n\n"
        f"Made by `python benchmarks/vectorize.py` until {last['date']} on {last['processor']};\n"
        f"jax {last['jax']}.\n"
    )


def _paying(records: list[dict[str, Any]], way: int) -> str:
    """Returns the cases in which one program is a tenth faster than another way."""
    found = [
        CASES[record["case"]][0].split(",")[0]
        for record in records
        if record["seconds"][list(WAYS)[way]] > 1.1 * record["seconds"]["together"]
    ]
    return " and ".join(found) or "none of them"


def main() -> int:
    """Measures and writes; returns 0."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--cases", default=",".join(CASES), help=", ".join(CASES))
    options = parser.parse_args()
    chosen = options.cases.split(",")
    if unknown := [case for case in chosen if case not in CASES]:
        parser.error(f"there is no case {unknown[0]!r}; the cases are {', '.join(CASES)}")
    path = RESULTS / "vectorize.json"
    records = {r["case"]: r for r in (json.loads(path.read_text()) if path.exists() else [])}
    with tempfile.TemporaryDirectory() as cache:
        for case in chosen:
            flags = CASES[case][1]
            sweep([*flags, "--train.epochs=1"], [], pathlib.Path(cache))  # decodes the images
            seconds = {}
            for way, more in WAYS.items():
                seconds[way] = sweep(flags, more, pathlib.Path(cache))
                print(f"{case:10} {way:12} {seconds[way]:.1f} s", flush=True)
            records[case] = {
                "case": case,
                "seconds": seconds,
                "date": datetime.date.today().isoformat(),
                "processor": f"{os.cpu_count()} cores, {runtime.processor()}",
                "jax": importlib.metadata.version("jax"),
            }
            write([records[known] for known in CASES if known in records])
    return 0


if __name__ == "__main__":
    sys.exit(main())
