"""What every forge has to do, played or real: `tests/unit/gitops` and `tests/integration` run the same."""

from __future__ import annotations

from typing import Protocol

import pytest
from tests.publications import output

from haqa_operator.api.git_output import GitOutput, GitProvider
from haqa_operator.gitops import GitCredentials, PublishError
from haqa_operator.gitops.forges import Forge, forge_for
from haqa_operator.gitops.forges.pull_requests import Proposal, PullRequestState
from haqa_operator.gitops.trust import certificates

BRANCH = "haqa/chat-l40s-1"


class Shown(Protocol):
    """A pull request, as its page shows it."""

    title: str
    body: str
    labels: list[str]
    draft: bool


class ForgeUnderTest(Protocol):
    """A forge with a repository whose branch main has a commit, and what a person does there."""

    provider: GitProvider
    slug: str

    @property
    def url(self) -> str: ...

    @property
    def api_base(self) -> str: ...

    @property
    def token(self) -> str: ...

    def commit(self, files: dict[str, str], branch: str) -> str: ...

    def merge(self, number: int, *, squash: bool = False) -> str: ...

    def close(self, number: int) -> None: ...

    def delete_branch(self, branch: str) -> None: ...

    def shown(self, number: int) -> Shown: ...


def spec(under_test: ForgeUnderTest, slug: str | None = None) -> GitOutput:
    pull_request = {"provider": under_test.provider, "apiBase": under_test.api_base}
    return output(f"{under_test.url}/{slug or under_test.slug}.git", pullRequest=pull_request)


def forge_of(under_test: ForgeUnderTest, *, token: str | None = None, slug: str | None = None) -> Forge:
    credentials = GitCredentials(secret="git", token=token or under_test.token)
    with certificates(None) as bundle:
        return forge_for(spec(under_test, slug), credentials, bundle)


def proposal(branch: str = BRANCH, **changes: object) -> Proposal:
    given = {"head": branch, "base": "main", "title": "chat: FP8", "body": "It won."} | changes
    return Proposal(**given)  # type: ignore[arg-type]


class ForgeContract:
    """Inherit, and give the fixture `under_test`."""

    def test_a_branch_without_pull_request_has_none(self, under_test: ForgeUnderTest) -> None:
        assert forge_of(under_test).find("haqa/none", "main") is None

    def test_what_is_opened_is_found(self, under_test: ForgeUnderTest) -> None:
        commit = under_test.commit({"a": "1"}, BRANCH)
        forge = forge_of(under_test)
        made = forge.open(proposal())
        assert made.state is PullRequestState.OPEN
        assert made.url.startswith("http")
        assert str(made.number) in made.url
        found = forge.find(BRANCH, "main")
        assert found is not None
        assert (found.number, found.state, found.head, found.url) == (made.number, made.state, commit, made.url)
        shown = under_test.shown(made.number)
        assert (shown.title, shown.body, shown.labels, shown.draft) == ("chat: FP8", "It won.", [], False)

    def test_one_is_opened_however_often_it_is_asked_for(self, under_test: ForgeUnderTest) -> None:
        under_test.commit({"a": "1"}, BRANCH)
        forge = forge_of(under_test)
        assert forge.open(proposal()).number == forge.open(proposal(title="again")).number

    def test_labels_and_draft(self, under_test: ForgeUnderTest) -> None:
        under_test.commit({"a": "1"}, BRANCH)
        forge = forge_of(under_test)
        asked = proposal(labels=("models", "of a team"), draft=True)
        made = forge.open(asked)
        forge.complete(made, asked)
        shown = under_test.shown(made.number)
        assert (sorted(shown.labels), shown.draft, shown.title) == (["models", "of a team"], True, "chat: FP8")

    @pytest.mark.parametrize("squash", [False, True])
    def test_a_merge_is_seen_and_says_its_commit(self, under_test: ForgeUnderTest, squash: bool) -> None:
        under_test.commit({"a": "1"}, BRANCH)
        forge = forge_of(under_test)
        commit = under_test.merge(forge.open(proposal()).number, squash=squash)
        under_test.delete_branch(BRANCH)
        found = forge.find(BRANCH, "main")
        assert found is not None
        assert (found.state, found.merged_as) == (PullRequestState.MERGED, commit)

    def test_closing_is_seen(self, under_test: ForgeUnderTest) -> None:
        under_test.commit({"a": "1"}, BRANCH)
        forge = forge_of(under_test)
        under_test.close(forge.open(proposal()).number)
        found = forge.find(BRANCH, "main")
        assert found is not None
        assert found.state is PullRequestState.CLOSED

    def test_an_open_one_is_closed_and_its_branch_stays(self, under_test: ForgeUnderTest) -> None:
        commit = under_test.commit({"a": "1"}, BRANCH)
        forge = forge_of(under_test)
        forge.close(forge.open(proposal()))
        found = forge.find(BRANCH, "main")
        assert found is not None
        assert (found.state, found.head) == (PullRequestState.CLOSED, commit)

    def test_of_a_closed_and_an_open_one_the_open_counts(self, under_test: ForgeUnderTest) -> None:
        under_test.commit({"a": "1"}, BRANCH)
        forge = forge_of(under_test)
        under_test.close(forge.open(proposal()).number)
        again = forge.open(proposal())
        found = forge.find(BRANCH, "main")
        assert found is not None
        assert (found.number, found.state) == (again.number, PullRequestState.OPEN)

    def test_another_branch_whose_name_begins_alike_is_another(self, under_test: ForgeUnderTest) -> None:
        under_test.commit({"a": "1"}, f"{BRANCH}0")
        forge = forge_of(under_test)
        forge.open(proposal(f"{BRANCH}0"))
        assert forge.find(BRANCH, "main") is None

    def test_a_commit_of_somebody_else_moves_the_head(self, under_test: ForgeUnderTest) -> None:
        under_test.commit({"a": "1"}, BRANCH)
        forge = forge_of(under_test)
        forge.open(proposal())
        commit = under_test.commit({"b": "2"}, BRANCH)
        found = forge.find(BRANCH, "main")
        assert found is not None
        assert found.head == commit

    def test_a_token_that_is_none_is_said(self, under_test: ForgeUnderTest) -> None:
        with pytest.raises(PublishError, match=r"spec\.output\.git\.secretRef: .* does not accept the token") as raised:
            forge_of(under_test, token="0" * 40).find(BRANCH, "main")
        assert not raised.value.transient

    def test_a_repository_that_is_not_there_is_said(self, under_test: ForgeUnderTest) -> None:
        with pytest.raises(PublishError, match=r"spec\.output\.git\.url: .* has no repository team/none"):
            forge_of(under_test, slug="team/none").find(BRANCH, "main")

    def test_a_branch_that_is_not_there_is_said(self, under_test: ForgeUnderTest) -> None:
        with pytest.raises(PublishError, match=r"spec\.output\.git\.(pullRequest|url): "):
            forge_of(under_test).open(proposal("haqa/none"))
