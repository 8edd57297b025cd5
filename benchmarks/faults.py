"""Does anything that can go wrong end in more than one clear line?

    python benchmarks/faults.py --minutes=60 --seed=0

Damages images, weights, configurations, flags, presets, checkpoints, caches, side files and
prepared data; fills disks, takes rights away; kills commands at any moment and starts two at once.
Each try must end in success, in one `error:` line with exit code 1 or 2, or by the signal that was
sent, and the same command afterwards must end well, with the same bits where it trains. It prints a
line for each try, and writes the counts to benchmarks/results/faults.json and, as a table,
faults.md, in which the part on what was found and mended stays as it is. A try that failed leaves
its folder, with the commands that led there in commands.txt; `--seed=S --only=NUMBER` repeats it.

As root it makes small disks of a few kilobytes (tmpfs) and gives up its rights for some commands;
otherwise disks are full by a limit of the size of files.
"""

import argparse
import collections
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.harm import directories, disks, inputs, interruptions, processes, settings  # noqa: E402  # noqa: E402
from benchmarks.harm.bench import Bench  # noqa: E402
from benchmarks.harm.ends import Fault  # noqa: E402
from benchmarks.harm.world import World  # noqa: E402
from cnn_jax import runtime  # noqa: E402
from cnn_jax.reporting import tables  # noqa: E402
from cnn_jax.runs import environment  # noqa: E402

_FOUND = "## Found and mended"
RESULT = ROOT / "benchmarks" / "results" / "faults.json"
_PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "pillow", "h5py", "numpy")

# {kind of try: (what it does, how often in proportion)}
KINDS: dict[str, tuple[Callable[[Bench, World], None], int]] = {
    "images_predicted": (inputs.images_predicted, 3),
    "images_trained": (inputs.images_trained, 4),
    "tables": (inputs.tables, 4),
    "weights": (inputs.weights, 3),
    "run_as_weights": (inputs.run_as_weights, 2),
    "configurations": (settings.configurations, 3),
    "presets": (settings.presets, 2),
    "flags": (settings.flags, 4),
    "grammars": (settings.grammars, 3),
    "trained_flags": (settings.trained_flags, 4),
    "side_files_read": (directories.side_files_read, 6),
    "side_files_in_bulk": (directories.side_files_in_bulk, 4),
    "side_files_resumed": (directories.side_files_resumed, 6),
    "checkpoints_resumed": (directories.checkpoints_resumed, 6),
    "checkpoints_read": (directories.checkpoints_read, 5),
    "caches": (directories.caches, 5),
    "prepared_data": (directories.prepared_data, 4),
    "prepared_in_bulk": (directories.prepared_in_bulk, 4),
    "studies": (directories.studies, 4),
    "full_disk": (disks.full_disk, 6),
    "full_disk_elsewhere": (disks.full_disk_elsewhere, 5),
    "read_only": (disks.read_only, 5),
    "stopped_run": (interruptions.stopped_run, 8),
    "stopped_reader": (interruptions.stopped_reader, 4),
    "stopped_study": (interruptions.stopped_study, 4),
    "two_starts": (interruptions.two_starts, 4),
}


def attempt(
    kind: str, number: int, seed: int, world: World, keep: pathlib.Path
) -> tuple[Bench, str | None]:
    """Makes one try; returns its bench and what was wrong, or None."""
    folder = keep / f"{number:05}-{kind}"
    bench = Bench(folder, random.Random(f"{seed}-{number}"), world.places)
    wrong: str | None = None
    try:
        KINDS[kind][0](bench, world)
    except Fault as fault:
        wrong = str(fault)
    except KeyboardInterrupt:
        bench.close(keep=False)
        raise
    except Exception as error:  # of this benchmark itself: it is shown, and looked at
        wrong = f"the try itself failed: {type(error).__name__}: {error}"
    bench.close(keep=wrong is not None)
    return bench, wrong


def kind_of(number: int, seed: int, kinds: list[str]) -> str:
    """Returns the kind of a try, which depends on nothing else."""
    return random.Random(f"{seed}/{number}").choices(kinds, [KINDS[name][1] for name in kinds])[0]


def main(arguments: list[str] | None = None) -> int:
    """Makes tries until the time is over; returns 0 if none failed, else 1."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tries", type=int, default=10**9, help="make no more than this many")
    parser.add_argument("--only", type=int, help="the number of one try, to repeat it")
    parser.add_argument("--kinds", default=",".join(KINDS), help="some of them, after commas")
    parser.add_argument("--list", action="store_true", help="list the kinds and end")
    parser.add_argument("--keep", type=pathlib.Path, help="where the folders of failures go")
    parser.add_argument("--output", type=pathlib.Path, default=RESULT, help="where counts go")
    options = parser.parse_args(arguments)
    if options.list:
        for name, (function, _) in KINDS.items():
            print(f"{name:20} {str(function.__doc__).splitlines()[0]}")
        return 0
    kinds = options.kinds.split(",")
    if unknown := sorted(set(kinds) - set(KINDS)):
        parser.error(f"no kind {unknown[0]!r}; the kinds are {', '.join(KINDS)}")
    base = pathlib.Path(tempfile.mkdtemp(prefix="faults-"))
    keep = options.keep or base / "tries"
    processes.prepare()
    processes.adopt_orphans()
    world = World(base)
    options.commit = environment.git_commit()
    began = time.monotonic()
    numbers = [options.only] if options.only is not None else range(min(options.tries, 10**9))
    counts: dict[str, collections.Counter[str]] = {}
    failures = []
    for number in numbers:
        if time.monotonic() - began > 60 * options.minutes:
            break
        kind = kind_of(number, options.seed, kinds)
        start = time.monotonic()
        bench, wrong = attempt(kind, number, options.seed, world, keep)
        seconds = time.monotonic() - start
        counter = counts.setdefault(kind, collections.Counter())
        counter.update(tries=1, failures=int(wrong is not None))
        counter.update(bench.outcomes)
        print(
            f"{number:5} {kind:19} {seconds:5.1f} s  {ascii(bench.about)[1:-1][:160]}: "
            f"{'FAILED' if wrong else 'ok'} ({', '.join(bench.outcomes[:4])})",
            flush=True,
        )
        if wrong:
            print(f"      {wrong}\n      kept: {bench.folder}", flush=True)
            failures.append({"number": number, "kind": kind, "about": bench.about, "what": wrong})
        write(options, counts, failures, time.monotonic() - began)
    total = sum(counter["tries"] for counter in counts.values())
    print(f"{total} tries, {len(failures)} failures; counts in {options.output}")
    return 1 if failures else 0


def write(
    options: argparse.Namespace,
    counts: dict[str, collections.Counter[str]],
    failures: list[dict[str, Any]],
    seconds: float,
) -> None:
    """Writes the counts so far."""
    result = {
        "date": datetime.date.today().isoformat(),
        "command": f"python benchmarks/faults.py --minutes={options.minutes:g} "
        f"--seed={options.seed}",
        "minutes": round(seconds / 60, 1),
        "tries": sum(counter["tries"] for counter in counts.values()),
        "commands": sum(
            value
            for counter in counts.values()
            for name, value in counter.items()
            if name not in ("tries", "failures")
        ),
        "failures": failures,
        "kinds": {kind: dict(sorted(counts[kind].items())) for kind in KINDS if kind in counts},
        "git_commit": options.commit,
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "processor": runtime.processor(),
    }
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    page = options.output.with_suffix(".md")
    before = page.read_text() if page.exists() else ""
    found = before[before.find(_FOUND) :] if _FOUND in before else f"{_FOUND}\n"
    page.write_text(markdown(result) + found)


def markdown(result: dict[str, Any]) -> str:
    """Returns the counts as a page, up to the part that is written by hand."""
    outcomes = ("success", "refused", "signal")
    rows = []
    for kind, counts in result["kinds"].items():
        ends = [counts.get(name, 0) for name in outcomes]
        rows.append([kind, counts["tries"], sum(ends), *ends, counts.get("failures", 0)])
    rows.append(["all", *(sum(row[i] for row in rows) for i in range(1, 7))])
    headers = ["kind", "tries", "commands", "ended well", "error line", "by signal", "failures"]
    packages = ", ".join(f"{name} {version}" for name, version in result["packages"].items())
    failed = [
        f"- {one['kind']} ({one['number']}): {one['about']}: {one['what'].splitlines()[0][:300]}"
        for one in result["failures"]
    ]
    return "\n".join(
        [
            "# Faults\n",
            f"Made on {result['date']} by `{result['command']}` in {result['minutes']:g} minutes",
            f"at commit {result['git_commit']}, on {os.cpu_count()} cores, {result['processor']},",
            f"Python {result['python']}, {packages}.\n",
            "`python benchmarks/faults.py --list` says what each kind of try does. Every command",
            "must end well, in one error line with exit code 1 or 2, or by the signal that was",
            "sent; and the same command afterwards must end well, with the same bits.\n",
            tables.markdown(rows, headers),
            "\n" + ("\n".join(["Failures:\n", *failed]) if failed else "No try failed.") + "\n\n",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
