"""What must hold of the decision whatever was measured."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import make_baseline, make_trial

from haqa_contract import Scheme
from haqa_operator.api import Constraint, Objective, Trial
from haqa_operator.decision.choose import decide
from haqa_operator.decision.comparison import compare
from haqa_operator.decision.constraints import References, find_baseline, judge_trial
from haqa_operator.decision.observations import observations_of
from haqa_operator.decision.results import Decision, Verdict

THROUGHPUT = Objective(metric="throughput")
LIMITS = (
    Constraint(metric="perplexity", max_degradation_percent=1),
    Constraint(metric="e2e", percentile=95, max=200),
)
PERCENT = 3.0


@st.composite
def trials(draw: st.DrawFn, number: int) -> Trial:
    builder = make_baseline() if number == 0 else make_trial(number)
    if number:
        scheme = draw(st.sampled_from(list(Scheme)))
        seqs = draw(st.sampled_from([None, 32, 64]))
        engine: dict[str, Any] = {"max_num_seqs": seqs} if seqs else {}
        builder = builder.tried(scheme, **engine)
    if draw(st.integers(0, 9)) == 0:
        return builder.failed(draw(st.sampled_from(["EngineOOM", "Timeout"]))).obj()
    builder = builder.metric("perplexity", draw(st.sampled_from([10.0, 10.05, 10.1, 10.2, 13.0])))
    if draw(st.integers(0, 9)) == 0:
        return builder.failed("AccuracyGate").obj()
    center = draw(st.floats(50, 400))
    samples = tuple(center * draw(st.floats(0.95, 1.05)) for _ in range(3))
    mean = math.exp(sum(map(math.log, samples)) / 3)
    builder = builder.metric("e2e.p95", draw(st.floats(100, 250)))
    return builder.metric("throughput", mean, samples=samples).obj()


@st.composite
def pools(draw: st.DrawFn) -> list[Trial]:
    first = draw(st.integers(0, 1))
    return [draw(trials(number)) for number in range(first, draw(st.integers(1, 8)))]


def choose(given_trials: list[Trial], objective: Objective = THROUGHPUT) -> Decision:
    return decide(given_trials, (objective,), LIMITS, PERCENT)


@given(pools(), st.randoms(use_true_random=False))
def test_the_order_of_the_trials_does_not_matter(pool: list[Trial], random: Any) -> None:
    shuffled = list(pool)
    random.shuffle(shuffled)
    assert choose(shuffled) == choose(pool)


@given(pools())
def test_the_winner_keeps_every_limit(pool: list[Trial]) -> None:
    decision = choose(pool)
    if decision.winner is None:
        assert decision.verdict in (Verdict.NOTHING_FEASIBLE, Verdict.NO_MEASUREMENT)
        return
    winner = next(trial for trial in pool if trial.name == decision.winner)
    assert winner.succeeded
    assert all(finding.met for finding in judge_trial(LIMITS, winner, References.among(pool)))
    assert decision.winner not in {rejection.trial for rejection in decision.rejections}


@given(pools())
def test_nothing_that_keeps_the_limits_is_clearly_better_than_the_winner(pool: list[Trial]) -> None:
    decision = choose(pool)
    feasible = [
        o.trial for o in observations_of(pool, (THROUGHPUT,), LIMITS) if o.score is not None and not o.violation
    ]
    if decision.verdict is Verdict.BASELINE_BEST:
        baseline = find_baseline(pool)
        assert baseline is not None
        assert not any(compare(trial, baseline, THROUGHPUT, PERCENT).better for trial in feasible)
    assert (decision.winner is None) == (not feasible)


@given(pools(), st.floats(0.001, 0.4))
def test_adding_a_worse_trial_never_changes_the_winner(pool: list[Trial], factor: float) -> None:
    decision = choose(pool)
    if decision.winner is None:
        return
    winner = next(trial for trial in pool if trial.name == decision.winner)
    samples = tuple(value * factor for value in winner.status.samples["throughput"])
    worse = make_trial(99).tried("BF16").metric("perplexity", 10.0).metric("e2e.p95", 100)
    worse = worse.metric("throughput", winner.status.metrics["throughput"].value * factor, samples=samples)
    again = choose([*pool, worse.obj()])
    assert (again.verdict, again.winner, again.speedup) == (decision.verdict, decision.winner, decision.speedup)


@given(pools(), st.floats(50, 1000))
def test_adding_a_trial_that_breaks_a_limit_never_changes_the_winner(pool: list[Trial], throughput: float) -> None:
    decision = choose(pool)
    late = make_trial(99).tried("BF16").metric("perplexity", 1.0).metric("e2e.p95", 201)
    again = choose([*pool, late.metric("throughput", throughput).obj()])
    assert again.winner == decision.winner
    if decision.winner is not None:
        assert again.speedup == decision.speedup


@given(pools(), st.floats(1e-3, 1e6))
def test_the_unit_of_throughput_does_not_matter(pool: list[Trial], unit: float) -> None:
    decision, scaled = choose(pool), choose([_in_unit(trial, unit) for trial in pool])
    assert (scaled.verdict, scaled.winner, scaled.pareto, scaled.binding) == (
        decision.verdict,
        decision.winner,
        decision.pareto,
        decision.binding,
    )
    if decision.speedup is not None and scaled.speedup is not None:
        assert scaled.speedup.value == pytest.approx(decision.speedup.value)


@given(pools())
def test_maximizing_throughput_is_minimizing_its_inverse(pool: list[Trial]) -> None:
    """Same answer, and the speed-up reads the same way round."""
    decision = choose(pool)
    inverse = choose([_inverted(trial) for trial in pool], Objective(metric="e2e"))
    assert (inverse.verdict, inverse.winner) == (decision.verdict, decision.winner)
    if decision.speedup is not None and inverse.speedup is not None:
        assert inverse.speedup.value == pytest.approx(decision.speedup.value)


@given(pools())
def test_the_front_is_feasible_and_holds_the_best_point_estimate(pool: list[Trial]) -> None:
    decision = choose(pool)
    feasible = {o.trial.name: o.score for o in observations_of(pool, (THROUGHPUT,), LIMITS) if not o.violation}
    assert set(decision.pareto) <= set(feasible)
    if feasible:
        best = max(score for score in feasible.values() if score is not None)
        assert feasible[decision.pareto[0]] == best


@given(pools())
def test_every_trial_that_cannot_win_has_a_reason(pool: list[Trial]) -> None:
    decision = choose(pool)
    rejected = {rejection.trial for rejection in decision.rejections}
    infeasible = {o.trial.name for o in observations_of(pool, (THROUGHPUT,), LIMITS) if o.score is None or o.violation}
    assert rejected == infeasible
    assert all(rejection.reason for rejection in decision.rejections)
    assert decision.reason


def _in_unit(trial: Trial, unit: float) -> Trial:
    return _with_throughput(trial, "throughput", lambda value: value * unit)


def _inverted(trial: Trial) -> Trial:
    return _with_throughput(trial, "e2e", lambda value: 1e4 / value)


def _with_throughput(trial: Trial, name: str, change: Any) -> Trial:
    status = trial.status
    if "throughput" not in status.metrics:
        return trial
    metrics, samples = dict(status.metrics), dict(status.samples)
    old = metrics.pop("throughput")
    metrics[name] = old.model_copy(update={bound: change(getattr(old, bound)) for bound in ("value", "low", "high")})
    samples[name] = tuple(change(value) for value in samples.pop("throughput"))
    changed = status.model_copy(update={"metrics": metrics, "samples": samples})
    return trial.model_copy(update={"status": changed})
