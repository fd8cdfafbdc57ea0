"""An HTTP server on this machine that answers from a thread of its own, over TLS where a certificate is at hand."""

from __future__ import annotations

import ssl
import subprocess
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_CERTIFICATE = (
    *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
    *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
)


@dataclass(frozen=True)
class SelfSigned:
    """A certificate for 127.0.0.1 that nobody has signed but itself."""

    certificate: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> SelfSigned:
        made = cls(folder / "certificate.pem", folder / "key.pem")
        command = (*_CERTIFICATE, "-keyout", str(made.key), "-out", str(made.certificate))
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return made

    def wrap(self, server: ThreadingHTTPServer) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)


class AnsweringHandler(BaseHTTPRequestHandler):
    """Answers all methods in one place, `_answer`, and keeps test output quiet."""

    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def _answer(self) -> None:
        raise NotImplementedError


class BackgroundServer:
    """For servers that are context managers: `start` in `__enter__`."""

    def start(self, handler: type[BaseHTTPRequestHandler], signed: SelfSigned | None = None) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._scheme = "https" if signed else "http"
        if signed:
            signed.wrap(self._server)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"
