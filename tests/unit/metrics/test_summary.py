from __future__ import annotations

import math

import pytest
from tests.unit.metrics.windows import latency, window

from haqa_contract import AccuracyReport, ArtifactReport, Estimate, LoadReport, TrialReport, Window, Workload
from haqa_contract.statistics import estimate, geometric_estimate
from haqa_operator.api.metrics import MetricKey
from haqa_operator.metrics.summary import Summary, over_levels, summarize


def summary(*windows: Window, levels: tuple[int, ...] = (1, 8), cost: float | None = None) -> Summary:
    report = TrialReport(trial="t", load=LoadReport(windows=windows))
    return summarize(report, workload=Workload(concurrency=levels), cost_per_hour=cost)


TWO_LEVELS = (window(1, 0, 50), window(1, 1, 60), window(8, 0, 200, ms=300), window(8, 1, 240, ms=340))


def test_each_level_has_its_own_figures() -> None:
    metrics, samples = summary(*TWO_LEVELS)
    assert samples["throughput@1"] == (50, 60)
    assert samples["ttft.p95@8"] == pytest.approx((450, 510))
    assert metrics["throughput@8"] == geometric_estimate([200, 240])
    assert metrics["ttft@8"] == estimate([300, 340])
    assert {"totalThroughput@1", "requestRate@8", "itl.p50@1", "tpot.p99@8", "e2e.p90@1"} <= set(metrics)


def test_throughput_over_all_levels_is_the_geometric_mean_repeat_by_repeat() -> None:
    metrics, samples = summary(*TWO_LEVELS)
    assert samples["throughput"] == pytest.approx((100, 120))
    assert metrics["throughput"].value == pytest.approx(math.sqrt(100 * 120))
    assert metrics["throughput"].n == 2
    assert metrics["throughput"].low > 0


def test_every_level_weighs_the_same_whatever_its_size() -> None:
    small = summary(window(1, 0, 20), window(8, 0, 200)).metrics["throughput"].value
    large = summary(window(1, 0, 10), window(8, 0, 400)).metrics["throughput"].value
    assert small == pytest.approx(large)


def test_latency_over_all_levels_is_that_of_the_worst_level() -> None:
    metrics, samples = summary(*TWO_LEVELS)
    assert metrics["e2e.p95"] == metrics["e2e.p95@8"]
    assert samples["ttft"] == samples["ttft@8"]


def test_windows_that_do_not_count_are_left_out() -> None:
    bad = window(1, 0, 5000, invalid="load generator and engine disagree by 30 %")
    assert summary(bad, *TWO_LEVELS).metrics == summary(*TWO_LEVELS).metrics


def test_a_level_without_a_valid_window_leaves_the_overall_figures_out() -> None:
    metrics, _ = summary(window(1, 0, 50), window(8, 0, 200, invalid="requests failed"))
    assert "throughput@1" in metrics
    assert "throughput" not in metrics
    assert "ttft" not in metrics


def test_one_repeat_has_an_interval_without_width() -> None:
    metrics, samples = summary(window(1, 0, 50), levels=(1,))
    assert metrics["throughput"] == Estimate(value=50, low=50, high=50, n=1)
    assert samples["throughput"] == (50,)


def test_a_single_level_is_the_whole_workload() -> None:
    metrics, _ = summary(window(4, 0, 50), window(4, 1, 55), levels=(4,))
    for name in ("throughput", "ttft.p95", "requestRate"):
        assert metrics[name].value == pytest.approx(metrics[f"{name}@4"].value)


def test_repeats_are_in_the_order_of_measuring_whatever_the_order_of_the_report() -> None:
    _, samples = summary(*reversed(TWO_LEVELS))
    assert samples["throughput@1"] == (50, 60)


def test_unequal_numbers_of_valid_windows_pair_up_as_far_as_they_go() -> None:
    _, samples = summary(*TWO_LEVELS, window(1, 2, 70))
    assert len(samples["throughput@1"]) == 3
    assert samples["throughput"] == pytest.approx((100, 120))


def test_a_figure_that_does_not_exist_is_absent_and_the_rest_stays() -> None:
    """One output token has no inter-token latency."""
    nothing = latency(math.nan)
    metrics, _ = summary(window(1, 0, 50, itl_ms=nothing), window(8, 0, 200))
    assert not {"itl@1", "itl.p95@1", "itl"} & set(metrics)
    assert {"itl@8", "throughput", "ttft"} <= set(metrics)


def test_a_throughput_of_zero_stays_zero() -> None:
    metrics, _ = summary(window(1, 0, 0), window(1, 1, 10), window(8, 0, 100), window(8, 1, 100))
    assert metrics["throughput"].value == pytest.approx((0 + math.sqrt(1000)) / 2)


def test_throughput_per_cost_is_tokens_for_a_unit_of_money() -> None:
    metrics, _ = summary(window(1, 0, 50), levels=(1,), cost=2.5)
    assert metrics["throughputPerCost"].value == pytest.approx(3600 * 50 / 2.5)
    assert "throughputPerCost" not in summary(window(1, 0, 50), levels=(1,)).metrics


def test_accuracy_and_size_are_taken_over() -> None:
    perplexity = Estimate(value=12.3, low=12.0, high=12.6, n=32)
    unusable = Estimate(value=math.nan, low=math.nan, high=math.nan, n=1)
    report = TrialReport(
        trial="t",
        accuracy=AccuracyReport(metrics={"perplexity": perplexity, "klDivergence": unusable}, tokens=100),
        artifact=ArtifactReport(digest="d", path="p", size_bytes=12345, reused=False, model_digest="m"),
    )
    metrics, samples = summarize(report, workload=Workload(), cost_per_hour=None)
    assert metrics["perplexity"] == perplexity
    assert "klDivergence" not in metrics
    assert metrics["artifactBytes"].value == 12345
    assert samples == {}


def test_an_empty_report_has_no_metrics() -> None:
    assert summarize(TrialReport(trial="t"), workload=Workload(), cost_per_hour=1.0) == ({}, {})


def test_over_levels_ignores_figures_without_a_level() -> None:
    samples = {MetricKey("perplexity"): (10.0,), MetricKey("ttft", 95, 1): (5.0,), MetricKey("ttft", 95, 8): (7.0,)}
    assert over_levels(samples) == {MetricKey("ttft", 95): (7.0,)}


def test_a_short_look_counts_where_there_is_nothing_better() -> None:
    looks = (window(1, 0, 10, look=True), window(8, 0, 1000, look=True))
    assert summary(*looks).metrics["throughput"].value == pytest.approx(100)
    assert summary(*looks).samples["throughput@8"] == (1000,)
    assert summary(*looks, *TWO_LEVELS) == summary(*TWO_LEVELS)
    assert summary(*looks, window(8, 0, 200)).samples["throughput@8"] == (200,)
