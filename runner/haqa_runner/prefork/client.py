"""The caller's side: start the router, launch programs, hold them like subprocess.Popen does."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from haqa_runner.prefork import wire

_PACKAGE_ROOT = Path(__file__).parents[2]


class PreforkedProcess:
    """A launched program, and the process group that it leads.

    Signals go to the whole group. When the program ends, what is left of its group is killed a
    moment later (`linger_s` of the launcher). A process that nobody holds any more is killed.
    """

    def __init__(self, args: Sequence[str], pid: int, connection: socket.socket) -> None:
        self.args = list(args)
        self.pid = pid
        self.returncode: int | None = None
        self._connection = connection
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit code, or -N if signal N ended it; None while it runs."""
        with self._lock:
            if self.returncode is None and wire.readable(self._connection, 0):
                reply, _ = wire.receive(self._connection)
                # No reply: the image was killed, and the kernel killed its children with it.
                self.returncode = int(reply["exit"]) if reply else -signal.SIGKILL
                self._connection.close()
            return self.returncode

    def wait(self, timeout: float) -> int:
        """The exit code; subprocess.TimeoutExpired after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise subprocess.TimeoutExpired(self.args, timeout)
            with contextlib.suppress(ValueError):  # another thread saw it end and closed
                wire.readable(self._connection, left_s)
        return code

    def send_signal(self, number: int) -> None:
        """Signal the group; nothing happens if the program has ended."""
        # By way of the image, which knows whether the number still belongs to this process.
        if self.poll() is None:
            with contextlib.suppress(OSError):
                wire.send(self._connection, {"signal": int(number)})

    def terminate(self) -> None:
        """SIGTERM to the group."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the group."""
        self.send_signal(signal.SIGKILL)


class PreforkedLauncher:
    """Launches modules from preloaded interpreters of the environment that `python` belongs to.

    `preload` names modules that the programs import (not the programs themselves). `max_images`
    bounds the interpreters kept, one for each environment seen (forkkey.py); vLLM's take 0.6 GiB.
    `linger_s` is how long the processes that a program leaves behind may outlive it.
    """

    def __init__(self, python: Path, preload: Sequence[str], max_images: int = 6, linger_s: float = 2.0) -> None:
        self.python = python
        self.preload = list(preload)
        self.max_images = max_images
        self.linger_s = linger_s
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._router: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def start(self, timeout_s: float = 30.0) -> None:
        """Start the router. It imports nothing yet: see `warm`."""
        if self._router is not None:
            return
        # A short path: a Unix socket's may have 107 characters.
        self._directory = tempfile.TemporaryDirectory(prefix="haqa-prefork-", dir="/tmp")
        command = [os.fspath(self.python), "-m", "haqa_runner.prefork", "--socket", self._socket_path]
        command += ["--max-images", str(self.max_images), "--linger-s", str(self.linger_s)]
        command.append("--own-folder")
        for name in self.preload:
            command += ["--preload", name]
        with open(self._log_path, "wb") as log:
            self._router = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": os.fspath(_PACKAGE_ROOT)},
                stdin=subprocess.PIPE,  # its end tells the router that this process is gone
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                wire.connect(self._socket_path, timeout_s).close()
                return
            except OSError as error:
                if self._router.poll() is not None or time.monotonic() > deadline:
                    message = f"the prefork router of {self.python} did not start: {self._log_tail()}"
                    self.close()
                    raise wire.PreforkError(message) from error
                time.sleep(0.01)

    def warm(self, env: Mapping[str, str], timeout_s: float = 300.0) -> float:
        """Have an image for `env` ready; the seconds that its imports took."""
        with self._request({"warm": True, "env": dict(env)}, [], timeout_s) as connection:
            reply = self._reply(connection, timeout_s)
            if reply is None or "import_s" not in reply:
                raise self._failure(f"no image: {reply}")
            return float(reply["import_s"])

    def launch(
        self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path, timeout_s: float = 300.0
    ) -> PreforkedProcess:
        """Run the module `argv[0]` as __main__ with arguments `argv[1:]`, output appended to `log`.

        `env` is its whole environment. Waits for an image if there is none for `env` yet. Raises
        PreforkError if it could not be forked.
        """
        if not cwd.is_dir():
            raise NotADirectoryError(f"cwd {cwd} is not a directory")
        request = {"argv": list(argv), "env": dict(env), "cwd": os.fspath(cwd), "fds": [0, 1, 2], "join": False}
        with open(os.devnull, "rb") as null, open(log, "ab") as out:
            connection = self._request(request, [null.fileno(), out.fileno(), out.fileno()], timeout_s)
        try:
            pid = wire.pid_of(self._reply(connection, timeout_s))
        except wire.PreforkError as error:
            connection.close()
            raise self._failure(str(error)) from error
        connection.settimeout(None)
        return PreforkedProcess(argv, pid, connection)

    def close(self, timeout_s: float = 15.0) -> None:
        """End the router and everything that was launched; returns when nothing of it runs."""
        if self._router is not None:
            if self._router.stdin is not None:
                self._router.stdin.close()
            try:
                self._router.wait(timeout_s)
            except subprocess.TimeoutExpired:  # the images notice, and end their children
                self._router.kill()
                self._router.wait(timeout_s)
            self._router = None
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def _request(self, request: dict[str, object], fds: Sequence[int], timeout_s: float) -> socket.socket:
        if self._router is None:
            raise wire.PreforkError("the launcher is not started: call start() first")
        request["affinity"] = sorted(os.sched_getaffinity(0))
        try:
            connection = wire.connect(self._socket_path, timeout_s)
        except OSError as error:
            raise self._failure("the prefork router is gone") from error
        try:
            wire.send(connection, request, fds)
        except BaseException:
            connection.close()
            raise
        return connection

    def _reply(self, connection: socket.socket, timeout_s: float) -> dict[str, Any] | None:
        try:
            return wire.receive(connection)[0]
        except TimeoutError as error:
            connection.close()
            raise self._failure(f"no process after {timeout_s:g} s") from error

    def _failure(self, what: str) -> wire.PreforkError:
        return wire.PreforkError(f"{what}\n{self._log_tail()}".rstrip())

    def _log_tail(self) -> str:
        with contextlib.suppress(OSError):
            return Path(self._log_path).read_text(errors="replace")[-2000:]
        return ""

    @property
    def _socket_path(self) -> str:
        return f"{self._directory.name}/socket" if self._directory else ""

    @property
    def _log_path(self) -> str:
        return f"{self._directory.name}/log" if self._directory else ""
