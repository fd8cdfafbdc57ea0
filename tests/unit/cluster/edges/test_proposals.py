"""A quick strategy's answer is there at once; a model's comes while others are looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from haqa_contract import Configuration
from haqa_operator.api import Proposal, Proposer
from haqa_operator.cluster.edges.proposals import BackgroundProposals, ProposalRequest

QUESTION = ProposalRequest("uid", "here", "abc", 1)
PROPOSAL = Proposal(configuration=Configuration(), proposer=Proposer.GRID)


@pytest.fixture
def proposals() -> Iterator[BackgroundProposals]:
    made = BackgroundProposals()
    yield made
    made.close()


def test_a_strategy_that_only_computes_has_answered_when_it_was_asked(proposals: BackgroundProposals) -> None:
    calls: list[str] = []
    proposals.ask(QUESTION, lambda: PROPOSAL, lambda: calls.append("answered"))
    answer = proposals.answer(QUESTION)
    assert answer is not None
    assert answer.result() == PROPOSAL
    assert proposals.answer(QUESTION) is answer, "it is kept until it was used"
    proposals.forget(QUESTION)
    assert proposals.answer(QUESTION) is None
    assert calls == []


def test_a_model_is_not_waited_for_and_says_when_it_has_answered(proposals: BackgroundProposals) -> None:
    may_answer, answered = threading.Event(), threading.Event()

    def think() -> Proposal:
        may_answer.wait(10)
        return PROPOSAL

    began = time.monotonic()
    proposals.ask(QUESTION, think, answered.set)
    assert time.monotonic() - began < 5
    assert proposals.waiting(QUESTION)
    assert proposals.answer(QUESTION) is None
    may_answer.set()
    assert answered.wait(10)
    answer = proposals.answer(QUESTION)
    assert answer is not None
    assert answer.result() == PROPOSAL


def test_the_same_question_is_asked_once(proposals: BackgroundProposals) -> None:
    asked: list[int] = []

    def propose(number: int) -> Proposal:
        asked.append(number)
        return PROPOSAL

    for number in range(3):
        proposals.ask(QUESTION, partial(propose, number), lambda: None)
    assert asked == [0]


def test_an_error_of_the_strategy_is_its_answer(proposals: BackgroundProposals) -> None:
    def fail() -> Proposal:
        raise RuntimeError("no idea")

    proposals.ask(QUESTION, fail, lambda: None)
    answer = proposals.answer(QUESTION)
    assert answer is not None
    assert isinstance(answer.exception(), RuntimeError)


def test_endpoints_that_hang_keep_no_other_tuning_waiting() -> None:
    proposals = BackgroundProposals(at_once=8, of_one_tuning=2)
    hung, served = threading.Event(), threading.Event()
    under_way: list[int] = []

    def hang(number: int) -> Proposal:
        under_way.append(number)
        hung.wait(10)
        return PROPOSAL

    questions = [ProposalRequest(f"tenant-{tenant}", "pool", "abc", n) for tenant in range(2) for n in range(5)]
    try:
        for number, question in enumerate(questions):
            proposals.ask(question, partial(hang, number), lambda: None)
        assert sorted(under_way) == [0, 1, 5, 6], "two of each, the others wait for these"
        proposals.ask(QUESTION, lambda: PROPOSAL, served.set)
        assert proposals.answer(QUESTION) is not None
        hung.set()
        deadline = time.monotonic() + 10
        while any(proposals.waiting(question) for question in questions) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sorted(under_way) == list(range(10)), "all of them have their turn"
    finally:
        hung.set()
        proposals.close()


def test_a_strategy_that_fails_makes_room_for_the_next() -> None:
    proposals = BackgroundProposals(at_once=2, of_one_tuning=1)

    def fail() -> Proposal:
        raise RuntimeError("a bug")

    try:
        for number in range(3):
            proposals.ask(ProposalRequest("uid", "here", "abc", number), fail, lambda: None)
            answer = proposals.answer(ProposalRequest("uid", "here", "abc", number))
            assert answer is not None
            assert isinstance(answer.exception(), RuntimeError)
    finally:
        proposals.close()
