"""Pull requests on GitHub and GitHub Enterprise, by PyGithub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

import requests
from github import Auth, Github, GithubException
from github.PullRequest import PullRequest as GitHubPullRequest
from github.Repository import Repository

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
"""Pull requests of one branch."""


class GitHubForge:
    def __init__(self, address: ForgeAddress, token: str, bundle: str) -> None:
        self._address = address
        self._api = Github(
            auth=Auth.Token(token),
            base_url=address.base,
            timeout=int(TIMEOUT_S),
            verify=bundle,
            retry=None,
            per_page=_LOOKED_AT,
            user_agent="haqa",
            lazy=True,
        )

    def find(self, head: str, base: str) -> PullRequest | None:
        found = self._find(head, base)
        return None if found is None else found[0]

    def open(self, proposal: Proposal) -> PullRequest:
        with self._errors(opening=True):
            repository = self._repository()
            try:
                made = repository.create_pull(
                    proposal.base, proposal.head, title=proposal.title, body=proposal.body, draft=proposal.draft
                )
            except GithubException as error:
                found = self._find(proposal.head, proposal.base) if error.status == 422 else None
                if found is None or found[0].state is not PullRequestState.OPEN:
                    raise
                return found[0]
            if proposal.labels:
                made.add_to_labels(*proposal.labels)
            return _read(made)

    def complete(self, found: PullRequest, proposal: Proposal) -> None:
        """Labels, which take a request of their own."""
        if not proposal.labels:
            return
        with self._errors(opening=True):
            issue = self._repository().get_issue(found.number)
            missing = {label.casefold() for label in proposal.labels} - {one.name.casefold() for one in issue.labels}
            if missing and not any(event.event in ("labeled", "unlabeled") for event in issue.get_events()):
                issue.add_to_labels(*proposal.labels)

    def close(self, found: PullRequest) -> None:
        with self._errors():
            self._repository().get_pull(found.number).edit(state="closed")

    def _find(self, head: str, base: str) -> tuple[PullRequest, GitHubPullRequest] | None:
        owner = self._address.slug.partition("/")[0]
        with self._errors():
            listed = self._repository().get_pulls(state="all", head=f"{owner}:{head}", base=base)
            here = {
                one.number: one
                for one in islice(listed, _LOOKED_AT)
                if one.head.ref == head and one.head.repo is not None and _same(one.head.repo, self._address.slug)
            }
        found = foremost(map(_read, here.values()))
        return None if found is None else (found, here[found.number])

    def _repository(self) -> Repository:
        return self._api.get_repo(self._address.slug)

    @contextmanager
    def _errors(self, *, opening: bool = False) -> Iterator[None]:
        try:
            yield
        except GithubException as error:
            raise refused(self._address, error.status or None, _said(error), opening=opening) from None
        except (TypeError, KeyError, AttributeError, ValueError, RuntimeError, AssertionError):
            # PyGithub reads a redirect, or another server's page, as if it were the answer.
            raise refused(self._address, 200, "no answer of its API", opening=opening) from None
        except requests.RequestException as error:
            raise refused(self._address, None, f"{type(error).__name__}: {error}") from None


def _same(repository: Repository, slug: str) -> bool:
    return repository.full_name.lower() == slug.lower()


def _said(error: GithubException) -> str:
    data = error.data
    if not isinstance(data, dict):
        return str(data)
    details = [str(one.get("message") or one) if isinstance(one, dict) else str(one) for one in data.get("errors", ())]
    return "; ".join([str(data.get("message", "")), *details])


def _read(one: GitHubPullRequest) -> PullRequest:
    if one.merged_at is not None:
        state = PullRequestState.MERGED
    else:
        state = PullRequestState.OPEN if one.state == "open" else PullRequestState.CLOSED
    merged_as = one.merge_commit_sha if state is PullRequestState.MERGED else None
    return PullRequest(one.number, one.html_url, state, one.head.sha, merged_as)
