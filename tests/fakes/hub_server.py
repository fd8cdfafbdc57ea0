"""A stand-in for the Hugging Face Hub: the part of its HTTP interface that downloading a model uses.

Written after huggingface_hub 1.33's requests: revision lookup, tree listing, HEAD and ranged GET of files. It can
refuse tokens, fail a number of times and break off in the middle of a file, as the real one does now and then.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from tests.fakes.background_server import BackgroundServer

COMMIT = "c0ffee" * 6 + "beef"
"""40 hex digits, as the hub's are."""


@dataclass
class HubServer(BackgroundServer):
    """Serves one repository, `org/name`, from a folder. `url` is what HF_ENDPOINT shall be."""

    folder: Path
    name: str = "org/tiny"
    revisions: tuple[str, ...] = ("main", COMMIT)
    token: str | None = None
    """Required in the Authorization header, if set"""
    failures: dict[str, list[int]] = field(default_factory=dict)
    """Path suffix -> statuses to answer before serving it"""
    failure_headers: dict[str, str] = field(default_factory=dict)
    """Beside those statuses"""
    break_off: dict[str, list[int]] = field(default_factory=dict)
    """File name -> bytes after which the connection closes, once for each number"""
    knows_ranges: bool = True
    requests: list[tuple[str, str]] = field(default_factory=list)
    bytes_sent: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Self:
        outer: HubServer = self

        class Handler(_Handler):
            hub = outer

        self.start(Handler)
        return self

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def do_GET(self) -> None:
        self._serve(body=True)

    def log_message(self, *_: object) -> None:
        return

    def _serve(self, *, body: bool) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path))
        for suffix, statuses in hub.failures.items():
            if path.endswith(suffix) and statuses:
                self._answer(statuses.pop(0), {"error": "on purpose"}, hub.failure_headers)
                return
        if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._answer(401, {"error": "Invalid credentials"}, {"X-Error-Message": "Invalid credentials"})
            return
        api = f"/api/models/{hub.name}"
        if path.startswith(f"{api}/revision/"):
            self._revision(path.removeprefix(f"{api}/revision/"))
        elif path == api:
            self._revision("main")
        elif path.startswith(f"{api}/tree/"):
            self._tree()
        elif path.startswith(f"/{hub.name}/resolve/"):
            _, _, name = path.removeprefix(f"/{hub.name}/resolve/").partition("/")
            self._file(name, body=body)
        else:
            self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})

    def _revision(self, revision: str) -> None:
        if revision not in self.hub.revisions:
            self._answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            return
        siblings = [{"rfilename": self._name(path)} for path in self.hub.files()]
        self._answer(200, {"id": self.hub.name, "modelId": self.hub.name, "sha": COMMIT, "siblings": siblings}, {})

    def _tree(self) -> None:
        entries = [
            {"type": "file", "path": self._name(path), "size": path.stat().st_size, "oid": _git_hash(path)}
            for path in self.hub.files()
        ]
        self._answer(200, entries, {})

    def _file(self, name: str, *, body: bool) -> None:
        path = self.hub.folder / name
        if not path.is_file():
            self._answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        content = path.read_bytes()
        asked = self.headers.get("Range", "bytes=0-") if self.hub.knows_ranges else "bytes=0-"
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(content)), len(content) - 1)
        part = content[start : end + 1]
        partial = len(part) < len(content)
        self.send_response(206 if partial else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{_git_hash(path)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
        self.end_headers()
        if not body:
            return
        stops = self.hub.break_off.get(name)
        if stops:
            part = part[: stops.pop(0)]
            self.close_connection = True
        # Whoever asks may have enough and go.
        with contextlib.suppress(ConnectionError):
            self.wfile.write(part)
            self.hub.bytes_sent[name] += len(part)

    def _answer(self, status: int, content: object, headers: dict[str, str]) -> None:
        encoded = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(encoded)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.hub.folder).as_posix()


def _git_hash(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
