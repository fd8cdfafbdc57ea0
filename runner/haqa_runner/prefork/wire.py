"""The packets that client, router, image and forked process exchange.

SOCK_SEQPACKET keeps one request and the file descriptors that belong to it in one indivisible
packet, so nobody has to frame a stream or to guess which descriptors came with which request.
"""

import array
import errno
import json
import select
import socket
from collections.abc import Sequence
from typing import Any

MAX_PACKET_BYTES = 1 << 20
MAX_FDS = 250  # SCM_MAX_FD of Linux is 253


class PreforkError(RuntimeError):
    """A process could not be forked; starting it the ordinary way is still possible."""


def send(sock: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
    """Send one packet. Raises OSError if the other side is gone, PreforkError if it is too big."""
    data = json.dumps(message).encode()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        sock.sendmsg([data], rights, socket.MSG_NOSIGNAL)
    except OSError as error:
        if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
            raise
        raise PreforkError(
            f"a request of {len(data)} bytes does not fit a packet (most of it is the "
            "environment); unset large variables or raise net.core.wmem_max"
        ) from error


def receive(sock: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next packet and its descriptors; None when the other side is gone.

    Raises what the socket raises when it is non-blocking or has a timeout.
    """
    try:
        data, fds, flags, _ = socket.recv_fds(sock, MAX_PACKET_BYTES, MAX_FDS)
    except ConnectionError:
        return None, []
    if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
        raise PreforkError(f"a packet of more than {MAX_PACKET_BYTES} bytes or {MAX_FDS} fds")
    return (json.loads(data) if data else None), list(fds)


def readable(sock: socket.socket, timeout_s: float | None) -> bool:
    """Wait until a packet or the end is there. ValueError if the socket is closed.

    Not select.select, which fails in a process with more than 1024 descriptors.
    """
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(None if timeout_s is None else timeout_s * 1000))


def connect(path: str, timeout_s: float) -> socket.socket:
    """A connection to the router listening at `path`."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.settimeout(timeout_s)
    try:
        # The default (200 KB) is less than some environments take.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_PACKET_BYTES)
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def pid_of(reply: dict[str, Any] | None) -> int:
    """The pid in an image's first reply; PreforkError if it has none."""
    if reply is None:
        raise PreforkError("the image ended before it could fork; the prefork log says why")
    if "pid" not in reply:
        raise PreforkError(str(reply.get("error", reply)))
    return int(reply["pid"])
