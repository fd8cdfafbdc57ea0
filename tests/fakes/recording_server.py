"""Servers that answer everything in the same way: one keeps every byte of what it is asked, one speaks no HTTP."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps test output quiet."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        assert isinstance(self.server, _Http)
        server = self.server.recording
        server.requests.append(f"{self.requestline}\n{self.headers}\n{body.decode(errors='replace')}")
        self.send_response(server.status)
        for name, value in {"Content-Type": "application/json", **server.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        self.wfile.write(server.body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = _answer


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, recording: RecordingServer) -> None:
        self.recording = recording
        super().__init__(("127.0.0.1", 0), _Handler)


class RecordingServer:
    """Use as a context manager.

    Attributes:
        requests: Each request as text: request line, headers and body.
    """

    def __init__(self, status: int = 200, body: bytes = b"{}", headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.body = body
        self.headers = dict(headers or {})
        self.requests: list[str] = []
        self._http = _Http(self)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> RecordingServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _RawHandler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, RawServer)
        self.request.recv(65536)
        self.request.sendall(self.server.answer)


class RawServer(socketserver.ThreadingTCPServer):
    """Sends these bytes to whoever asks, and hangs up. Use as a context manager."""

    daemon_threads = True

    def __init__(self, answer: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _RawHandler)
        self.answer = answer
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self.server_close()
