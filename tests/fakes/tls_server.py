"""A server over TLS whose certificate nobody has signed but itself, as behind a company's own certificate authority."""

from __future__ import annotations

from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Self

from tests.fakes.background_server import BackgroundServer, SelfSigned


@dataclass
class TlsServer(BackgroundServer):
    """Answers nothing of use to whoever trusts its certificate, which it leaves in `folder`."""

    folder: Path

    def __enter__(self) -> Self:
        self.start(BaseHTTPRequestHandler, SelfSigned.make(self.folder))
        return self
