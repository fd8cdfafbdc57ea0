from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.unit.replay.bench.tables import small_problem

from haqa_contract import Configuration
from haqa_operator.api.trial import Exchange, Proposal, Proposer
from haqa_operator.decision.observations import Observation
from haqa_operator.decision.results import Verdict
from haqa_operator.replay.bench.expert import ExpertRule
from haqa_operator.replay.bench.null import null_problem
from haqa_operator.replay.bench.problems import Problem
from haqa_operator.replay.bench.runs import run
from haqa_operator.search.grid import Grid
from haqa_operator.search.random_search import RandomSearch
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import Stop, Strategy


class Listed(Strategy):
    """Proposes what it was given, one after the other, then stops."""

    def __init__(self, *configurations: Configuration) -> None:
        self.configurations = configurations

    def propose(self, space: SearchSpace, observations: Sequence[Observation]) -> Proposal | Stop:
        place = len(observations) - 1
        if place == len(self.configurations):
            return Stop("that is all")
        exchange = Exchange(prompt_hash="x", model="m", prompt_tokens=10, completion_tokens=2)
        return Proposal(configuration=self.configurations[place], proposer=Proposer.USER, exchanges=(exchange,))


def fast(gpus: int, batch: int) -> Configuration:
    return Configuration.of(engine="vllm", gpus=gpus, batch=batch)


@pytest.fixture
def problem(tmp_path: Path) -> Problem:
    return small_problem(tmp_path)


def test_each_trial_is_scored_by_the_best_feasible_so_far(problem: Problem) -> None:
    trace = run(problem, Listed(fast(2, 64), fast(1, 32), fast(1, 16), fast(1, 8), fast(2, 32)), seed=0)
    assert [round(step.share, 3) for step in trace.steps] == [0.32, 0.32, 0.32, 0.96, 0.96, 1.0]
    assert [step.failed for step in trace.steps[1:]] == [True, False, False, False, False]
    assert [step.feasible for step in trace.steps[1:]] == [False, False, True, True, True]
    assert trace.stopped == "that is all"
    assert trace.steps[-1].tokens == 60
    assert trace.steps[-1].machine_hours == pytest.approx(0.5 + 1.0 + 0.5 + 0.5 + 0.5 + 1.0)


def test_a_search_that_ended_stays_where_it_is(problem: Problem) -> None:
    trace = run(problem, Listed(fast(1, 16)), seed=0)
    assert trace.share_after(1) == trace.share_after(20) == pytest.approx(0.96)
    assert trace.trials_to(0.95) == 1
    assert trace.trials_to(0.99) is None


def test_own_trials_are_counted_without_the_baseline(problem: Problem) -> None:
    assert len(run(problem, Grid(), seed=0, trials=3).steps) == 4


def test_noise_changes_what_is_seen_and_not_how_it_is_judged(problem: Problem) -> None:
    quiet, noisy = (run(problem, Grid(), seed=1, noise_percent=percent) for percent in (0.0, 20.0))
    assert [step.share for step in quiet.steps] == [step.share for step in noisy.steps]
    values = [trace.steps[1].trial.status.metrics["throughput"].value for trace in (quiet, noisy)]
    assert values[0] != values[1]


def test_what_is_closed_is_not_proposed(problem: Problem) -> None:
    first = problem.space.candidates[0]
    trace = run(problem, Grid(), seed=0, closing=lambda space, trials: space.closing({first: "ruled out"}))
    assert first not in [step.trial.configuration for step in trace.steps]


def test_where_all_is_alike_whoever_wins_was_deceived(problem: Problem) -> None:
    alike = null_problem(problem)
    assert {seen.score for seen in alike.truth.values()} == {100.0}, "that with most room to the limit"
    trace = run(alike, RandomSearch(0), seed=3, noise_percent=3)
    assert trace.decision is not None
    assert trace.decision.verdict is not Verdict.WINNER


def test_the_expert_climbs_the_load_of_the_better_engine(problem: Problem) -> None:
    trace = run(problem, ExpertRule(problem.constraints), seed=0, trials=4)
    tried = [step.trial.configuration for step in trace.steps[1:]]
    assert tried == [fast(1, 8), fast(1, 16), fast(1, 32), fast(2, 16)]


def test_the_expert_proposes_everything_in_the_end(problem: Problem) -> None:
    trace = run(problem, ExpertRule(problem.constraints), seed=0, trials=100)
    assert {step.trial.configuration for step in trace.steps} == set(problem.table.rows)
