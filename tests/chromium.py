"""A headless Chromium for tests, driven over its own debugging pipe; needs the `chromium` program and nothing else."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_FIRST_FREE_FD = 10
_TIMEOUT_S = 60.0


@dataclass
class Tab:
    """One page, and what happened on it.

    Attributes:
        complaints: Errors, exceptions, and everything that was written to the console.
        requests: Addresses that the page asked for, its own among them.
    """

    browser: Browser
    target: str
    session: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def close(self) -> None:
        self.browser.call("Target.closeTarget", targetId=self.target)

    def open(self, path: Path) -> None:
        """Loads a file and waits until its plots are drawn."""
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete' && document.documentElement.dataset.plots === 'drawn'")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until a JavaScript expression is true; checked at every frame of the page's own clock."""
        deadline = time.monotonic() + _TIMEOUT_S
        while not self.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"still not: {condition}; {self.complaints}"
            self.evaluate("new Promise(done => setTimeout(done, 20))")

    def emulate(self, *, width: int = 1280, height: int = 900, dark: bool = False, media: str = "screen") -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def screenshot(self) -> str:
        """The whole page as a PNG in base64."""
        data: str = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        return data

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **parameters)

    def heard(self, event: dict[str, Any]) -> None:
        parameters = event["params"]
        match event["method"]:
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(parameters["exceptionDetails"])[:500])
            case "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(parameters["args"])[:500])
            case "Log.entryAdded":
                self.complaints.append(parameters["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Page.javascriptDialogOpening":
                self.complaints.append(f"dialog: {parameters['message']}")


class Browser:
    """Chromium with a profile of its own, ended with the `with` block."""

    def __enter__(self) -> Self:
        program = shutil.which("chromium")
        assert program, "no chromium on this machine; install Debian's package of that name"
        self._profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        theirs_in, self._write = os.pipe()
        self._read, theirs_out = os.pipe()
        self._process = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(3, 4),
            preexec_fn=_as_three_and_four(theirs_in, theirs_out),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer = b""
        self._number = 0
        self._tabs: dict[str, Tab] = {}
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call("Browser.close")
            self._process.wait(timeout=10)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait(timeout=10)
        os.close(self._read)
        os.close(self._write)
        self._profile.cleanup()

    def tab(self) -> Tab:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = self._tabs[session] = Tab(self, target, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        return tab

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            answer = self._next(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            if "method" in answer and answer.get("sessionId") in self._tabs:
                self._tabs[answer["sessionId"]].heard(answer)

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "Chromium does not answer"
            chunk = os.read(self._read, 1 << 20)
            assert chunk, "Chromium has ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


def _as_three_and_four(read: int, write: int) -> Callable[[], None]:
    """The debugging pipe is file descriptors 3 and 4 of the browser, whatever they are here."""

    def move() -> None:
        high_read = fcntl.fcntl(read, fcntl.F_DUPFD, _FIRST_FREE_FD)
        high_write = fcntl.fcntl(write, fcntl.F_DUPFD, _FIRST_FREE_FD)
        os.dup2(high_read, 3)
        os.dup2(high_write, 4)

    return move
