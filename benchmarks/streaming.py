"""Trains on data larger than memory: a synthetic ImageNet, made here, read by processes.

    python benchmarks/streaming.py make --folder=PHOTOGRAPHS --out=DIR --images=100000
    python benchmarks/streaming.py run --data=DIR --out=WORK --limit=2

`make` writes JPEGs of 500 x 375 into 1,000 class folders, cut at random out of photographs of the
user's own: of the same form as ImageNet, and with nothing to learn. 12,000 of them are different,
the others are copies. `run` trains a small network on them, that of `patches.py`, so that decoding
is what is measured: the recipe of the preset imagenet_resnet50 otherwise. It samples the memory of
all processes together (proportional set size) twice a second and ends them if it exceeds the limit;
kills them all in the middle of an epoch and resumes; and compares the parameters with those of a
run that nobody disturbed. The result goes into docs/results/streaming.json.
"""

import argparse
import concurrent.futures
import contextlib
import datetime
import io
import json
import os
import pathlib
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import psutil
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cnn_jax import runtime  # noqa: E402
from cnn_jax.data import turbo  # noqa: E402
from cnn_jax.data.cache import cores  # noqa: E402
from cnn_jax.runs import stored  # noqa: E402

RESULT = ROOT / "docs" / "results" / "streaming.json"
WIDTH, HEIGHT, CLASSES = 500, 375, 1000
_PHOTOGRAPHS = 300  # that are cut into pieces
_PICTURES = 12_000  # that are different: to make more takes long, and to read them does not
_BLOCK = 500


def make(folder: pathlib.Path, out: pathlib.Path, count: int) -> None:
    """Writes `count` images: a hundredth of them to validate on, the others to train on."""
    paths = sorted(folder.expanduser().rglob("*.jpg"))
    paths = paths[:: max(1, len(paths) // _PHOTOGRAPHS)][:_PHOTOGRAPHS]
    larger = WIDTH * 7 // 5, HEIGHT * 7 // 5
    pieces = [
        np.asarray(Image.open(path).convert("RGB").resize(larger, Image.Resampling.BICUBIC))
        for path in paths
    ]
    for split in ("train", "validation"):
        for number in range(CLASSES):
            (out / split / f"n{number:04}").mkdir(parents=True, exist_ok=True)
    held = max(CLASSES, count // 100)

    def place(number: int) -> pathlib.Path:
        split = "validation" if number < held else "train"
        return out / split / f"n{number % CLASSES:04}" / f"{number:07}.jpg"

    def write(number: int) -> None:
        path = place(number)
        if path.exists():
            return
        if number >= _PICTURES:
            path.write_bytes(place(number % _PICTURES).read_bytes())
            return
        random = np.random.default_rng(number)
        piece = pieces[random.integers(len(pieces))]
        top, left = (int(random.integers(n)) for n in (larger[1] - HEIGHT, larger[0] - WIDTH))
        part = piece[top : top + HEIGHT, left : left + WIDTH]
        buffer = io.BytesIO()
        image = Image.fromarray(part[:, ::-1] if random.random() < 0.5 else part)
        image.save(buffer, "JPEG", quality=85)
        path.write_bytes(buffer.getvalue())

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(cores()) as pool:
        for start in range(0, count, _BLOCK):
            list(pool.map(write, range(start, min(count, start + _BLOCK))))
            if start // _BLOCK % 20 == 0:
                print(f"{start:,} of {count:,} in {time.monotonic() - began:.0f} s", flush=True)


class Watch(threading.Thread):
    """Samples the memory of a process and all its children; kills them above a limit.

    Args:
        process: the process.
        limit: in bytes.
    """

    def __init__(self, process: subprocess.Popen[bytes], limit: float):
        super().__init__(daemon=True)
        self._process, self._limit = psutil.Process(process.pid), limit
        self.largest = self.largest_children = self.most = 0
        self.exceeded = False
        self.start()

    def run(self) -> None:
        """Samples until the process has ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            while self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE:
                children = self._process.children(recursive=True)
                sizes = [self._size(each) for each in (self._process, *children)]
                self.largest = max(self.largest, sum(sizes))
                self.largest_children = max(self.largest_children, sum(sizes[1:]))
                self.most = max(self.most, len(children))
                if sum(sizes) > self._limit:
                    self.exceeded = True
                    kill(self._process.pid)
                time.sleep(0.5)

    @staticmethod
    def _size(process: psutil.Process) -> int:
        with contextlib.suppress(psutil.Error, OSError):
            return process.memory_full_info().pss
        return 0


def kill(pid: int) -> None:
    """Kills a process; its children are to notice by themselves."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def command(data: pathlib.Path, workdir: pathlib.Path, options: argparse.Namespace) -> list[str]:
    """Returns the command that trains."""
    return [
        sys.executable,
        str(ROOT / "launch.py"),
        "--config=imagenet_resnet50",
        "--dataset.name=folder",
        f"--dataset.path={data}",
        "--dataset.streaming=true",
        f"--dataset.workers={options.workers}",
        f"--dataset.batch_size={options.batch}",
        "--dataset.eval_batch_size=100",
        "--dataset.resident_limit=0",
        f"--code={ROOT / 'benchmarks' / 'patches.py'}",
        f"--model.name={options.network}",
        "--optimizer.learning_rate=0.001",
        "--optimizer.warmup_epochs=0",
        "--train.epochs=1",
        f"--dataset.train_examples={options.images}",
        f"--checkpoint.every_steps={options.save}",
        f"--logging.every_steps={options.save}",
        "--logging.projector_images=0",
        f"--workdir={workdir}",
    ]


def lost(children: list[psutil.Process]) -> int:
    """Returns how many processes still run a while after their parent was killed."""
    return len(psutil.wait_procs(children, timeout=30)[1])


def run(data: pathlib.Path, out: pathlib.Path, options: argparse.Namespace) -> dict[str, Any]:
    """Trains twice, the second time killed in the middle, and returns what was found."""
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    limit = options.limit * 2**30

    def start(name: str, log: str) -> tuple[subprocess.Popen[bytes], Watch]:
        with (out / f"{log}.log").open("wb") as file:
            process = subprocess.Popen(
                command(data, out / name, options), stdout=file, stderr=subprocess.STDOUT
            )
        return process, Watch(process, limit)

    used, began = cpu_of_children(), time.monotonic()
    process, watch = start("whole", "whole")
    code = process.wait()
    watch.join()
    found["whole"] = {
        "exit_code": code,
        "seconds": round(time.monotonic() - began, 1),
        "processor_seconds": round(cpu_of_children() - used, 1),
        "largest_memory_mib": watch.largest >> 20,
        "of_it_in_workers_mib": watch.largest_children >> 20,
        "processes": watch.most,
        "exceeded_the_limit": watch.exceeded,
    }
    found["steps"] = -(-options.images // options.batch)
    found["images_per_second"] = rate(out / "whole.log")
    if options.undisturbed:
        return found
    process, watch = start("killed", "killed")
    checkpoints = out / "killed" / "checkpoints"
    while process.poll() is None and not stored.step_folders(checkpoints):
        time.sleep(0.2)
    time.sleep(2)  # some steps after it
    children = psutil.Process(process.pid).children(recursive=True)
    kill(process.pid)
    process.wait()
    watch.join()
    step = max(int(path.name) for path in stored.step_folders(checkpoints))
    found["killed"] = {"last_saved_step": step, "processes_left": lost(children)}
    process, again = start("killed", "resumed")
    code = process.wait()
    again.join()
    found["resumed"] = {"exit_code": code, "largest_memory_mib": again.largest >> 20}
    found["same_parameters"] = parameters(out / "whole") == parameters(out / "killed")
    return found


def parameters(workdir: pathlib.Path) -> str:
    """Returns the sha256 of the state that a run has saved last."""
    meta = next(stored.metas(workdir / "checkpoints"))
    return str(meta["sha256"])


def rate(log: pathlib.Path) -> list[int]:
    """Returns the images a second that the lines of a run tell, in their order."""
    return [
        int(each.replace(",", "")) for each in re.findall(r"([\d,]+) images/s", log.read_text())
    ]


def cpu_of_children() -> float:
    """Returns the processor seconds of all processes that this one has waited for."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> int:
    """Makes the images, or trains on them; returns 0."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("what", choices=("make", "run"))
    parser.add_argument("--folder", type=pathlib.Path, help="of make: has *.jpg at any depth")
    parser.add_argument("--data", type=pathlib.Path, help="of run: what make has written")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--network", default="patches", help="which the images are read for")
    parser.add_argument("--undisturbed", action="store_true", help="kill none")
    parser.add_argument("--save", type=int, default=100, help="steps between checkpoints")
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--limit", type=float, default=2.0, help="of all processes, in GiB")
    parser.add_argument("--note", default="", help="what a reader of the result should know")
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder, options.out, options.images)
        return 0
    result = {
        "date": datetime.date.today().isoformat(),
        "processor": runtime.processor(),
        "cores": cores(),
        "python": platform.python_version(),
        "decoder": turbo.decoder(),
        "images": options.images,
        "batch": options.batch,
        "network": options.network,
        "workers": options.workers,
        "limit_gib": options.limit,
        "note": options.note,
        **run(options.data, options.out, options),
    }
    print(json.dumps(result, indent=1))
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    results[f"{options.network}, {options.images:,} images"] = result
    RESULT.write_text(json.dumps(results, indent=1) + "\n")
    print(f"written    {RESULT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
