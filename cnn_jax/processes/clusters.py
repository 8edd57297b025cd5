"""Which processes belong together, and which of them this is: as a flag says, or the cluster.

Slurm is read here, since JAX counts the tasks of the job and not of the step, takes one port for
all steps of a job, and hides all GPUs but one from a task that has its node for itself. What Open
MPI, Kubernetes and a Cloud TPU pod say, JAX reads.
"""

import dataclasses
import os
import re
import socket
from collections.abc import Mapping

from cnn_jax.errors import RunError, UsageError

_FORM = "auto, off or HOST:PORT,COUNT,INDEX, such as node1:62000,4,0"
# Ports above those that systems give to outgoing connections.
_FIRST_PORT, _PORTS = 61440, 4096


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of this process among those that belong together.

    Attributes:
        host: where process 0 runs, as the others reach it.
        port: where process 0 listens.
        count: the number of processes.
        index: of this one, from 0.
        devices: the accelerators of this machine that are this process's, by number; None: all
            that it sees.
        key: the same for the processes that belong together, and for no others, where known.
    """

    host: str
    port: int
    count: int
    index: int
    devices: tuple[int, ...] | None = None
    key: str = ""

    def __str__(self) -> str:
        return f"process {self.index} of {self.count}"


def find(spec: str) -> Place | None:
    """Returns the place of this process, or None where it works alone.

    Args:
        spec: the value of `--distributed`.

    Raises:
        UsageError: it is neither auto nor off, and names no place.
        RunError: there are several processes, and nobody says where process 0 is.
    """
    if spec == "off":
        return None
    if spec == "auto":
        import jax

        del jax  # it completes the environment
    place = _of_cluster(os.environ) if spec == "auto" else parse(spec)
    return place if place is not None and place.count > 1 else None


def check(spec: str) -> None:
    """Raises UsageError where a value of `--distributed` has another form."""
    if spec not in ("auto", "off"):
        parse(spec)


def parse(spec: str) -> Place:
    """Returns the place that HOST:PORT,COUNT,INDEX names.

    Raises:
        UsageError: it has another form, or there is no such place.
    """
    match = re.fullmatch(r"(\S+):(\d{1,5}),(\d{1,6}),(\d{1,6})", spec)
    if match is None:
        raise UsageError(f"--distributed is {_FORM}, not {spec!r}")
    host, (port, count, index) = match[1].strip("[]"), map(int, match.groups()[1:])
    if not 0 < port < 65536:
        raise UsageError(f"--distributed={spec}: a port is a number from 1 to 65535, not {port}")
    if index >= count:
        raise UsageError(
            f"--distributed={spec}: of {count} processes the last has the index {count - 1}"
        )
    return Place(host, port, count, index)


def node() -> str:
    """Returns the name of this machine."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _of_cluster(env: Mapping[str, str]) -> Place | None:
    """Returns the place that the environment tells, or None where it tells none."""
    if "SLURM_STEP_NUM_TASKS" in env:  # srun sets it, and a batch script has none
        return of_slurm(env)
    if int(env.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        return of_open_mpi(env)
    if "KUBERNETES_SERVICE_HOST" in env and "JOB_COMPLETION_INDEX" in env:
        return _of_jax("Kubernetes", "k8s")
    if "TPU_ML_PLATFORM" in env:  # JAX says so, as it is imported on a machine with a TPU
        return _of_jax("a Cloud TPU pod", "tpu")
    return None


def of_slurm(env: Mapping[str, str]) -> Place:
    """Returns the place of a task of a Slurm step."""
    count, index = int(env["SLURM_STEP_NUM_TASKS"]), int(env.get("SLURM_PROCID", 0))
    job, step = int(env.get("SLURM_JOB_ID", 0)), int(env.get("SLURM_STEP_ID", 0))
    nodes = env.get("SLURM_STEP_NODELIST", "localhost")
    # "n1", "n1,n2", "n[1-3,7]", "n[01-03]-ib,m1": the first name.
    match = re.match(r"([^,\[]*)(?:\[(\w+)[^\]]*\])?([^,\[]*)", nodes)
    host = "".join(filter(None, match.groups())) if match else nodes
    port = _FIRST_PORT + (job * 61 + step) % _PORTS
    return Place(host, port, count, index, _gpus_of_task(env), f"slurm {job}.{step}")


def _gpus_of_task(env: Mapping[str, str]) -> tuple[int, ...] | None:
    """Returns which of the visible GPUs a task takes; None: all of them.

    Tasks that share the GPUs of a node share them out evenly. A task that has its node for itself
    takes them all, and so does one to which Slurm has given GPUs of its own.
    """
    shown = env.get("CUDA_VISIBLE_DEVICES") or env.get("ROCR_VISIBLE_DEVICES") or ""
    gpus, tasks = len(list(filter(None, shown.split(",")))), _tasks_on_node(env)
    if tasks == 1 or gpus < tasks or gpus < int(env.get("SLURM_GPUS_ON_NODE", gpus)):
        return None
    each, local = gpus // tasks, int(env.get("SLURM_LOCALID", 0))
    return tuple(range(local * each, (local + 1) * each))


def _tasks_on_node(env: Mapping[str, str]) -> int:
    """Returns how many tasks of the step run on this node: "2(x3),1" is 2, 2, 2 and 1."""
    counts: list[int] = []
    for tasks, times in re.findall(
        r"(\d+)(?:\(x(\d+)\))?", env.get("SLURM_STEP_TASKS_PER_NODE", "1")
    ):
        counts += [int(tasks)] * int(times or 1)
    number = int(env.get("SLURM_NODEID", 0))
    return counts[number] if number < len(counts) else 1


def of_open_mpi(env: Mapping[str, str]) -> Place | None:
    """Returns the place of a process that mpirun started.

    Raises:
        RunError: they run on several machines, and this mpirun does not say where the first is.
    """
    if "OMPI_MCA_orte_hnp_uri" in env:  # Open MPI 4
        return _of_jax("Open MPI", "ompi")
    count, index = int(env["OMPI_COMM_WORLD_SIZE"]), int(env.get("OMPI_COMM_WORLD_RANK", 0))
    if env.get("OMPI_COMM_WORLD_LOCAL_SIZE") != env["OMPI_COMM_WORLD_SIZE"]:
        raise RunError(
            "this version of Open MPI does not say where process 0 runs; give --distributed="
            "HOST:62000,$OMPI_COMM_WORLD_SIZE,$OMPI_COMM_WORLD_RANK with the name of its host"
        )
    job = env.get("PMIX_NAMESPACE", "")
    port = _FIRST_PORT + sum(job.encode()) % _PORTS
    return Place("localhost", port, count, index, None, f"mpi {job}")


def _of_jax(cluster: str, name: str) -> Place | None:
    """Returns the place as JAX finds it out; None: it finds no more than one process.

    Raises:
        RunError: it cannot.
    """
    by_hand = "give --distributed=HOST:PORT,COUNT,INDEX, or --distributed=off to each"
    try:
        # JAX has no public function that finds the others and does not wait for them.
        from jax._src.clusters import ClusterEnv

        address, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, 60
        )
    except Exception as error:  # of JAX, of the network, of Kubernetes' client
        cause = str(error.__cause__ or "").strip()
        reason = " ".join([*str(error).split(), *(cause.splitlines() or [""])[0].split()])
        raise RunError(
            f"{cluster} is seen, and JAX does not find its processes ({reason}); {by_hand}"
        ) from error
    if address is None or count is None or index is None:
        if name == "tpu":  # one machine that belongs to no pod
            return None
        needs = "pip install kubernetes, or " if name == "k8s" else ""
        raise RunError(f"{cluster} is seen, and JAX does not find its processes; {needs}{by_hand}")
    host, _, port = address.rpartition(":")
    chosen = None if devices is None else tuple(devices)
    return Place(host.strip("[]"), int(port), count, index, chosen)
