"""How fast is cnn_jax compared with Keras and PyTorch? All take turns on this machine's processor.

    python benchmarks/run.py                     everything; hours on two cores
    python benchmarks/run.py --workloads=study_cnn_50,lenet5_64 --peers=ours,torch --rounds=5
    python benchmarks/run.py --quick --peers=ours    does the benchmark itself work? seconds

Every peer has its own environment, created once, and its own process for every workload. All peers
start from the same parameters and images; if the losses of their first steps differ, nothing is
reported. Then they take turns, in another order in every round. A turn in which other programs used
more than 3 % of the machine is dropped and repeated. Each measurement is saved at once, so the same
command goes on after an interruption. At the end, speed.json, .md and .png are written to --output.
"""

import argparse
import contextlib
import dataclasses
import datetime
import hashlib
import json
import math
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.peers import ours, plan, report  # noqa: E402
from benchmarks.peers.plan import PEERS, WORKLOADS, Cell, Peer, Workload  # noqa: E402
from cnn_jax import files, runtime  # noqa: E402
from cnn_jax.errors import RunError, UserError  # noqa: E402
from cnn_jax.runs.environment import git_commit  # noqa: E402

CHECKED_STEPS = 3
FOREIGN_LIMIT = 0.03
ATTEMPTS = 5
TRANSFER_EPOCHS = 10
# All peers compute on the processor, even if there is an accelerator.
_PROCESSOR_ONLY = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}

Turn = Callable[[Cell], dict[str, Any]]


def environment(name: str, folder: pathlib.Path, create: bool) -> str | None:
    """Returns the path of the Python of a peer's environment, and creates a missing environment.

    Args:
        name: "ours", or the name of a file of requirements beside the peers.
        folder: the folder of the environments.
        create: whether to create a missing environment; False returns None for it.

    Raises:
        RunError: the packages cannot be installed.
    """
    if name == "ours":
        return sys.executable
    requirements = ROOT / "benchmarks" / "peers" / f"{name}.txt"
    key = hashlib.sha256(requirements.read_bytes() + platform.python_version().encode())
    place = folder / f"{name}-{key.hexdigest()[:8]}"
    python, finished = place / "bin" / "python", place / "finished"
    if finished.exists():
        return str(python)
    if not create:
        return None
    print(f"install    {name} in {place}", flush=True)
    settings = dict(os.environ)
    if "PIP_FIND_LINKS" in settings:  # uv does not read pip's settings
        settings.setdefault("UV_FIND_LINKS", settings["PIP_FIND_LINKS"])
    if uv := shutil.which("uv"):
        make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, place]
        install = [uv, "pip", "install", "--quiet", "--python", python, "-r", requirements]
    else:
        make = [sys.executable, "-m", "venv", "--clear", place]
        install = [python, "-m", "pip", "install", "--quiet", "-r", requirements]
    for command in (make, install):
        done = subprocess.run(command, env=settings, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise RunError(f"cannot install the packages of {requirements}: {_end(done.stderr)}")
    finished.touch()
    return str(python)


def _end(text: str) -> str:
    """Returns the end of the output of a program, as one line."""
    return " ".join(text.split())[-300:]


def _surroundings(peer: Peer) -> dict[str, str]:
    """Returns the environment variables of a peer's process."""
    variables = {**os.environ, **_PROCESSOR_ONLY, **peer.variables}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # else every start compiles every module again
    if peer.environment != "ours":
        variables.pop("PYTHONPATH", None)  # its packages could hide the peer's own
    return variables


class Worker:
    """Runs one cell in a process of its own; `benchmarks.peers.worker` describes its commands."""

    def __init__(self, cell: Cell, python: str, log: pathlib.Path, **variables: str):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as errors:
            self._process = subprocess.Popen(
                [python, "-m", f"benchmarks.peers.{PEERS[cell.peer].module}"],
                cwd=ROOT,
                env={**_surroundings(PEERS[cell.peer]), **variables},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self.cell, self.log, self.pid = cell, log, self._process.pid

    def ask(self, **command: Any) -> dict[str, Any]:
        """Returns the answer to a command.

        Raises:
            RunError: the process failed or ended.
        """
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(command), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "its process ended"}
        if "error" in answer:
            raise RunError(f"{self.cell}: {answer['error']}; more in {self.log}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


def usage(pid: int | None = None) -> tuple[float, float, float] | None:
    """Returns (clock, processor time of all processes, our own part of it) in seconds.

    Our own part is that of this process and of `pid`, each with the children that it has waited
    for. Returns None if the system does not tell.
    """
    try:
        with open("/proc/stat") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
        ticks = sum(fields) - fields[3] - fields[4]  # idle, and waiting for a disk
        own = 0
        if pid is not None:
            text = pathlib.Path(f"/proc/{pid}/stat").read_text()
            own = sum(map(int, text.rpartition(")")[2].split()[11:15]))
    except (OSError, ValueError, IndexError):
        return None
    tick = os.sysconf("SC_CLK_TCK")
    return time.perf_counter(), ticks / tick, own / tick + sum(os.times()[:4])


def _foreign(before: Any, pid: int | None = None) -> float | None:
    """Returns the share of the machine that other programs used since `before`, from `usage`."""
    after = usage(pid)
    return before and after and report.foreign_share(before, after, os.cpu_count() or 1)


def draw(work: dict[str, Any]) -> None:
    """Writes the images, labels and parameters of a workload to its file."""
    generator = np.random.default_rng(0)
    count = work["batches"] * work["batch"]
    shape = (count, work["size"], work["size"], work["channels"])
    images = generator.integers(0, 256, shape, np.uint8)
    labels = generator.integers(0, work["outputs"], count, np.int32)
    parameters: dict[str, Any] = ours.draw_parameters(work, generator)
    np.savez(work["file"], images=images, labels=labels, **parameters)


def rotated(cells: list[Cell], number: int) -> list[Cell]:
    """Returns the cells in the order of a round: each is first once, then the order repeats."""
    first = number % len(cells) if cells else 0
    return cells[first:] + cells[:first]


def steps_for(seconds: float, run: Callable[[int], float]) -> int:
    """Returns the number of steps that take `seconds`; `run(steps)` returns the time of some."""
    steps = 2
    while (took := run(steps)) < seconds / 4:
        steps = math.ceil(steps * min(10, seconds / max(took, 1e-6)))
    return max(1, round(steps * seconds / took))


class Benchmark:
    """Measures workloads, and keeps the settings and the measurements made so far.

    Args:
        options: the options of the command line.
        workloads: the workloads to measure, by name.
        pythons: {environment: path of its Python}; peers of other environments are left out.
        folder: a folder for temporary files.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        workloads: dict[str, Workload],
        pythons: dict[str, str],
        folder: pathlib.Path,
    ):
        self.options, self.workloads, self.folder = options, workloads, folder
        self._pythons = pythons
        self.peers = [name for name in options.peers if PEERS[name].environment in pythons]
        self.settings = {
            "commit": git_commit(),
            "processor": runtime.processor(),
            **{name: getattr(options, name) for name in ("rounds", "seconds", "quick", "full")},
            "peers": self.peers,
            "workloads": {name: dataclasses.asdict(one) for name, one in workloads.items()},
        }
        command = json.dumps([self.settings, str(options.output)], sort_keys=True)
        digest = hashlib.sha256(command.encode()).hexdigest()[:8]
        self.raw = options.environments / f"unfinished-{digest}.jsonl"
        lines = self.raw.read_text().splitlines() if self.raw.exists() else []
        self.records = [json.loads(line) for line in lines]
        if lines:
            print(f"resumed    with {len(lines)} measurements in {self.raw}")

    def measure(self, name: str) -> None:
        """Measures a workload in all rounds that are still missing."""
        kind = self.workloads[name].kind
        cells = plan.cells(self.workloads[name], self.peers)
        rounds = 1 if kind == "transfer" else self.options.rounds
        turns = [(i, cell) for i in range(rounds) for cell in rotated(cells, i)]
        turns = [turn for turn in turns if not self._is_done(name, *turn)]
        if not turns:
            return
        prepare = {"start": self._start, "transfer": self._transfer}.get(kind, self._work)
        with contextlib.ExitStack() as stack:
            turn = prepare(name, cells, stack)
            for number, cell in turns:
                while not self._is_done(name, number, cell):
                    self._keep({**_key(name, number, cell), **turn(cell)})
                print(f"round {number + 1}/{rounds}  {name}  {cell}", flush=True)

    def _is_done(self, name: str, number: int, cell: Cell) -> bool:
        some = [r for r in self.records if _key(name, number, cell).items() <= r.items()]
        return len(some) >= ATTEMPTS or any(r["kept"] for r in some)

    def _keep(self, record: dict[str, Any]) -> None:
        """Saves one measurement, and waits a little if other programs used the machine."""
        limit = math.inf if self.options.quick else FOREIGN_LIMIT
        record["kept"] = (record["foreign"] or 0.0) <= limit
        self.records.append(record)
        with self.raw.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if not record["kept"]:
            time.sleep(2)

    def _command(self, name: str, cell: Cell, **more: Any) -> dict[str, Any]:
        """Returns the description of a workload that a worker gets."""
        return {
            **dataclasses.asdict(self.workloads[name]),
            "variant": cell.variant,
            "mode": dict(PEERS[cell.peer].mode),
            "own_parameters": False,
            "file": str(self.folder / f"{name}.npz"),
            **more,
        }

    def _worker(self, name: str, cell: Cell, **variables: str) -> Worker:
        log = self.options.environments / "logs" / f"{name}-{str(cell).replace(', ', '-')}.txt"
        return Worker(cell, self._pythons[PEERS[cell.peer].environment], log, **variables)

    def _work(self, name: str, cells: list[Cell], stack: contextlib.ExitStack) -> Turn:
        """Starts the cells' processes, checks and warms them; returns a function for one turn."""
        workload = self.workloads[name]
        is_network = workload.kind in ("train", "forward")
        more = {}
        if is_network:
            draw(self._command(name, Cell("ours")))
        if workload.kind == "jpeg":
            more["photographs"] = sorted(map(str, self.options.photographs.rglob("*.jpg")))
        workers, steps, losses, common = {}, {}, {}, {}
        for cell in cells:
            print(f"prepare    {name}  {cell}", flush=True)
            command = self._command(name, cell, **more)
            if is_network and PEERS[cell.peer].environment == "ours":
                # This fills the compilation cache, as a user's first run does: compiling takes more
                # memory than training a small network.
                with contextlib.closing(self._worker(name, cell)) as first:
                    first.ask(prepare=command)
                    first.ask(run=CHECKED_STEPS, each=True)
            workers[cell] = self._worker(name, cell)
            stack.callback(workers[cell].close)
            common[cell] = {
                "versions": workers[cell].ask(prepare=command)["versions"],
                "flops": 2 * workload.size**3 if workload.kind == "product" else None,
            }
            if is_network:
                common[cell]["flops"] = ours.step_flops(command)
            losses[cell] = workers[cell].ask(run=CHECKED_STEPS, each=True)["losses"]
        if is_network:
            report.check_losses(name, losses)
        for cell, worker in workers.items():
            worker.ask(run=2, each=False)  # this may still compile something

            def run(count: int, worker: Worker = worker) -> float:
                return worker.ask(run=count, each=False)["seconds"]

            steps[cell] = steps_for(self.options.seconds, run)

        def turn(cell: Cell) -> dict[str, Any]:
            before = usage(workers[cell].pid)
            answer = workers[cell].ask(run=steps[cell], each=False)
            foreign = _foreign(before, workers[cell].pid)
            found = {key: answer[key] for key in ("seconds", "images", "memory_mib")}
            return {**found, **common[cell], "foreign": foreign}

        return turn

    def _start(self, name: str, cells: list[Cell], stack: contextlib.ExitStack) -> Turn:
        """Returns a function that measures from a process's start to the end of its first step."""
        draw(self._command(name, Cell("ours")))
        warm = stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder))

        def turn(cell: Cell) -> dict[str, Any]:
            with contextlib.ExitStack() as stack:
                cold = stack.enter_context(tempfile.TemporaryDirectory(dir=self.folder))
                place = warm if cell.variant == "warm" else cold
                before, began = usage(), time.perf_counter()
                worker = self._worker(name, cell, CNN_JAX_CACHE=place)
                stack.callback(worker.close)
                command = self._command(name, cell, kind="train", own_parameters=True)
                versions = worker.ask(prepare=command)["versions"]
                memory = worker.ask(run=1, each=True)["memory_mib"]
                return {
                    "seconds": time.perf_counter() - began,
                    "foreign": _foreign(before, worker.pid),  # the whole process is our own
                    **{"images": 1, "memory_mib": memory, "flops": None, "versions": versions},
                }

        for cell in cells:
            turn(cell)  # writes bytecode, and fills the cache for warm starts
        return turn

    def _transfer(self, name: str, cells: list[Cell], stack: contextlib.ExitStack) -> Turn:
        """Returns a function that measures the study guide's transfer learning to its end."""
        del cells
        photographs, weights = str(self.options.photographs), str(self.options.weights)
        epochs = 2 if self.options.quick else TRANSFER_EPOCHS
        theirs = epochs if self.options.full else 2

        def turn(cell: Cell) -> dict[str, Any]:
            peer = PEERS[cell.peer]
            place = tempfile.mkdtemp(dir=self.folder)
            stack.callback(shutil.rmtree, place)
            command = [self._pythons[peer.environment]]
            if peer.environment == "ours":
                command += [str(ROOT / "launch.py"), "train", "--config=cats_vs_dogs_guide"]
                command += ["--dataset.name=folder", f"--dataset.path={photographs}"]
                command += [f"--transfer.weights={weights}", f"--train.epochs={epochs}"]
                command += [f"--{name}={value}" for name, value in peer.mode.items()]
                command += [f"--workdir={place}/run"]
            else:
                command += ["-m", "benchmarks.peers.guide", photographs, weights, str(theirs)]
            variables = {**_surroundings(peer), "CNN_JAX_CACHE": place}
            before, began = usage(), time.perf_counter()
            done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
            seconds, foreign = time.perf_counter() - began, _foreign(before)
            if done.returncode:
                raise RunError(f"{name}, {cell}: {_end(done.stderr)}")
            if peer.environment != "ours":
                seconds += (epochs - theirs) * json.loads(done.stdout.splitlines()[-1])["epochs"][
                    -1
                ]
            none = dict.fromkeys(("memory_mib", "flops", "versions"))
            return {"seconds": seconds, "images": 1, "foreign": foreign, **none}

        return turn

    def write(self, notes: Sequence[str]) -> None:
        """Writes speed.json, speed.md and speed.png, and prints the tables."""
        rows = report.summarize(self.records, self.workloads)
        verdicts = report.verdicts(rows, self.workloads)
        versions = {
            PEERS[r["peer"]].environment: r["versions"] for r in self.records if r["versions"]
        }
        cores = os.cpu_count()
        result = {
            "date": datetime.date.today().isoformat(),
            **self.settings,
            **{"cores": cores, "system": platform.platform()},
            "python": platform.python_version(),
            "packages": versions,
            **{"notes": list(notes), "verdicts": verdicts, "rows": rows},
        }
        output = self.options.output
        files.write_json(output / "speed.json", result)
        report.draw(rows, verdicts, self.workloads).savefig(output / "speed.png", dpi=100)
        (output / "speed.md").write_text(report.page(result))
        print("\n\n".join(report.tabulate(rows, verdicts)))
        print(f"written    {output / 'speed.md'}, speed.json and speed.png")
        self.raw.unlink(missing_ok=True)


def _key(name: str, number: int, cell: Cell) -> dict[str, Any]:
    return {"workload": name, "round": number, "peer": cell.peer, "variant": cell.variant}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the options of a command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])

    def some(known: Any) -> Callable[[str], list[str]]:
        def names(text: str) -> list[str]:
            for name in text.split(","):
                if name not in known:
                    raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
            return [name for name in known if name in text.split(",")]

        return names

    def path(text: str) -> pathlib.Path:
        return pathlib.Path(text).expanduser().resolve()

    environments = runtime.cache_dir() / "benchmarks"
    parser.add_argument("--workloads", type=some(WORKLOADS), help=", ".join(WORKLOADS))
    parser.add_argument("--peers", type=some(PEERS), default=list(PEERS), help=", ".join(PEERS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of one turn")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round, no installing")
    parser.add_argument("--full", action="store_true", help="Keras runs all epochs of transfer")
    parser.add_argument("--photographs", type=path, help="a folder with train/ and validation/")
    parser.add_argument("--weights", default="imagenet", help="VGG16's weights: Keras' HDF5 file")
    parser.add_argument(
        "--output", type=path, help="folder of the results; default: benchmarks/results"
    )
    parser.add_argument(
        "--environments",
        type=path,
        default=environments,
        help="folder of their environments and logs",
    )
    options = parser.parse_args(argv)
    if options.quick:
        options.rounds, options.seconds = 1, 0.0
    if options.weights != "imagenet":
        options.weights = path(options.weights)
    default = "runs/benchmark_quick" if options.quick else "benchmarks/results"
    options.output = options.output or ROOT / default
    options.workloads = options.workloads or list(plan.QUICK if options.quick else WORKLOADS)
    return options


def main(argv: Sequence[str]) -> int:
    """Runs the benchmark; returns 0, or 1 or 2 after an error, or 130 after an interruption."""
    options = parse(argv)
    notes = []
    workloads = {}
    for name in options.workloads:
        workloads[name] = plan.quick(WORKLOADS[name]) if options.quick else WORKLOADS[name]
        if workloads[name].kind in ("jpeg", "transfer") and not options.photographs:
            notes.append(f"{name} was left out: it needs --photographs.")
            del workloads[name]
    if "transfer" in workloads and not (options.full or options.quick):
        notes.append("transfer: Keras ran two epochs; eight more are added at the second's time.")
    try:
        pythons = {}
        for name in dict.fromkeys(PEERS[peer].environment for peer in options.peers):
            if python := environment(name, options.environments, create=not options.quick):
                pythons[name] = python
            else:
                notes.append(f"{name} was left out: not installed, and --quick installs nothing.")
        for note in notes:
            print(f"note       {note}")
        options.output.mkdir(parents=True, exist_ok=True)
        options.environments.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            benchmark = Benchmark(options, workloads, pythons, pathlib.Path(folder))
            for name in workloads:
                benchmark.measure(name)
            benchmark.write(notes)
        return 0
    except UserError as error:
        print(f"error: {error.for_command_line}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nerror: interrupted; the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
