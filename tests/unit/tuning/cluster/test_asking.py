"""A quick strategy's answer is there at once; a model's comes while others are looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from haqa_operator.api import Proposal, Proposer
from haqa_operator.tuning.cluster.asking import Asking, Question
from haqa_runner.contract import Configuration

QUESTION = Question("uid", "here", "abc", 1)
PROPOSAL = Proposal(configuration=Configuration(), proposer=Proposer.GRID)


@pytest.fixture
def asking() -> Iterator[Asking]:
    made = Asking()
    yield made
    made.close()


def test_a_strategy_that_only_computes_has_answered_when_it_was_asked(asking: Asking) -> None:
    told: list[str] = []
    asking.ask(QUESTION, lambda: PROPOSAL, lambda: told.append("look"))
    answer = asking.answer(QUESTION)
    assert answer is not None
    assert answer.result() == PROPOSAL
    assert asking.answer(QUESTION) is None
    assert told == []


def test_a_model_is_not_waited_for_and_says_when_it_has_answered(asking: Asking) -> None:
    may_answer, told = threading.Event(), threading.Event()

    def think() -> Proposal:
        may_answer.wait(10)
        return PROPOSAL

    began = time.monotonic()
    asking.ask(QUESTION, think, told.set)
    assert time.monotonic() - began < 5
    assert asking.waiting(QUESTION)
    assert asking.answer(QUESTION) is None
    may_answer.set()
    assert told.wait(10)
    answer = asking.answer(QUESTION)
    assert answer is not None
    assert answer.result() == PROPOSAL


def test_the_same_question_is_asked_once(asking: Asking) -> None:
    asked: list[int] = []
    for number in range(3):
        asking.ask(QUESTION, lambda n=number: asked.append(n), lambda: None)
    assert asked == [0]


def test_an_error_of_the_strategy_is_its_answer(asking: Asking) -> None:
    def fail() -> Proposal:
        raise RuntimeError("no idea")

    asking.ask(QUESTION, fail, lambda: None)
    answer = asking.answer(QUESTION)
    assert answer is not None
    assert isinstance(answer.exception(), RuntimeError)
