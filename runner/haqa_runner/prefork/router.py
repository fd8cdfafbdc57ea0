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
class _Request:
    """A process to be forked, as its requester asked for it; its descriptors are closed with it."""

    connection: socket.socket
    message: dict[str, Any]
    fds: list[int]

    def refuse(self, why: str) -> None:
        with contextlib.suppress(OSError):
            wire.send(self.connection, {"error": why})
        self.close()

    def close(self) -> None:
        self.connection.close()
        for fd in self.fds:
            os.close(fd)


@dataclass
class _Image:
    key: ForkKey
    process: subprocess.Popen[bytes]
    channel: socket.socket
    made: dict[str, str | None] = field(default_factory=dict)
    imported: bool = False
    # Whether it fits them shows when it has imported.
    waiting: list[_Request] = field(default_factory=list)


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
        try:
            message, fds = wire.receive(connection)
        except (OSError, wire.PreforkError) as error:
            _Request(connection, {}, []).refuse(f"{type(error).__name__}: {error}")
            return
        if message is None:
            connection.close()
        else:
            self._route(_Request(connection, message, fds))

    def _route(self, request: _Request) -> None:
        """To the image that fits; one that is still importing and may turn out to has it wait."""
        try:
            wanted = fork_key(request.message["env"], request.message["affinity"])
            image = self._fitting(wanted)
            if image is None and (soon := self._perhaps_fitting(wanted)) is not None:
                soon.waiting.append(request)
                return
            image = image or self._another(wanted, request.message["env"])
            self._images.append(image)
            wire.send(image.channel, request.message, [request.connection.fileno(), *request.fds])
        except (OSError, wire.PreforkError, KeyError) as error:
            request.refuse(f"{type(error).__name__}: {error}")
        else:
            request.close()

    def _fitting(self, wanted: ForkKey) -> _Image | None:
        """The last used that fits, taken out of its place in the line."""
        for image in reversed(self._images):
            if admits(image.key, image.made, wanted):
                self._images.remove(image)
                return image
        return None

    def _perhaps_fitting(self, wanted: ForkKey) -> _Image | None:
        """One that fits if its imports set what those of another have set: they import the same.

        A process that an engine starts inherits what the engine's imports have set, and asks for an image that was
        begun without: beside that one, a second import of the same would take the time of both.
        """
        made: dict[str, str | None] = {}
        for image in self._images:
            made |= image.made
        importing = (image for image in reversed(self._images) if not image.imported)
        return next((image for image in importing if admits(image.key, made, wanted)), None)

    def _another(self, wanted: ForkKey, env: dict[str, str]) -> _Image:
        if len(self._images) >= self._max_images:
            oldest = self._images.pop(0)
            self._retired.append(oldest)
            wire.send(oldest.channel, {"retire": True})
        return self._start_image(wanted, env)

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
            self._route_again(image)
            return
        self._selector.unregister(image.channel)
        image.channel.close()
        for images in (self._images, self._retired):
            if image in images:
                images.remove(image)
        self._route_again(image)
        image.process.wait(timeout=_END_S)

    def _route_again(self, image: _Image) -> None:
        """What has waited for it, now that it is known what it is."""
        waiting, image.waiting = image.waiting, []
        for request in waiting:
            self._route(request)

    def _close(self) -> None:
        images = [*self._images, *self._retired]
        for image in images:
            for request in image.waiting:
                request.close()
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
