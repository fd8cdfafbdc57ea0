"""Forges' APIs, as far as pull requests need them, in front of repositories of real git.

One server for each API; `tests/unit/gitops/forge_contract.py` holds them to what the real ones do, and a real Gitea to
the same.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.background_server import AnsweringHandler, BackgroundServer, SelfSigned
from tests.fakes.git_server import BareRepository, git

from haqa_operator.api.git_output import GitProvider

TOKEN = "t0ken-of-the-secret"


@dataclass
class Pull:
    number: int
    head: str
    base: str
    title: str
    body: str
    tip: str
    labels: list[str] = field(default_factory=list)
    draft: bool = False
    state: str = "open"
    merged_as: str | None = None


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class FakeForge(BackgroundServer):
    """A forge with one repository. Use as a context manager.

    Attributes:
        fail: What the next answers are, before anything is done: HTTP statuses, or 0 to hang up.
        lose: How many answers get lost after what was asked is done.
        requests: What was asked, method and path.
    """

    provider: GitProvider
    slug = "team/clusters"
    token = TOKEN

    def __init__(self, repository: BareRepository, signed: SelfSigned | None = None) -> None:
        self.repository = repository
        self.signed = signed
        self.pulls: list[Pull] = []
        self.fail: list[int] = []
        self.lose = 0
        self.requests: list[str] = []

    def __enter__(self) -> Self:
        forge: FakeForge = self

        class Handler(_Handler):
            served = forge

        self.start(Handler, self.signed)
        return self

    @property
    def api_base(self) -> str:
        return self.url

    # What a person does.

    def merge(self, number: int, *, squash: bool = False) -> str:
        pull = self.pull(number)
        pull.merged_as = self.repository.merge(pull.head, squash=squash)
        pull.state = "merged"
        return pull.merged_as

    def close(self, number: int) -> None:
        self.pull(number).state = "closed"

    def reopen(self, number: int) -> None:
        self.pull(number).state = "open"

    def commit(self, files: dict[str, str], branch: str) -> str:
        if self.repository.tip(branch) is None:
            main = self.repository.tip()
            assert main is not None
            self._point(branch, main)
        return self.repository.commit(files, branch)

    def delete_branch(self, branch: str) -> None:
        self.repository.delete(branch)

    def pull(self, number: int) -> Pull:
        return next(one for one in self.pulls if one.number == number)

    def shown(self, number: int) -> Pull:
        """As people see it: without what stands for a draft in the title."""
        return self.pull(number)

    # What the API does.

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> Any:
        raise NotImplementedError

    def authorized(self, headers: Any) -> bool:
        raise NotImplementedError

    def refusal(self, refusal: Refusal) -> dict[str, Any]:
        return {"message": refusal.message}

    def add(self, head: str, base: str, title: str, body: str, labels: list[str], draft: bool, existing: int) -> Pull:
        for branch in (head, base):
            if self.repository.tip(branch) is None:
                raise Refusal(404 if self.provider is GitProvider.GITEA else 422, f"branch {branch} does not exist")
        if any(one.state == "open" and (one.head, one.base) == (head, base) for one in self.pulls):
            raise Refusal(existing, f"a pull request already exists for {head}")
        made = Pull(len(self.pulls) + 1, head, base, title, body, str(self.repository.tip(head)), labels, draft)
        self.pulls.append(made)
        return made

    def tip(self, pull: Pull) -> str:
        if pull.state == "open":
            pull.tip = self.repository.tip(pull.head) or pull.tip
        return pull.tip

    def _point(self, branch: str, commit: str) -> None:
        git(self.repository.path, "update-ref", f"refs/heads/{branch}", commit)


class FakeGitHub(FakeForge):
    provider = GitProvider.GITHUB

    @property
    def api_base(self) -> str:
        return f"{self.url}/api/v3"

    def authorized(self, headers: Any) -> bool:
        return str(headers.get("Authorization")) in (f"token {TOKEN}", f"Bearer {TOKEN}")

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> Any:
        match re.fullmatch(rf"/api/v3/repos/{self.slug}/(pulls|issues)(?:/(\d+))?(?:/(labels|events))?", path):
            case None:
                raise Refusal(404, "Not Found")
            case found:
                what, number, of = found.groups()
        if what == "pulls" and method == "GET":
            owner, _, head = query["head"].partition(":")
            listed = [one for one in self.pulls if owner == "team" and (one.head, one.base) == (head, query["base"])]
            return [self._pull(one) for one in reversed(listed)]
        if what == "pulls" and method == "POST":
            draft = bool(body.get("draft"))
            made = self.add(body["head"], body["base"], body["title"], body["body"], [], draft, existing=422)
            return self._pull(made)
        pull = self.pull(int(number or 0))
        if what == "pulls":
            if method == "PATCH":
                pull.state = body["state"]
            return self._pull(pull)
        if of == "labels":
            pull.labels += [label for label in _listed(body) if label not in pull.labels]
            return [{"name": label} for label in pull.labels]
        if of == "events":
            return [{"id": at, "event": "labeled"} for at, _ in enumerate(pull.labels)]
        return {"number": pull.number, "url": self._issue(pull), "labels": [{"name": label} for label in pull.labels]}

    def refusal(self, refusal: Refusal) -> dict[str, Any]:
        if refusal.status != 422:
            return {"message": refusal.message}
        return {"message": "Validation Failed", "errors": [{"resource": "PullRequest", "message": refusal.message}]}

    def _issue(self, pull: Pull) -> str:
        return f"{self.api_base}/repos/{self.slug}/issues/{pull.number}"

    def _pull(self, pull: Pull) -> dict[str, Any]:
        repository = {"full_name": self.slug, "url": f"{self.api_base}/repos/{self.slug}"}
        return {
            "number": pull.number,
            "url": f"{self.api_base}/repos/{self.slug}/pulls/{pull.number}",
            "issue_url": self._issue(pull),
            "html_url": f"{self.url}/{self.slug}/pull/{pull.number}",
            "state": "open" if pull.state == "open" else "closed",
            "merged_at": "2026-11-29T12:00:00Z" if pull.state == "merged" else None,
            "merge_commit_sha": pull.merged_as or "0" * 40,
            "title": pull.title,
            "head": {"ref": pull.head, "sha": self.tip(pull), "repo": repository},
            "base": {"ref": pull.base, "sha": "0" * 40, "repo": repository},
        }


def _listed(body: Any) -> list[str]:
    """Labels: GitHub takes the bare list too, which is what PyGithub sends."""
    return list(body if isinstance(body, list) else body["labels"])


class FakeGitLab(FakeForge):
    provider = GitProvider.GITLAB

    def authorized(self, headers: Any) -> bool:
        return str(headers.get("PRIVATE-TOKEN")) == TOKEN

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> Any:
        project = f"/api/v4/projects/{self.slug.replace('/', '%2F')}"
        if method == "PUT" and (one := re.fullmatch(rf"{re.escape(project)}/merge_requests/(\d+)", path)):
            assert body == {"state_event": "close"}
            self.close(int(one[1]))
            return self._merge_request(self.pull(int(one[1])))
        if path != f"{project}/merge_requests":
            raise Refusal(404, "404 Project Not Found")
        if method == "GET":
            asked = (query["source_branch"], query["target_branch"])
            return [self._merge_request(one) for one in reversed(self.pulls) if (one.head, one.base) == asked]
        labels = [label for label in body["labels"].split(",") if label]
        title = body["title"]
        made = self.add(
            body["source_branch"],
            body["target_branch"],
            title.removeprefix("Draft: "),
            body["description"],
            labels,
            title.startswith("Draft: "),
            existing=409,
        )
        return self._merge_request(made)

    def refusal(self, refusal: Refusal) -> dict[str, Any]:
        return {"message": [refusal.message] if refusal.status == 409 else refusal.message}

    def _merge_request(self, pull: Pull) -> dict[str, Any]:
        return {
            "id": 1000 + pull.number,
            "iid": pull.number,
            "source_project_id": 7,
            "target_project_id": 7,
            "web_url": f"{self.url}/{self.slug}/-/merge_requests/{pull.number}",
            "state": {"open": "opened"}.get(pull.state, pull.state),
            "title": pull.title,
            "sha": self.tip(pull),
            "merge_commit_sha": pull.merged_as,
            "squash_commit_sha": None,
        }


class FakeGitea(FakeForge):
    provider = GitProvider.GITEA

    def __init__(self, repository: BareRepository, signed: SelfSigned | None = None) -> None:
        super().__init__(repository, signed)
        self.known = {"models": 11}

    def authorized(self, headers: Any) -> bool:
        return str(headers.get("Authorization")) == f"token {TOKEN}"

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> Any:
        if path == "/api/v1/orgs/team/labels":
            raise Refusal(404, "GetOrgByName")
        repository, _, rest = path.partition(f"/api/v1/repos/{self.slug}")
        if repository or not path.startswith("/api/v1/repos/" + self.slug):
            raise Refusal(404, "The target couldn't be found.")
        if rest == "":
            return {"full_name": self.slug}
        if rest == "/labels" and method == "POST":
            self.known[body["name"]] = 11 + len(self.known)
            return {"id": self.known[body["name"]], "name": body["name"]}
        if rest == "/labels":
            listed = [{"id": number, "name": name} for name, number in self.known.items()]
            return listed if query.get("page", "1") == "1" else []
        if rest == "/pulls" and method == "GET":
            return [self._pull(one) for one in self.pulls if one.state == query.get("state", "open")]
        if rest == "/pulls":
            names = {number: name for name, number in self.known.items()}
            labels = [names[number] for number in body.get("labels") or ()]
            title = body["title"]
            made = self.add(
                body["head"],
                body["base"],
                title.removeprefix("WIP: "),
                body["body"],
                labels,
                title.startswith("WIP: "),
                existing=409,
            )
            return self._pull(made)
        if method == "PATCH":
            assert body == {"state": "closed"}
            number = int(rest.removeprefix("/pulls/"))
            self.close(number)
            return self._pull(self.pull(number))
        base, _, head = rest.removeprefix("/pulls/").partition("/")
        asked = (unquote(head), unquote(base))
        found = next((one for one in self.pulls if (one.head, one.base) == asked), None)
        if found is None:
            raise Refusal(404, "pull request does not exist")
        return self._pull(found)

    def _pull(self, pull: Pull) -> dict[str, Any]:
        return {
            "number": pull.number,
            "html_url": f"{self.url}/{self.slug}/pulls/{pull.number}",
            "state": "open" if pull.state == "open" else "closed",
            "merged": pull.state == "merged",
            "merge_commit_sha": pull.merged_as,
            "title": pull.title,
            "head": {"ref": pull.head, "sha": self.tip(pull)},
            "base": {"ref": pull.base},
        }


class _Handler(AnsweringHandler):
    served: FakeForge

    def _answer(self) -> None:
        forge = self.served
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        forge.requests.append(f"{self.command} {self.path}")
        if forge.fail:
            status = forge.fail.pop(0)
            if status == 0:
                self.close_connection = True
                return
            self._send(status, {"message": f"no, and your token is {TOKEN}"})
            return
        parts = urlsplit(self.path)
        try:
            if not forge.authorized(self.headers):
                raise Refusal(401, "Bad credentials")
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            answer = forge.answer(self.command, parts.path, query, json.loads(text or b"{}"))
        except Refusal as refusal:
            self._send(refusal.status, forge.refusal(refusal))
            return
        if forge.lose and self.command == "POST":
            forge.lose -= 1
            self.close_connection = True
            return
        self._send(201 if self.command == "POST" else 200, answer)

    def _send(self, status: int, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if 300 <= status < 400:
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
