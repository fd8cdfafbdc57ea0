"""Pull requests on Gitea and Forgejo, by their common API.

Their Python clients are generated for one version of one of the two, or have hardly been kept; six calls are made
here.
"""

from __future__ import annotations

import ssl
from typing import Any, Final
from urllib.parse import quote

import httpx

from haqa_operator.gitops.forges.pull_requests import (
    TIMEOUT_S,
    Proposal,
    PullRequest,
    PullRequestState,
    foremost,
    refused,
)
from haqa_operator.gitops.targets import ForgeAddress

_PAGE: Final = 50
_PAGES: Final = 20
_MAX_TITLE: Final = 255
_COLOR: Final = "#0e8a16"


class GiteaForge:
    def __init__(self, address: ForgeAddress, token: str, bundle: str) -> None:
        self._address = address
        base = address.base if address.base.endswith("/api/v1") else f"{address.base}/api/v1"
        self._repository = f"{base}/repos/{quote(address.slug)}"
        self._organization = f"{base}/orgs/{quote(address.slug.partition('/')[0])}"
        self._http = httpx.Client(
            headers={"Authorization": f"token {token}", "User-Agent": "haqa"},
            timeout=TIMEOUT_S,
            verify=ssl.create_default_context(cafile=bundle),
            follow_redirects=False,
        )

    def find(self, head: str, base: str) -> PullRequest | None:
        """By base and head there is one answer only, so a branch's closed ones are looked for in the list."""
        one = self._call("GET", f"{self._repository}/pulls/{quote(base, safe='')}/{quote(head)}", missing=True)
        if one is None:
            # That may be the repository that is missing.
            self._call("GET", self._repository)
            return None
        found = [_read(one)]
        if found[0].state is PullRequestState.CLOSED:
            found += self._reopened(head, base)
        return foremost(found)

    def open(self, proposal: Proposal) -> PullRequest:
        title = f"WIP: {proposal.title}" if proposal.draft else proposal.title
        asked = {
            "head": proposal.head,
            "base": proposal.base,
            "title": title[:_MAX_TITLE],
            "body": proposal.body,
            "labels": self._labels(proposal.labels),
        }
        made = self._call("POST", f"{self._repository}/pulls", asked, existing=True)
        if made is not None:
            return _read(made)
        found = self.find(proposal.head, proposal.base)
        if found is None or found.state is not PullRequestState.OPEN:
            raise refused(self._address, 409, "it says that there is one, and shows none", opening=True)
        return found

    def complete(self, found: PullRequest, proposal: Proposal) -> None:
        """A pull request is made in one request."""

    def close(self, found: PullRequest) -> None:
        self._call("PATCH", f"{self._repository}/pulls/{found.number}", {"state": "closed"})

    def _reopened(self, head: str, base: str) -> list[PullRequest]:
        listed = self._call("GET", f"{self._repository}/pulls?state=open&limit={_PAGE}")
        return [_read(one) for one in listed if one["head"]["ref"] == head and one["base"]["ref"] == base]

    def _labels(self, names: tuple[str, ...]) -> list[int]:
        if not names:
            return []
        known = self._known(f"{self._organization}/labels") | self._known(f"{self._repository}/labels")
        return [known[name] if name in known else self._new_label(name) for name in names]

    def _new_label(self, name: str) -> int:
        made = self._call("POST", f"{self._repository}/labels", {"name": name, "color": _COLOR})
        return int(made["id"])

    def _known(self, address: str) -> dict[str, int]:
        known: dict[str, int] = {}
        for page in range(1, _PAGES + 1):
            listed = self._call("GET", f"{address}?limit={_PAGE}&page={page}", missing=True) or []
            known |= {one["name"]: int(one["id"]) for one in listed}
            if len(listed) < _PAGE:
                break
        return known

    def _call(
        self,
        method: str,
        address: str,
        body: dict[str, Any] | None = None,
        *,
        missing: bool = False,
        existing: bool = False,
    ) -> Any:
        """The answer.

        Args:
            missing: Not found is None.
            existing: A conflict is None.
        """
        try:
            response = self._http.request(method, address, json=body)
        except httpx.HTTPError as error:
            raise refused(self._address, None, f"{type(error).__name__}: {error}") from None
        if (response.status_code == 404 and missing) or (response.status_code == 409 and existing):
            return None
        if response.status_code >= 300:
            raise refused(self._address, response.status_code, _said(response), opening=method == "POST")
        try:
            return response.json()
        except ValueError:
            raise refused(self._address, response.status_code, "no JSON") from None


def _said(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase


def _read(one: dict[str, Any]) -> PullRequest:
    if one.get("merged"):
        state = PullRequestState.MERGED
    else:
        state = PullRequestState.OPEN if one["state"] == "open" else PullRequestState.CLOSED
    merged_as = one.get("merge_commit_sha") if state is PullRequestState.MERGED else None
    return PullRequest(one["number"], one["html_url"], state, one["head"].get("sha"), merged_as)
