"""What is done to a sweep on a real Ray of two nodes, which are two processes of this machine."""

import contextlib
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator

from benchmarks.clusters.sweeps import RATES, Fault, Sweep, commands

_PORT = 6479
_STORE, _MEMORY = 80_000_000, 2_000_000_000  # bytes of each node: nothing is stored


def _ray(*words: str) -> None:
    program = str(pathlib.Path(sys.executable).parent / "ray")
    done = subprocess.run(
        [program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Fault(f"ray {words[0]}: {(done.stderr or done.stdout).strip()[-500:]}")


def _node(*words: str) -> None:
    limits = (f"--object-store-memory={_STORE}", f"--memory={_MEMORY}", "--num-cpus=2")
    before = {pid for pid, _ in _of_ray("")}
    for left in reversed(range(4)):  # on a busy machine Ray's own parts wait in vain for each other
        try:
            _ray("start", *words, *limits, "--disable-usage-stats")
            return
        except Fault:
            if not left:
                raise
            _end(pid for pid, _ in _of_ray("") if pid not in before)


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """Starts a Ray of two nodes, and within it ends both."""
    with tempfile.TemporaryDirectory() as folder:
        token = pathlib.Path(folder, "token")
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        own = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ADDRESS": f"127.0.0.1:{_PORT}",
            "RAY_worker_niceness": "0",  # else whatever else runs goes first
        }
        os.environ |= own
        try:
            _node("--head", f"--port={_PORT}", "--include-dashboard=false")
            _node(f"--address={own['RAY_ADDRESS']}")
            yield
        finally:
            _end(pid for pid, _ in _of_ray(""))
            for name in own:
                os.environ.pop(name, None)


def _of_ray(program: str) -> list[tuple[int, list[str]]]:
    """Returns the processes of a program of Ray, or of all, that belong to this cluster."""
    ports = (f"--gcs_server_port={_PORT}", f":{_PORT}")
    return [
        (pid, words)
        for pid, words in commands()
        if any(
            f"/ray/{part}" in word for word in words[:3] for part in ("core", "_private", "auto")
        )
        and (not program or words[0].endswith(f"/{program}"))
        and any(word.endswith(ports) for word in words)
    ]


def _end(processes: Iterable[int]) -> None:
    processes = list(processes)
    for number in (signal.SIGTERM, signal.SIGKILL):  # some of Ray's take no notice of the first
        for pid in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        time.sleep(3)


def _flags(workers: int, resources: str) -> list[str]:
    return ["--sweep.launcher=ray", f"--sweep.parallel={workers}", f"--sweep.resources={resources}"]


def queued(sweep: Sweep) -> str:
    """Three workers of two processors each on two nodes of two: one waits."""
    process = sweep.start(*_flags(3, "num_cpus=2"))
    sweep.running(2)
    workers = len({str(sweep.worker(place)) for place in sweep.places()} - {"None"})
    sweep.ends(process)
    if workers > 2:
        raise Fault(f"{workers} workers ran on 2 nodes")
    return f"{workers} workers ran at once"


def fractional(sweep: Sweep) -> str:
    """Eight workers of half a processor each, on two nodes of two: all can run at once."""
    process = sweep.start(*_flags(8, "num_cpus=0.5"))
    held = sweep.running(len(RATES))
    sweep.ends(process)
    return f"{len(held)} settings were in training at once"


def killed(sweep: Sweep) -> str:
    """A worker and the task that runs it are killed by SIGKILL in the midst of training."""
    process = sweep.start(*_flags(2, "num_cpus=2"))
    place = sweep.running(2)[0]
    pid = (sweep.worker(place) or {})["pid"]
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    parent = int(status.split("PPid:")[1].split()[0])
    os.kill(parent, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):  # Ray may have ended it already
        os.kill(pid, signal.SIGKILL)
    sweep.ends(process)
    return f"setting {place} went on elsewhere"


def node_lost(sweep: Sweep) -> str:
    """The daemon of one node is killed by SIGKILL in the midst of training."""
    process = sweep.start(*_flags(2, "num_cpus=2"))
    sweep.running(2)
    second = max(pid for pid, _ in _of_ray("raylet"))
    os.kill(second, signal.SIGKILL)
    sweep.ends(process)
    _node(f"--address=127.0.0.1:{_PORT}")
    return "its worker went on, or started again on the other node"


def stopped(sweep: Sweep) -> str:
    """The process that started the tasks gets SIGTERM; the same command goes on."""
    return sweep.is_stopped_and_goes_on(*_flags(2, "num_cpus=2"))


def starter_killed(sweep: Sweep) -> str:
    """The process that started the tasks is killed by SIGKILL; the same command goes on."""
    process = sweep.start(*_flags(2, "num_cpus=2"))
    held = sweep.running(2)
    process.kill()
    sweep.ends(process, -signal.SIGKILL)
    own = [f"--workdir={sweep.path}", "sweep"]

    def gone() -> bool:
        return not any(all(word in words for word in own) for _, words in commands())

    sweep.wait_for("the end of its workers", gone)
    kept = [place for place in held if sweep.worker(place) is None]
    sweep.ends(sweep.start(*_flags(2, "num_cpus=2"), plan=False))
    return f"its workers ended by themselves, {len(kept)} of {len(held)} settings given back"


SCENARIOS = {
    "queued": queued,
    "fractional": fractional,
    "killed": killed,
    "node_lost": node_lost,
    "stopped": stopped,
    "starter_killed": starter_killed,
}
