"""When a load test ends before its last window."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from tests.fakes.simulated_engine import SimulatedEngine, run_in_virtual_time
from tests.unit.metrics.windows import window
from tests.unit.runner.load_tests import load_test

from haqa_contract import LoadGate, LoadReport, Window
from haqa_runner.measure.early_stop import levels_to_look_at, out_of_reach

LEVELS = (1, 8)


def gate(metric: str = "throughput", **limits: Any) -> LoadGate:
    return LoadGate(**{"metric": metric, "deviation": 0.03, "because": "trial 3 has 100 tokens/s", **limits})


def look(concurrency: int, rate: float, **more: Any) -> Window:
    return window(concurrency, 0, rate, look=True, **more)


@pytest.mark.parametrize(
    ("gates", "windows", "ended"),
    [
        pytest.param([gate(min=100)], [look(1, 50), look(8, 50)], True, id="half of what is to be beaten"),
        pytest.param([gate(min=100)], [look(1, 90), look(8, 90)], False, id="within the noise of a look"),
        pytest.param([gate(min=100)], [look(1, 50)], False, id="a level without a window"),
        pytest.param([gate(min=100)], [look(1, 20), look(8, 600)], False, id="one level makes up for the other"),
        pytest.param([gate(min=100, concurrency=8)], [look(8, 50)], True, id="the level that decides"),
        pytest.param([gate(min=100, concurrency=8)], [look(1, 50), look(8, 120)], False, id="another level is slow"),
        pytest.param([gate(min=100)], [look(1, 50), look(8, 50), window(1, 0, 99), window(8, 0, 99)], False, id="full"),
        pytest.param([gate(min=100)], [window(1, 0, 85), window(8, 0, 85)], True, id="one window of each level"),
        pytest.param([gate(min=100)], [window(1, 0, 92), window(8, 0, 92)], False, id="not clear after one"),
        pytest.param(
            [gate(min=100)], [window(level, n, 91.5) for n in range(3) for level in LEVELS], True, id="after three"
        ),
        pytest.param([gate("ttft", max=100)], [look(1, 9, ms=50), look(8, 9, ms=300)], True, id="the worst level"),
        pytest.param([gate("ttft", max=100)], [look(1, 9, ms=50), look(8, 9, ms=105)], False, id="near the limit"),
        pytest.param([gate("ttft", percentile=99, max=100)], [look(1, 9), look(8, 9)], True, id="a percentile"),
        pytest.param([gate(min=100)], [look(1, 50), look(8, 50, invalid="starved")], False, id="an invalid look"),
        pytest.param([gate("tpot", max=1)], [look(1, 9, ms=math.nan), look(8, 9, ms=math.nan)], False, id="no value"),
        pytest.param([gate(min=10), gate(min=100)], [look(1, 50), look(8, 50)], True, id="any gate"),
        pytest.param([gate(min=100)], [look(1, 0), look(8, 0)], False, id="nothing counted is no measurement"),
        pytest.param([], [look(1, 1), look(8, 1)], False, id="nothing to reach"),
    ],
)
def test_a_load_test_ends_when_what_it_needs_is_out_of_reach(
    gates: list[LoadGate], windows: list[Window], ended: bool
) -> None:
    assert (out_of_reach(gates, windows, LEVELS) is not None) == ended


def test_the_sentence_says_what_was_seen_and_what_it_was_held_against() -> None:
    said = out_of_reach([gate(min=100, concurrency=8)], [look(8, 50)], LEVELS)
    assert said == "a short look gave throughput 50 at concurrency 8, out of reach: trial 3 has 100 tokens/s"
    said = out_of_reach([gate("ttft", percentile=95, max=60)], [window(1, 0, 9), window(8, 0, 9)], LEVELS)
    assert said == "1 of the windows gave ttft p95 150, out of reach: trial 3 has 100 tokens/s"


@pytest.mark.parametrize("deviation", [0.01, 0.03, 0.1])
def test_noise_alone_hardly_ever_ends_a_trial_that_is_as_good_as_the_best(deviation: float) -> None:
    chance, ended, runs = Random(3), 0, 4000
    for _ in range(runs):
        engine = chance.gauss(0, 0.02)
        windows: list[Window] = []
        for repeat in range(-1, 3):
            for level in LEVELS:
                noise = chance.gauss(0, deviation * (2 if repeat < 0 else 1))
                windows.append(window(level, max(0, repeat), 100 * math.exp(engine + noise), look=repeat < 0))
            if out_of_reach([gate(min=100, deviation=deviation)], windows, LEVELS):
                ended += 1
                break
    assert ended <= 0.005 * runs


@pytest.mark.parametrize(
    ("gates", "levels"),
    [
        ([gate(concurrency=8)], (8,)),
        ([gate(concurrency=8), gate(concurrency=1)], (1, 8)),
        ([gate(concurrency=8), gate()], (1, 8, 32)),
        ([gate(concurrency=5)], ()),
    ],
)
def test_a_look_goes_to_the_levels_that_decide(gates: list[LoadGate], levels: tuple[int, ...]) -> None:
    assert levels_to_look_at(gates, (1, 8, 32)) == levels


def run(engine: SimulatedEngine, *gates: LoadGate, **workload: Any) -> LoadReport:
    test = load_test(engine, concurrency=(4,), repeats=3, **workload)
    test.gates = gates
    return run_in_virtual_time(test.windows())


def test_an_engine_that_cannot_win_gets_one_short_look() -> None:
    slow, full = SimulatedEngine(step_s=0.05), SimulatedEngine(step_s=0.05)
    to_beat = gate(min=3 * slow.rate(4, 20))
    report = run(slow, to_beat)
    assert report.ended_early is not None
    assert [(w.look, w.completed) for w in report.windows] == [(True, 4)]
    run(full)
    assert slow.requests < full.requests / 3


def test_one_that_may_win_gets_its_full_windows_after_the_look() -> None:
    engine = SimulatedEngine()
    report = run(engine, gate(min=engine.rate(4, 20)))
    assert report.ended_early is None
    assert [w.look for w in report.windows] == [True, False, False, False]
    assert [w.completed for w in report.windows[1:]] == [16, 16, 16]


def test_one_that_is_a_little_slower_ends_after_some_of_its_windows() -> None:
    engine = SimulatedEngine()
    report = run(engine, gate(min=1.13 * engine.rate(4, 20)))
    assert report.ended_early is not None
    assert [w.look for w in report.windows] == [True, False]


def test_a_test_that_is_short_anyway_has_no_look() -> None:
    engine = SimulatedEngine()
    test = load_test(engine, concurrency=(4,), repeats=1, requests_per_level=12)
    test.gates = [gate(min=10 * engine.rate(4, 20))]
    report = run_in_virtual_time(test.windows())
    assert [w.look for w in report.windows] == [False]


def test_a_window_that_is_timed_is_looked_at_by_requests() -> None:
    slow = SimulatedEngine(step_s=1.0)
    report = run(slow, gate(min=3 * slow.rate(4, 20)), duration_s=3600.0)
    assert [(w.look, w.completed) for w in report.windows] == [(True, 4)]
    assert report.windows[0].ended - report.windows[0].started < 60
