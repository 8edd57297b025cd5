"""A way to JAX's coordination service that stays open when the service is gone.

JAX's client aborts its process, with a stack trace, in the moment in which the connection to the
service drops. Behind the tunnel it notices nothing, and the process ends in words.
"""

import contextlib
import selectors
import socket
import threading


class Tunnel:
    """Forwards connections to a port of this machine to the service, on a thread of its own.

    Args:
        host: where the service is.
        port: its port there.

    Attributes:
        address: where the tunnel begins, "127.0.0.1:PORT".
    """

    def __init__(self, host: str, port: int):
        self._target = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True, name="tunnel").start()

    def close(self) -> None:
        """Takes no more connections."""
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def _forward(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(self._target, 10)
        except OSError:
            near.close()  # not there yet: the client tries again
            return
        far.settimeout(None)
        with near, far, selectors.DefaultSelector() as ready, contextlib.suppress(OSError):
            ready.register(near, selectors.EVENT_READ, far)
            ready.register(far, selectors.EVENT_READ, near)
            while True:
                for key, _ in ready.select():
                    source: socket.socket = key.fileobj  # pyright: ignore[reportAssignmentType]
                    found = b""
                    with contextlib.suppress(OSError):
                        found = source.recv(1 << 16)
                    if found:
                        key.data.sendall(found)
                    elif source is near:
                        return
                    else:
                        ready.unregister(far)  # the service is gone: say nothing
