"""Waiting for Prometheus, and going on without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from tests.unit.metrics.scrapes import EVERY_2_S, T0, scraped, steady, window

from haqa_contract import LoadReport, TrialReport
from haqa_operator.metrics.prometheus import PrometheusReading, read_once, read_serving_metrics
from haqa_operator.metrics.prometheus_http import Refused, Unreachable
from haqa_operator.metrics.prometheus_series import Labels, ScrapedPod, Series, samples_query
from haqa_operator.metrics.prometheus_windows import Unreadable

POD = ScrapedPod("haqa", "trial-7-abc", "m")
REPORT = TrialReport(trial="t", load=LoadReport(windows=(window(7, 17),)))
ALL = scraped(EVERY_2_S, steady())
TOO_EARLY = scraped([at for at in EVERY_2_S if at < 17], steady())


@dataclass
class Answers:
    """One answer after the other; the last is repeated."""

    answers: Sequence[list[Series] | Unreadable]
    scrape_interval_s: float | None = None
    asked: list[str] = field(default_factory=list)

    def query(self, pod: ScrapedPod, start: float, end: float) -> str:
        return samples_query(pod, Labels(), start, end)

    def samples(self, promql: str) -> tuple[Series, ...]:
        given = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(promql)
        if isinstance(given, Unreadable):
            raise given
        return tuple(given)


def reading(
    *answers: list[Series] | Unreadable,
    patience_s: float = 30,
    outage_s: float | None = None,
    report: TrialReport = REPORT,
) -> tuple[PrometheusReading, int, float]:
    """What came of it, how often it was asked for, and how long that took."""
    now = [0.0]
    source = Answers(answers)

    def sleep(seconds: float) -> None:
        now[0] += seconds

    result = read_serving_metrics(
        source, POD, report, patience_s, outage_deadline=outage_s, clock=lambda: now[0], sleep=sleep
    )
    return result, len(source.asked), now[0]


def test_a_late_scrape_is_waited_for() -> None:
    result, asked, _ = reading([], TOO_EARLY, Unreachable("away"), ALL)
    assert (result.source, result.note, asked) == ("prometheus", None, 4)
    assert result.report.load is not None
    assert result.report.load.windows[0].output_tokens_per_s == pytest.approx(100)


@pytest.mark.parametrize("last", [[], TOO_EARLY, Unreachable("Prometheus answered HTTP 503")])
def test_waiting_ends_and_the_runners_windows_stand(last: list[Series] | Unreadable) -> None:
    result, _, waited_s = reading(last)
    assert result.report == REPORT
    assert result.source == "engine-metrics"
    assert 25 <= waited_s <= 30
    assert result.note is not None
    assert result.note.startswith("not read from Prometheus: waited ")
    assert result.note.endswith("the figures are the runner's own (engine-metrics)")


def test_an_outage_is_given_more_time_than_a_late_scrape() -> None:
    away = Unreachable("Prometheus cannot be reached (Connection refused)")
    _, _, waited_for_scrape_s = reading(TOO_EARLY, patience_s=10, outage_s=60)
    _, _, waited_for_server_s = reading(away, patience_s=10, outage_s=60)
    back, _, _ = reading(*[away] * 20, ALL, patience_s=10, outage_s=60)
    late, asked, _ = reading(*[away] * 20, TOO_EARLY, patience_s=10, outage_s=60)
    assert waited_for_scrape_s <= 10 < 55 <= waited_for_server_s <= 60
    assert back.source == "prometheus"
    assert (late.source, asked) == ("engine-metrics", 21), "the pod is gone: no scrape follows"


def test_what_will_not_change_is_not_waited_for() -> None:
    result, asked, waited_s = reading(Refused("Prometheus refused the credentials (HTTP 401)"))
    assert (asked, waited_s) == (1, 0)
    assert "HTTP 401" in str(result.note)


def test_a_deadline_that_has_passed_still_gives_what_was_scraped() -> None:
    result, asked, _ = reading(ALL, patience_s=-100)
    assert (result.source, asked) == ("prometheus", 1)


@pytest.mark.parametrize(
    "report",
    [TrialReport(trial="t"), TrialReport(trial="t", load=LoadReport(windows=(window(7, 17, invalid="failed"),)))],
)
def test_a_report_without_valid_windows_asks_for_nothing(report: TrialReport) -> None:
    result, asked, _ = reading(ALL, report=report)
    assert (result.report, asked) == (report, 0)
    assert "no valid window" in str(result.note)


def test_one_window_that_cannot_be_read_leaves_all_to_the_runner() -> None:
    report = TrialReport(trial="t", load=LoadReport(windows=(window(-20, -10), window(7, 17))))
    result, _, _ = reading(ALL, report=report)
    assert (result.report, result.source) == (report, "engine-metrics")


def test_a_window_that_prometheus_objects_to_is_a_warning() -> None:
    report = TrialReport(trial="t", load=LoadReport(windows=(window(7, 17), window(18, 28, client=50, repeat=1))))
    result, _, _ = reading(ALL, report=report)
    assert (result.source, result.note) == ("prometheus", None)
    (warning,) = result.report.warnings
    assert "window 2 at concurrency 8 does not count: Prometheus counted 100.0 output tokens/s" in warning


def test_a_level_of_which_nothing_would_be_left_leaves_all_to_the_runner() -> None:
    report = TrialReport(trial="t", load=LoadReport(windows=(window(7, 17), window(18, 28, 50, concurrency=1))))
    result, _, waited_s = reading(ALL, report=report)
    assert (result.report, result.source, waited_s) == (report, "engine-metrics", 0)
    assert "no window at concurrency 1 holds: Prometheus counted 100.0" in str(result.note)


def test_a_reconciler_that_must_not_wait_is_told_when_to_come_back() -> None:
    assert read_once(Answers([TOO_EARLY]), POD, REPORT).retry
    assert not read_once(Answers([ALL]), POD, REPORT).retry
    assert not read_once(Answers([Refused("no")]), POD, REPORT).retry


def test_the_queries_are_the_ones_that_were_sent_and_the_same_every_time() -> None:
    source = Answers([ALL])
    assert read_once(source, POD, REPORT).queries == tuple(source.asked)
    assert read_once(source, POD, REPORT).queries * 2 == tuple(source.asked)


def test_the_query_covers_the_windows_with_scrapes_on_both_sides() -> None:
    source = Answers([ALL])
    (query,) = read_once(source, POD, REPORT).queries
    assert query.endswith(f'namespace="haqa",pod="trial-7-abc"}}[310s] @ {T0 + 17 + 150:.3f}')


def test_names_of_other_labels_are_used() -> None:
    query = samples_query(ScrapedPod("a", "b"), Labels("kubernetes_namespace", "kubernetes_pod_name"), 0, 10)
    assert 'kubernetes_namespace="a",kubernetes_pod_name="b"' in query


def test_a_short_look_fits_between_two_scrapes_and_stays_the_runner_s() -> None:
    look = window(6.5, 6.9, client=50, look=True)
    full = TrialReport(trial="t", load=LoadReport(windows=(look, window(7, 17))))
    result, _, _ = reading(ALL, report=full)
    assert result.report.load is not None
    assert [w.source for w in result.report.load.windows] == ["engine-metrics", "prometheus"]
    early = TrialReport(trial="t", load=LoadReport(windows=(look,), ended_early="too slow"))
    result, asked, _ = reading(ALL, report=early)
    assert (result.report, result.note, result.source, asked) == (early, None, "engine-metrics", 0)


def test_why_a_load_test_ended_early_is_kept() -> None:
    report = TrialReport(trial="t", load=LoadReport(windows=(window(7, 17),), ended_early="too slow"))
    result, _, _ = reading(ALL, report=report)
    assert result.source == "prometheus"
    assert result.report.load is not None
    assert result.report.load.ended_early == "too slow"
