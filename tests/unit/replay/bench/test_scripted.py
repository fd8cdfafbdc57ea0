from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.replay.bench.tables import small_problem

from haqa_operator.agent.messages import LLMError, Message
from haqa_operator.replay.bench import rivals
from haqa_operator.replay.bench.problems import Problem
from haqa_operator.replay.bench.runs import run
from haqa_operator.replay.bench.scripted import Part, scripted_model


@pytest.fixture
def problem(tmp_path: Path) -> Problem:
    return small_problem(tmp_path)


def reply(part: Part, problem: Problem, open_numbers: list[int]) -> dict[str, Any]:
    schema = {"properties": {"choices": {"items": {"properties": {"candidate": {"enum": open_numbers}}}}}}
    completion = scripted_model(part, problem, seed=0).complete([Message("user", "choose")], schema)
    answer: dict[str, Any] = json.loads(completion.text)
    return answer


def reached(problem: Problem, answer: dict[str, Any]) -> list[float]:
    return [problem.reached(problem.space.candidates[choice["candidate"]]) for choice in answer["choices"]]


def every(problem: Problem) -> list[int]:
    return list(range(len(problem.space.candidates)))


def test_the_right_one_names_the_best_and_says_about_what_it_is(problem: Problem) -> None:
    answer = reply(Part.RIGHT, problem, every(problem))
    assert reached(problem, answer)[0] > 0.9
    assert answer["choices"][0]["expected_percent"] == pytest.approx(100 * 250 / 80, rel=0.3)
    assert answer["stop"] is False


def test_the_right_one_stops_when_nothing_that_is_left_can_win(problem: Problem) -> None:
    best = problem.best
    assert best is not None
    rest = [i for i in every(problem) if problem.reached(problem.space.candidates[i]) < 0.5]
    assert reply(Part.RIGHT, problem, rest)["stop"] is True


def test_the_adversarial_one_praises_the_worst(problem: Problem) -> None:
    answer = reply(Part.ADVERSARIAL, problem, every(problem))
    assert reached(problem, answer)[0] == 0
    assert all(choice["chance"] == 99 and choice["expected_percent"] > 100 for choice in answer["choices"])
    assert answer["stop"] is False


def test_the_stopping_one_always_stops(problem: Problem) -> None:
    assert reply(Part.STOPPING, problem, every(problem))["stop"] is True


def test_the_silent_one_is_never_heard(problem: Problem) -> None:
    with pytest.raises(LLMError):
        scripted_model(Part.SILENT, problem, 0).complete([Message("user", "choose")])


@pytest.mark.parametrize("part", [Part.RIGHT, Part.WRONG, Part.ADVERSARIAL, Part.STOPPING])
def test_only_what_is_open_is_named(problem: Problem, part: Part) -> None:
    assert {choice["candidate"] for choice in reply(part, problem, [2, 5])["choices"]} == {2, 5}


@pytest.mark.parametrize("part", list(Part))
@pytest.mark.parametrize("name", ["agent", "haqa"])
def test_every_script_is_played_through_the_real_agent(problem: Problem, part: Part, name: str) -> None:
    strategy = rivals.make(name, problem, seed=0, agent=f"{rivals.SCRIPTED}{part}")
    trace = run(problem, strategy, seed=0, trials=4)
    faults = [e.error for s in trace.steps for e in s.trial.proposal.exchanges if e.error]
    assert all("no reply" in fault for fault in faults) if part is Part.SILENT else not faults
    assert (trace.steps[-1].tokens > 0) is (part is not Part.SILENT)
