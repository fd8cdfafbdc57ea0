"""Merge requests on GitLab, by python-gitlab."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import gitlab
import requests
from gitlab.exceptions import GitlabError

from haqa_operator.gitops.forges.pull_requests import (
    TIMEOUT_S,
    Proposal,
    PullRequest,
    PullRequestState,
    foremost,
    refused,
)
from haqa_operator.gitops.targets import ForgeAddress

_LOOKED_AT: Final = 30
"""Merge requests of one branch."""
_MAX_TITLE: Final = 255
_STATES: Final = {"merged": PullRequestState.MERGED, "closed": PullRequestState.CLOSED}


class GitLabForge:
    def __init__(self, address: ForgeAddress, token: str, bundle: str) -> None:
        self._address = address
        session = requests.Session()
        # PRIVATE-TOKEN would go along to wherever a redirect points.
        session.max_redirects = 0
        self._api = gitlab.Gitlab(
            address.base,
            private_token=token,
            timeout=TIMEOUT_S,
            ssl_verify=bundle,
            session=session,
            user_agent="haqa",
            keep_base_url=True,
        )

    def find(self, head: str, base: str) -> PullRequest | None:
        with self._errors():
            listed = self._requests().list(
                source_branch=head,
                target_branch=base,
                state="all",
                per_page=_LOOKED_AT,
                page=1,
                get_all=False,
                obey_rate_limit=False,
            )
        return foremost(_read(one) for one in listed if one.source_project_id == one.target_project_id)

    def open(self, proposal: Proposal) -> PullRequest:
        title = f"Draft: {proposal.title}" if proposal.draft else proposal.title
        asked = {
            "source_branch": proposal.head,
            "target_branch": proposal.base,
            "title": title[:_MAX_TITLE],
            "description": proposal.body,
            "labels": ",".join(proposal.labels),
            "remove_source_branch": True,
        }
        with self._errors(opening=True):
            try:
                return _read(self._requests().create(asked, obey_rate_limit=False))
            except GitlabError as error:
                found = self.find(proposal.head, proposal.base) if error.response_code == 409 else None
                if found is None or found.state is not PullRequestState.OPEN:
                    raise
                return found

    def complete(self, found: PullRequest, proposal: Proposal) -> None:
        """A merge request is made in one request."""

    def close(self, found: PullRequest) -> None:
        with self._errors():
            self._requests().update(found.number, {"state_event": "close"}, obey_rate_limit=False)

    def _requests(self) -> Any:
        return self._api.projects.get(self._address.slug, lazy=True).mergerequests

    @contextmanager
    def _errors(self, *, opening: bool = False) -> Iterator[None]:
        try:
            yield
        except GitlabError as error:
            raise refused(self._address, error.response_code, _said(error), opening=opening) from None
        except requests.TooManyRedirects:
            raise refused(self._address, 302, "a redirect, and none is followed") from None
        except requests.RequestException as error:
            raise refused(self._address, None, f"{type(error).__name__}: {error}") from None


def _said(error: GitlabError) -> str:
    message = error.error_message
    return "; ".join(map(str, message)) if isinstance(message, list) else str(message)


def _read(one: Any) -> PullRequest:
    state = _STATES.get(one.state, PullRequestState.OPEN)
    merged_as = None
    if state is PullRequestState.MERGED:
        merged_as = one.merge_commit_sha or getattr(one, "squash_commit_sha", None) or one.sha
    return PullRequest(one.iid, one.web_url, state, one.sha, merged_as)
