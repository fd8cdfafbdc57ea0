"""Git itself as a server, over http with a user's name and password, and over ssh with keys.

What answers is git's own `http-backend`, `upload-pack` and `receive-pack`; only the door is made here.
"""

from __future__ import annotations

import base64
import io
import os
import shlex
import socket
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import paramiko
from paramiko import common
from tests.fakes.background_server import AnsweringHandler, SelfSigned

_ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    **{f"GIT_{role}_{part}": "someone@example.com" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")},
}


def git(folder: Path, *arguments: str, stdin: str | None = None, extra: Mapping[str, str] | None = None) -> str:
    """What git says; its failure is the test's."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=_ENVIRONMENT | dict(extra or {}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class BareRepository:
    """A repository on the server, with what a person would do to it."""

    path: Path

    @classmethod
    def make(cls, path: Path, files: dict[str, str] | None = None) -> BareRepository:
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--bare", "--initial-branch=main")
        for name in ("http.receivepack", "uploadpack.allowFilter"):
            git(path, "config", name, "true")
        made = cls(path)
        if files is not None:
            made.commit(files)
        return made

    def commit(self, files: dict[str, str], branch: str = "main", message: str = "by a person") -> str:
        """A commit of somebody else's on the branch; its id."""
        before = self.tip(branch)
        index = {"GIT_INDEX_FILE": str(self.path / "index.of.a.person")}
        git(self.path, "read-tree", *([before] if before else ["--empty"]), extra=index)
        for name, text in files.items():
            blob = git(self.path, "hash-object", "-w", "--stdin", stdin=text).strip()
            git(self.path, "update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", extra=index)
        tree = git(self.path, "write-tree", extra=index).strip()
        parents = ["-p", before] if before else []
        commit = git(self.path, "commit-tree", tree, *parents, "-m", message).strip()
        git(self.path, "update-ref", f"refs/heads/{branch}", commit)
        return commit

    def tip(self, branch: str = "main") -> str | None:
        return self.refs().get(f"refs/heads/{branch}")

    def refs(self) -> dict[str, str]:
        lines = git(self.path, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        return dict((name, commit) for name, commit in (line.split() for line in lines))

    def branches(self, prefix: str = "haqa/") -> list[str]:
        return [ref.removeprefix("refs/heads/") for ref in self.refs() if ref.startswith(f"refs/heads/{prefix}")]

    def file(self, path: str, branch: str = "main") -> str:
        return git(self.path, "show", f"{branch}:{path}")

    def files(self, branch: str = "main") -> list[str]:
        return git(self.path, "ls-tree", "-r", "--name-only", branch).splitlines()

    def message(self, branch: str = "main") -> str:
        return git(self.path, "log", "-1", "--format=%an <%ae>%n%B", branch)

    def merge(self, branch: str, *, squash: bool = False) -> str:
        """As a forge does it; the commit on main."""
        tree = git(self.path, "merge-tree", "--write-tree", "main", branch).strip()
        parents = [part for tip in ("main", *(() if squash else (branch,))) for part in ("-p", tip)]
        commit = git(self.path, "commit-tree", tree, *parents, "-m", f"Merge {branch}").strip()
        git(self.path, "update-ref", "refs/heads/main", commit)
        return commit

    def delete(self, branch: str) -> None:
        git(self.path, "update-ref", "-d", f"refs/heads/{branch}")

    def hook(self, name: str, script: str) -> None:
        path = self.path / "hooks" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@dataclass
class GitServer:
    """Repositories below `root`, by http. Use as a context manager.

    Attributes:
        password: That it wants, of any user; None: it lets everybody in.
        requests: What was asked, method and path.
        hang: Set while requests are to get no answer.
    """

    root: Path
    password: str | None = "t0ken-of-the-secret"
    signed: SelfSigned | None = None
    requests: list[str] = field(default_factory=list)
    hang: threading.Event = field(default_factory=threading.Event)
    status: int | None = None
    closing: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        server: GitServer = self

        class Handler(_Handler):
            git_server = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        if self.signed:
            self.signed.wrap(self._http)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join(10)
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"{'https' if self.signed else 'http'}://127.0.0.1:{self._http.server_port}"

    def repository(self, files: dict[str, str] | None = None, name: str = "team/clusters") -> BareRepository:
        return BareRepository.make(self.root / f"{name}.git", files)


class _Handler(AnsweringHandler):
    git_server: GitServer

    def _answer(self) -> None:
        server = self.git_server
        body = self._body()
        server.requests.append(f"{self.command} {self.path}")
        if server.hang.is_set():
            server.closing.wait(60)
            return
        if server.status is not None:
            self._send(server.status, {"Location": f"{server.url}/elsewhere"}, b"")
            return
        if server.password is not None and self._password() != server.password:
            self._send(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"")
            return
        parts = urlsplit(self.path)
        environment = _ENVIRONMENT | {
            "GIT_PROJECT_ROOT": str(server.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": unquote(parts.path),
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_USER": "someone",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=environment, capture_output=True, timeout=60, check=False
        )
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.decode().split(": ", 1) for line in head.split(b"\r\n") if line)
        status = int(headers.pop("Status", "200").split()[0])
        self._send(status, headers, answer)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().strip(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _password(self) -> str | None:
        kind, _, encoded = self.headers.get("Authorization", "").partition(" ")
        return base64.b64decode(encoded).decode().partition(":")[2] if kind == "Basic" else None

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Door(paramiko.ServerInterface):
    def __init__(self, server: GitSshServer) -> None:
        self._server = server
        self.command: bytes | None = None
        self.asked = threading.Event()

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = key.get_base64() == self._server.user_key.get_base64() and username == "git"
        return common.AUTH_SUCCESSFUL if known else common.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return common.OPEN_SUCCEEDED if kind == "session" else common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.command = command
        self.asked.set()
        return True


class GitSshServer:
    """Repositories below `root`, by ssh, for whoever has `user_key`. Use as a context manager."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host_key = paramiko.ECDSAKey.generate()
        self.user_key = paramiko.ECDSAKey.generate()

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        # Closing alone would leave the thread waiting, at whatever gets this number next.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def known_hosts(self) -> str:
        return f"[127.0.0.1]:{self.port} {self.host_key.get_name()} {self.host_key.get_base64()}\n"

    def private_key(self, passphrase: str | None = None) -> str:
        text = io.StringIO()
        self.user_key.write_private_key(text, passphrase)
        return text.getvalue()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        transport.add_server_key(self.host_key)
        door = _Door(self)
        try:
            transport.start_server(server=door)
        except (paramiko.SSHException, EOFError):
            return
        channel = transport.accept(30)
        if channel is None or not door.asked.wait(30) or door.command is None:
            transport.close()
            return
        program, path = shlex.split(door.command.decode())
        assert program in ("git-upload-pack", "git-receive-pack"), program
        running = subprocess.Popen(
            ["git", program.removeprefix("git-"), str(self.root / path.lstrip("/"))],
            env=_ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stderr is not None

        def feed(into: Any) -> None:
            while data := channel.recv(65536):
                into.write(data)
                into.flush()
            into.close()

        threading.Thread(target=feed, args=(running.stdin,), daemon=True).start()
        while data := os.read(running.stdout.fileno(), 65536):
            channel.sendall(data)
        channel.sendall_stderr(running.stderr.read())
        channel.send_exit_status(running.wait(30))
        channel.close()
        transport.close()
        running.stdout.close()
        running.stderr.close()
