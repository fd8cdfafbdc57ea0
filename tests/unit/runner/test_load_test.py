"""The load test as a whole: order, warm-up, what is repeated, what is given up."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

import pytest
from tests.fakes.simulated_engine import SimulatedEngine, run_in_virtual_time
from tests.fakes.vllm_server import Behaviour, fake_vllm
from tests.unit.runner.load_tests import load_test, prompts

from haqa_contract import FailureReason, LoadGate, LoadReport
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.load import LoadTest


def run(test: LoadTest) -> LoadReport:
    return run_in_virtual_time(test.windows())


def test_repeats_go_round_the_levels_so_that_drift_spreads_over_all_of_them() -> None:
    report = run(load_test(SimulatedEngine(), repeats=3))
    assert [(w.repeat, w.concurrency) for w in report.windows] == [(0, 1), (0, 4), (1, 1), (1, 4), (2, 1), (2, 4)]
    assert all(
        earlier.ended <= later.started for earlier, later in zip(report.windows, report.windows[1:], strict=False)
    )


def test_windows_have_the_requests_that_were_asked_for_rounded_up_to_whole_rounds() -> None:
    report = run(load_test(SimulatedEngine(), requests_per_level=10, repeats=1))
    assert [window.completed for window in report.windows] == [10, 12]


def test_the_first_window_of_a_level_has_the_warm_up_and_later_ones_one_round() -> None:
    engine = SimulatedEngine()
    test = load_test(engine, concurrency=(2,), warmup_requests=5, requests_per_level=4, repeats=2)
    run(test)
    # Warm-up, window, and the two that are cancelled at the end; then one round instead of the warm-up.
    assert engine.requests == (5 * 2 + 4 + 2) + (2 + 4 + 2)
    assert [phase.name for phase in test.phases.so_far] == ["warmup", "load_test", "load_test", "load_test"]


def test_every_window_starts_with_an_idle_engine() -> None:
    engine = SimulatedEngine()
    report = run(load_test(engine))
    assert not engine.active
    assert all(window.disagreement < 0.01 for window in report.windows)


def test_no_two_requests_of_a_load_test_begin_alike() -> None:
    engine = SimulatedEngine()
    run(load_test(engine))
    beginnings = Counter(prompt[:9] for prompt in engine.prompts)
    assert max(beginnings.values()) == 1


def test_two_trials_get_the_same_prompts() -> None:
    one, other = SimulatedEngine(), SimulatedEngine(step_s=0.02)
    run(load_test(one, concurrency=(1,)))
    run(load_test(other, concurrency=(1,)))
    assert one.prompts == other.prompts


def test_a_window_whose_counts_disagree_is_measured_once_more() -> None:
    report = run(load_test(SimulatedEngine(miscount=lambda window: 1.5 if window == 1 else 1.0)))
    marked = [(w.repeat, w.concurrency, w.invalid is None) for w in report.windows]
    assert marked == [(0, 1, True), (0, 4, False), (0, 4, True), (1, 1, True), (1, 4, True)]


def test_a_window_that_disagrees_twice_is_left_out_with_a_warning() -> None:
    test = load_test(SimulatedEngine(miscount=lambda window: 1.5 if window in (1, 2) else 1.0))
    report = run(test)
    assert [w.invalid is None for w in report.windows] == [True, False, False, True, True]
    assert "concurrency 4, window 1: measured twice and still the engine counted" in test.warnings[0]


def test_a_level_that_always_disagrees_is_no_measurement() -> None:
    with pytest.raises(TrialFailure, match="no window at concurrency 1 can be trusted") as caught:
        run(load_test(SimulatedEngine(miscount=lambda window: 2.0)))
    assert caught.value.reason is FailureReason.METRICS_MISSING


def test_one_failed_request_in_two_hundred_is_reported_and_tolerated() -> None:
    test = load_test(SimulatedEngine(fails=lambda n: n == 60), concurrency=(4,), requests_per_level=200, repeats=1)
    (window,) = run(test).windows
    assert (window.completed, window.failed) == (200, 1)
    assert test.warnings == ["concurrency 4, window 1: 1 of 201 requests failed"]


def test_more_than_one_per_cent_of_failures_ends_the_load_test_with_the_first_error() -> None:
    engine = SimulatedEngine(fails=lambda n: n % 10 == 9)
    with pytest.raises(TrialFailure, match=r"failed at concurrency 4; the first one with: HTTP 500") as caught:
        run(load_test(engine, concurrency=(4,), requests_per_level=400, repeats=1))
    assert caught.value.reason is FailureReason.LOAD_ERRORS
    assert engine.requests < 100, "it does not wait for the end of the window"


def test_a_refused_request_is_explained_in_the_engine_s_own_words() -> None:
    with fake_vllm(Behaviour(refuse=lambda n: (400, "prompt is too long by 7 tokens"))) as server:
        endpoint = Endpoint(server.base_url, "tiny")
        with pytest.raises(TrialFailure, match="HTTP 400: prompt is too long by 7 tokens"):
            run(load_test(SimulatedEngine(fails=lambda n: True), endpoint))


@pytest.mark.parametrize("second", [0.5, 1.0, 2.0, 3.0, 4.0])
def test_an_engine_that_restarts_inside_a_window_or_between_two_is_reported_as_such(second: float) -> None:
    with pytest.raises(TrialFailure, match="restarted in the middle") as caught:
        run(load_test(SimulatedEngine(restart_at=second)))
    assert caught.value.reason is FailureReason.ENGINE_LOAD_FAILED


def test_datasets_are_drawn_without_repeating_before_the_end() -> None:
    source = prompts(dataset=((1,), (2,), (3,)))
    first = [tuple(prompt) for prompt in islice(source.window(1, 0, 1), 6)]
    assert sorted(first[:3]) == sorted(first[3:]) == [(1,), (2,), (3,)]


def test_a_window_whose_generator_was_the_limit_is_repeated_with_more_processes_and_does_not_count() -> None:
    engine = SimulatedEngine(most=16, work=lambda window: 1.7)
    report = run(load_test(engine, concurrency=(8,), repeats=2))
    assert engine.processes == [1, 2, 4, 4]
    assert [(w.repeat, w.invalid is None) for w in report.windows] == [(0, False), (0, False), (0, True), (1, True)]
    assert "the busiest of its 2 processes had work for 85% of the time" in str(report.windows[1].invalid)


def test_another_level_begins_with_as_many_processes_as_one_has_taken_and_no_more_than_streams() -> None:
    engine = SimulatedEngine(most=16, work=lambda window: 2.0 if window < 3 else 0.1)
    run(load_test(engine, concurrency=(8, 2), repeats=1))
    assert engine.processes == [1, 2, 4, 2]


def test_the_expected_rate_says_how_many_processes_to_begin_with() -> None:
    engine = SimulatedEngine(most=6)
    run(replace(load_test(engine, concurrency=(1, 4, 64), repeats=1), expected_tokens_per_s=50_000.0))
    assert engine.processes == [1, 4, 6]


def test_a_short_look_in_which_the_generator_was_the_limit_ends_nothing() -> None:
    engine = SimulatedEngine(most=2, work=lambda window: 1.2)
    gate = LoadGate(metric="throughput", min=1e9, deviation=0.03, because="nothing is that fast")
    report = run(replace(load_test(engine, concurrency=(4,), repeats=2, requests_per_level=40), gates=(gate,)))
    assert [(w.look, w.invalid is None) for w in report.windows] == [(True, False), (True, True)]
    assert report.ended_early is not None


def test_a_generator_that_is_slower_than_the_engine_with_all_cpus_is_no_measurement() -> None:
    engine = SimulatedEngine(most=2, work=lambda window: 4.0)
    with pytest.raises(TrialFailure, match=r"at concurrency 4 the load generator was the limit.* are 2 CPUs") as caught:
        run(load_test(engine, concurrency=(4,)))
    assert caught.value.reason is FailureReason.LOAD_GENERATOR_LIMIT
    assert not caught.value.reason.transient
    assert engine.processes == [1, 2, 2], "once more with all of them, and not for every repeat"


def test_a_generator_that_was_disturbed_once_leaves_out_that_window_alone() -> None:
    disturbed = SimulatedEngine(work=lambda window: 1.0 if window in (1, 2) else 0.1)
    report = run(load_test(disturbed, concurrency=(4,), repeats=3))
    assert [(w.repeat, w.invalid is None) for w in report.windows] == [(0, True), (1, False), (1, False), (2, True)]


def test_a_level_above_what_the_engine_runs_at_once_is_measured_and_said_once() -> None:
    test = load_test(SimulatedEngine(slots=3), concurrency=(2, 8), requests_per_level=40, repeats=2)
    report = run(test)
    assert all(window.invalid is None for window in report.windows)
    (said,) = test.warnings
    assert said.startswith("concurrency 8: requests waited in the engine, which runs fewer at once")
