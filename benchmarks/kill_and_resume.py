"""Does a run that is killed at any moment and resumed end with the same bits?

    python benchmarks/kill_and_resume.py --kills=20

Trains a short CIFAR-10 run to its end. Then it trains the same run once for each kill, kills it
with SIGKILL at a random moment (during start-up, an epoch, a save, validation, or the end), resumes
it with the same command, and compares the sha256 of the final state, and the history. It prints a
line for each kill and the count, and writes the count to benchmarks/results/kill_and_resume.json.
"""

import argparse
import datetime
import json
import pathlib
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FLAGS = [
    "--config=cifar10_cnn",
    "--dataset.train_examples=1000",
    "--dataset.validation_split=none",
    "--dataset.validation_fraction=0.02",
    "--train.epochs=3",
    "--checkpoint.every_steps=7",
    "--dataset.flip",
    "--dataset.crop_padding=4",
    "--optimizer.ema_decay=0.99",
    "--quiet",
]


def start(workdir: pathlib.Path, flags: list[str]) -> subprocess.Popen[bytes]:
    """Starts the training command in a process of its own."""
    command = [sys.executable, str(ROOT / "launch.py"), "train", f"--workdir={workdir}", *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def ending(workdir: pathlib.Path) -> tuple[str, list[dict]]:
    """Returns (sha256 of the final state, history without times)."""
    last = max((workdir / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    meta = json.loads((last / "meta" / "metadata").read_text())
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in meta["history"]]
    return meta["sha256"], history


def position(workdir: pathlib.Path) -> str:
    """Returns a text on the newest checkpoint of the killed run."""
    folder = workdir / "checkpoints"
    steps = [int(x.name) for x in folder.glob("[0-9]*") if x.name.isdecimal()]
    unfinished = " (a save was under way)" if any(folder.glob("*tmp*")) else ""
    return f"newest checkpoint {max(steps, default='none')}{unfinished}"


def main() -> int:
    """Kills and resumes the runs; returns 0 if all ended with the same bits, else 1."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    parser.add_argument("--flag", action="append", default=[], help="one more training flag")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    same, resumed_late = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder)
        flags = FLAGS + options.flag
        if start(base / "warm", flags).wait() != 0:  # fills the compilation cache
            print("error: the run without a kill failed", file=sys.stderr)
            return 1
        began = time.monotonic()
        start(base / "reference", flags).wait()
        seconds = time.monotonic() - began
        wanted = ending(base / "reference")
        print(f"a run of {seconds:.1f} s, its final state {wanted[0][:16]}", flush=True)
        for number in range(1, options.kills + 1):
            workdir = base / f"kill-{number}"
            # Start-up takes most of this short run, so the moments lie mostly after it.
            moment = draw.uniform(0.3, 1.0) * seconds
            process = start(workdir, flags)
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            killed = process.wait() == -signal.SIGKILL
            where = position(workdir)
            resumed_late += killed and "none" not in where
            code = start(workdir, flags).wait()
            identical = code == 0 and ending(workdir) == wanted
            same += identical
            print(
                f"{number:3d}: {'killed' if killed else 'was done'} at {moment:5.1f} s, {where}: "
                f"{'identical' if identical else f'DIFFERENT (exit code {code})'}",
                flush=True,
            )
    print(f"{same} of {options.kills} endings bit-identical; {resumed_late} resumed a checkpoint")
    result = {
        "date": datetime.date.today().isoformat(),
        "kills": options.kills,
        "identical": same,
        "resumed_from_a_checkpoint": resumed_late,
        "seconds_of_a_run": round(seconds, 1),
        "flags": flags,
        "python": platform.python_version(),
        "processor": processor(),
    }
    path = ROOT / "benchmarks" / "results" / "kill_and_resume.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    return 0 if same == options.kills else 1


def processor() -> str:
    """Returns the processor's name and number of cores."""
    sys.path.insert(0, str(ROOT))
    from cnn_jax import runtime

    return runtime.processor()


if __name__ == "__main__":
    sys.exit(main())
