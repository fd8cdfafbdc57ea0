from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from tests.builders import TrialBuilder, make_baseline, make_trial

from haqa_contract import Estimate
from haqa_operator.api import Constraint, Objective, Trial
from haqa_operator.decision.choose import decide
from haqa_operator.decision.results import Confirmation, Decision, Verdict

THROUGHPUT = (Objective(metric="throughput"),)
PERPLEXITY = Constraint(metric="perplexity", max_degradation_percent=1)
LATENCY = Constraint(metric="e2e", percentile=95, max=200)


def measured(builder: TrialBuilder, throughput: float, noise: float = 0.01) -> TrialBuilder:
    """Three repeats with this relative spread around a throughput."""
    samples = (throughput * (1 - noise), throughput, throughput * (1 + noise))
    return builder.metric("throughput", throughput, samples=samples)


BASELINE = measured(make_baseline(), 100).metric("perplexity", 10).metric("e2e.p95", 150)
INT8 = measured(make_trial(1).tried("W8A8-INT8"), 160).metric("perplexity", 10.05).metric("e2e.p95", 120)
INT4 = measured(make_trial(2).tried("W4A16", "gptq"), 80).metric("perplexity", 10.4).metric("e2e.p95", 250)


def choose(*trials: TrialBuilder, limits: tuple[Constraint, ...] = (), percent: float = 3) -> Decision:
    return decide([trial.obj() for trial in trials], THROUGHPUT, limits, percent)


def test_the_fastest_that_keeps_every_limit_wins() -> None:
    decision = choose(BASELINE, INT8, INT4, limits=(PERPLEXITY, LATENCY))
    assert decision.verdict is Verdict.WINNER
    assert decision.winner == INT8.obj().name
    assert decision.speedup is not None
    assert decision.speedup.value == pytest.approx(1.6)
    assert 1.5 < decision.speedup.low < 1.6 < decision.speedup.high < 1.7
    assert [rejection.trial for rejection in decision.rejections] == [INT4.obj().name]
    assert "W8A8-INT8/rtn" in decision.reason
    assert "160 tokens/s against the baseline's throughput 100 tokens/s: 1.6x" in decision.reason


def test_baseline_wins_when_gain_is_inside_noise() -> None:
    decision = choose(measured(make_baseline(), 100, noise=0.05), measured(make_trial(1).tried("W4A16"), 106, 0.05))
    assert decision.verdict is Verdict.BASELINE_BEST
    assert decision.winner == make_baseline().obj().name
    assert decision.speedup == Estimate(value=1, low=1, high=1, n=1)
    assert "Closest is demo-here-001 (W4A16/rtn) at 1.06x" in decision.reason


def test_baseline_wins_when_gain_is_below_the_least_improvement() -> None:
    candidate = measured(make_trial(1).tried("W4A16"), 102, noise=0)
    assert choose(measured(make_baseline(), 100, noise=0), candidate).verdict is Verdict.BASELINE_BEST
    assert choose(measured(make_baseline(), 100, noise=0), candidate, percent=1).verdict is Verdict.WINNER


def test_baseline_wins_when_everything_else_is_slower_or_excluded() -> None:
    decision = choose(BASELINE, INT4.metric("e2e.p95", 10), limits=(PERPLEXITY,))
    assert decision.verdict is Verdict.BASELINE_BEST
    assert "none of the 1 other trials meets the constraints" in decision.reason


def test_the_baseline_alone_is_its_own_answer() -> None:
    decision = choose(BASELINE)
    assert decision.verdict is Verdict.BASELINE_BEST
    assert "nothing else was measured" in decision.reason


def test_one_trial_without_a_baseline_wins_without_a_speedup() -> None:
    decision = choose(INT8)
    assert (decision.verdict, decision.winner, decision.speedup) == (Verdict.WINNER, INT8.obj().name, None)
    assert "baseline was not measured" in decision.reason


def test_a_failed_baseline_leaves_absolute_limits_in_force() -> None:
    decision = choose(make_baseline().failed("EngineOOM", "too big"), INT8, INT4, limits=(LATENCY,))
    assert decision.verdict is Verdict.WINNER
    assert decision.winner == INT8.obj().name
    assert decision.speedup is None
    assert "EngineOOM: too big" in decision.reason


def test_a_failed_baseline_leaves_relative_limits_without_a_judge() -> None:
    decision = choose(make_baseline().failed("EngineOOM"), INT8, limits=(PERPLEXITY,))
    assert decision.verdict is Verdict.NOTHING_FEASIBLE
    assert "the baseline failed (EngineOOM)" in decision.reason


def test_a_baseline_that_breaks_the_limits_need_not_be_beaten() -> None:
    slow_start = BASELINE.metric("e2e.p95", 240)
    decision = choose(slow_start, measured(make_trial(1).tried("W4A16"), 90).metric("e2e.p95", 90), limits=(LATENCY,))
    assert decision.verdict is Verdict.WINNER
    assert decision.speedup is not None
    assert decision.speedup.value == pytest.approx(0.9)
    assert "The baseline itself cannot be chosen: e2e.p95 is 240 ms, above the limit of 200 ms" in decision.reason
    assert decision.binding == LATENCY.describe()


@pytest.mark.parametrize("trials", [[], [make_baseline().pending().obj()]])
def test_without_a_finished_trial_there_is_no_measurement(trials: list[Trial]) -> None:
    decision = decide(trials, THROUGHPUT, (), 3)
    assert (decision.verdict, decision.winner) == (Verdict.NO_MEASUREMENT, None)


def test_when_all_failed_the_reasons_are_counted() -> None:
    decision = choose(
        make_baseline().failed("EngineOOM", "needs 30 GiB"),
        make_trial(1).tried("W4A16").failed("EngineOOM"),
        make_trial(2).tried("W8A8-INT8").failed("Timeout"),
        limits=(PERPLEXITY,),
    )
    assert decision.verdict is Verdict.NO_MEASUREMENT
    assert "Each of the 3 trials failed (2 EngineOOM, 1 Timeout)" in decision.reason
    assert "needs 30 GiB" in decision.reason
    assert len(decision.rejections) == 3


def test_trials_without_the_objectives_metric_are_no_measurement() -> None:
    decision = choose(make_baseline().metric("perplexity", 10), make_trial(1).metric("perplexity", 10))
    assert decision.verdict is Verdict.NO_MEASUREMENT
    assert "throughput was not measured" in decision.reason


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_never_wins(value: float) -> None:
    broken = make_trial(3).tried("W4A16").obj()
    metrics = {"throughput": Estimate(value=value, low=value, high=value, n=1)}
    broken = broken.model_copy(update={"status": broken.status.model_copy(update={"metrics": metrics})})
    decision = decide([BASELINE.obj(), INT8.obj(), broken], THROUGHPUT, (), 3)
    assert decision.winner == INT8.obj().name


def test_nothing_feasible_names_the_binding_constraint_and_who_came_closest() -> None:
    strict = Constraint(metric="perplexity", max=9.9)
    decision = choose(BASELINE, INT8.metric("perplexity", 9.95), INT4, limits=(LATENCY, strict))
    assert decision.verdict is Verdict.NOTHING_FEASIBLE
    assert decision.winner is None
    assert decision.binding == strict.describe()
    assert decision.reason == (
        "No trial meets every constraint; 3 of 3 break perplexity <= 9.9: "
        "closest is demo-here-001 (W8A8-INT8/rtn) at 9.95. "
        "The baseline itself breaks them: perplexity is 10, above the limit of 9.9."
    )


def test_nothing_feasible_gives_the_distance_in_the_constraints_own_terms() -> None:
    slow = BASELINE.metric("e2e.p95", 240)
    decision = choose(
        slow,
        INT8.metric("perplexity", 10.13),
        INT4,
        measured(make_trial(3).tried("W4A16"), 90).metric("perplexity", 11).metric("e2e.p95", 100),
        limits=(LATENCY, PERPLEXITY),
    )
    assert decision.binding == PERPLEXITY.describe()
    assert "perplexity at most 1 % worse than the baseline: closest is demo-here-001 (W8A8-INT8/rtn) at +1.3 %" in (
        decision.reason
    )
    assert "2 break e2e.p95 <= 200" in decision.reason


def test_of_two_constraints_that_exclude_as_many_the_one_that_hides_the_better_trial_binds() -> None:
    fast = measured(make_trial(1).tried("W4A16"), 300).metric("perplexity", 12).metric("e2e.p95", 100)
    fair = measured(make_trial(2).tried("W8A8-INT8"), 150).metric("perplexity", 10).metric("e2e.p95", 300)
    limits = (LATENCY, PERPLEXITY)
    assert choose(BASELINE.metric("e2e.p95", 500), fast, fair, limits=limits).binding == LATENCY.describe()
    bad_baseline = BASELINE.metric("e2e.p95", 500).metric("perplexity", 10)
    also = measured(make_trial(3).tried("W4A16", "gptq"), 310).metric("perplexity", 12).metric("e2e.p95", 100)
    assert choose(bad_baseline, fast, fair, also, limits=limits).binding == PERPLEXITY.describe()


def test_missing_every_gate_is_nothing_feasible_and_not_no_measurement() -> None:
    gated = make_trial(1).tried("W4A16").metric("perplexity", 12).failed("AccuracyGate")
    strict = Constraint(metric="perplexity", max=5)
    decision = choose(make_baseline().metric("perplexity", 10).failed("AccuracyGate"), gated, limits=(strict,))
    assert decision.verdict is Verdict.NOTHING_FEASIBLE
    assert decision.binding == strict.describe()


def test_the_constraint_that_excluded_a_better_trial_is_named_beside_the_winner() -> None:
    faster = measured(make_trial(3).tried("W4A16", "gptq"), 300).metric("perplexity", 12).metric("e2e.p95", 100)
    decision = choose(BASELINE, INT8, faster, limits=(LATENCY, PERPLEXITY))
    assert decision.winner == INT8.obj().name
    assert decision.binding == PERPLEXITY.describe()
    assert choose(BASELINE, INT8, limits=(LATENCY, PERPLEXITY)).binding is None


def test_of_three_tied_the_simplest_wins() -> None:
    tuned = measured(make_trial(1).tried("W8A8-INT8", max_num_seqs=64), 161)
    plain = measured(make_trial(2).tried("W8A8-INT8"), 160)
    calibrated = measured(make_trial(3).tried("W8A8-INT8", "gptq"), 162)
    decision = choose(BASELINE, tuned, plain, calibrated)
    assert decision.winner == plain.obj().name
    assert "demo-here-003 (W8A8-INT8/gptq) is not better by more than the noise and 3 %" in decision.reason


def test_ties_are_counted_from_the_best_and_not_along_a_chain() -> None:
    """160 ties with 166 and 166 with 172, but 160 does not tie with 172."""
    engines: list[dict[str, Any]] = [{}, {"max_num_seqs": 8}, {"max_num_seqs": 16}]
    low, middle, high = (
        measured(make_trial(number).tried("W8A8-INT8", **engine), value, noise=0)
        for number, value, engine in zip((1, 2, 3), (160, 166, 172), engines, strict=True)
    )
    tied = measured(make_trial(4).tried("W8A8-INT8", max_num_seqs=32), 168, noise=0)
    assert choose(BASELINE, low, middle, high, tied, percent=4).winner == high.obj().name
    assert choose(BASELINE, low, middle, high, tied, percent=8).winner == low.obj().name


def test_a_tie_with_the_best_does_not_let_in_what_does_not_beat_the_baseline() -> None:
    baseline = measured(make_baseline(), 100, noise=0)
    simple = measured(make_trial(1).tried("W8A8-INT8"), 104, noise=0)
    best = measured(make_trial(2).tried("W8A8-INT8", max_num_seqs=64), 108, noise=0)
    assert choose(baseline, simple, best, percent=5).winner == best.obj().name


def test_a_noisy_best_does_not_hide_a_certain_gain() -> None:
    noisy = measured(make_trial(1).tried("W4A16"), 150, noise=0.4)
    certain = measured(make_trial(2).tried("W8A8-INT8"), 130, noise=0.005)
    assert choose(BASELINE, noisy, certain).winner == certain.obj().name


def test_unquantized_with_a_setting_is_simpler_than_quantized_without() -> None:
    quantized = measured(make_trial(1).tried("W8A8-INT8"), 161)
    settings = measured(make_trial(2).tried("BF16", max_num_seqs=64), 160)
    assert choose(BASELINE, quantized, settings).winner == settings.obj().name


def test_less_latency_wins_when_latency_is_the_objective() -> None:
    trials = [t.obj() for t in (BASELINE, INT8, INT4)]
    decision = decide(trials, (Objective(metric="e2e", percentile=95),), (), 3)
    assert decision.winner == INT8.obj().name
    assert decision.speedup is not None
    assert decision.speedup.value == pytest.approx(150 / 120)
    assert "e2e.p95 120 ms against the baseline's e2e.p95 150 ms: 1.25x" in decision.reason


def test_a_repeat_of_one_gives_a_speedup_without_a_width() -> None:
    decision = choose(make_baseline().throughput(100), make_trial(1).tried("W4A16").throughput(150))
    assert decision.speedup is not None
    assert (decision.speedup.low, decision.speedup.n) == (decision.speedup.value, 1)
    assert "1.5x." in decision.reason


def test_a_close_call_on_a_limit_is_said_with_the_winner() -> None:
    decision = choose(BASELINE, INT8.metric("e2e.p95", 195, margin=20), limits=(LATENCY,))
    assert "A close call: e2e.p95 is 195 ms" in decision.reason


def confirmation(ratio: float, margin: float, winner: str = INT8.obj().name) -> Confirmation:
    return Confirmation(
        winner=winner,
        baseline=BASELINE.obj().name,
        metric="throughput",
        ratio=Estimate(value=ratio, low=ratio - margin, high=ratio + margin, n=5),
    )


def confirmed(by: Confirmation, *trials: TrialBuilder, limits: tuple[Constraint, ...] = ()) -> Decision:
    return decide([t.obj() for t in trials], THROUGHPUT, limits, 3, by)


def test_the_speedup_is_the_confirmations() -> None:
    decision = confirmed(confirmation(1.5, 0.02), BASELINE, INT8)
    assert decision.verdict is Verdict.WINNER
    assert decision.speedup == Estimate(value=1.5, low=1.48, high=1.52, n=5)
    assert "1.5x (1.48 to 1.52), measured alternately" in decision.reason


@pytest.mark.parametrize(("ratio", "margin"), [(1.05, 0.06), (1.02, 0.01), (0.9, 0.01)])
def test_a_winner_that_the_confirmation_does_not_confirm_gives_way_to_the_baseline(ratio: float, margin: float) -> None:
    decision = confirmed(confirmation(ratio, margin), BASELINE, INT8)
    assert decision.verdict is Verdict.BASELINE_BEST
    assert decision.winner == BASELINE.obj().name
    assert "measured alternately with it, demo-here-001" in decision.reason
    assert "the search had seen 1.6x" in decision.reason


def test_a_confirmation_of_another_trial_is_ignored() -> None:
    decision = confirmed(confirmation(0.9, 0.01, winner="demo-here-009"), BASELINE, INT8)
    assert decision.verdict is Verdict.WINNER
    assert decision.speedup is not None
    assert decision.speedup.value == pytest.approx(1.6)


def test_a_baseline_that_breaks_the_limits_does_not_come_back_by_a_confirmation() -> None:
    slow = BASELINE.metric("e2e.p95", 240)
    decision = confirmed(confirmation(0.9, 0.01), slow, INT8, limits=(LATENCY,))
    assert decision.verdict is Verdict.WINNER
    assert decision.speedup is not None
    assert decision.speedup.value == 0.9


def ended_early(builder: TrialBuilder) -> TrialBuilder:
    return replace(builder, status=builder.status.model_copy(update={"ended_early": "a short look gave throughput 80"}))


def test_a_trial_that_ended_early_is_no_answer_however_fast_it_looked() -> None:
    decision = choose(BASELINE, ended_early(INT8), limits=(PERPLEXITY, LATENCY))
    assert decision.verdict is Verdict.BASELINE_BEST
    assert "Closest is demo-here-001 (W8A8-INT8/rtn) at 1.6x" in decision.reason
    assert [r.reason for r in decision.rejections] == ["a short look gave throughput 80"]
    assert decision.pareto == (BASELINE.obj().name,)


def test_a_trial_that_ended_early_is_judged_by_what_was_measured_of_it() -> None:
    rough = ended_early(measured(make_trial(1).tried("W4A16"), 80))
    both = choose(BASELINE, rough, ended_early(INT4), limits=(PERPLEXITY, LATENCY))
    assert [r.reason for r in both.rejections] == [
        "a short look gave throughput 80",
        "perplexity is 10.4, +4 % against the baseline's 10, where 1 % worse is allowed; "
        "e2e.p95 is 250 ms, above the limit of 200 ms",
    ]


def test_where_everything_ended_early_there_is_no_answer_and_a_reason() -> None:
    decision = choose(make_baseline().failed("EngineOOM"), ended_early(INT8))
    assert decision.verdict is Verdict.NOTHING_FEASIBLE
    assert decision.reason == "No trial was measured to its end: a short look gave throughput 80."


def test_there_is_no_answer_where_a_trial_was_faster_than_could_be_measured() -> None:
    too_fast = make_trial(2).tried("FP8-DYNAMIC").failed("LoadGeneratorLimit", "lower workload.concurrency")
    decision = choose(BASELINE, INT8, too_fast)
    assert (decision.verdict, decision.winner) == (Verdict.NO_MEASUREMENT, None)
    assert "demo-here-002 (FP8-DYNAMIC/rtn) is faster than can be measured here" in decision.reason
    assert "lower workload.concurrency" in decision.reason
