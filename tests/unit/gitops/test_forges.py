"""The clients of the three APIs, against servers that play them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fakes.forges import FakeForge, FakeGitea, FakeGitHub, FakeGitLab
from tests.fakes.git_server import BareRepository
from tests.forge_contract import BRANCH, ForgeContract, forge_of, proposal

from haqa_operator.gitops import PublishError

FORGES = (FakeGitHub, FakeGitLab, FakeGitea)


@pytest.fixture(params=FORGES, ids=[forge.provider.value for forge in FORGES])
def under_test(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FakeForge]:
    with request.param(BareRepository.make(tmp_path / "clusters.git", {"README.md": "ours\n"})) as forge:
        yield forge


class TestPlayedForges(ForgeContract):
    pass


@pytest.mark.parametrize(
    ("status", "says", "transient"),
    [
        (403, "give the token the right to write pull requests", False),
        (429, "limits requests", True),
        (500, "fails with HTTP 500", True),
        (503, "fails with HTTP 503", True),
        (302, "", False),
        (0, "does not answer", True),
    ],
)
def test_what_a_forge_answers_becomes_a_sentence(
    under_test: FakeForge, status: int, says: str, transient: bool
) -> None:
    under_test.fail = [status] * 5
    with pytest.raises(PublishError, match=f"spec.output.git.*{says}") as raised:
        forge_of(under_test).find(BRANCH, "main")
    assert raised.value.transient is transient
    assert len(under_test.requests) == 1, "nothing is tried again here, and no redirect followed"


def test_a_lost_answer_opens_no_second_one(under_test: FakeForge) -> None:
    under_test.commit({"a": "1"}, BRANCH)
    under_test.lose = 1
    forge = forge_of(under_test)
    with pytest.raises(PublishError):
        forge.open(proposal())
    found = forge.open(proposal())
    assert [one.number for one in under_test.pulls] == [found.number]


def test_labels_that_an_interrupted_opening_left_out_are_added(tmp_path: Path) -> None:
    with FakeGitHub(BareRepository.make(tmp_path / "clusters.git", {"README.md": "ours\n"})) as github:
        github.commit({"a": "1"}, BRANCH)
        forge = forge_of(github)
        made = forge.open(proposal())
        forge.complete(made, proposal(labels=("models",)))
        assert github.shown(made.number).labels == ["models"]
