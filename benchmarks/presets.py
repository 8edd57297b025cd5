"""What does each preset reach? Trains presets over seeds and keeps the figures.

    python benchmarks/presets.py --presets=cifar10_cnn,cifar10_mlp --seeds=3 --runs=runs/presets

Runs are ordinary run directories RUNS/PRESET-SEED, so a killed benchmark goes on where it was, and
finished runs are only read. The figures of a preset replace its earlier ones in
docs/results/presets.json, and docs/results/README.md is written from all of them. More flags for
every run follow `--`, for example: -- --dataset.name=folder --dataset.path=photos
"""

import argparse
import datetime
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cnn_jax import experiment, files  # noqa: E402
from cnn_jax.cli import presets  # noqa: E402
from cnn_jax.reporting import tables  # noqa: E402
from cnn_jax.runs.directory import RunDirectory  # noqa: E402
from cnn_jax.studies import seeds  # noqa: E402

RESULTS = ROOT / "docs" / "results"


def train(preset: str, seed: int, runs: pathlib.Path, more: list[str]) -> RunDirectory:
    """Trains one run to its end, unless it is finished."""
    directory = RunDirectory(runs / f"{preset}-{seed}")
    if directory.status() != "finished":
        command = [sys.executable, str(ROOT / "launch.py"), "train", f"--config={preset}"]
        command += [f"--seed={seed}", f"--workdir={directory.path}", *more]
        subprocess.run(command, check=True)
    return directory


def summary(preset: str, directories: list[RunDirectory], note: str) -> dict:
    """Returns the figures of a preset over its runs, one per seed."""
    histories = [directory.read("history") for directory in directories]
    accuracies = [history[-1]["validation_accuracy"] for history in histories]
    environment = directories[0].read("environment")[-1]
    spread = seeds.fold(accuracies)
    return {
        "preset": preset,
        "date": datetime.date.today().isoformat(),
        "seeds": [directory.config().seed for directory in directories],
        "epochs": len(histories[0]),
        "validation_accuracy": accuracies,
        "mean": spread.mean,
        "standard_deviation": spread.std,
        "mean_of_each_epoch": [
            statistics.mean(record["validation_accuracy"] for record in records)
            for records in zip(*histories, strict=True)
        ],
        "probe": [
            probe["accuracy"]
            for directory in directories
            if (probe := directory.read("result", {}).get("probe"))
        ],
        "data": directories[0].read("data")["sizes"],
        # Without paths, which are those of one machine.
        "changed": {
            name: new
            for name, (_, new) in experiment.difference(
                presets.load(preset), directories[0].config()
            ).items()
            if name != "seed" and "/" not in str(new)
        },
        "processor": f"{environment['cores']} cores, {environment['processor']}",
        "packages": environment["packages"],
        "note": note,
    }


def write(records: list[dict]) -> None:
    """Writes presets.json and the page that shows it."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    files.write_json(RESULTS / "presets.json", records)
    rows = [
        [
            f"`{r['preset']}`",
            r["epochs"],
            len(r["seeds"]),
            f"{r['mean']:.4f}",
            f"{min(r['validation_accuracy']):.4f} to {max(r['validation_accuracy']):.4f}",
            f"{statistics.mean(r['probe']):.4f}" if r["probe"] else "",
            r["date"],
            r["note"],
        ]
        for r in records
    ]
    headers = ["preset", "epochs", "seeds", "mean", "range", "ridge probe", "date", "note"]
    packages = ", ".join(f"{name} {version}" for name, version in records[-1]["packages"].items())
    (RESULTS / "README.md").write_text(
        "# Measured\n\n"
        "Validation accuracy after the last epoch, made by `python benchmarks/presets.py` on real "
        f"data.\nOn {records[-1]['processor']}; {packages}.\n\n"
        f"{tables.markdown(rows, headers)}\n\n"
        "[presets.json](presets.json) has every seed, every epoch and what was changed by flags.\n"
    )


def main() -> int:
    """Trains, summarises and writes; returns 0."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--presets", required=True, help="names, separated by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=pathlib.Path, default=pathlib.Path("runs/presets"))
    parser.add_argument("--note", default="", help="what a reader of the table must know")
    parser.add_argument("flags", nargs="*", help="more training flags, after --")
    options = parser.parse_args()
    path = RESULTS / "presets.json"
    records = {r["preset"]: r for r in (json.loads(path.read_text()) if path.exists() else [])}
    for preset in options.presets.split(","):
        directories = [
            train(preset, seed, options.runs.resolve(), options.flags)
            for seed in range(options.seeds)
        ]
        records[preset] = summary(preset, directories, options.note)
        write(sorted(records.values(), key=lambda r: r["preset"]))
        print(f"{preset}: {records[preset]['mean']:.4f}, {records[preset]['validation_accuracy']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
