"""A line to the API server that freezes, delays and drops: TCP passed on byte for byte, TLS being the server's own.

What is frozen stays open: neither end hears that the other is silent, as where a firewall has forgotten a connection.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import yaml

_CHUNK_BYTES = 1 << 16
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset and not what is left."""


@dataclass(eq=False)
class _Connection:
    """Two sockets and whether bytes still go from one to the other."""

    near: socket.socket
    far: socket.socket
    flows: threading.Event = field(default_factory=threading.Event)

    def drop(self) -> None:
        for end in (self.near, self.far):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            # A thread that waits in recv holds the socket open: shutting it down wakes that thread.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                end.close()
        self.flows.set()


class BadLine:
    """Use as a context manager.

    Args:
        kubeconfig: Of the API server.
        folder: For the kubeconfig of this line, which is made in it.

    Attributes:
        delay_s: What every answer takes longer.
    """

    def __init__(self, kubeconfig: Path, folder: Path) -> None:
        self.delay_s = 0.0
        self._connections: set[_Connection] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        address = urlsplit(cluster["server"])
        self._far = (str(address.hostname), int(address.port or 443))
        # The certificate is for the server's own name.
        cluster["tls-server-name"] = cluster.get("tls-server-name", address.hostname)
        cluster["server"] = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self.kubeconfig = folder / "bad-line.kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.drop()

    @property
    def open(self) -> int:
        """Connections there are."""
        return len(self._connections)

    def freeze(self) -> int:
        """Nothing more comes through what is open now; what is opened later is fine. How many those are."""
        with self._lock:
            for connection in self._connections:
                connection.flows.clear()
            return len(self._connections)

    def drop(self) -> int:
        """Resets what is open; how many those are."""
        with self._lock:
            dropped = list(self._connections)
            self._connections.clear()
        for connection in dropped:
            connection.drop()
        return len(dropped)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(self._far, timeout=10)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                connection = _Connection(near, far)
                connection.flows.set()
                with self._lock:
                    self._connections.add(connection)
                for source, sink, slow in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._copy, args=(connection, source, sink, slow), daemon=True).start()

    def _copy(self, connection: _Connection, source: socket.socket, sink: socket.socket, slow: bool) -> None:
        with suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                if slow and self.delay_s:
                    time.sleep(self.delay_s)
                connection.flows.wait()
                sink.sendall(chunk)
        if connection.flows.is_set():
            with self._lock:
                self._connections.discard(connection)
            connection.drop()
