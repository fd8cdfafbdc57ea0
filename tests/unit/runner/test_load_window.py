"""What a window counts, against a simulated engine whose true throughput is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.simulated_engine import SimulatedEngine, SimulatedTraffic, run_in_virtual_time, virtual_clock

from haqa_contract.failures import TrialFailure
from haqa_runner.measure.engine_metrics import Reading
from haqa_runner.measure.traffic import SentRequest
from haqa_runner.measure.window import Observed, Plan, observe, prefix_cache_share, window_of

OUTPUT_TOKENS = 50


def observed(engine: SimulatedEngine, plan: Plan, output_tokens: int = OUTPUT_TOKENS) -> Observed:
    async def work() -> Observed:
        traffic = SimulatedTraffic(engine, output_tokens, iter(lambda: (1, 2, 3), None), plan.streams)
        return await observe(traffic, engine, plan, virtual_clock)

    return run_in_virtual_time(work())


def rate_in_the_long_run(engine: SimulatedEngine, streams: int) -> float:
    return window_of(observed(engine, Plan(streams, ramp_rounds=8, rounds=25)), 0).output_tokens_per_s


def test_the_long_run_is_what_arithmetic_says() -> None:
    engine = SimulatedEngine(prefill_s=0.05)
    assert rate_in_the_long_run(engine, 8) == pytest.approx(engine.rate(8, OUTPUT_TOKENS), rel=1e-6)


@given(streams=st.integers(1, 6), rounds=st.integers(1, 4), prefill_ms=st.floats(1, 200), interleaved=st.booleans())
@settings(max_examples=12, deadline=None)
def test_a_short_window_measures_what_the_long_run_does(
    streams: int, rounds: int, prefill_ms: float, interleaved: bool
) -> None:
    def engine() -> SimulatedEngine:
        return SimulatedEngine(prefill_s=prefill_ms / 1000, interleaved=interleaved)

    window = window_of(observed(engine(), Plan(streams, 1, rounds)), repeat=0)
    assert window.output_tokens_per_s == pytest.approx(rate_in_the_long_run(engine(), streams), rel=0.03)
    assert window.disagreement == pytest.approx(0, abs=0.02)


def test_timing_a_batch_from_first_start_to_last_end_would_be_seven_per_cent_off() -> None:
    """Why windows are as they are: the same requests, the naive way."""
    seen = observed(SimulatedEngine(prefill_s=0.05, interleaved=True), Plan(8, 1, 3))
    batch = [request for request in seen.sent if request.answered]
    naive = sum(r.output_tokens for r in batch) / (max(r.ended for r in batch) - min(r.started for r in batch))
    truth = rate_in_the_long_run(SimulatedEngine(prefill_s=0.05, interleaved=True), 8)
    assert naive < 0.93 * truth
    assert window_of(seen, 0).output_tokens_per_s == pytest.approx(truth, rel=0.01)


def test_latencies_are_those_of_requests_that_started_under_full_load() -> None:
    engine = SimulatedEngine(prefill_s=0.05, step_s=0.01)
    window = window_of(observed(engine, Plan(1, 2, 4)), repeat=3)
    assert (window.completed, window.failed, window.repeat, window.concurrency) == (4, 0, 3, 1)
    assert window.ttft_ms.mean == pytest.approx(60)
    assert (window.itl_ms.p50, window.itl_ms.p99) == pytest.approx((10, 10))
    assert window.tpot_ms.mean == pytest.approx(10)
    assert window.e2e_ms.p95 == pytest.approx(50 + 10 * OUTPUT_TOKENS)
    assert window.requests_per_s == pytest.approx(1000 / window.e2e_ms.mean)


def test_a_timed_window_lasts_whole_rounds_and_at_least_its_time() -> None:
    engine = SimulatedEngine()
    seen = observed(engine, Plan(4, 1, 1, duration_s=3.0))
    window = window_of(seen, 0)
    assert 3.0 <= window.ended - window.started < 3.0 + 4 * 0.05 + OUTPUT_TOKENS * 0.01
    assert window.completed % 4 == 0
    assert window.output_tokens_per_s == pytest.approx(engine.rate(4, OUTPUT_TOKENS), rel=0.01)


def test_requests_in_flight_at_the_end_are_cancelled_and_do_not_count_as_failed() -> None:
    seen = observed(SimulatedEngine(), Plan(4, 1, 2))
    assert sum(request.cancelled for request in seen.sent) == 4
    assert not seen.failures
    assert window_of(seen, 0).failed == 0


def test_with_one_output_token_there_is_no_time_between_tokens() -> None:
    window = window_of(observed(SimulatedEngine(), Plan(2, 1, 3), output_tokens=1), 0)
    assert math.isnan(window.itl_ms.mean)
    assert math.isnan(window.tpot_ms.p99)
    assert window.ttft_ms.mean > 0


def test_more_streams_than_the_engine_runs_are_saturated() -> None:
    assert not window_of(observed(SimulatedEngine(slots=8), Plan(8, 1, 4)), 0).saturated
    assert window_of(observed(SimulatedEngine(slots=4), Plan(8, 1, 4)), 0).saturated


def test_peak_cache_use_comes_from_the_gauges() -> None:
    assert window_of(observed(SimulatedEngine(), Plan(8, 1, 4)), 0).peak_kv_cache_usage == pytest.approx(0.08)


@pytest.mark.parametrize(("factor", "valid"), [(1.0, True), (1.08, True), (1.2, False), (0.85, False)])
def test_counts_that_differ_by_more_than_a_tenth_mark_the_window(factor: float, valid: bool) -> None:
    engine = SimulatedEngine(miscount=lambda window: factor)
    window = window_of(observed(engine, Plan(2, 1, 4)), 0)
    assert window.disagreement == pytest.approx(abs(1 - 1 / factor), abs=0.01)
    assert (window.invalid is None) == valid
    if not valid:
        assert "differ" in str(window.invalid)


def test_an_engine_that_restarts_inside_a_window_is_no_measurement() -> None:
    seen = observed(SimulatedEngine(restart_at=2.0), Plan(2, 1, 5))
    with pytest.raises(TrialFailure, match="restarted in the middle"):
        window_of(seen, 0)


def test_a_window_without_answers_has_no_figures() -> None:
    reading = Reading(
        at=0,
        counters={
            "generation_tokens": 0,
            "prompt_tokens": 0,
            "cached_prompt_tokens": 0,
            "preemptions": 0,
            "requests": 0,
        },
    )
    empty = Observed(Plan(1, 1, 1), 0, reading, replace(reading, at=1.0), ())
    with pytest.raises(ValueError, match="no request was answered"):
        window_of(empty, 0)


def test_tokens_that_come_together_share_the_time_they_took() -> None:
    request = SentRequest(started=0, ended=0.6, arrivals=((0.1, 1), (0.4, 3), (0.6, 1)))
    reading = Reading(
        at=-1,
        counters={
            "generation_tokens": 0,
            "prompt_tokens": 0,
            "cached_prompt_tokens": 0,
            "preemptions": 0,
            "requests": 0,
        },
    )
    later = replace(
        reading,
        at=1.0,
        counters={**reading.counters, "generation_tokens": 5.0, "prompt_tokens": 8.0, "cached_prompt_tokens": 2.0},
    )
    seen = Observed(Plan(1, 1, 1), -1, reading, later, (request,))
    window = window_of(seen, 0)
    assert window.itl_ms.mean == pytest.approx((3 * 100 + 200) / 4)
    assert window.tpot_ms.mean == pytest.approx(125)
    assert prefix_cache_share(seen) == 0.25
