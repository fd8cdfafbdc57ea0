"""The surrogate as a strategy: finds, keeps limits, says what it expects, and stops when little is left to gain."""

import numpy as np
import pytest
from tests.optional import present
from tests.proposals import proposal_of
from tests.unit.search.surrogate.tables import (
    GOALS,
    Truth,
    closed_loop,
    first_trials,
    loads_space,
    observe,
    trial_of,
)

from haqa_contract import Configuration
from haqa_operator.api.goals import Objective
from haqa_operator.api.search_spec import Patience
from haqa_operator.api.trial import Proposer, Trial
from haqa_operator.decision.goals import Goals
from haqa_operator.search.bayesian import Bayesian
from haqa_operator.search.space import SearchSpace
from haqa_operator.search.strategies import Stop
from haqa_operator.search.surrogate.costs import hours_of
from haqa_operator.search.surrogate.screening import MOST_CANDIDATES, screened

SPACE = loads_space()


def search(strategy: Bayesian, space: SearchSpace, truth: Truth, most: int) -> tuple[list[Trial], Stop | None]:
    trials = first_trials(space, truth)
    while len(trials) <= most:
        answer = strategy.propose(space, observe(trials, strategy.goals))
        if isinstance(answer, Stop):
            return trials, answer
        trials.append(trial_of(len(trials), answer.configuration, truth(answer.configuration)))
    return trials, None


def best(trials: list[Trial], goals: Goals = GOALS) -> Configuration:
    kept = [o for o in observe(trials, goals) if o.score is not None and not o.violation]
    return max(kept, key=lambda o: o.score or 0.0).trial.configuration


def optimum(truth: Truth, goals: Goals = GOALS) -> Configuration:
    return best([trial_of(n, c, truth(c)) for n, c in enumerate((SPACE.baseline, *SPACE.candidates))], goals)


def test_the_best_that_keeps_the_limit_is_found_in_a_third_of_the_space() -> None:
    trials, _ = search(Bayesian(GOALS), SPACE, closed_loop, 5)
    assert best(trials) == optimum(closed_loop)


def test_a_latency_is_minimized() -> None:
    goals = Goals(Objective.model_validate({"metric": "e2e"}))
    trials, _ = search(Bayesian(goals), SPACE, closed_loop, 6)
    assert best(trials, goals) == optimum(closed_loop, goals)


def test_a_proposal_says_what_is_expected_and_how_sure_that_is() -> None:
    trials = first_trials(SPACE, closed_loop, Configuration.of(load=8, kind="slow"))
    proposal = proposal_of(Bayesian(GOALS).propose(SPACE, observe(trials)))
    assert proposal.proposer is Proposer.BAYESIAN
    low, middle, high = (
        present(proposal.expected_low_percent),
        present(proposal.expected_percent),
        present(proposal.expected_high_percent),
    )
    assert low < middle < high
    assert 0 < present(proposal.feasible_chance) <= 1
    assert f"{middle:.0f} %" in proposal.reasoning


def test_what_it_expects_of_a_latency_is_the_latency() -> None:
    goals = Goals(Objective.model_validate({"metric": "e2e"}))
    trials = first_trials(SPACE, closed_loop, Configuration.of(load=1, kind="fast"))
    seen = present(Bayesian(goals).outlook(SPACE, observe(trials, goals)))
    slower = seen.candidates.index(Configuration.of(load=64, kind="slow"))
    assert seen.percent(slower) > 150


@pytest.mark.parametrize("patience", [Patience.LOW, Patience.NORMAL, Patience.HIGH])
def test_it_stops_with_what_would_have_been_next_and_more_patience_goes_further(patience: Patience) -> None:
    trials, stop = search(Bayesian(GOALS, patience=patience), SPACE, closed_loop, len(SPACE.candidates))
    assert stop is not None
    assert "next would have been" in stop.sentence
    assert f"search.patience {patience.value}" in stop.sentence
    assert best(trials) == optimum(closed_loop)
    more, _ = search(Bayesian(GOALS, patience=Patience.UNLIMITED), SPACE, closed_loop, len(SPACE.candidates))
    assert len(trials) < len(more)


def test_nothing_feasible_is_no_reason_to_stop() -> None:
    def too_slow(configuration: Configuration) -> dict[str, float]:
        return {**closed_loop(configuration), "e2e": 5000.0}

    trials, stop = search(Bayesian(GOALS, patience=Patience.LOW), SPACE, too_slow, 8)
    assert stop is None
    assert len(trials) == 9


def test_what_shares_a_value_with_a_failure_is_trusted_less() -> None:
    trials = first_trials(SPACE, closed_loop)
    failed = trial_of(1, Configuration.of(load=8, kind="fast"), None)
    before = present(Bayesian(GOALS).outlook(SPACE, observe(trials)))
    after = present(Bayesian(GOALS).outlook(SPACE, observe([*trials, failed])))
    fast, slow = Configuration.of(load=16, kind="fast"), Configuration.of(load=4, kind="slow")
    fell = after.chance[after.candidates.index(fast)] / before.chance[before.candidates.index(fast)]
    held = after.chance[after.candidates.index(slow)] / before.chance[before.candidates.index(slow)]
    assert fell < 0.6
    assert held == pytest.approx(1.0, abs=0.05)
    assert (
        proposal_of(Bayesian(GOALS).propose(SPACE, observe([*trials, failed]))).configuration.settings["kind"] == "slow"
    )


def test_a_failed_baseline_leaves_the_order_of_the_space() -> None:
    trials = [trial_of(0, SPACE.baseline, None)]
    assert proposal_of(Bayesian(GOALS).propose(SPACE, observe(trials))).configuration == SPACE.candidates[0]


def test_an_artifact_that_is_there_is_cheaper_to_try() -> None:
    made, other = Configuration.of("W4A16", "rtn"), Configuration.of("W4A16", "gptq")
    trial = trial_of(1, made, {"throughput": 100.0})
    status = trial.status.model_copy(
        update={"machine_hours": 1.0, "phase_seconds": {"quantize": 1800.0, "load_test": 1800.0}}
    )
    hours = hours_of([trial.model_copy(update={"status": status})], [made, other, Configuration.of()])
    assert hours.tolist() == [0.5, 1.0, 0.5]


def test_closed_candidates_are_not_looked_at() -> None:
    trials = first_trials(SPACE, closed_loop)
    closed = SPACE.closing(dict.fromkeys(SPACE.candidates[1:], "must fail"))
    assert proposal_of(Bayesian(GOALS).propose(closed, observe(trials))).configuration == SPACE.candidates[0]


def test_of_a_large_space_the_promising_and_the_near_are_looked_at() -> None:
    every = tuple(Configuration.of(a=a, b=b, c=c) for a in range(40) for b in range(40) for c in range(4))
    space = SearchSpace(Configuration.of(a=0, b=0, c=9), every)
    picked = every[-1]
    trials = [trial_of(0, space.baseline, {"throughput": 1.0, "e2e": 1.0}), trial_of(1, picked, {"throughput": 9.0})]
    seen = screened(space, observe(trials, Goals()), also=[every[5000]])
    assert len(seen) <= MOST_CANDIDATES + 1
    assert {every[0], every[-2], every[5000]} <= set(seen)
    assert picked not in seen


def test_chances_and_gains_are_numbers_whatever_was_measured() -> None:
    trials = first_trials(SPACE, closed_loop, *SPACE.candidates[:6])
    seen = present(Bayesian(GOALS).outlook(SPACE, observe(trials)))
    assert np.isfinite(seen.gain).all()
    assert ((seen.chance >= 0) & (seen.chance <= 1)).all()
