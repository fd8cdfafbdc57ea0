"""A server over TLS whose certificate nobody has signed but itself, as behind a company's own certificate authority."""

from __future__ import annotations

import ssl
import subprocess
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

_CERTIFICATE = (
    *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
    *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
)


@dataclass
class TlsServer:
    """Answers nothing of use to whoever trusts `certificate`, a file in `folder`."""

    folder: Path

    def __enter__(self) -> Self:
        key = self.folder / "key.pem"
        command = (*_CERTIFICATE, "-keyout", str(key), "-out", str(self.certificate))
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.server_address[1]}"
