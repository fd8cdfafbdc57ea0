"""Keeps one image per distinct environment and hands each request to the image that fits it.

It imports nothing and forks nothing itself. It ends, and with it every image and every process
forked from one, when its standard input closes, which the kernel does even for a caller that was
killed with SIGKILL.
"""

import contextlib
import os
import selectors
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from haqa_runner.prefork import wire
from haqa_runner.prefork.forkkey import ForkKey, admits, fork_key

# For an image that has nothing left to do but end.
_END_S = 5.0
# -c rather than -m, so that the package is not left on the path of the programs that it runs.
_START_IMAGE = (
    "import sys; root = sys.argv.pop(1); sys.path.insert(0, root); "
    "from haqa_runner.prefork.image import main; sys.path.remove(root); "
    "'' in sys.path and sys.path.remove(''); main(sys.argv[1:])"
)


@dataclass
class _Image:
    key: ForkKey
    process: subprocess.Popen[bytes]
    channel: socket.socket
    made: dict[str, str | None] = field(default_factory=dict)
    imported: bool = False


class Router:
    """Listens at `path` (mode 0600) and serves until standard input closes."""

    def __init__(self, path: Path, preload: Sequence[str], max_images: int, linger_s: float) -> None:
        self._path = path
        self._preload = list(preload)
        self._max_images = max_images
        self._linger_s = linger_s
        self._images: list[_Image] = []  # least recently used first
        self._retired: list[_Image] = []  # run until their last child has ended
        self._selector = selectors.EpollSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        umask = os.umask(0o177)
        try:
            self._listener.bind(os.fspath(path))
        finally:
            os.umask(umask)
        self._listener.listen(64)

    def serve(self) -> None:
        """Route until the caller is gone, then end every image."""
        try:
            self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        except PermissionError as error:
            raise wire.PreforkError(
                "standard input must be a pipe or a terminal: that it closes tells when the caller is gone"
            ) from error
        self._selector.register(self._listener, selectors.EVENT_READ, self._listener)
        try:
            while True:
                for key, _ in self._selector.select():
                    if key.data is None:
                        if not os.read(key.fd, 4096):
                            return
                    elif key.data is self._listener:
                        connection, _ = self._listener.accept()
                        self._selector.register(connection, selectors.EVENT_READ, connection)
                    elif isinstance(key.data, _Image):
                        self._on_image(key.data)
                    else:
                        self._on_request(key.data)
        finally:
            self._close()

    def _on_request(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        fds: list[int] = []
        with connection:
            try:
                message, fds = wire.receive(connection)
                if message is not None:
                    image = self._image_for(message)
                    wire.send(image.channel, message, [connection.fileno(), *fds])
            except (OSError, wire.PreforkError, KeyError) as error:
                with contextlib.suppress(OSError):
                    wire.send(connection, {"error": f"{type(error).__name__}: {error}"})
            finally:
                for fd in fds:
                    os.close(fd)

    def _image_for(self, message: dict[str, Any]) -> _Image:
        wanted = fork_key(message["env"], message["affinity"])
        for image in reversed(self._images):
            if admits(image.key, image.made, wanted):
                self._images.remove(image)
                break
        else:
            if len(self._images) >= self._max_images:
                oldest = self._images.pop(0)
                self._retired.append(oldest)
                wire.send(oldest.channel, {"retire": True})
            image = self._start_image(wanted, message["env"])
        self._images.append(image)
        return image

    def _start_image(self, key: ForkKey, env: dict[str, str]) -> _Image:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # A full channel (an image that is still importing) must not stop the router.
            ours.setblocking(False)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, wire.MAX_PACKET_BYTES)
            root = os.fspath(Path(__file__).parents[2])
            arguments = [root, str(theirs.fileno()), os.fspath(self._path), str(self._linger_s), *self._preload]
            process = subprocess.Popen(
                [sys.executable, "-c", _START_IMAGE, *arguments],
                env=env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                process_group=0,
                # The router has one thread, which is what preexec_fn needs to be safe.
                preexec_fn=lambda: os.sched_setaffinity(0, key.affinity),
            )
        image = _Image(key, process, ours)
        self._selector.register(ours, selectors.EVENT_READ, image)
        return image

    def _on_image(self, image: _Image) -> None:
        message, _ = wire.receive(image.channel)
        if message is not None:
            image.made, image.imported = message["made"], True
            return
        self._selector.unregister(image.channel)
        image.channel.close()
        for images in (self._images, self._retired):
            if image in images:
                images.remove(image)
        image.process.wait(timeout=_END_S)

    def _close(self) -> None:
        images = [*self._images, *self._retired]
        for image in images:
            if image.imported:
                image.channel.close()  # has it end its children
            else:  # it would not notice, and has none
                image.process.kill()
        for image in images:
            try:
                image.process.wait(timeout=self._linger_s + _END_S)
            except subprocess.TimeoutExpired:  # the kernel ends its children
                image.process.kill()
                image.process.wait(timeout=_END_S)
        self._listener.close()
        self._path.unlink(missing_ok=True)
