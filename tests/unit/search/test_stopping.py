"""Why a search ends: one rule after the other, the first that holds."""

from datetime import timedelta
from typing import Any

import pytest
from tests.builders import TrialBuilder, make_baseline, make_trial
from tests.optional import present

from haqa_operator.api.goals import Constraint, Objective
from haqa_operator.api.search_spec import Search
from haqa_operator.api.tuning import Budget
from haqa_operator.search.stopping import StopCause, StopReason, stop_reason


def stopped(
    *trials: TrialBuilder,
    left: int = 10,
    now: float = 0.0,
    started: float | None = 0.0,
    bound: float | None = None,
    objective: Objective | None = None,
    constraints: tuple[Constraint, ...] = (),
    search: Search | None = None,
    **budget: Any,
) -> StopReason | None:
    return stop_reason(
        budget=Budget(**budget),
        search=search or Search(),
        trials=[trial.obj() for trial in trials],
        objectives=(objective or Objective(),),
        constraints=constraints,
        candidates_left=left,
        now=now,
        started=started,
        bound=bound,
    )


def trials(baseline: float, *others: float | None) -> list[TrialBuilder]:
    """The baseline, then one trial for each; None is a failed one."""
    built = [make_baseline().throughput(baseline)]
    for number, value in enumerate(others, 1):
        trial = make_trial(number).tried("W4A16", "gptq", max_num_seqs=number)
        built.append(trial.failed("EngineOOM", "out of memory") if value is None else trial.throughput(value))
    return built


def test_search_goes_on_while_no_limit_is_reached() -> None:
    assert stopped(*trials(100, 110, 90)) is None
    assert stopped() is None


def test_baseline_is_no_trial_of_the_budget() -> None:
    assert stopped(*trials(100, 110), max_trials=2) is None
    reason = present(stopped(*trials(100, 110, 120), max_trials=2))
    assert reason.cause is StopCause.MAX_TRIALS
    assert reason.sentence == "2 trials beside the baseline have run (budget.maxTrials 2)"


def test_trial_that_is_still_running_does_not_count() -> None:
    assert stopped(*trials(100, 110), make_trial(2).pending(), max_trials=2) is None


def test_space_that_has_been_tried_is_exhausted() -> None:
    reason = present(stopped(*trials(100, 110), left=0))
    assert reason.cause is StopCause.EXHAUSTED
    assert reason.sentence == "every feasible configuration has been tried"


def test_failed_trials_have_a_limit_of_their_own() -> None:
    assert stopped(*trials(100, None, 110), max_failed_trials=2) is None
    reason = present(stopped(*trials(100, None, 110, None), max_failed_trials=2))
    assert reason.cause is StopCause.MAX_FAILED_TRIALS
    assert reason.sentence == (
        "2 trials have failed (budget.maxFailedTrials 2), the last with EngineOOM: out of memory"
    )


def test_missed_accuracy_gate_is_a_measurement_and_no_failure() -> None:
    gated = [make_trial(n).tried("W4A16", "rtn", max_num_seqs=n).failed("AccuracyGate") for n in (1, 2, 3)]
    assert stopped(make_baseline().throughput(100), *gated, max_failed_trials=2) is None


def test_failed_baseline_is_not_one_of_the_failed_trials() -> None:
    assert stopped(make_baseline().failed("EngineOOM"), *trials(1)[1:], max_failed_trials=1) is None


def test_machine_hours_of_all_trials_count() -> None:
    hours = [trial.machine_hours(0.5) for trial in trials(100, 110, 120)]
    assert stopped(*hours, max_gpu_hours=1.6) is None
    reason = present(stopped(*hours, max_gpu_hours=1.5))
    assert reason.cause is StopCause.MAX_GPU_HOURS
    assert reason.sentence == "the trials have used 1.50 machine-hours (budget.maxGpuHours 1.5)"


def test_duration_counts_from_the_first_trial() -> None:
    budget: dict[str, Any] = {"max_duration": timedelta(minutes=30)}
    assert stopped(now=100.0, started=None, **budget) is None
    assert stopped(now=1000.0 + 1799, started=1000.0, **budget) is None
    reason = present(stopped(now=1000.0 + 1800, started=1000.0, **budget))
    assert reason.cause is StopCause.MAX_DURATION
    assert reason.sentence == "the search has run for 30.0 minutes (budget.maxDuration 30m)"


PATIENT = Search(stop_after_no_improvement=3)


def test_trials_without_improvement_are_counted_from_the_last_one() -> None:
    assert stopped(*trials(100, 120, 90, 80), search=PATIENT) is None
    reason = present(stopped(*trials(100, 120, 90, 80, None), search=PATIENT))
    assert reason.cause is StopCause.NO_IMPROVEMENT
    assert reason.sentence == (
        "3 trials in a row have not found a better configuration (search.stopAfterNoImprovement 3)"
    )
    assert stopped(*trials(100, 120, 90, 80, 130), search=PATIENT) is None


def test_improvement_too_small_to_count_is_none() -> None:
    assert present(stopped(*trials(100, 102, 101, 102.9), search=PATIENT)).cause is StopCause.NO_IMPROVEMENT
    assert stopped(*trials(100, 102, 101, 103.1), search=PATIENT) is None


def test_faster_trial_that_breaks_a_constraint_is_no_improvement() -> None:
    limit = (Constraint(metric="perplexity", max=10),)
    good = [t.metric("perplexity", 9.0) for t in trials(100)]
    bad = [t.metric("perplexity", 12.0) for t in trials(100, 150, 160, 170)[1:]]
    assert present(stopped(*good, *bad, constraints=limit, search=PATIENT)).cause is StopCause.NO_IMPROVEMENT


def test_nothing_feasible_yet_is_said_so() -> None:
    limit = (Constraint(metric="perplexity", max=10),)
    bad = [t.metric("perplexity", 12.0) for t in trials(100, 150, 160, 170)]
    reason = present(stopped(*bad, constraints=limit, search=PATIENT))
    assert "have not found one that keeps the constraints" in reason.sentence


def test_smaller_latency_is_an_improvement() -> None:
    objective = Objective(metric="itl")
    built = [
        (make_baseline() if n == 0 else make_trial(n).tried("W4A16", "rtn", max_num_seqs=n)).metric("itl", value)
        for n, value in enumerate((20.0, 18.0, 19.0, 16.0))
    ]
    assert stopped(*built, objective=objective, search=Search(stop_after_no_improvement=2)) is None
    worse = make_trial(4).tried("W4A16", "rtn", max_num_seqs=9).metric("itl", 15.9)
    again = make_trial(5).tried("W4A16", "rtn", max_num_seqs=10).metric("itl", 17.0)
    reason = present(stopped(*built, worse, again, objective=objective, search=Search(stop_after_no_improvement=2)))
    assert reason.cause is StopCause.NO_IMPROVEMENT


@pytest.mark.parametrize(("bound", "ends"), [(None, False), (130.0, False), (123.5, True), (100.0, True)])
def test_search_ends_when_nothing_untried_can_win(bound: float | None, ends: bool) -> None:
    reason = stopped(*trials(100, 120), bound=bound)
    assert (reason is not None) == ends
    if reason:
        assert reason.cause is StopCause.BOUND
        assert "is the most that the hardware's peak rates allow, throughput 120 has been measured" in reason.sentence


def test_bound_means_nothing_before_something_feasible_was_measured() -> None:
    assert stopped(make_baseline().failed("EngineOOM"), bound=1.0) is None


def test_order_of_trials_does_not_matter() -> None:
    built = trials(100, 120, 90, 80, None)
    assert stopped(*reversed(built), search=PATIENT) == stopped(*built, search=PATIENT)
