"""Metrics are read beside the reconciler: it never waits, and hears when there is an answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from tests.unit.metrics.scrapes import EVERY_2_S, T0, scraped, steady, window

from haqa_contract import LoadReport, TrialReport
from haqa_operator.cluster.edges.prometheus_readings import OUTAGE_PATIENCE_S, PrometheusReadings
from haqa_operator.metrics.prometheus import PrometheusReading
from haqa_operator.metrics.prometheus_http import Refused, Unreachable
from haqa_operator.metrics.prometheus_series import Labels, ScrapedPod, Series, samples_query

REPORT = TrialReport(trial="t", load=LoadReport(windows=(window(7, 17),)))
ALL = tuple(scraped(EVERY_2_S, steady()))
LIMIT_S = 10.0


@dataclass
class Prometheus:
    """Answers when it is let; of a pod named `broken` nobody could read the answer."""

    scrape_interval_s: float | None = 2.0
    up: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    failure: Exception | None = None

    def query(self, pod: ScrapedPod, start: float, end: float) -> str:
        return samples_query(pod, Labels(), start, end)

    def samples(self, promql: str) -> tuple[Series, ...]:
        self.asked.append(promql)
        assert self.up.wait(LIMIT_S)
        if self.failure:
            raise self.failure
        return ALL


@dataclass
class Clock:
    now: float = T0 + 20

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    source = Prometheus()
    yield source
    source.up.set()


def read(
    readings: PrometheusReadings, name: str, answered: threading.Event, finished: float = T0 + 20
) -> PrometheusReading | None:
    return readings.read(ScrapedPod("haqa", name, "m"), REPORT, finished, answered.set)


def test_looking_never_waits_and_an_answer_is_fetched_once(prometheus: Prometheus) -> None:
    readings, answered = PrometheusReadings(prometheus, 2), threading.Event()
    assert read(readings, "a", answered) is None
    assert read(readings, "a", answered) is None
    assert readings.under_way(ScrapedPod("haqa", "a", "m"))
    prometheus.up.set()
    assert answered.wait(LIMIT_S)
    found = read(readings, "a", answered)
    assert found is not None
    assert (found.source, found.note, len(prometheus.asked)) == ("prometheus", None, 1)
    assert not readings.under_way(ScrapedPod("haqa", "a", "m"))


def test_a_pod_that_is_waited_for_keeps_no_other_from_being_read(prometheus: Prometheus) -> None:
    readings = PrometheusReadings(prometheus, 2)
    answered = {f"pod-{number}": threading.Event() for number in range(50)}
    assert all(read(readings, name, event) is None for name, event in answered.items())
    prometheus.up.set()
    assert all(event.wait(LIMIT_S) for event in answered.values())
    assert all(read(readings, name, event) is not None for name, event in answered.items())


def test_an_outage_that_has_lasted_is_not_waited_for_again(prometheus: Prometheus) -> None:
    prometheus.up.set()
    prometheus.failure = Unreachable("Prometheus cannot be reached (Connection refused)")
    readings, answered = PrometheusReadings(prometheus, 2, Clock(T0 + 20 + OUTAGE_PATIENCE_S)), threading.Event()
    read(readings, "a", answered)
    assert answered.wait(LIMIT_S)
    found = read(readings, "a", answered)
    assert found is not None
    assert (found.report, found.source, len(prometheus.asked)) == (REPORT, "engine-metrics", 1)
    assert "Connection refused" in str(found.note)


@pytest.mark.parametrize(
    ("failure", "says"),
    [(Refused("Prometheus refused the credentials (HTTP 401)"), "HTTP 401"), (RuntimeError("a bug"), "a bug")],
)
def test_whatever_goes_wrong_the_runners_report_stands(prometheus: Prometheus, failure: Exception, says: str) -> None:
    prometheus.up.set()
    prometheus.failure = failure
    readings, answered = PrometheusReadings(prometheus, 2), threading.Event()
    read(readings, "a", answered, finished=T0)
    assert answered.wait(LIMIT_S)
    found = read(readings, "a", answered)
    assert found is not None
    assert found.report == REPORT
    assert str(found.note).startswith("not read from Prometheus: ")
    assert says in str(found.note)


def test_answers_that_nobody_fetches_are_thrown_away(prometheus: Prometheus) -> None:
    clock, answered = Clock(), threading.Event()
    readings = PrometheusReadings(prometheus, 2, clock)
    prometheus.up.set()
    read(readings, "deleted", answered)
    assert answered.wait(LIMIT_S)
    clock.now += 3600
    assert read(readings, "deleted", answered) is None, "it is read anew"
