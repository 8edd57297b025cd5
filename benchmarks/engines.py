"""Do the settings of a sweep all end complete, and each once, on a real Slurm and a real Ray?

    python benchmarks/engines.py slurm ray

Trains three settings undisturbed on this machine. Then it starts the same sweep on the engine, once
for each scenario: jobs that wait, a job that is cancelled or killed, a time limit, a node that goes
down, the starting process stopped. Each sweep must end with all settings complete, with the same
validation accuracies to the bit, no setting trained by two processes at one time, and none again
after its end. It prints a line for each, and writes docs/results/engines.json and engines.md.

Slurm is that which SLURM_CONF names, of two nodes or more that share this machine's disk; submitit
and Ray have to be installed. A Ray of two nodes is started here, and ended.
"""

import argparse
import contextlib
import datetime
import json
import pathlib
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.clusters import rays, slurm  # noqa: E402
from benchmarks.clusters.sweeps import Fault, Sweep, check  # noqa: E402
from cnn_jax import runtime  # noqa: E402
from cnn_jax.reporting import tables  # noqa: E402
from cnn_jax.runs import environment  # noqa: E402

RESULT = ROOT / "docs" / "results" / "engines.json"
ENGINES: dict[str, dict[str, Callable[[Sweep], str]]] = {
    "slurm": slurm.SCENARIOS,
    "ray": rays.SCENARIOS,
}
_PACKAGES = ("jax", "optuna", "submitit", "ray")
_TITLE, _FOUND = "# Sweeps on real engines", "## Found and mended"
_MEANING = """\
Slurm has two node daemons with names of their own, follows all processes of a job, and has no
accounting; Ray has two nodes of two processors. Each line is a sweep of three settings (digits, a
dense network). It ends as it should if every setting is complete with the validation accuracy of a
sweep that nobody disturbed, to the bit; if no two processes ever trained one setting at a time
(watched four times a second); and if no setting was trained again after its end. Starts are the
processes that trained each setting: 1, and one more for every time that it was interrupted and
resumed from its checkpoint. A run goes on to its end where its worker alone was killed."""


def main(arguments: list[str] | None = None) -> int:
    """Tries the scenarios; returns 0 where every sweep ended as it should, else 1."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("engines", nargs="+", choices=list(ENGINES))
    parser.add_argument("--only", help="some of the scenarios, after commas")
    parser.add_argument("--epochs", type=int, default=12, help="of each training")
    parser.add_argument("--keep", type=pathlib.Path, help="where the sweeps go, and stay")
    parser.add_argument("--output", type=pathlib.Path, default=RESULT, help="where results go")
    options = parser.parse_args(arguments)
    if "slurm" in options.engines and not slurm.is_there():
        parser.error("SLURM_CONF names no Slurm of two nodes or more that answers")
    chosen = None if options.only is None else options.only.split(",")
    with contextlib.ExitStack() as stack:
        folder = options.keep
        if folder is None:
            folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        values = undisturbed(folder / "undisturbed", options.epochs)
        found = json.loads(options.output.read_text()) if options.output.exists() else {}
        for engine in options.engines:
            with rays.cluster() if engine == "ray" else contextlib.nullcontext():
                for name, scenario in ENGINES[engine].items():
                    if chosen is None or name in chosen:
                        result = attempt(scenario, folder / f"{engine}-{name}", options, values)
                        found.setdefault("tries", {})[f"{engine} {name}"] = result
                        print(f"{engine} {name}: {result['wrong'] or result['seen']}", flush=True)
                        write(options, found)
    wrong = sum(bool(one["wrong"]) for one in found["tries"].values())
    print(f"{len(found['tries'])} sweeps, {wrong} of which did not end as they should")
    return 1 if wrong else 0


def undisturbed(path: pathlib.Path, epochs: int) -> dict[str, float]:
    """Returns {learning rate: validation accuracy} of the sweep in one process."""
    sweep = Sweep(path, epochs)
    try:
        sweep.ends(sweep.start())
        return sweep.result()["values"]
    finally:
        sweep.close()


def attempt(
    scenario: Callable[[Sweep], str],
    path: pathlib.Path,
    options: argparse.Namespace,
    values: dict[str, float],
) -> dict[str, Any]:
    """Starts a sweep, does to it what a scenario says, and returns what came of it."""
    sweep, began = Sweep(path, options.epochs), time.monotonic()
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "git_commit": environment.git_commit(),
        "epochs": options.epochs,
        "seen": "",
    }
    try:
        result["seen"] = scenario(sweep)
        result |= sweep.result()
        result["wrong"] = check(result, values)
    except (Fault, subprocess.CalledProcessError) as fault:
        result["wrong"] = str(fault)
    finally:
        sweep.close()
    result["seconds"] = round(time.monotonic() - began)
    return result


def write(options: argparse.Namespace, found: dict[str, Any]) -> None:
    """Writes the results so far, and the page, in which what is written by hand stays."""
    known = environment.versions(_PACKAGES)
    found |= {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "processor": runtime.processor(),
        "versions": {**found.get("versions", {}), **known},
    }
    if slurm.is_there():
        found["versions"]["slurm"] = slurm.version().removeprefix("slurm-wlm ")
    options.output.write_text(json.dumps(found, indent=2) + "\n")
    path = options.output.with_suffix(".md")
    before = path.read_text() if path.exists() else ""
    by_hand = before[before.find(_FOUND) :] if _FOUND in before else ""
    path.write_text(page(found) + by_hand)


def page(found: dict[str, Any]) -> str:
    """Returns the results as a page."""
    rows = []
    for name, one in found["tries"].items():
        engine, scenario = name.split()
        done = str(ENGINES[engine][scenario].__doc__).splitlines()[0]
        states = one.get("states", [])
        starts = "+".join(str(count) for count in one.get("starts", {}).values())
        complete = f"{states.count('complete')} of {len(states)}"
        wrong = one["wrong"] or "as it should"
        rows.append([engine, done, one["epochs"], one["seen"], complete, starts, wrong])
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    headers = ["engine", "what was done", "epochs", "what was seen", "complete", "starts", "ended"]
    commits = sorted({str(one["git_commit"])[:7] for one in found["tries"].values()})
    made = (
        f"Made on {found['date']} by `python benchmarks/engines.py slurm ray`, in parts (`--only`, "
        f"`--epochs`), at commits {', '.join(commits)}, on one machine ({found['processor']}) that "
        f"others used: Python {found['python']}, {versions}."
    )
    return "\n\n".join([_TITLE, made, _MEANING, tables.markdown(rows, headers), ""])


if __name__ == "__main__":
    sys.exit(main())
