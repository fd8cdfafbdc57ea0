"""A git server may hang: nothing waits for it, and what became of a publication is there when it is asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from haqa_operator.cluster.edges.publications import BackgroundPublications, Outcome, PublicationRequest
from haqa_operator.gitops import Published, PublishError, PublishState

REQUEST = PublicationRequest("uid", "l40s", "chat-l40s-1")
OPEN = Published(state=PublishState.OPEN, url="http://git/1", commit="a")
MERGED = Published(state=PublishState.MERGED, url="http://git/1", commit="b")
DOWN = PublishError("spec.output.git.url: down", transient=True)


class Scene:
    """Publications on a clock of its own, what was done, and how often something new was heard."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.publications = BackgroundPublications(look_again_s=300, clock=lambda: self.now)
        self.given: list[Published | None] = []
        self.answers: list[Published | Exception] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.changes = 0

    def publish(self, last: Published | None) -> Published:
        self.may_answer.wait(10)
        self.given.append(last)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def changed(self) -> None:
        self.changes += 1

    def ask(self, known: Published | None = None) -> Outcome:
        return self.publications.ask(REQUEST, self.publish, self.changed, known)

    def settled(self) -> Outcome:
        """Asks, and waits for what comes of it."""
        limit = time.monotonic() + 10
        self.ask()
        while (outcome := self.publications.known(REQUEST)).under_way:
            assert time.monotonic() < limit
            time.sleep(0.001)
        return outcome


@pytest.fixture
def scene() -> Iterator[Scene]:
    made = Scene()
    yield made
    made.publications.close()


def test_a_server_that_hangs_is_not_waited_for(scene: Scene) -> None:
    scene.may_answer.clear()
    scene.answers = [MERGED]
    began = time.monotonic()
    assert scene.ask() == Outcome(under_way=True)
    assert scene.ask() == Outcome(under_way=True), "asked again, nothing more is started"
    assert time.monotonic() - began < 5
    scene.may_answer.set()
    assert scene.settled() == Outcome(MERGED)
    assert scene.given == [None]


def test_an_open_pull_request_is_looked_at_again_after_a_while(scene: Scene) -> None:
    scene.answers = [OPEN, OPEN, MERGED]
    assert scene.settled() == Outcome(OPEN)
    assert scene.publications.seconds_until_due(REQUEST) == 300
    assert scene.settled() == Outcome(OPEN)
    assert scene.given == [None], "not yet"
    scene.now += 300
    assert scene.settled() == Outcome(OPEN)
    scene.now += 300
    assert scene.settled() == Outcome(MERGED)
    assert scene.given == [None, OPEN, OPEN]
    assert scene.publications.seconds_until_due(REQUEST) is None
    scene.now += 9999
    assert scene.settled() == Outcome(MERGED)


def test_what_failed_is_tried_again_ever_more_slowly(scene: Scene) -> None:
    scene.answers = [OPEN, DOWN, DOWN, DOWN, OPEN]
    scene.settled()
    scene.now += 300
    outcome = scene.settled()
    assert (outcome.published, str(outcome.error)) == (OPEN, str(DOWN))
    for wait in (15, 30, 60):
        assert scene.publications.seconds_until_due(REQUEST) == wait
        scene.now += wait
        outcome = scene.settled()
    assert outcome == Outcome(OPEN)


def test_only_what_is_new_has_the_tuning_reconciled_again(scene: Scene) -> None:
    scene.answers = [OPEN, OPEN, DOWN, DOWN, OPEN, MERGED]
    heard: list[int] = []
    for _ in range(len(scene.answers)):
        scene.settled()
        limit = time.monotonic() + 1
        expected = [1, 1, 2, 2, 3, 4][len(heard)]
        while scene.changes < expected and time.monotonic() < limit:
            time.sleep(0.001)
        heard.append(scene.changes)
        scene.now += 3600
    assert heard == [1, 1, 2, 2, 3, 4]


def test_a_bug_is_an_error_like_others(scene: Scene) -> None:
    scene.answers = [ValueError("t0ken")]
    outcome = scene.settled()
    assert "internal error: ValueError" in str(outcome.error)
    assert "t0ken" not in str(outcome.error)


def test_an_operator_that_starts_anew_goes_on_from_the_record(scene: Scene) -> None:
    assert scene.ask(known=MERGED) == Outcome(MERGED)
    assert scene.given == []


def test_what_is_forgotten_ends_unheard(scene: Scene) -> None:
    scene.may_answer.clear()
    scene.answers = [OPEN]
    scene.ask()
    scene.publications.forget("uid")
    scene.may_answer.set()
    limit = time.monotonic() + 10
    while scene.answers:
        assert time.monotonic() < limit
        time.sleep(0.001)
    scene.publications.close()
    assert scene.publications.known(REQUEST) == Outcome()
    assert scene.changes == 0
