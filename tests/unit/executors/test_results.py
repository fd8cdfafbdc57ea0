"""A trial's status from its report."""

from __future__ import annotations

from tests.unit.metrics.test_prometheus_edges import window

from haqa_operator.executors.results import trial_status
from haqa_runner.contract import LoadReport, TrialReport, Window, Workload


def source_of(*windows: Window) -> str | None:
    report = TrialReport(trial="t", load=LoadReport(windows=windows))
    return trial_status(
        report, Workload(), cost_per_hour=None, accelerators=1, started=0, finished=1, attempts=1
    ).source


def test_the_source_is_that_of_the_windows_that_count() -> None:
    aside = window(0, 5, invalid="the load generator was starved")
    assert source_of(aside, window(6, 11, source="prometheus")) == "prometheus"
    assert source_of(aside) == "engine-metrics"
    assert source_of() is None
