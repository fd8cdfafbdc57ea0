"""Brings a publication to its repository, and says how far it is.

Nothing is remembered: what was done already is read from the forge and from the repository each time. So a publication
that is repeated changes nothing, and one that was interrupted goes on. A branch is only ever moved on from where it was
seen, and what somebody else has changed is left as it is.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote

from haqa_operator.api.git_output import GitOutput
from haqa_operator.gitops.forges import Forge, forge_for
from haqa_operator.gitops.forges.pull_requests import Proposal, PullRequest, PullRequestState
from haqa_operator.gitops.formats import changes, evidence_path
from haqa_operator.gitops.marks import Mark, message, trailer_key, with_mark
from haqa_operator.gitops.publications import (
    Change,
    GitCredentials,
    Publication,
    Published,
    PublishError,
    PublishState,
)
from haqa_operator.gitops.repository import Moved, Repository, Snapshot, opened
from haqa_operator.gitops.trust import certificates

_ATTEMPTS: Final = 4
"""At a branch that others move at the same time."""


class OpenRepository(Protocol):
    def __call__(
        self, output: GitOutput, credentials: GitCredentials, bundle: str
    ) -> AbstractContextManager[Repository]: ...


class OpenForge(Protocol):
    def __call__(self, output: GitOutput, credentials: GitCredentials, bundle: str) -> Forge: ...


def publish(
    publication: Publication,
    output: GitOutput,
    credentials: GitCredentials,
    last: Published | None = None,
    *,
    open_repository: OpenRepository = opened,
    open_forge: OpenForge = forge_for,
) -> Published:
    """One step further, as far as it goes now; call it again to hear of a merge.

    Args:
        last: What the last call returned, which saves looking at an unchanged branch again.

    Raises:
        PublishError: with a sentence that names the field and the remedy.
    """
    output = output.for_pool(publication.pool)
    with _without_secrets(credentials), certificates(credentials.ca) as bundle:
        if output.pull_request is None:
            with open_repository(output, credentials, bundle) as repository:
                return _Writing(publication, output, repository, last).push()
        forge = open_forge(output, credentials, bundle)
        if publication.retires:
            return _retire(publication, output, forge)
        return _propose(publication, output, forge, lambda: open_repository(output, credentials, bundle), last)


def branch_of(publication: Publication, output: GitOutput, key: str | None = None) -> str:
    """The branch of the publication's pull request: one for each answer, so that none is ever written over.

    Args:
        key: Of an earlier one instead.
    """
    assert output.pull_request is not None
    short = hashlib.sha256((key or publication.key).encode()).hexdigest()[:10]
    return f"{output.pull_request.branch_prefix}{publication.name}-{short}"


def _propose(
    publication: Publication,
    output: GitOutput,
    forge: Forge,
    repository: Callable[[], AbstractContextManager[Repository]],
    last: Published | None,
) -> Published:
    branch = branch_of(publication, output)
    found = forge.find(branch, output.branch)
    if found is not None and found.state is not PullRequestState.OPEN:
        return _reported(found)
    proposal = _proposal(publication, output, branch)
    if found is not None:
        if last is not None and last.state is PublishState.OPEN and last.url == found.url and found.head == last.commit:
            return last
        forge.complete(found, proposal)
    with repository() as opened_repository:
        writing = _Writing(publication, output, opened_repository, last)
        done = writing.branch(branch, found)
    if done is not None:
        return done
    return _reported(forge.open(proposal))


def _retire(publication: Publication, output: GitOutput, forge: Forge) -> Published:
    """Whoever merged one of them would serve what is not the answer any more."""
    for key in publication.retires:
        earlier = forge.find(branch_of(publication, output, key), output.branch)
        if earlier is not None and earlier.state is PullRequestState.OPEN:
            forge.close(earlier)
    return Published(state=PublishState.CLOSED)


def _proposal(publication: Publication, output: GitOutput, branch: str) -> Proposal:
    asked = output.pull_request
    assert asked is not None
    body = (
        f"{publication.summary.strip()}\n\nThe evidence is in `{evidence_path(publication, output)}`. "
        "Merge to accept; close to decline, and it is not proposed again.\n"
    )
    title = f"{asked.title_prefix}{publication.title}"
    return Proposal(branch, output.branch, title, body, asked.labels, asked.draft)


def _reported(found: PullRequest) -> Published:
    states = {
        PullRequestState.OPEN: PublishState.OPEN,
        PullRequestState.MERGED: PublishState.MERGED,
        PullRequestState.CLOSED: PublishState.CLOSED,
    }
    return Published(state=states[found.state], url=found.url, commit=found.merged_as or found.head)


@dataclass(frozen=True)
class _Writing:
    publication: Publication
    output: GitOutput
    repository: Repository
    last: Published | None

    def push(self) -> Published:
        """To the branch itself."""
        branch = self.output.branch
        for _ in range(_ATTEMPTS):
            base = self._base(self.repository.fetch(branch))
            mark = self._mark(base)
            if mark is not None and mark.key == self.publication.key:
                known = self.last is not None and self.last.state is PublishState.PUSHED
                return self.last if known and self.last else Published(state=PublishState.PUSHED, commit=base.commit)
            files = self._files(base)
            if (conflict := self._conflict(base, mark, files)) is not None:
                return conflict
            try:
                commit = self._commit(base, files, branch, base.commit)
                return Published(state=PublishState.PUSHED, commit=commit)
            except Moved:
                continue
        raise PublishError(
            f"spec.output.git.branch: {branch} moved {_ATTEMPTS} times while HAQA wrote to it; it is tried again",
            transient=True,
        )

    def branch(self, branch: str, found: PullRequest | None) -> Published | None:
        """To a branch of its own; None when a pull request is what is missing.

        Args:
            found: Its open pull request, if there is one.
        """
        tips = self.repository.fetch(self.output.branch, branch)
        base, tip = self._base(tips), tips.get(branch)
        if (mark := self._mark(base)) is not None and mark.key == self.publication.key:
            note = f"branch {self.output.branch} has it already"
            return Published(state=PublishState.MERGED, url=found.url if found else None, commit=base.commit, note=note)
        if tip is not None:
            if self._ours(tip):
                return _reported(found) if found else None
            note = f"somebody else has changed branch {branch}, and HAQA leaves it alone"
            if found is not None:
                return Published(state=PublishState.OPEN, url=found.url, commit=tip.commit, note=note)
            note += "; open a pull request of it yourself, or delete it, and it is made anew"
            return Published(state=PublishState.CONFLICT, commit=tip.commit, note=note)
        if found is not None:
            note = f"branch {branch} of the open pull request is gone; close the pull request, or restore the branch"
            return Published(state=PublishState.CONFLICT, url=found.url, note=note)
        try:
            self._commit(base, self._files(base), branch, None)
        except Moved as moved:
            raise PublishError(
                f"spec.output.git.pullRequest: branch {branch} appeared while HAQA made it; it is looked at again",
                transient=True,
            ) from moved
        return None

    def _base(self, tips: dict[str, Snapshot]) -> Snapshot:
        base = tips.get(self.output.branch)
        if base is None:
            raise PublishError(
                f"spec.output.git.branch: {self.output.url} has no branch {self.output.branch}; correct it, or create "
                "the branch with a first commit"
            )
        return base

    def _mark(self, snapshot: Snapshot) -> Mark | None:
        return Mark.read(snapshot.read(evidence_path(self.publication, self.output)))

    def _files(self, base: Snapshot) -> tuple[Change, ...]:
        files = changes(self.publication, self.output, base.read)
        evidence = Change(evidence_path(self.publication, self.output), with_mark(self.publication, files), owned=True)
        return (*files, evidence)

    def _conflict(self, base: Snapshot, mark: Mark | None, files: tuple[Change, ...]) -> Published | None:
        """Files of HAQA's own that somebody else wrote or changed: a pull request shows it, a push would hide it."""
        owned = [change.path for change in files if change.owned]
        if mark is None:
            foreign = tuple(path for path in owned if base.read(path) is not None)
            why = "was not written by HAQA; move it away, or choose another path"
        else:
            foreign = mark.changed(base.read, owned)
            why = (
                "was changed by somebody else since HAQA wrote it; take the change into the tuning and delete the "
                "file, or use pullRequest"
            )
        if not foreign:
            return None
        return Published(state=PublishState.CONFLICT, commit=base.commit, note=f"{foreign[0]} {why}")

    def _ours(self, tip: Snapshot) -> bool:
        mark = self._mark(tip)
        return (
            trailer_key(tip.message) == self.publication.key
            and mark is not None
            and mark.key == self.publication.key
            and all(tip.read(path) is not None for path in mark.digests)
            and not mark.changed(tip.read, mark.digests)
        )

    def _commit(self, base: Snapshot, files: tuple[Change, ...], branch: str, expected: str | None) -> str:
        asked = self.output.pull_request
        prefix = asked.title_prefix if asked is not None else ""
        made = base.with_files(
            {change.path: change.text for change in files},
            message=message(self.publication, prefix),
            author=self.output.author,
            at=self.publication.made_at,
        )
        self.repository.push(made, branch, expected)
        return made.commit


@contextmanager
def _without_secrets(credentials: GitCredentials) -> Iterator[None]:
    """Servers and libraries like to repeat what they were given."""
    try:
        yield
    except PublishError as error:
        raise PublishError(without_secrets(str(error), credentials), transient=error.transient) from None


def without_secrets(text: str, credentials: GitCredentials) -> str:
    secrets = [credentials.password, credentials.token, credentials.passphrase, credentials.ssh_private_key]
    forms: set[str] = set()
    for secret in filter(None, secrets):
        pairs = [secret, *(f"{user}:{secret}" for user in (credentials.username, "x-access-token") if user)]
        forms |= {secret, quote(secret, safe=""), *(base64.b64encode(pair.encode()).decode() for pair in pairs)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text
