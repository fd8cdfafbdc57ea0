"""With a Prometheus a trial is recorded once that has been read, and its figures and queries are the record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import cast

from tests.fakes.simulated_cluster import NAMESPACE
from tests.unit.cluster.tunings import ONE_POOL, Operated

from haqa_contract import TrialReport
from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.act.reconciler import Reconciler
from haqa_operator.cluster.edges.api_server import TRIAL
from haqa_operator.cluster.edges.prometheus_readings import PrometheusReadings
from haqa_operator.metrics.prometheus import PrometheusReading
from haqa_operator.metrics.prometheus_series import ScrapedPod


@dataclass
class Readings:
    """In the place of the background's: an answer once it is let."""

    answers: bool = False
    asked: list[ScrapedPod] = field(default_factory=list)
    note: str | None = None

    def read(
        self, pod: ScrapedPod, report: TrialReport, finished: float, on_answer: Callable[[], None]
    ) -> PrometheusReading | None:
        self.asked.append(pod)
        return PrometheusReading(report, "prometheus", self.note, ("all of it", "window")) if self.answers else None

    def under_way(self, pod: ScrapedPod) -> bool:
        return pod in self.asked and not self.answers


def with_prometheus(readings: Readings) -> Operated:
    operated = Operated()
    operated.dependencies = replace(operated.dependencies, readings=cast(PrometheusReadings, readings))
    operated.reconciler = Reconciler(operated.dependencies, lambda key: None, lambda: operated.cluster.now)
    return operated


def finished_trials(operated: Operated) -> list[Manifest]:
    return [
        one for one in operated.cluster.api.list(TRIAL, NAMESPACE) if one.get("status", {}).get("phase") == "Succeeded"
    ]


def test_a_trial_is_recorded_once_prometheus_was_read() -> None:
    readings = Readings()
    operated = with_prometheus(readings)
    operated.submit(**ONE_POOL)
    operated.run(until=lambda status: "waiting for Prometheus" in status.get("pools", [{}])[0].get("message", ""))
    assert finished_trials(operated) == []
    (baseline,) = operated.cluster.api.list(TRIAL, NAMESPACE)
    assert {pod.namespace for pod in readings.asked} == {NAMESPACE}
    assert {pod.name for pod in readings.asked} == {f"{baseline['metadata']['name']}-abcde"}

    readings.answers, readings.note = True, "scraped rarely"
    assert operated.run()["phase"] == "Succeeded"
    for trial in finished_trials(operated):
        assert trial["status"]["queries"] == {"windows": "all of it", "1": "window"}
        assert "scraped rarely" in trial["status"]["warnings"]
    assert len(operated.cluster.measured) == len(set(operated.cluster.measured)) == 3
