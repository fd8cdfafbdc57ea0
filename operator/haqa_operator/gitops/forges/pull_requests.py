"""What all forges can be asked: to find a branch's pull request, and to open one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from haqa_operator.gitops.publications import PublishError
from haqa_operator.gitops.targets import ForgeAddress

TIMEOUT_S: Final = 20.0
"""For each answer of a forge."""
_SHOWN: Final = 300


class PullRequestState(StrEnum):
    OPEN = "open"
    MERGED = "merged"
    CLOSED = "closed"


@dataclass(frozen=True)
class PullRequest:
    """Attributes:
    url: For people.
    head: The commit at the tip of its branch.
    merged_as: The commit that brought it to the base branch, where the forge says so.
    """

    number: int
    url: str
    state: PullRequestState
    head: str | None
    merged_as: str | None = None


@dataclass(frozen=True)
class Proposal:
    """What a pull request is opened with.

    Attributes:
        head, base: Branches of the same repository.
        body: Markdown.
    """

    head: str
    base: str
    title: str
    body: str
    labels: tuple[str, ...] = ()
    draft: bool = False


class Forge(Protocol):
    """A repository at a forge. All methods raise PublishError."""

    def find(self, head: str, base: str) -> PullRequest | None:
        """The branch's pull request: a merged one, or else an open one, or else the last that was closed."""

    def open(self, proposal: Proposal) -> PullRequest:
        """Opens it, or returns the open one that there is."""

    def complete(self, found: PullRequest, proposal: Proposal) -> None:
        """Adds what an interrupted `open` left out, unless somebody has taken it away since."""

    def close(self, found: PullRequest) -> None:
        """Closes an open one; its branch stays."""


def foremost(found: Iterable[PullRequest]) -> PullRequest | None:
    order = (PullRequestState.MERGED, PullRequestState.OPEN, PullRequestState.CLOSED)
    return min(found, key=lambda one: (order.index(one.state), -one.number), default=None)


def refused(address: ForgeAddress, status: int | None, said: str, *, opening: bool = False) -> PublishError:
    """What an answer of the API means to a person.

    Args:
        status: None: there was no answer.
        said: In the server's words, or the client's.
    """
    who = f"{address.provider} at {address.base}"
    said = one_line(said)
    match status:
        case None:
            return PublishError(
                f"spec.output.git.pullRequest.apiBase: {who} does not answer: {said}; check the address, and whether "
                "the operator may reach it",
                transient=True,
            )
        case 401:
            return PublishError(f"spec.output.git.secretRef: {who} does not accept the token: {said}; renew it")
        case 403 | 429 if "rate limit" in said.lower() or status == 429:
            return PublishError(f"spec.output.git.pullRequest: {who} limits requests: {said}", transient=True)
        case 403:
            return PublishError(
                f"spec.output.git.secretRef: {who} refuses: {said}; give the token the right to write pull requests to "
                f"{address.slug}"
            )
        case 404:
            return PublishError(
                f"spec.output.git.url: {who} has no repository {address.slug}, or the token may not see it; correct "
                "url or pullRequest.apiBase, or give the token the right to it"
            )
        case _ if status >= 500:
            return PublishError(
                f"spec.output.git.pullRequest: {who} fails with HTTP {status}: {said}; it is tried again",
                transient=True,
            )
        case _ if opening:
            return PublishError(f"spec.output.git.pullRequest: {who} opens none (HTTP {status}): {said}")
        case _:
            return PublishError(
                f"spec.output.git.pullRequest.apiBase: {who} answers HTTP {status}: {said}; check that this is the "
                f"address of {address.provider}'s API"
            )


def one_line(text: str) -> str:
    """A message of somebody else's, short and on one line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
