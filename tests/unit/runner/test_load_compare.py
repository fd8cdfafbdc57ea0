"""Winner against baseline, alternately."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tests.fakes.simulated_engine import SimulatedEngine, run_in_virtual_time, virtual_clock

from haqa_contract import CompareReport, CompareRequest, FailureReason, ServedEngine, Workload
from haqa_contract.failures import TrialFailure
from haqa_runner.measure.compare import compare, measure_rounds, summarize
from haqa_runner.measure.endpoint import Endpoint
from haqa_runner.measure.load import LoadTest
from haqa_runner.measure.prompts import PromptSource

PROMPTS = PromptSource(tuple(range(500)), (), (), tuple(range(3, 500)), length=16, seed=0)


def request(
    rounds: int = 4, directory: str = "/nowhere", port: int = 9, least_ratio: float | None = None, **workload: Any
) -> CompareRequest:
    def served(name: str) -> ServedEngine:
        return ServedEngine(name=name, base_url=f"http://127.0.0.1:{port}", served_model_name="m", model="/nowhere")

    wanted = {"input_tokens": 16, "output_tokens": 20, "concurrency": (1, 4), "requests_per_level": 4, **workload}
    return CompareRequest(
        winner=served("t7"),
        baseline=served("t0"),
        workload=Workload(**wanted),
        rounds=rounds,
        least_ratio=least_ratio,
        directory=directory,
    )


def compared(asked: CompareRequest, winner: SimulatedEngine, baseline: SimulatedEngine) -> CompareReport:
    def side(engine: SimulatedEngine) -> LoadTest:
        return LoadTest(
            Endpoint("http://127.0.0.1:9", "m"),
            asked.workload,
            PROMPTS,
            open_generator=engine.open_generator,
            open_metrics=engine.open_metrics,
            clock=virtual_clock,
        )

    return summarize(asked, run_in_virtual_time(measure_rounds(asked, side(winner), side(baseline))))


def test_the_ratio_is_that_of_the_engines() -> None:
    fast, slow = SimulatedEngine(prefill_s=0.02, step_s=0.005), SimulatedEngine(prefill_s=0.04, step_s=0.01)
    report = compared(request(), fast, slow)
    assert report.ratio is not None
    assert report.ratio.value == pytest.approx(2, rel=0.01)
    assert report.ratio.n == 4
    assert report.ratio_at(4).value == pytest.approx(2, rel=0.01)
    assert len(report.winner_values) == len(report.baseline_values) == 4


def test_which_of_the_two_goes_first_alternates() -> None:
    report = compared(request(concurrency=(1,)), SimulatedEngine(), SimulatedEngine())
    winner_first = [pair.winner.started < pair.baseline.started for pair in report.rounds]
    assert winner_first == [True, False, True, False]


def test_a_machine_that_slows_down_all_the_time_does_not_favour_either() -> None:
    def tired(now: float) -> float:
        return 1 + now / 50

    report = compared(request(rounds=6), SimulatedEngine(slowdown=tired), SimulatedEngine(slowdown=tired))
    values = report.winner_values
    assert values[0] / values[-1] > 1.3, "the drift is there"
    assert report.ratio is not None
    assert report.ratio.value == pytest.approx(1, abs=0.03)
    assert report.ratio.low < 1 < report.ratio.high


@pytest.mark.parametrize(
    ("step_s", "least_ratio", "measured"),
    [(0.005, 1.02, 3), (0.005, 2.5, 3), (0.005, None, 5), (0.01, 1.0, 5)],
    ids=["above", "below", "not asked", "not to be told"],
)
def test_it_ends_with_the_round_that_settles_it(step_s: float, least_ratio: float | None, measured: int) -> None:
    def uneven(now: float) -> float:
        return 1 + 0.05 * math.sin(now)

    fast, slow = SimulatedEngine(step_s=step_s, slowdown=uneven), SimulatedEngine(step_s=0.01, slowdown=uneven)
    report = compared(request(rounds=5, least_ratio=least_ratio), fast, slow)
    assert report.ratio is not None
    assert report.ratio.n == measured


def test_where_it_is_settled_that_but_not_by_how_much_it_goes_on() -> None:
    def uneven(now: float) -> float:
        return 1 + 0.5 * math.sin(now / 3)

    fast, slow = SimulatedEngine(step_s=0.002, slowdown=uneven), SimulatedEngine(step_s=0.02, slowdown=uneven)
    report = compared(request(rounds=4, least_ratio=1.02, concurrency=(1,)), fast, slow)
    assert report.ratio is not None
    assert report.ratio.n == 4
    assert report.ratio.low > 1.02


def test_both_get_the_same_prompts() -> None:
    one, other = SimulatedEngine(), SimulatedEngine(step_s=0.02)
    compared(request(rounds=2, concurrency=(1,)), one, other)
    assert one.prompts == other.prompts


def test_a_round_with_a_doubtful_window_does_not_count() -> None:
    lying = SimulatedEngine(miscount=lambda window: 3.0 if window in (1, 2) else 1.0)
    report = compared(request(concurrency=(1,)), lying, SimulatedEngine())
    assert [pair.round for pair in report.rounds] == [0, 2, 3]


def test_one_round_alone_is_no_comparison() -> None:
    lying = SimulatedEngine(miscount=lambda window: 3.0)
    with pytest.raises(TrialFailure, match="4 of 4 rounds have a window that cannot be trusted"):
        compared(request(concurrency=(1,)), lying, SimulatedEngine())


def test_an_engine_that_is_not_there_is_a_report_with_a_sentence(tmp_path: Path) -> None:
    report = compare(request(directory=str(tmp_path)))
    assert report.failure is not None
    assert report.failure.reason is FailureReason.ENGINE_LOAD_FAILED
    assert "no engine answers at http://127.0.0.1:9" in report.failure.message
    assert CompareReport.model_validate_json((tmp_path / "compare.json").read_bytes()) == report
