"""Several processes that train one network together, on JAX's own runtime.

`joined` brings them together and watches over them; within it `team` says who they are. What is
computed does not depend on it: arrays are those of all devices (see `cnn_jax.distributed`).
"""

import atexit
import contextlib
import os
import pathlib
import secrets
import sys
from collections.abc import Callable, Iterator
from typing import Any

from cnn_jax import text
from cnn_jax.errors import RunError, UsageError, UserError
from cnn_jax.processes import clusters, star
from cnn_jax.processes.clusters import Place
from cnn_jax.processes.failing import in_words
from cnn_jax.processes.star import Link
from cnn_jax.processes.team import Team
from cnn_jax.processes.tunnel import Tunnel

# What a process waits for the others at the start: a large cluster starts slowly.
WAIT_SECONDS = 600.0
# JAX's own watch ends a process with a stack trace. Ours is faster, and ends it with a line.
_JAX_HEARTBEAT_SECONDS = 600
_JAX_SHUTDOWN_SECONDS = 3600


class Alone:
    """Stands in for the team where this process works alone."""

    count, index, is_first = 1, 0, True
    machines: tuple[dict[str, int], ...] = ()

    def name_of(self, index: int) -> str:
        """Returns "this process"."""
        del index
        return "this process"

    def agree(self, make: Callable[[], Any]) -> Any:
        """Returns what `make` returns."""
        return make()

    def gather(self, value: Any, limit: float = 0.0) -> list[Any]:
        """Returns the value in a list."""
        del limit
        return [value]

    def decide(self, what: str, make: Callable[[], Any]) -> Any:
        """Returns what `make` returns."""
        del what
        return make()

    def expect_end(self, error: BaseException) -> None:
        """Does nothing: nobody else waits."""

    def first(self) -> contextlib.AbstractContextManager[None]:
        """Leaves what is within as it is."""
        return contextlib.nullcontext()


# Who works together is a state of the process, as JAX's own is: no result depends on it.
_team: Team | Alone = Alone()


def team() -> Team | Alone:
    """Returns the processes that this one works with."""
    return _team


@contextlib.contextmanager
def joined(
    spec: str = "auto",
    limit: float = WAIT_SECONDS,
    say: Callable[[str], None] | None = None,
) -> Iterator[Team | Alone]:
    """Brings the processes together, before JAX looks for devices; within they are a `team`.

    Where one of them ends with an error, is killed, or its machine fails, the others end as well.

    Args:
        spec: "auto": those of the Slurm step, of mpirun, of a Kubernetes job or a Cloud TPU pod,
            where there are several; "off": this process alone; or HOST:PORT,COUNT,INDEX.
        limit: seconds to wait for the others.
        say: shows a line to whoever waits for long; None: nothing is said.

    Raises:
        UsageError: `spec` has another form, JAX runs already, or two processes have one place.
        RunError: one of them did not come in time.
    """
    global _team
    place = clusters.find(spec)
    if place is None:
        yield _team
        return
    if _team.count > 1:
        raise UsageError("the processes have joined already; join them once, around everything")
    links, told = star.meet(place, limit, say or (lambda line: None))
    made = Team(place, links, told["nodes"])
    ends: list[Callable[[], object]] = [made.leave]
    try:
        ends += _start_jax(place, links, told["service"], limit)
        _team = made
        yield made
    except BaseException as error:
        if not getattr(error, "is_agreed", False):  # else all of them have stopped here
            first = made.failed_first(error)
            _fail(made, first or error)
            if first is not None:
                raise first from error
            raise
        _end(ends)
        raise
    else:
        _end(ends)
    finally:
        _team = Alone()


def _end(ends: list[Callable[[], object]]) -> None:
    for end in reversed(ends):
        end()


def _start_jax(
    place: Place, links: list[Link], port: int, limit: float
) -> list[Callable[[], object]]:
    """Starts JAX's runtime of several processes; returns what ends it, the last first."""
    import jax

    settings: Any = jax.config
    settings.update("jax_enable_preemption_service", False)  # it takes SIGTERM, and no other
    settings.update("jax_check_proxy_envs", False)
    direct = "no_grpc_proxy"  # gRPC reads small letters
    proxies = os.environ.get(direct) or os.environ.get(direct.replace("_grpc", ""))
    os.environ[direct] = ",".join(filter(None, [proxies, "127.0.0.1"]))
    address, ends = f"127.0.0.1:{port}", []
    if place.index:
        tunnel = Tunnel(links[0].socket.getpeername()[0], port)
        address, ends = tunnel.address, [tunnel.close]
    try:
        jax.distributed.initialize(
            address,
            place.count,
            place.index,
            None if place.devices is None else list(place.devices),
            cluster_detection_method="deactivate",
            initialization_timeout=int(limit),
            heartbeat_timeout_seconds=_JAX_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_JAX_SHUTDOWN_SECONDS,
            coordinator_bind_address=f"[::]:{port}",
        )
    except RuntimeError as error:
        if "before" not in str(error):
            raise
        raise UsageError(
            "JAX runs in this process already: join the processes before the first computation"
        ) from error
    return [*ends, jax.distributed.shutdown]


def _fail(made: Team, error: BaseException) -> None:
    """Ends this process after an error that the others do not have, or have as well."""
    code = error.exit_code if isinstance(error, UserError) else 1
    if isinstance(error, KeyboardInterrupt):
        code = 130
    elif not isinstance(error, UserError | OSError):
        made.wait_for_word()  # where it is the loss of another one that comes out as an error here
    made.fail(code, in_words(error))
    atexit.register(_leave, code)


def _leave(code: int) -> None:
    """Ends the process; JAX would wait for the others."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def meet_on_devices(machine: Callable[[], dict[str, int]]) -> None:
    """Lets the devices of all processes talk for the first time, and exchanges what they have.

    Args:
        machine: returns what this process has, for the team's `machines`; also its "devices".

    Raises:
        UsageError: they have different numbers of devices.
        RunError: they do not reach each other.
    """
    if isinstance(_team, Alone) or _team.machines:
        return
    machines = _team.gather(machine())
    counts = [each["devices"] for each in machines]
    if len(set(counts)) > 1:
        other = next(i for i, count in enumerate(counts) if count != counts[0])
        raise UsageError(
            f"{_team.name_of(0)} has {text.plural(counts[0], 'device')} and {_team.name_of(other)} "
            f"has {counts[other]}: give each process the same number"
        )
    with _without_stdout():  # Gloo reports each connection there
        try:
            _talk()
        except (ValueError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RunError(
                f"the devices of the {_team.count} processes do not reach each other: {reason}; "
                "does the name of each machine lead to an address that the others can reach, "
                "and no firewall stand between them?"
            ) from error
    _team.machines = machines


def _talk() -> None:
    """Lets devices connect, each with that of its number, and all with all."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    multihost_utils.sync_global_devices("the first word")
    mesh = Mesh(jax.devices(), ("all",))
    each = NamedSharding(mesh, PartitionSpec("all"))
    ones = jax.make_array_from_callback((mesh.size,), each, lambda index: np.ones(1))
    whole = NamedSharding(mesh, PartitionSpec())
    jax.block_until_ready(jax.jit(lambda x: x.sum(), out_shardings=whole)(ones))


def who_sees(folder: pathlib.Path) -> list[bool]:
    """Returns, for each process, whether it sees this folder of process 0.

    All of them call it. Nobody sees a folder in which process 0 may not write.
    """
    if isinstance(_team, Alone):
        return [True]
    name = f".cnn_jax-{secrets.token_hex(8)}"
    name = _team.agree(lambda: name)
    try:
        if _team.is_first:
            with contextlib.suppress(OSError):
                (folder / name).touch()
        _team.agree(lambda: True)
        return _team.gather((folder / name).exists())
    finally:
        if _team.is_first:
            with contextlib.suppress(OSError):
                (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _without_stdout() -> Iterator[None]:
    """Within, what libraries write to file descriptor 1 is not shown."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
