"""A real Gitea on this machine, built from its Go module, with an organization, a person and HAQA's user."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import httpx
import paramiko
from tests.cluster.building import CannotBuild, cached, run_checked, say

from haqa_operator.api.git_output import GitProvider

_MODULE = "code.gitea.io/gitea@v1.26.0"
_BUILD_LIMIT_S = 1800.0
_LIMIT_S = 60.0
_ALONGSIDE = ("options", "templates", "public")
"""What the program reads beside itself."""

_CONFIGURATION = """\
RUN_MODE = prod
[server]
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {http}
ROOT_URL = http://127.0.0.1:{http}/
STATIC_ROOT_PATH = {program}
APP_DATA_PATH = {folder}/data
OFFLINE_MODE = true
START_SSH_SERVER = true
BUILTIN_SSH_SERVER_USER = git
SSH_LISTEN_HOST = 127.0.0.1
SSH_LISTEN_PORT = {ssh}
LFS_START_SERVER = false
[database]
DB_TYPE = sqlite3
PATH = {folder}/gitea.db
[repository]
ROOT = {folder}/repositories
[security]
INSTALL_LOCK = true
SECRET_KEY = {secret}
[git]
DISABLE_PARTIAL_CLONE = false
[indexer]
ISSUE_INDEXER_TYPE = db
[cron]
ENABLED = false
[log]
LEVEL = warn
ROOT_PATH = {folder}/log
"""


def gitea_program() -> Path:
    """The folder with the program; ten minutes on two cores the first time."""

    def build(folder: Path) -> None:
        if shutil.which("go") is None:
            raise CannotBuild("no Go on this machine, which builds Gitea: install 1.26 or later")
        say("building Gitea (about ten minutes on two cores the first time)")
        command = ["go", "mod", "download", "-json", _MODULE]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_BUILD_LIMIT_S, check=False)
        if done.returncode:
            raise CannotBuild(f"{' '.join(command)} ended with {done.returncode}: {done.stdout[-500:]}")
        source = Path(json.loads(done.stdout)["Dir"])
        # As the main module: its go.mod has replacements, which `go install` refuses.
        environment = {**os.environ, "CGO_ENABLED": "1", "GOFLAGS": "-mod=mod"}
        module = folder / "go.mod"
        shutil.copyfile(source / "go.mod", module)
        shutil.copyfile(source / "go.sum", folder / "go.sum")
        tags = "-tags=sqlite sqlite_unlock_notify netgo osusergo"
        options = ["-trimpath", "-ldflags=-s -w", tags, f"-modfile={module}"]
        run_checked(["go", "build", *options, "-o", f"{folder}/gitea", "."], cwd=source, env=environment)
        for name in _ALONGSIDE:
            shutil.copytree(source / name, folder / name)

    return cached("gitea", [], f"{_MODULE} sqlite cgo", build)


@dataclass
class GiteaServer:
    """Use as a context manager, which takes a few seconds."""

    folder: Path
    program: Path
    port: int = field(default_factory=lambda: _free_port())
    ssh_port: int = field(default_factory=lambda: _free_port())
    key: paramiko.PKey = field(default_factory=paramiko.ECDSAKey.generate)
    made: int = 0

    def __enter__(self) -> Self:
        self.configuration = self.folder / "app.ini"
        values = {"http": self.port, "ssh": self.ssh_port, "program": self.program, "folder": self.folder}
        self.configuration.write_text(_CONFIGURATION.format(secret=secrets.token_hex(32), **values))
        self._command("migrate")
        self._user("person", "--admin")
        self._user("haqa")
        self.token = self._token("haqa", "write:repository,write:issue,read:organization")
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"token {self._token('person', 'all')}"},
            timeout=_LIMIT_S,
        )
        self._log = (self.folder / "gitea.log").open("wb")
        self._process = subprocess.Popen(
            [self.program / "gitea", "web", "--config", self.configuration],
            env=self._environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._wait()
        self.ask("POST", "/orgs", {"username": "team"})
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(_LIMIT_S)
        self._log.close()
        self._http.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def known_hosts(self) -> str:
        keys = sorted(Path(self.folder, "data", "ssh").glob("*.pub"))
        texts = [key.read_text().split() for key in keys] or [self._host_key()]
        return "".join(f"[127.0.0.1]:{self.ssh_port} {kind} {text}\n" for kind, text, *_ in texts)

    def repository(self) -> GiteaRepository:
        """A new one, that HAQA's user and key may write to."""
        self.made += 1
        slug = f"team/clusters-{self.made}"
        name = slug.partition("/")[2]
        self.ask("POST", "/orgs/team/repos", {"name": name, "auto_init": True, "default_branch": "main"})
        self.ask("PUT", f"/repos/{slug}/collaborators/haqa", {"permission": "write"})
        return GiteaRepository(self, slug)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """As the person; 404 is None."""
        response = self._http.request(method, path, json=body)
        if response.status_code == 404:
            return None
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def _host_key(self) -> list[str]:
        with paramiko.Transport(("127.0.0.1", self.ssh_port)) as transport:
            transport.start_client(timeout=10)
            key = transport.get_remote_server_key()
        return [key.get_name(), key.get_base64()]

    def _user(self, name: str, *options: str) -> None:
        password = f"--password={secrets.token_hex(16)}"
        given = [f"--username={name}", password, f"--email={name}@example.com", "--must-change-password=false"]
        self._command("admin", "user", "create", *given, *options)

    def _token(self, user: str, scopes: str) -> str:
        options = [f"--username={user}", f"--scopes={scopes}", "--token-name=tests", "--raw"]
        return self._command("admin", "user", "generate-access-token", *options).strip().splitlines()[-1]

    def _command(self, *arguments: str) -> str:
        command = [str(self.program / "gitea"), *arguments, "--config", str(self.configuration)]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
        assert done.returncode == 0, f"gitea {' '.join(arguments[:3])}: {done.stdout}{done.stderr}"
        return done.stdout

    @property
    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH",) if name in os.environ}
        work = {"HOME": str(self.folder), "USER": "git", "GITEA_WORK_DIR": str(self.folder)}
        return {**kept, **work, "GITEA_I_AM_BEING_UNSAFE_RUNNING_AS_ROOT": "true"}

    def _wait(self) -> None:
        limit = time.monotonic() + _LIMIT_S
        while time.monotonic() < limit:
            assert self._process.poll() is None, (self.folder / "gitea.log").read_text()[-2000:]
            try:
                if self._http.get("/version").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"Gitea does not answer: {(self.folder / 'gitea.log').read_text()[-2000:]}")


@dataclass
class Shown:
    title: str
    body: str
    labels: list[str]
    draft: bool


@dataclass(frozen=True)
class GiteaRepository:
    """A repository, and what a person does there by the API."""

    server: GiteaServer
    slug: str
    provider: GitProvider = GitProvider.GITEA

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def api_base(self) -> str:
        return self.server.url

    @property
    def token(self) -> str:
        return self.server.token

    def commit(self, files: dict[str, str], branch: str) -> str:
        there = self.tip(branch) is not None
        where = {"branch": branch} if there else {"branch": "main", "new_branch": branch}
        changes = []
        for path, text in files.items():
            now = self._ask("GET", f"/contents/{path}?ref={quote(branch, safe='')}") if there else None
            content = {"path": path, "content": base64.b64encode(text.encode()).decode()}
            changes.append(content | ({"operation": "update", "sha": now["sha"]} if now else {"operation": "create"}))
        made = self._ask("POST", "/contents", {"files": changes, "message": "by a person", **where})
        return str(made["commit"]["sha"])

    def merge(self, number: int, *, squash: bool = False) -> str:
        limit = time.monotonic() + _LIMIT_S
        while not self._ask("GET", f"/pulls/{number}")["mergeable"]:
            assert time.monotonic() < limit, "it never became mergeable"
            time.sleep(0.1)
        self._ask("POST", f"/pulls/{number}/merge", {"Do": "squash" if squash else "merge"})
        return str(self._ask("GET", f"/pulls/{number}")["merge_commit_sha"])

    def close(self, number: int) -> None:
        self._ask("PATCH", f"/pulls/{number}", {"state": "closed"})

    def delete_branch(self, branch: str) -> None:
        self._ask("DELETE", f"/branches/{quote(branch)}")

    def shown(self, number: int) -> Shown:
        pull = self._ask("GET", f"/pulls/{number}")
        labels = [label["name"] for label in pull["labels"]]
        return Shown(pull["title"].removeprefix("WIP: "), pull["body"], labels, bool(pull["draft"]))

    def pulls(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self._ask("GET", "/pulls?state=all")
        return listed

    def tip(self, branch: str = "main") -> str | None:
        found = self._ask("GET", f"/branches/{quote(branch)}")
        return None if found is None else str(found["commit"]["id"])

    def file(self, path: str, branch: str = "main") -> str:
        found = self._ask("GET", f"/contents/{path}?ref={quote(branch, safe='')}")
        return base64.b64decode(found["content"]).decode()

    def protect(self, branch: str) -> None:
        """Nobody may push to it."""
        self._ask("POST", "/branch_protections", {"branch_name": branch, "rule_name": branch, "enable_push": False})

    def let_in(self, key: paramiko.PKey) -> None:
        """A deploy key that may write."""
        public = f"{key.get_name()} {key.get_base64()}"
        self._ask("POST", "/keys", {"title": "haqa", "key": public, "read_only": False})

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        return self.server.ask(method, f"/repos/{self.slug}{path}", body)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port
