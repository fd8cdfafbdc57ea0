from __future__ import annotations

import math

import pytest
from tests.builders import make_baseline, make_trial

from haqa_operator.api import Constraint, Objective
from haqa_operator.decision.observations import observations_of, score

THROUGHPUT = (Objective(metric="throughput"),)
LIMITS = (Constraint(metric="perplexity", max_degradation_percent=1), Constraint(metric="e2e", max=200))
BASELINE = make_baseline().throughput(100).metric("perplexity", 10).metric("e2e", 150).obj()


def test_the_objective_is_turned_so_that_higher_is_better() -> None:
    trial = make_trial(1).throughput(120).metric("e2e", 80).obj()
    assert score(trial, Objective(metric="throughput")) == 120
    assert score(trial, Objective(metric="e2e")) == -80
    assert score(trial, Objective(metric="e2e", direction="maximize")) == 80


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_rate_of_zero_or_below_is_not_a_measurement(value: float) -> None:
    broken = make_trial(1).throughput(value).obj()
    (observation,) = observations_of([broken], THROUGHPUT, ())
    assert observation.score is None
    assert observation.violation == math.inf
    assert "only values above 0" in observation.broken[0]


def test_a_trial_that_meets_everything_has_no_violation() -> None:
    good = make_trial(1).throughput(140).metric("perplexity", 10.05).metric("e2e", 200).obj()
    observation = observations_of([BASELINE, good], THROUGHPUT, LIMITS)[1]
    assert (observation.score, observation.violation, observation.broken) == (140, 0, ())


def test_violations_add_up_over_the_constraints() -> None:
    bad = make_trial(1).throughput(140).metric("perplexity", 12.12).metric("e2e", 300).obj()
    observation = observations_of([BASELINE, bad], THROUGHPUT, LIMITS)[1]
    assert observation.violation == pytest.approx(0.2 + 0.5)
    assert len(observation.broken) == 2


def test_a_failed_trial_is_infinitely_far_and_says_how_it_failed() -> None:
    observation = observations_of([make_trial(1).failed("EngineOOM", "24 GiB needed").obj()], THROUGHPUT, LIMITS)[0]
    assert observation.score is None
    assert observation.violation == math.inf
    assert observation.broken == ("EngineOOM: 24 GiB needed",)


def test_a_miss_of_the_accuracy_gate_is_a_violation_and_not_an_unknown() -> None:
    gated = make_trial(1).tried("W4A16").metric("perplexity", 12.12).failed("AccuracyGate").obj()
    observation = observations_of([BASELINE, gated], THROUGHPUT, LIMITS)[1]
    assert observation.score is None
    assert observation.violation == pytest.approx(0.2)
    assert "perplexity is 12.12" in observation.broken[0]


def test_a_miss_of_the_gate_counts_even_where_the_limit_in_the_spec_is_kept_by_a_hair() -> None:
    gated = make_trial(1).metric("perplexity", 10.1).failed("AccuracyGate", "perplexity 10.1").obj()
    observation = observations_of([BASELINE, gated], THROUGHPUT, LIMITS)[1]
    assert 0 < observation.violation < math.inf
    assert observation.broken == ("AccuracyGate: perplexity 10.1",)


def test_unfinished_trials_are_left_out_and_the_order_stays() -> None:
    trials = [make_trial(3).throughput(1).obj(), make_trial(2).pending().obj(), make_trial(1).throughput(2).obj()]
    assert [o.trial.number for o in observations_of(trials, THROUGHPUT, ())] == [3, 1]


def test_a_trial_that_ended_early_is_worth_what_was_measured() -> None:
    status = make_trial(1).throughput(50).obj().status.model_copy(update={"ended_early": "too slow"})
    trial = make_trial(1).obj().model_copy(update={"status": status})
    baseline = make_baseline().throughput(100).metric("ttft", 5).obj()
    limits = [Constraint(metric="ttft", max=10)]
    seen = observations_of([baseline, trial], [Objective()], limits)[1]
    assert (seen.score, seen.violation, seen.broken) == (50, 0, ())
    unscored = observations_of([baseline, trial], [Objective(metric="e2e")], limits)[1]
    assert (unscored.score, unscored.violation, unscored.broken) == (None, 1, ("too slow",))
