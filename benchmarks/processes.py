"""Do several processes train as one, stop together, and go on after any of them was killed?

It has over 300 lines because the kills, the Slurm and their page are one record.

    python benchmarks/processes.py kills --kills=20
    SLURM_CONF=... python benchmarks/processes.py slurm --nodes=2
    python benchmarks/processes.py starts

`kills` trains with two processes on this machine, kills one of them, drawn by chance, with SIGKILL
at a moment drawn by chance, starts both again with the same command, and so on; with --training the
moments are within the --window seconds after the first step of each start. A run that comes to its
end is compared with an undisturbed one of two processes: the sha256 of its final state, and its
history.

`slurm` trains `cifar10_cnn` on a part of its images by srun: with 1, 2 and 4 tasks; cancelled in
the middle and resumed with another number of tasks; asked to stop before a time limit; with a task
killed, a task stopped (as when its machine answers no more), and the daemon of a node killed. Each
process notes the sha256 of the positions of every batch. All nodes are on this machine.

The results go to docs/results/processes.json, and `page` writes processes.md of them.
"""

import argparse
import datetime
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results" / "processes.json"
LAUNCH = [sys.executable, str(ROOT / "launch.py")]

# The run of the kills: all that a resume could get wrong, and little to compute.
KILLED = [
    "train",
    "--model.name=mlp",
    "--model.dropout_rate=0.2",
    "--dataset.image_size=none",
    "--dataset.train_examples=316",
    "--dataset.batch_size=16",
    "--dataset.flip",
    "--dataset.crop_padding=1",
    "--optimizer.ema_decay=0.9",
    "--optimizer.schedule=cosine",
    "--checkpoint.every_steps=7",
    "--logging.projector_images=0",
    "--quiet",
]

# Notes which examples form each batch, by a file of each process.
ORDER = """
import hashlib, os
from cnn_jax.data.batches import TrainBatches
made = TrainBatches.__iter__
def noted(self):
    path = f"{os.environ['ORDER']}.{os.environ.get('SLURM_PROCID', 0)}.{os.getpid()}"
    with open(path, "w", buffering=1) as file:
        for batch in made(self):
            print(hashlib.sha256(batch.positions.tobytes()).hexdigest(), file=file)
            yield batch
TrainBatches.__iter__ = noted
"""

# Notes each step that a process of the kills has made.
STEPS = """
import os
from cnn_jax.processes.stopping import Stop
at = Stop.at
def noted(self, step):
    path = os.environ["STEPS"]
    with open(f"{path}.new", "w") as file:
        print(step, file=file)
    os.replace(f"{path}.new", path)
    return at(self, step)
Stop.at = noted
"""

TRAINED = [
    "train",
    "--config=cifar10_cnn",
    "--dataset.train_examples=960",
    "--dataset.batch_size=48",
    "--dataset.validation_split=none",
    "--dataset.validation_fraction=0.02",
    "--train.epochs=1",
    "--checkpoint.every_steps=4",
    "--logging.every_steps=1",
    "--logging.figures_every=none",
    "--logging.projector_images=0",
    "--distributed_timeout=240",
]


def environment() -> dict[str, Any]:
    """Returns the date, the versions, and the processor."""
    names = ("jax", "jaxlib", "flax", "orbax-checkpoint", "numpy")
    processor = platform.processor()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.split(":", 1)[1].strip()
    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
        "processor": f"{processor}, {os.cpu_count()} cores",
    }


def save(name: str, value: dict[str, Any]) -> None:
    """Replaces one part of the results."""
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found[name] = environment() | value
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")


def ending(workdir: pathlib.Path) -> tuple[str, list[dict]]:
    """Returns (sha256 of the final state, history without times)."""
    last = max((workdir / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    meta = json.loads((last / "meta" / "metadata").read_text())
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in meta["history"]]
    return meta["sha256"], history


def steps(workdir: pathlib.Path) -> list[int]:
    """Returns the steps that are saved."""
    return sorted(int(x.name) for x in (workdir / "checkpoints").glob("*") if x.name.isdecimal())


def start_two(workdir: pathlib.Path, flags: list[str]) -> list[subprocess.Popen[str]]:
    """Starts the two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        subprocess.Popen(
            [*LAUNCH, *flags, f"--workdir={workdir}", f"--distributed=127.0.0.1:{port},2,{i}"],
            env={**os.environ, "STEPS": str(noted(workdir, i))},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]


def noted(workdir: pathlib.Path, index: int) -> pathlib.Path:
    """Returns the file in which a process notes the steps that it makes; it is not there yet."""
    path = workdir.parent / f"{workdir.name}.steps{index}"
    path.unlink(missing_ok=True)
    return path


def last_step(workdir: pathlib.Path, index: int) -> int | None:
    """Returns the last step that a process has made in this start."""
    path = workdir.parent / f"{workdir.name}.steps{index}"
    return int(path.read_text()) if path.exists() else None


def wait_for_step(workdir: pathlib.Path, victim: int, started: list[subprocess.Popen[str]]) -> None:
    """Returns when a process has made a step, or one has ended."""
    while last_step(workdir, victim) is None and all(each.poll() is None for each in started):
        time.sleep(0.01)


def is_saving(workdir: pathlib.Path, began: float) -> bool:
    """Returns whether a checkpoint is being written that was begun after a moment."""
    found = workdir.glob("checkpoints/*.orbax-checkpoint-tmp")
    return any(path.stat().st_mtime > began for path in found)


def wait_all(processes: list[subprocess.Popen[str]]) -> tuple[list[int], list[str]]:
    """Returns the exit codes and what was said on standard error."""
    said = [process.communicate()[1] for process in processes]
    return [process.returncode for process in processes], said


def kills(options: argparse.Namespace) -> int:
    """Kills and resumes; returns 0 where everything was as it should be."""
    draw, done, runs, same, right = random.Random(options.seed), 0, 0, 0, 0
    flags = [*KILLED, f"--train.epochs={options.epochs}", "--distributed_timeout=60"]
    if options.training:  # long epochs, so that most of the time goes into steps and saves
        flags = [flag.replace("examples=316", "examples=1264") for flag in flags]
        flags.append("--logging.figures_every=none")
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder)
        (base / "steps.py").write_text(STEPS)
        flags.append(f"--code={base / 'steps.py'}")
        first = time.monotonic()
        codes, said = wait_all(start_two(base / "reference", flags))
        if codes != [0, 0]:
            print(f"error: the undisturbed run failed: {said}", file=sys.stderr)
            return 1
        seconds = time.monotonic() - first
        wanted = ending(base / "reference")
        print(f"undisturbed: {seconds:.0f} s, final state {wanted[0][:16]}", flush=True)
        log = []
        end = first + 60 * options.minutes
        while True:
            runs += 1
            workdir = base / f"run{runs}"
            while True:
                began, started = time.time(), start_two(workdir, flags)
                if done < options.kills and time.monotonic() < end:
                    victim = draw.randrange(2)
                    until = time.monotonic() + draw.uniform(0.1, 1.0) * seconds
                    if options.training:
                        wait_for_step(workdir, victim, started)
                        until = time.monotonic() + draw.uniform(0.0, options.window)
                    while time.monotonic() < until and started[victim].poll() is None:
                        time.sleep(0.01)
                    if started[victim].poll() is None:
                        started[victim].kill()
                        killed, step = time.monotonic(), last_step(workdir, victim)
                        saves = is_saving(workdir, began)
                        codes, said = wait_all(started)
                        took = time.monotonic() - killed
                        done += 1
                        other = said[1 - victim].strip()
                        errors = [x for x in other.splitlines() if not x.startswith("warning:")]
                        fine = codes[1 - victim] == 1 and len(errors) == 1
                        fine = fine or codes[1 - victim] == 0  # it was through
                        right += fine
                        log.append(
                            {
                                "run": runs,
                                "killed": victim,
                                "last_step": step,
                                "in_a_save": saves,
                                "newest_checkpoint": max(steps(workdir), default=None),
                                "other_ended_after_s": round(took, 1),
                                "other_exit_code": codes[1 - victim],
                                "other_said": re.sub(rf":\d{{4,5}}\b|{base}/", "", other),
                            }
                        )
                        print(f"kill {done}: {log[-1]}", flush=True)
                        continue
                codes, said = wait_all(started)
                if codes != [0, 0]:
                    print(f"error: {codes} {said}", file=sys.stderr)
                    return 1
                break
            equal = ending(workdir) == wanted
            same += equal
            word = "same bits" if equal else "OTHER BITS"
            print(f"run {runs} ended after {done} kills in all: {word}", flush=True)
            if done >= options.kills or time.monotonic() > end:
                break
        print(
            f"{done} kills, {right} answered by one line; "
            f"{same} of {runs} runs ended with the same bits"
        )
        save(
            "kills_in_training" if options.training else "kills",
            {
                "flags": [hide(flag, base) for flag in flags],
                "in_training": options.training,
                "kills": done,
                "answered_by_one_line": right,
                "runs": runs,
                "runs_with_the_same_bits": same,
                "longest_until_the_other_ended_s": max(x["other_ended_after_s"] for x in log),
                "log": log,
            },
        )
    return 0 if same == runs and right == done else 1


class Slurm:
    """Starts steps with srun, and keeps what each of them did.

    Args:
        base: a folder that all nodes see.
        nodes: the number of nodes.
    """

    def __init__(self, base: pathlib.Path, nodes: int):
        self.base, self.nodes = base, nodes
        self.records: list[dict[str, Any]] = []
        (base / "order.py").write_text(ORDER)

    def start(self, name: str, tasks: int, *more: str) -> subprocess.Popen[str]:
        """Starts a training of this number of tasks in the directory of this name."""
        nodes = min(tasks, self.nodes)
        step = ["srun", "-l", f"-N{nodes}", f"-n{tasks}", f"--job-name={name}", *more]
        flags = [*TRAINED, f"--workdir={self.base / name}", f"--code={self.base / 'order.py'}"]
        stamp = time.strftime("%H%M%S")
        environment = {**os.environ, "ORDER": str(self.base / f"{name}.{stamp}")}
        return subprocess.Popen(
            [*step, *LAUNCH, *flags],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, what: str, name: str, tasks: int, step: subprocess.Popen[str]) -> dict[str, Any]:
        """Waits for a step, and records what it printed and saved."""
        out = step.communicate()[0]
        lines = [line for line in out.splitlines() if "srun:" not in line and "slurm" not in line]
        kept = [line for line in lines if re.search("stopped at|go on with|error:|resumed", line)]
        found: dict[str, Any] = {
            "what": what,
            "tasks": tasks,
            "exit_code": step.returncode,
            "said": [hide(line, self.base) for line in kept],
            "saved": steps(self.base / name)[-1:],
        }
        history = self.base / name / "history.json"
        if history.exists() and (rows := json.loads(history.read_text())):
            for key in ("train_loss", "validation_loss", "validation_accuracy"):
                found[key] = rows[-1][key]
        self.records.append(found)
        print(json.dumps(found), flush=True)
        return found

    def wait_for_save(self, name: str, at_least: int = 4) -> None:
        """Returns when a state of this step or a later one is saved."""
        until = time.monotonic() + 900
        while time.monotonic() < until and max(steps(self.base / name), default=0) < at_least:
            time.sleep(0.1)

    def tasks_of(self, name: str) -> dict[int, int]:
        """Returns {task: process id} of the running tasks of a step; all nodes are this machine."""
        found = {}
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if f"SLURM_JOB_NAME={name}".encode() in environment and b"launch.py" in command:
                (task,) = [x for x in environment if x.startswith(b"SLURM_PROCID=")]
                found[int(task.split(b"=")[1])] = int(folder.name)
        return found

    def orders(self, name: str) -> list[list[str]]:
        """Returns the sha256 of the batches of each process of each start, in time's order."""
        paths = sorted(self.base.glob(f"{name}.[0-9]*"))
        return [path.read_text().split() for path in paths]


def hide(line: str, base: pathlib.Path) -> str:
    """Returns a line without the places of this machine."""
    line = re.sub(rf"--workdir=\S*{base.name}", "--workdir=DIR", line)
    line = line.replace(LAUNCH[0], "python").replace(LAUNCH[1], "launch.py")
    return re.sub(r"=\S*/(order|steps)\.py", r"=\1.py", line)


def since(moment: float) -> float:
    """Returns the seconds since a moment, rounded."""
    return round(time.monotonic() - moment, 1)


def slurm(options: argparse.Namespace) -> int:
    """Makes the log of a Slurm; returns 0."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        cluster = Slurm(pathlib.Path(folder), options.nodes)
        for tasks in (1, 2, 4):
            cluster.end(
                "undisturbed", f"tasks{tasks}", tasks, cluster.start(f"tasks{tasks}", tasks)
            )

        step = cluster.start("cancelled", 4)
        cluster.wait_for_save("cancelled")
        began = time.monotonic()
        subprocess.run(["scancel", "--name=cancelled"], check=True)
        found = cluster.end("scancel in the middle", "cancelled", 4, step)
        found["seconds_until_all_ended"] = since(began)
        cluster.end("resumed with 2 tasks", "cancelled", 2, cluster.start("cancelled", 2))

        step = cluster.start("signalled", 2)
        cluster.wait_for_save("signalled")
        began = time.monotonic()
        subprocess.run(["scancel", "--signal=USR1", "--name=signalled"], check=True)
        found = cluster.end("USR1 (what --signal=USR1@60 sends)", "signalled", 2, step)
        found["seconds_until_all_ended"] = since(began)

        step = cluster.start("killed", 2)
        cluster.wait_for_save("killed")
        began = time.monotonic()
        os.kill(cluster.tasks_of("killed")[1], signal.SIGKILL)
        found = cluster.end("task 1 killed by SIGKILL", "killed", 2, step)
        found["seconds_until_all_ended"] = since(began)
        cluster.end("resumed with 1 task", "killed", 1, cluster.start("killed", 1))

        step = cluster.start("silent", 2)
        cluster.wait_for_save("silent")
        began, silent = time.monotonic(), cluster.tasks_of("silent")
        os.kill(silent[1], signal.SIGSTOP)
        while pathlib.Path(f"/proc/{silent[0]}").exists() and since(began) < 120:
            time.sleep(0.1)
        seconds = since(began)
        subprocess.run(["scancel", "--name=silent"], check=True)
        os.kill(silent[1], signal.SIGKILL)
        found = cluster.end("task 1 stopped by SIGSTOP, as a machine that hangs", "silent", 2, step)
        found["seconds_until_task_0_ended"] = seconds

        if options.daemon:
            step = cluster.start("daemon", 2)
            cluster.wait_for_save("daemon")
            pid = daemon(options.daemon)
            os.kill(pid, signal.SIGKILL)
            cluster.end(f"the daemon of node {options.daemon} killed", "daemon", 2, step)
            subprocess.run(["slurmd", "-N", options.daemon], check=True)

        reference = cluster.orders("tasks1")[0]
        batches = {}
        for name in ("tasks2", "tasks4", "cancelled", "signalled", "killed", "silent", "daemon"):
            equal = []
            for order in cluster.orders(name):  # a resumed one begins later in the epoch
                place = reference.index(order[0]) if order and order[0] in reference else -1
                equal.append(place >= 0 and reference[place : place + len(order)] == order)
            batches[name] = {"processes": len(equal), "equal_to_one_task": sum(equal)}
        print(json.dumps(batches), flush=True)
        version = subprocess.run(["srun", "--version"], capture_output=True, text=True, check=True)
        save(
            "slurm",
            {
                "slurm": version.stdout.strip(),
                "flags": TRAINED,
                "log": cluster.records,
                "batches": batches,
                "batches_sha256": hashlib.sha256("".join(reference).encode()).hexdigest(),
            },
        )
    return 0


def starts(options: argparse.Namespace) -> int:
    """Trains with processes that are started in several ways; returns 0 where all of them end."""
    del options
    mpirun = ["mpirun", "--oversubscribe", "-np", "2"]
    mpirun += ["--allow-run-as-root"] if os.getuid() == 0 else []
    ways = {"one process": ([], 1), "`mpirun -np 2`": (mpirun, 1)}
    ways["`mpirun -np 2`, four simulated devices each"] = (mpirun, 4)
    flags = [flag for flag in KILLED if flag != "--quiet"] + ["--train.epochs=3"]
    log = []
    with tempfile.TemporaryDirectory() as folder:
        for i, (what, (words, devices)) in enumerate(ways.items()):
            workdir = pathlib.Path(folder) / str(i)
            simulated = f"--xla_force_host_platform_device_count={devices}"
            done = subprocess.run(
                [*words, *LAUNCH, *flags, f"--workdir={workdir}"],
                env={**os.environ, "XLA_FLAGS": simulated},
                capture_output=True,
                text=True,
                check=False,
            )
            found: dict[str, Any] = {"what": what, "exit_code": done.returncode}
            if done.returncode:
                found["said"] = [
                    hide(line, pathlib.Path(folder)) for line in done.stderr.split("\n")
                ]
            else:
                (found["devices"],) = re.findall("^devices +(.*)", done.stdout, re.MULTILINE)
                last = ending(workdir)[1][-1]
                found |= {key: last[key] for key in ("train_loss", "validation_loss")}
                found["validation_accuracy"] = last["validation_accuracy"]
            log.append(found)
            print(json.dumps(found), flush=True)
    version = subprocess.run(["mpirun", "--version"], capture_output=True, text=True, check=True)
    save("starts", {"mpirun": version.stdout.splitlines()[0], "flags": flags, "log": log})
    return max(each["exit_code"] for each in log)


def daemon(node: str) -> int:
    """Returns the process id of the daemon of a node, which runs on this machine."""
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        words = (folder / "cmdline").read_bytes().split(b"\0") if folder.exists() else []
        if words[:1] and words[0].endswith(b"slurmd") and node.encode() in words:
            return int(folder.name)
    raise SystemExit(f"error: no slurmd of {node} runs here")


def page(options: argparse.Namespace) -> int:
    """Writes the page of the results; returns 0."""
    del options
    found = json.loads(RESULTS.read_text())
    lines = [
        "# Several processes",
        "",
        "Made by `python benchmarks/processes.py`; every line is in [processes.json]"
        "(processes.json). The machine had much other work: seconds say no more than that a limit "
        "was kept. All nodes and processes are on one machine, whose processes talk over the "
        "loopback; GPUs and a TPU pod were not tried, and Kubernetes only against a server that "
        "answered JAX's questions (which pod, which job) as that of an indexed job would: two "
        "processes with `JOB_COMPLETION_INDEX` 0 and 1 found each other.",
        "",
    ]
    if "slurm" in found:
        lines += _slurm_lines(found["slurm"])
    for name in ("kills", "kills_in_training"):
        if name in found:
            lines += _kill_lines(found[name])
    if "starts" in found:
        lines += _start_lines(found["starts"])
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")
    return 0


def _about(part: dict[str, Any]) -> str:
    names = ("jax", "jaxlib", "flax", "orbax-checkpoint", "numpy")
    versions = ", ".join(f"{name} {part[name]}" for name in names)
    return f"{part['date']}; {part['processor']}; Python {part['python']}, {versions}."


def _slurm_lines(part: dict[str, Any]) -> list[str]:
    command = f"srun -N2 -nTASKS python launch.py {' '.join(part['flags'])} --workdir=DIR"
    head = ["what", "tasks", "exit code", "saved", "seconds until all ended"]
    head += ["train loss", "validation loss", "validation accuracy (1,000 images)"]
    lines = [
        f"## A real Slurm ({part['slurm']}), two nodes",
        "",
        _about(part),
        "",
        f"`{command}`, an epoch of a part of the images (960 of 50,000).",
        "",
        f"| {' | '.join(head)} |",
        "|---|" + "---:|" * (len(head) - 1),
    ]
    for row in part["log"]:
        seconds = [value for key, value in row.items() if key.startswith("seconds")]
        numbers = [
            f"{row[key]:.5f}" if key in row else ""
            for key in ("train_loss", "validation_loss", "validation_accuracy")
        ]
        cells = [row["what"], row["tasks"], row["exit_code"], *row["saved"], *(seconds or [""])]
        lines.append(f"| {' | '.join(map(str, [*cells, *numbers]))} |")
    losses = [row["train_loss"] for row in part["log"] if "train_loss" in row]
    starts = sum(each["processes"] for each in part["batches"].values())
    equal = sum(each["equal_to_one_task"] for each in part["batches"].values())
    lines += [
        "",
        "Each process of each start noted the sha256 of the positions of every batch: "
        f"{equal} of {starts} are those of one task to the bit, resumed ones included. "
        f"Train losses differ by at most {max(losses) / min(losses) - 1:.1e} of themselves.",
        "",
        "What was said (srun's own lines are left out):",
        "",
    ]
    lines += [f"- {row['what']}: `{said}`" for row in part["log"] for said in row["said"]]
    return [*lines, ""]


def _kill_lines(part: dict[str, Any]) -> list[str]:
    killed = [row["killed"] for row in part["log"]]
    late = [row["other_ended_after_s"] for row in part["log"] if "was killed" in row["other_said"]]
    same, runs = part["runs_with_the_same_bits"], part["runs"]
    when = "while they train" if part["in_training"] else "at any time"
    if part["in_training"]:
        reached = sorted(row["last_step"] for row in part["log"])
        saves = sum(row["in_a_save"] for row in part["log"])
        where = (
            f"In each start steps had been made before; the last ones were {some(reached)}, and "
            f"{saves} of the kills came while a checkpoint was being written."
        )
    else:
        reached = sorted({row["newest_checkpoint"] or 0 for row in part["log"]})
        where = f"The newest checkpoints then were those of the steps {some(reached)}" + (
            "." if len(reached) > 1 else ": all others came before the first step after a start."
        )
    warnings = sum("warning:" in row["other_said"] for row in part["log"])
    warned = (
        f" {warnings} had warned at its start that a checkpoint was damaged: an old one, which was "
        "being removed at the kill before."
        if warnings
        else ""
    )
    return [
        f"## {part['kills']} kills of two processes, {when}",
        "",
        _about(part),
        "",
        f"`python launch.py {' '.join(part['flags'])}`, killed by SIGKILL at moments drawn by "
        f"chance, process 0 {killed.count(0)} times and process 1 {killed.count(1)} times, and "
        f"started again with the same command. {where}",
        "",
        f"- {same} of {runs} runs ended with the final state and history of the undisturbed run of "
        "two processes, to the bit.",
        f"- In {part['answered_by_one_line']} of {part['kills']} kills the other process ended "
        f"with exit code 1 and one error line, or was through.{warned}",
        f"- Where both had met, it ended within {math.ceil(max(late))} s."
        + (
            f" {early} kills came before that, and there the other waited for "
            "--distributed_timeout=60."
            if (early := sum(row["other_exit_code"] == 1 for row in part["log"]) - len(late))
            else ""
        ),
        "",
    ]


def _start_lines(part: dict[str, Any]) -> list[str]:
    keys = ("exit_code", "devices", "train_loss", "validation_loss", "validation_accuracy")
    lines = [
        "## Started in other ways",
        "",
        f"{_about(part)[:-1]}, {part['mpirun']}.",
        "",
        f"`python launch.py {' '.join(part['flags'])}`, without another argument.",
        "",
        "| how | exit code | devices | train loss | validation loss | validation accuracy (144) |",
        "|---|---:|---|---:|---:|---:|",
    ]
    for row in part["log"]:
        cells = [row.get(key, "") for key in keys]
        shown = [f"{cell:.5f}" if isinstance(cell, float) else str(cell) for cell in cells]
        lines.append(f"| {' | '.join([row['what'], *shown])} |")
    return [*lines, ""]


def some(numbers: list[int]) -> str:
    """Returns numbers in words."""
    return ", ".join(map(str, numbers))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    commands = parser.add_subparsers(required=True)
    killing = commands.add_parser("kills")
    killing.add_argument("--kills", type=int, default=20)
    killing.add_argument("--epochs", type=int, default=3)
    killing.add_argument("--seed", type=int, default=0, help="seed of the random moments")
    killing.add_argument("--minutes", type=float, default=1e9, help="no kill after these")
    killing.add_argument("--training", action="store_true", help="no kill before the first step")
    killing.add_argument("--window", type=float, default=8.0, help="seconds after the first step")
    killing.set_defaults(run=kills)
    cluster = commands.add_parser("slurm")
    cluster.add_argument("--nodes", type=int, default=2)
    cluster.add_argument("--daemon", help="a node whose slurmd is killed, and started again")
    cluster.add_argument("--folder", help="where the runs are trained; all nodes see it")
    cluster.set_defaults(run=slurm)
    commands.add_parser("starts").set_defaults(run=starts)
    commands.add_parser("page").set_defaults(run=page)
    chosen = parser.parse_args()
    sys.exit(chosen.run(chosen))
