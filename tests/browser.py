"""Starts a headless Chromium and a TensorBoard, for tests and screenshots."""

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from websockets.sync import client

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # root in a container needs it; the pages are our own
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--use-angle=swiftshader",  # WebGL without a graphics card
    "--enable-unsafe-swiftshader",
    "--remote-debugging-port=0",
)
_PATIENCE = float(os.environ.get("BROWSER_PATIENCE", "60"))  # seconds to wait for anything


def until(condition: Callable[[], Any], what: str) -> Any:
    """Calls a condition until its value is true, and returns that value.

    Raises:
        TimeoutError: it stayed false for too long (BROWSER_PATIENCE); the message is `what`.
    """
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.1)
    raise TimeoutError(what)


class Page:
    """Drives a tab by the DevTools protocol.

    Attributes:
        errors: errors, exceptions and refused content in the console of the page.
        requests: the addresses that the page requested.
    """

    def __init__(self, socket: client.ClientConnection):
        self._socket = socket
        self._number = 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Calls a method of the protocol and returns its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=_PATIENCE))
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        kind, content = message["method"], message["params"]
        if kind == "Network.requestWillBeSent":
            self.requests.append(content["request"]["url"])
        elif kind == "Runtime.exceptionThrown":
            self.errors.append(str(content["exceptionDetails"]))
        elif kind == "Runtime.consoleAPICalled" and content["type"] in ("error", "assert"):
            self.errors.append(str(content["args"]))
        elif kind == "Log.entryAdded" and content["entry"]["level"] == "error":
            self.errors.append(content["entry"]["text"])

    def size(self, width: int, height: int, mobile: bool = False) -> None:
        """Sets the size of the view, in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def go(self, address: str) -> None:
        """Opens an address and waits until the page is loaded."""
        self.call("Page.navigate", url=address)
        until(lambda: self.evaluate("document.readyState") == "complete", address)

    def evaluate(self, script: str) -> Any:
        """Returns the value of an expression, which must be JSON; waits for promises."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """Waits until an expression is true; returns its value."""
        return until(lambda: self.evaluate(script), script)

    def mouse(self, selector: str, click: bool = False) -> None:
        """Moves the mouse to the middle of an element, and clicks there."""
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            "return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mouseMoved", *(("mousePressed", "mouseReleased") if click else ())):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def png(self) -> bytes:
        """Returns a picture of the view."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def pdf(self) -> bytes:
        """Returns the page as a print in PDF."""
        return base64.b64decode(self.call("Page.printToPDF")["data"])


@contextlib.contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """Starts a browser, yields a tab, and ends it.

    Args:
        profile: an empty directory for the browser.
    """
    assert CHROMIUM is not None
    with _process([CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]):
        said = profile / "DevToolsActivePort"
        port = until(lambda: said.exists() and said.read_text().split("\n")[0], "Chromium")
        new = urllib.request.Request(f"http://127.0.0.1:{port}/json/new", method="PUT")
        with urllib.request.urlopen(new, timeout=_PATIENCE) as answer:
            address = json.load(answer)["webSocketDebuggerUrl"]
        with client.connect(address, max_size=None) as socket:
            yield Page(socket)


@contextlib.contextmanager
def tensorboard(logdir: Path, log: Path) -> Iterator[str]:
    """Starts TensorBoard on a free port, yields its address, and ends it.

    Args:
        logdir: the directory that it shows.
        log: the file for its output.
    """
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={logdir}"]
    command += ["--host=127.0.0.1", "--port=0", "--reload_interval=1"]
    with log.open("wb") as file, _process(command, stdout=file, stderr=file):
        found = until(lambda: re.search(r"http://\S+?:\d+", log.read_text()), "TensorBoard")
        yield found[0]


@contextlib.contextmanager
def _process(command: list[str], **files: Any) -> Iterator[None]:
    """Runs a command, and ends it together with all processes that it started."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **files}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **quiet)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()
