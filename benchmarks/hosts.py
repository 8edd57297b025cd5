"""What 1 to 1,024 hosts would do, simulated on one machine with the code's own functions.

    python benchmarks/hosts.py

Each simulated host asks `TrainBatches` for the order, `rows_of_process` for its rows and `Chunks`
for the parts of images that it decodes, as a real one does. The simulation counts how often an
epoch takes each example, compares batches and parts with those of one host, adds up the bytes that
each host reads, lets hosts wait for the slowest of each step, and adds up what a checkpoint costs.
Sizes of files and times to decode are drawn from those of real photographs (processor time,
measured at the start). It prints tables, and writes docs/results/hosts.json and hosts.md. Nothing
here says how fast a network or a file system is.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.fleet import measured, report, simulation  # noqa: E402
from cnn_jax import runtime  # noqa: E402
from cnn_jax.runs import environment  # noqa: E402

RESULT = ROOT / "docs" / "results" / "hosts.json"
HOSTS = tuple(2**i for i in range(11))
EXAMPLES, BATCH, DEVICES = 1_281_167, 16_384, 4  # ImageNet's training images; devices of a host
ROWS, WORKERS = 128, 16  # images that a host decodes for a step, and processes that decode them
# {column: (batches that a host decodes ahead, how many times as long the first host takes)}
CASES = {"0": (0, 1.0), "2": (2, 1.0), "8": (8, 1.0), "slow": (2, 2.0)}


def simulate(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the results of everything."""
    sizes, decode = measured.photographs(options.photographs, options.count)
    print(f"{len(decode)} photographs: {decode.mean() * 1000:.2f} ms each", flush=True)
    drawn = np.random.default_rng(0).choice(sizes, options.examples)
    found: dict[str, Any] = {"orders": [], "skews": []}
    for hosts in HOSTS:
        one = simulation.order(hosts, options.examples, BATCH, DEVICES, epoch=3)
        read = np.bincount(one.pop("owner"), weights=drawn, minlength=hosts)
        stats = {"mean": read.mean(), "least": read.min(), "most": read.max(), "all": drawn.sum()}
        found["orders"].append({"hosts": hosts, **one, **{k: int(v) for k, v in stats.items()}})
        parts = simulation.streamed(hosts, options.examples, BATCH, DEVICES, step=100)
        found["orders"][-1]["parts"] = parts
        print(f"{hosts} hosts: once {one['once']}, same {one['same']}, {parts}", flush=True)
    # The devices take as long for a step as the workers on average, and half as long again.
    for slack in (1.0, 1.5):
        seconds = slack * decode.mean() * ROWS / WORKERS
        for hosts in HOSTS:
            rates = {
                name: simulation.skew(decode, hosts, ROWS, WORKERS, seconds, ahead, slow)
                for name, (ahead, slow) in CASES.items()
            }
            found["skews"].append({"hosts": hosts, "slack": slack, **rates})
    found["states"] = measured.states()
    found["written"] = [measured.written(processes, options.mebibytes) for processes in (1, 2, 4)]
    found["met"] = [measured.met(hosts) for hosts in HOSTS[1:]]
    milliseconds = decode * 1000
    found["decode"] = {
        "images": len(decode),
        "mean": milliseconds.mean(),
        "std": milliseconds.std(),
        "p99": float(np.quantile(milliseconds, 0.99)),
        "most": milliseconds.max(),
        "bytes": float(sizes.mean()),
    }
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulates, and writes the results; returns 0 if every order was right, else 1."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    data = pathlib.Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")).expanduser()
    parser.add_argument("--photographs", type=pathlib.Path, default=data / "cats_vs_dogs" / "4.0.1")
    parser.add_argument("--count", type=int, default=1000, help="photographs that are decoded")
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--mebibytes", type=int, default=200, help="of the state that is saved")
    parser.add_argument("--output", type=pathlib.Path, default=RESULT, help="where results go")
    parser.add_argument("--save", help=argparse.SUPPRESS)
    parser.add_argument("--index", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.save:
        folder, port, processes, mebibytes = options.save.split(",")
        counts = int(port), int(processes), int(mebibytes)
        measured.save_and_restore(folder, *counts, options.index)
        return 0
    if not options.photographs.is_dir():
        parser.error(f"--photographs={options.photographs} is no folder; see `cnn-jax data`")
    began = time.process_time()
    found = simulate(options)
    found |= {
        "date": datetime.date.today().isoformat(),
        "examples": options.examples,
        "git_commit": environment.git_commit(),
        "python": platform.python_version(),
        "processor": runtime.processor(),
        "seconds": round(time.process_time() - began),
    }
    options.output.write_text(json.dumps(found, indent=2) + "\n")
    page = "\n".join(report.page(found, BATCH, DEVICES, ROWS, WORKERS))
    options.output.with_suffix(".md").write_text(page + "\n")
    print(page)
    return 0 if all(x["once"] and x["same"] and x["parts"] for x in found["orders"]) else 1


if __name__ == "__main__":
    sys.exit(main())
