"""Messages between process 0 and each of the others: lines of JSON over TCP.

JAX's coordination service ends a process by an abort and a stack trace when another one does not
come, is killed or fails. So the processes have a road of their own, and end in words first.
"""

import contextlib
import errno
import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from cnn_jax import system
from cnn_jax.errors import RunError, UsageError
from cnn_jax.processes.clusters import Place, node

Message = dict[str, Any]
_LONGEST = 1 << 24  # bytes of a message
_SEND_SECONDS = 20.0


class Link:
    """One end of a connection.

    Attributes:
        socket: it.
        index: of the process at the other end; None: it has not said so.
        node: the machine of that process.
    """

    def __init__(self, connection: socket.socket, index: int | None = None, name: str = ""):
        self.socket, self.index, self.node = connection, index, name
        connection.settimeout(_SEND_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Sends a message; one to a process that has gone is lost."""
        with self._lock, contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[Message] | None:
        """Returns the messages that have come; None: the other end is closed, or talks nonsense."""
        try:
            found = self.socket.recv(1 << 16)
        except OSError:
            return None
        *lines, self._rest = (self._rest + found).split(b"\n")
        if not found or len(self._rest) > _LONGEST:
            return None
        try:
            messages = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            return None
        return messages if all(isinstance(each, dict) for each in messages) else None

    def close(self) -> None:
        """Closes it."""
        with contextlib.suppress(OSError):
            self.socket.close()


def meet(
    place: Place, limit: float, say: Callable[[str], None]
) -> tuple[list[Link], dict[str, Any]]:
    """Waits until all processes are there.

    Args:
        place: of this process.
        limit: seconds to wait.
        say: shows a line to whoever waits for long.

    Returns:
        The links to the others (process 0) or to process 0 alone (the others), and what process 0
        tells the others: {"nodes": the machine of each process, "service": a free port of it}.

    Raises:
        RunError: one of them did not come in time, or this machine cannot listen there.
        UsageError: another process has this one's place.
    """
    return _gather(place, limit, say) if place.index == 0 else _join(place, limit)


def _gather(
    place: Place, limit: float, say: Callable[[str], None]
) -> tuple[list[Link], dict[str, Any]]:
    """Takes the calls of the other processes."""
    # Many systems let a process open 1,024 files unless it asks, and JAX's service has a connection
    # to each of the others as well.
    system.raise_limit("RLIMIT_NOFILE", 3 * place.count + 512)
    until, hint = time.monotonic() + limit, time.monotonic() + 10
    links: dict[int, Link] = {}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(_listen(place))
        waiting = stack.enter_context(selectors.DefaultSelector())
        waiting.register(server, selectors.EVENT_READ)
        while len(links) < place.count - 1:
            missing = _numbers(set(range(1, place.count)) - links.keys(), place.count)
            if time.monotonic() > until:
                for link in links.values():
                    link.send({"refused": f"{missing} did not come", "code": 1})
                for key in list(waiting.get_map().values()):
                    key.fileobj.close()  # pyright: ignore[reportAttributeAccessIssue]
                raise RunError(
                    f"{missing} did not come within {limit:.0f} s to {place.host}:{place.port}; "
                    "look at what it says where it was started, and start all of them again"
                )
            if time.monotonic() > hint:
                say(f"waiting for {missing}")
                hint = float("inf")
            for key, _ in waiting.select(0.5):
                if key.fileobj is server:
                    with contextlib.suppress(OSError):
                        link = Link(server.accept()[0])
                        waiting.register(link.socket, selectors.EVENT_READ, link)
                    continue
                link = key.data
                messages = link.receive()
                if messages is None:  # a stranger, or one that was killed while it waited
                    waiting.unregister(link.socket)
                    link.close()
                    if link.index is not None:
                        del links[link.index]
                elif messages and link.index is None:
                    _take(place, link, messages[0], links)
        with socket.create_server(("", 0)) as free:
            service = free.getsockname()[1]
        nodes = [node(), *(links[i].node for i in range(1, place.count))]
        told = {"nodes": nodes, "service": service}
        for link in links.values():
            link.send(told)
        return [links[i] for i in sorted(links)], told


def _take(place: Place, link: Link, hello: Message, links: dict[int, Link]) -> None:
    """Takes a process in, or says why not."""
    index, count = hello.get("index"), hello.get("count")
    if hello.get("key") != place.key or not isinstance(index, int) or not isinstance(count, int):
        link.send({"refused": f"{place.host}:{place.port} is of other processes", "code": 1})
    elif count != place.count or not 0 < index < count:
        link.send(
            {"refused": f"process 0 is one of {place.count}, and this is one of {count}", "code": 2}
        )
    elif index in links:
        link.send({"refused": f"there is a process {index} already", "code": 2})
    else:
        link.index, link.node = index, str(hello.get("node"))
        links[index] = link


def _listen(place: Place) -> socket.socket:
    try:
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        return socket.create_server(
            ("", place.port), family=family, dualstack_ipv6=both, backlog=128
        )
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "another program listens there" if taken else str(error.strerror)
        raise RunError(
            f"{place} cannot listen at port {place.port} of {node()}: {why}; "
            f"give another one: --distributed=HOST:PORT,{place.count},INDEX"
        ) from error


def _join(place: Place, limit: float) -> tuple[list[Link], dict[str, Any]]:
    """Calls process 0, again and again until it is there."""
    until = time.monotonic() + limit
    reason = "it ended before all were there"
    while (left := until - time.monotonic()) > 0:
        try:
            connection = socket.create_connection((place.host, place.port), min(left, 10))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            time.sleep(min(0.2, left))
            continue
        link = Link(connection, 0)
        hello = {"index": place.index, "count": place.count, "node": node(), "key": place.key}
        link.send(hello)
        connection.settimeout(max(1.0, until - time.monotonic() + 10))
        messages: list[Message] | None = []
        while messages == []:
            messages = link.receive()
        if messages is None:
            link.close()
            time.sleep(0.2)
            continue
        told = messages[0]
        if "refused" in told:
            link.close()
            kind = UsageError if told.get("code") == 2 else RunError
            raise kind(f"{place} was not taken in by process 0: {told['refused']}")
        connection.settimeout(_SEND_SECONDS)
        return [link], told
    raise RunError(
        f"{place} on {node()} did not reach process 0 at {place.host}:{place.port} within "
        f"{limit:.0f} s: {reason}{_loopback(place)}"
    )


def _loopback(place: Place) -> str:
    """Returns a note where the name of process 0's machine leads back to this one."""
    with contextlib.suppress(OSError):
        address = socket.gethostbyname(place.host)
        if address.startswith("127."):
            return f" (on this machine {place.host} is {address}, which is this machine itself)"
    return ""


def _numbers(indices: Iterable[int], count: int) -> str:
    """Returns "process 1 of 2", "processes 1, 2, 3, ... of 64"."""
    found = sorted(indices)
    some = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
    return f"process{'es' if len(found) > 1 else ''} {some} of {count}"
