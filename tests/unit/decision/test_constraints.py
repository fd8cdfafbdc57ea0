from __future__ import annotations

import math

import pytest
from tests.builders import make_baseline, make_trial, over

from haqa_contract import Estimate
from haqa_operator.api import Constraint, Trial
from haqa_operator.decision.constraints import (
    UNJUDGED_EXCESS,
    References,
    find_baseline,
    judge,
    judge_trial,
    measured,
)

BASELINE = (
    make_baseline()
    .metric("perplexity", 10.0)
    .metric("accuracy.arc_easy", 0.8)
    .metric("e2e.p95@8", 200.0)
    .metric("throughput", 100.0)
    .obj()
)


def trial_with(metric: str, value: float, margin: float = 0.0) -> Trial:
    return make_trial(1).tried("W8A8-INT8").metric(metric, value, margin).obj()


@pytest.mark.parametrize(
    ("constraint", "metric", "value", "met", "excess"),
    [
        (Constraint(metric="e2e", percentile=95, concurrency=8, max=200), "e2e.p95@8", 199.9, True, 0.0),
        (Constraint(metric="e2e", percentile=95, concurrency=8, max=200), "e2e.p95@8", 200.0, True, 0.0),
        (Constraint(metric="e2e", percentile=95, concurrency=8, max=200), "e2e.p95@8", 240.0, False, 0.2),
        (Constraint(metric="throughput", min=100), "throughput", 100.0, True, 0.0),
        (Constraint(metric="throughput", min=100), "throughput", 75.0, False, 0.25),
        (Constraint(metric="perplexity", min=5, max=10), "perplexity", 7.0, True, 0.0),
        (Constraint(metric="perplexity", min=5, max=10), "perplexity", 4.0, False, 0.2),
        (Constraint(metric="klDivergence", max=0), "klDivergence", 0.5, False, 0.5),
        (Constraint(metric="table_column", max=3), "table_column", 3.3, False, 0.1),
    ],
)
def test_an_absolute_limit_is_kept_up_to_and_with_its_value(
    constraint: Constraint, metric: str, value: float, met: bool, excess: float
) -> None:
    finding = judge(constraint, trial_with(metric, value), over(BASELINE))
    assert finding.met is met
    assert finding.excess == pytest.approx(excess)


@pytest.mark.parametrize(
    ("metric", "percent", "value", "met"),
    [
        ("perplexity", 1, 10.1, True),
        ("perplexity", 1, 10.1001, False),
        ("perplexity", 1, 5.0, True),
        ("perplexity", 0, 10.0, True),
        ("accuracy.arc_easy", 5, 0.76, True),
        ("accuracy.arc_easy", 5, 0.7599, False),
        ("accuracy.arc_easy", 5, 0.9, True),
        ("throughput", 10, 90.0, True),
        ("throughput", 10, 89.9, False),
        ("throughput", 1, 99.0, True),
    ],
)
def test_degradation_is_counted_in_the_direction_that_is_worse_for_the_metric(
    metric: str, percent: float, value: float, met: bool
) -> None:
    finding = judge(
        Constraint(metric=metric, max_degradation_percent=percent), trial_with(metric, value), over(BASELINE)
    )
    assert finding.met is met


def test_a_latency_may_degrade_relative_to_the_baseline_too() -> None:
    limit = Constraint(metric="e2e", percentile=95, concurrency=8, max_degradation_percent=10)
    assert judge(limit, trial_with("e2e.p95@8", 220.0), over(BASELINE)).met
    broken = judge(limit, trial_with("e2e.p95@8", 242.0), over(BASELINE))
    assert not broken.met
    assert broken.excess == pytest.approx(0.1)
    assert broken.achieved == "+21 %"


def test_a_broken_limit_is_said_with_value_and_limit() -> None:
    limit = Constraint(metric="e2e", percentile=95, concurrency=8, max=200)
    assert judge(limit, trial_with("e2e.p95@8", 240.0), References()).sentence == (
        "e2e.p95@8 is 240 ms, above the limit of 200 ms"
    )
    relative = Constraint(metric="perplexity", max_degradation_percent=1)
    assert judge(relative, trial_with("perplexity", 10.13), over(BASELINE)).sentence == (
        "perplexity is 10.13, +1.3 % against the baseline's 10, where 1 % worse is allowed"
    )


def test_the_point_estimate_decides_and_a_close_call_is_noted() -> None:
    limit = Constraint(metric="perplexity", max=10)
    inside = judge(limit, trial_with("perplexity", 9.9, margin=0.2), References())
    assert inside.met
    assert inside.marginal
    assert "within noise of the limit" in inside.sentence
    outside = judge(limit, trial_with("perplexity", 10.1, margin=0.2), References())
    assert not outside.met
    assert outside.marginal
    assert not judge(limit, trial_with("perplexity", 9.0, margin=0.2), References()).marginal


def test_what_was_not_measured_never_passes() -> None:
    finding = judge(Constraint(metric="ttft", max=50), trial_with("throughput", 100), over(BASELINE))
    assert not finding.met
    assert "ttft was not measured" in finding.sentence
    assert finding.excess == UNJUDGED_EXCESS


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_counts_as_not_measured(value: float) -> None:
    trial = trial_with("ttft", 1.0)
    broken = Estimate(value=value, low=value, high=value, n=1)
    trial = trial.model_copy(update={"status": trial.status.model_copy(update={"metrics": {"ttft": broken}})})
    assert measured(trial, Constraint(metric="ttft", max=50).key) is None
    assert not judge(Constraint(metric="ttft", max=50), trial, References()).met


@pytest.mark.parametrize(
    ("baseline", "why"),
    [
        (None, "the baseline was not measured"),
        (make_baseline().failed("EngineOOM").obj(), "the baseline failed (EngineOOM)"),
        (make_baseline().throughput(100).obj(), "the baseline has no perplexity"),
        (make_baseline().metric("perplexity", 0.0).obj(), "the baseline's is 0"),
    ],
)
def test_a_relative_limit_without_a_reference_cannot_be_judged_and_does_not_pass(
    baseline: Trial | None, why: str
) -> None:
    limit = Constraint(metric="perplexity", max_degradation_percent=1)
    finding = judge(limit, trial_with("perplexity", 10.0), over(baseline))
    assert not finding.met
    assert why in finding.sentence
    assert finding.achieved == ""


def test_degradation_of_a_metric_without_a_known_direction_asks_for_a_limit() -> None:
    finding = judge(Constraint(metric="word_ppl", max_degradation_percent=1), trial_with("word_ppl", 3), over(BASELINE))
    assert not finding.met
    assert "give min or max" in finding.sentence


def test_the_baseline_keeps_relative_limits_and_is_its_own_reference_for_divergence() -> None:
    for limit in (
        Constraint(metric="perplexity", max_degradation_percent=0),
        Constraint(metric="klDivergence", max=0.01),
        Constraint(metric="topTokenAgreement", max_degradation_percent=2),
    ):
        assert judge(limit, BASELINE, over(BASELINE)).met


def test_divergence_of_a_quantized_trial_is_not_taken_for_granted() -> None:
    assert not judge(Constraint(metric="klDivergence", max=0.01), trial_with("throughput", 1), over(BASELINE)).met


def test_a_trial_ended_at_the_accuracy_gate_is_judged_on_accuracy_alone() -> None:
    limits = [
        Constraint(metric="perplexity", max_degradation_percent=1),
        Constraint(metric="ttft", max=50),
        Constraint(metric="accuracy.arc_easy", min=0.5),
    ]
    gated = make_trial(2).tried("W4A16").metric("perplexity", 12.0).failed("AccuracyGate").obj()
    findings = judge_trial(limits, gated, over(BASELINE))
    assert [finding.constraint.metric for finding in findings] == ["perplexity"]
    assert not findings[0].met


def test_other_failures_are_not_judged() -> None:
    failed = make_trial(2).metric("perplexity", 12.0).failed("EngineOOM").obj()
    assert judge_trial([Constraint(metric="perplexity", max=1)], failed, over(BASELINE)) == ()


def test_a_baseline_that_succeeded_is_taken_before_one_that_failed() -> None:
    failed = make_baseline().failed("Evicted").obj()
    again = make_baseline().throughput(100).obj().model_copy(update={"number": 1, "name": "again"})
    assert find_baseline([failed, again]) is again
    assert find_baseline([failed]) is failed
    assert find_baseline([make_baseline().pending().obj(), make_trial(1).obj()]) is None


def test_perplexity_is_near_its_limit_by_the_paired_interval_where_there_is_one() -> None:
    limit = Constraint(metric="perplexity", max_degradation_percent=5)
    reference = make_baseline().metric("perplexity", 10, margin=4).obj()
    trial = make_trial().metric("perplexity", 10.1, margin=4)
    unpaired = judge(limit, trial.obj(), over(reference))
    paired = judge(limit, trial.metric("perplexityRatio", 1.01, margin=0.002).obj(), over(reference))
    assert unpaired.marginal
    assert paired.met
    assert not paired.marginal
