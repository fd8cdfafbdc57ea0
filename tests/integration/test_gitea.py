"""Publications at a real Gitea: its git over http and ssh, its API, its protected branches.

A minute; the first time ten more, in which Gitea is built.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import paramiko
import pytest
from tests.forge_contract import ForgeContract
from tests.gitea_server import GiteaRepository, GiteaServer, gitea_program
from tests.publications import deployment, output, publication

from haqa_operator.api.git_output import GitOutput
from haqa_operator.gitops import GitCredentials, PublishError, PublishState
from haqa_operator.gitops.apart import publish_apart
from haqa_operator.gitops.publishing import branch_of, publish

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def gitea(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GiteaServer]:
    with GiteaServer(tmp_path_factory.mktemp("gitea"), gitea_program()) as server:
        yield server


@pytest.fixture
def under_test(gitea: GiteaServer) -> GiteaRepository:
    return gitea.repository()


class TestRealGitea(ForgeContract):
    pass


def spec(repository: GiteaRepository, **changes: Any) -> GitOutput:
    return output(f"{repository.url}/{repository.slug}", **changes)


def credentials(repository: GiteaRepository) -> GitCredentials:
    return GitCredentials(secret="git", token=repository.token)


def by_pull_request(repository: GiteaRepository) -> GitOutput:
    return spec(repository, format="Kustomize", pullRequest={"provider": "Gitea", "labels": ["models"]})


@pytest.mark.parametrize("squash", [False, True])
def test_from_a_winner_to_a_merge(under_test: GiteaRepository, squash: bool) -> None:
    asked, secret = by_pull_request(under_test), credentials(under_test)
    first = publish_apart(publication(), asked, secret)
    assert first.state is PublishState.OPEN
    assert first.commit == under_test.tip(branch_of(publication(), asked))
    assert publish_apart(publication(), asked, secret) == first
    assert publish_apart(publication(), asked, secret, first) == first
    (pull,) = under_test.pulls()
    assert pull["html_url"] == first.url
    commit = under_test.merge(pull["number"], squash=squash)
    under_test.delete_branch(branch_of(publication(), asked))
    done = publish_apart(publication(), asked, secret, first)
    assert (done.state, done.commit, done.url) == (PublishState.MERGED, commit, first.url)
    assert "- chat-l40s.yaml" in under_test.file("apps/chat/kustomization.yaml")
    assert "| FP8-DYNAMIC | 1620 |" in under_test.file("apps/chat/chat-l40s.haqa.md")


def test_declined_then_the_next_answer_then_back(under_test: GiteaRepository) -> None:
    asked, secret = by_pull_request(under_test), credentials(under_test)
    publish(publication("1"), asked, secret)
    under_test.close(under_test.pulls()[0]["number"])
    assert publish(publication("1"), asked, secret).state is PublishState.CLOSED
    for key, image in (("2", "vllm:2"), ("3", "vllm:1")):
        made = publication(key, manifests=(deployment(image=image),))
        assert publish(made, asked, secret).state is PublishState.OPEN
        under_test.merge(under_test.pulls()[0]["number"])
        assert f"image: {image}" in under_test.file("apps/chat/chat-l40s.yaml")
        assert publish(made, asked, secret).state is PublishState.MERGED
    assert len(under_test.pulls()) == 3


def test_somebody_elses_commit_on_the_branch_stays(under_test: GiteaRepository) -> None:
    asked, secret = by_pull_request(under_test), credentials(under_test)
    first = publish(publication(), asked, secret)
    branch = branch_of(publication(), asked)
    tip = under_test.commit({"apps/chat/chat-l40s.yaml": "better: true\n"}, branch)
    done = publish(publication(), asked, secret, first)
    assert (done.state, done.commit, under_test.tip(branch)) == (PublishState.OPEN, tip, tip)
    assert "somebody else has changed branch" in done.note


def test_a_push_and_a_branch_that_is_protected(under_test: GiteaRepository) -> None:
    secret = credentials(under_test)
    done = publish(publication("1"), spec(under_test), secret)
    assert (done.state, done.commit) == (PublishState.PUSHED, under_test.tip())
    under_test.protect("main")
    with pytest.raises(PublishError, match=r"git\.branch: .* does not take a push to main: .*protected") as raised:
        publish(publication("2"), spec(under_test), secret)
    assert "set pullRequest" in str(raised.value)
    assert under_test.token not in str(raised.value)


def test_a_repository_that_the_token_may_only_read(gitea: GiteaServer, under_test: GiteaRepository) -> None:
    gitea.ask("PUT", f"/repos/{under_test.slug}/collaborators/haqa", {"permission": "read"})
    with pytest.raises(PublishError, match=r"git\.branch: .*denied for writing.*let the user of secretRef push"):
        publish(publication(), spec(under_test), credentials(under_test))


def test_by_ssh_with_a_deploy_key(gitea: GiteaServer, under_test: GiteaRepository) -> None:
    key = paramiko.ECDSAKey.generate()
    under_test.let_in(key)
    text = io.StringIO()
    key.write_private_key(text)
    data = {"ssh-privatekey": text.getvalue(), "known_hosts": gitea.known_hosts, "token": under_test.token}
    secret = GitCredentials.of_secret("git", data)
    asked = output(
        f"ssh://git@127.0.0.1:{gitea.ssh_port}/{under_test.slug}.git",
        pullRequest={"provider": "Forgejo", "apiBase": gitea.url},
    )
    done = publish_apart(publication(), asked, secret)
    assert (done.state, done.commit) == (PublishState.OPEN, under_test.tip(branch_of(publication(), asked)))
    assert publish_apart(publication(), asked, secret) == done
