"""Answers that go through a repository: proposed, merged, rolled out by somebody else, verified, taken back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.unit.cluster.answered import BETTER, FIRST, answer, settle
from tests.unit.cluster.tunings import Operated

from haqa_operator.api.git_output import GitOutput
from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.publications import BackgroundPublications
from haqa_operator.gitops import GitCredentials, Publication, Published, PublishError, PublishState

OUTPUT = {
    "mode": "Git",
    "git": {
        "url": "https://git.example/team/apps.git",
        "path": "serving",
        "secretRef": {"name": "git"},
        "pullRequest": {"provider": "Gitea"},
    },
}


class Repository:
    """What a forge would answer, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Publication] = []
        self.retired: list[str] = []
        self.states: dict[str, PublishState] = {}
        self.fails: PublishError | None = None

    def __call__(
        self, publication: Publication, output: GitOutput, credentials: GitCredentials, last: Published | None
    ) -> Published:
        if self.fails is not None:
            raise self.fails
        if publication.retires:
            self.retired += publication.retires
            return Published(state=PublishState.CLOSED)
        self.asked.append(publication)
        state = self.states.get(publication.key, PublishState.OPEN)
        return Published(state=state, url=f"https://git.example/pr/{publication.key}", commit="abc")

    @property
    def keys(self) -> list[str]:
        """Of what was published, each once, in order."""
        return list(dict.fromkeys(one.key for one in self.asked))

    def merges(self, key: str) -> None:
        self.states[key] = PublishState.MERGED


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def operated(repository: Repository) -> Operated:
    operated = Operated()
    operated.dependencies = replace(
        operated.dependencies, publish=repository, publications=BackgroundPublications(look_again_s=0.0)
    )
    operated.reconciler._dependencies = operated.dependencies
    return operated


def looks(operated: Operated, until: Callable[[], bool]) -> None:
    for _ in range(80):
        operated.reconcile()
        if until():
            return
        operated.cluster.step()
        time.sleep(0.01)  # the background has a thread of its own
    raise AssertionError(f"{operated.pool('full')} {operated.errors[-2:]}")


def roll_out(operated: Operated, publication: Publication) -> None:
    """As Argo CD would."""
    for manifest in publication.manifests:
        operated.cluster.api.stand_in(manifest, "argocd")


def phase(operated: Operated) -> str:
    pools: list[Manifest] = operated.status().get("pools", [])
    return str(pools[0]["phase"]) if pools else ""


def test_a_winner_is_proposed_merged_rolled_out_and_verified(operated: Operated, repository: Repository) -> None:
    operated.submit(**FIRST, output=OUTPUT)
    looks(operated, lambda: phase(operated) == "AwaitingApproval")
    assert operated.names()["Deployment"] == [], "only a repository is written to"
    (key,) = repository.keys
    assert "waits to be merged" in operated.pool("full")["message"]
    assert "1.3" in repository.asked[0].summary
    assert "| throughput |" in repository.asked[0].evidence
    repository.merges(key)
    looks(operated, lambda: "waits to be rolled out" in operated.pool("full")["message"])
    roll_out(operated, repository.asked[0])
    looks(operated, lambda: phase(operated) == "Verifying")
    looks(operated, lambda: phase(operated) == "Succeeded")
    assert answer(operated)["phase"] == "Serving"
    (record,) = operated.records()
    assert '"state":"Merged"' in record["metadata"]["annotations"]["haqa.dev/published"]


def test_one_that_is_slower_is_taken_back_by_a_pull_request(operated: Operated, repository: Repository) -> None:
    operated.submit(**FIRST, output=OUTPUT)
    looks(operated, lambda: bool(repository.keys))
    repository.merges(repository.keys[0])
    roll_out(operated, repository.asked[0])
    looks(operated, lambda: phase(operated) == "Succeeded")
    operated.cluster.deployed["full"] = 0.5
    operated.submit(**BETTER, output=OUTPUT)
    looks(operated, lambda: len(repository.keys) == 2)
    repository.merges(repository.keys[1])
    roll_out(operated, repository.asked[-1])
    looks(operated, lambda: len(repository.keys) == 3)
    back = repository.asked[-1]
    assert back.key == f"{repository.keys[0]}.after.{repository.keys[1]}"
    assert back.manifests == repository.asked[0].manifests
    assert "again, instead of answer 2" in back.title
    assert "was rolled back" in back.summary
    settle(operated)
    assert operated.condition("Degraded")["reason"] == "RolledBack"


def test_a_pull_request_that_is_closed_is_not_served(operated: Operated, repository: Repository) -> None:
    operated.submit(**FIRST, output=OUTPUT)
    looks(operated, lambda: bool(repository.keys))
    repository.states[repository.keys[0]] = PublishState.CLOSED
    looks(operated, lambda: phase(operated) == "Failed")
    assert "was closed" in operated.condition("Degraded")["message"]


def test_a_repository_that_cannot_be_reached_is_said_and_tried_again(
    operated: Operated, repository: Repository
) -> None:
    repository.fails = PublishError("spec.output.git.url: nobody answers", transient=True)
    operated.submit(**FIRST, output=OUTPUT)
    looks(operated, lambda: "nobody answers" in str(operated.status().get("conditions")))
    assert phase(operated) == "Deploying"


def test_a_restarted_operator_asks_for_the_same(operated: Operated, repository: Repository) -> None:
    operated.submit(**FIRST, output=OUTPUT)
    looks(operated, lambda: phase(operated) == "AwaitingApproval")
    before = repository.keys
    operated.dependencies = replace(operated.dependencies, publications=BackgroundPublications(look_again_s=0.0))
    operated.reconciler._dependencies = operated.dependencies
    settle(operated)
    assert repository.keys == before


def test_a_later_answer_has_the_earlier_ones_pull_request_closed(operated: Operated, repository: Repository) -> None:
    operated.submit(**FIRST, output=OUTPUT)
    looks(operated, lambda: phase(operated) == "AwaitingApproval")
    operated.submit(**BETTER, output=OUTPUT)
    looks(operated, lambda: bool(repository.retired))
    assert repository.retired == [repository.keys[0]]
    looks(operated, lambda: '"state":"Closed"' in published(operated)[0] and '"Open"' in published(operated)[1])
    operated.dependencies = replace(operated.dependencies, publications=BackgroundPublications(look_again_s=0.0))
    operated.reconciler._dependencies = operated.dependencies
    settle(operated)
    assert repository.retired == [repository.keys[0]], "that is on record"


def test_going_back_to_what_serves_closes_what_was_asked_for_in_between(
    operated: Operated, repository: Repository
) -> None:
    operated.submit(**FIRST, output=OUTPUT)
    looks(operated, lambda: bool(repository.keys))
    repository.merges(repository.keys[0])
    roll_out(operated, repository.asked[0])
    looks(operated, lambda: phase(operated) == "Succeeded")
    operated.submit(**BETTER, output=OUTPUT)
    looks(operated, lambda: len(repository.keys) == 2)
    # Under such a limit the first one is the answer again.
    operated.submit(**BETTER, output=OUTPUT, constraints=[{"metric": "throughput", "max": 400}])
    looks(operated, lambda: bool(repository.retired))
    assert repository.retired == [repository.keys[1]]
    assert answer(operated)["message"] == "the same as answer 1"
    assert len(repository.keys) == 2


def published(operated: Operated) -> list[str]:
    return [one["metadata"]["annotations"].get("haqa.dev/published", "") for one in operated.records()]


def test_the_same_answer_to_another_question_is_not_proposed_twice(operated: Operated, repository: Repository) -> None:
    operated.submit(**FIRST, output=OUTPUT)
    looks(operated, lambda: phase(operated) == "AwaitingApproval")
    operated.submit(**FIRST, output=OUTPUT, budget={"maxTrials": 7})
    looks(operated, lambda: len(operated.records()) == 2)
    settle(operated)
    assert len(repository.keys) == 1
    repository.merges(repository.keys[0])
    looks(operated, lambda: "waits to be rolled out" in operated.pool("full")["message"])
    roll_out(operated, repository.asked[0])
    looks(operated, lambda: phase(operated) == "Succeeded")
    assert (answer(operated)["revision"], answer(operated)["phase"]) == (2, "Serving")
