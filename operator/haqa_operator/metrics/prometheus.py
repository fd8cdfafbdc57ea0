"""A trial's serving metrics, read from Prometheus; from the runner's own report where Prometheus cannot give them.

A trial is never lost for want of a scrape: the runner has read the same counters at the same edges by itself. What is
read where is on the trial (`source`), and so is the reason when it is not Prometheus.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from haqa_contract import LoadReport, TrialReport, Window
from haqa_operator.metrics.prometheus_http import Connection, PrometheusHttp, Unreachable
from haqa_operator.metrics.prometheus_series import Labels, ScrapedPod, Series, samples_query, series_of
from haqa_operator.metrics.prometheus_windows import Unreadable, windows_from_prometheus

_MARGIN_S = 150.0
"""Asked for on both sides of the windows: two scrapes of the longest usual interval, a minute, and some."""
_PAUSE_S = 2.0
"""Between two questions while a scrape is awaited: intervals are seconds, and a query costs milliseconds."""
_AT_ONCE = 8
"""Queries to one Prometheus, which itself answers 20; each answer may take some megabytes while it is read."""


@dataclass(frozen=True)
class PrometheusReading:
    """What came of reading one trial's metrics.

    Attributes:
        report: The trial's, with Prometheus' windows if they could be read and unchanged if not.
        source: Who counted the tokens of its windows; None without windows.
        note: Why it was not Prometheus, for the trial's warnings.
        queries: PromQL as it was sent.
        retry: Asking again later may give more.
        answered: Whether Prometheus said anything at all.
    """

    report: TrialReport
    source: str | None
    note: str | None = None
    queries: tuple[str, ...] = ()
    retry: bool = False
    answered: bool = True


class Source(Protocol):
    """Something that keeps the samples of pods."""

    scrape_interval_s: float | None

    def query(self, pod: ScrapedPod, start: float, end: float) -> str:
        """PromQL for all samples of the pod between two Unix times."""
        ...

    def samples(self, promql: str) -> tuple[Series, ...]:
        """Raises Unreadable."""
        ...


class PrometheusSource:
    """One Prometheus, or anything that speaks its query API (Thanos, Mimir, VictoriaMetrics), for any thread."""

    def __init__(
        self, connection: Connection, labels: Labels | None = None, scrape_interval_s: float | None = None
    ) -> None:
        """`scrape_interval_s`: None = what the samples show."""
        self.scrape_interval_s = scrape_interval_s
        self._http = PrometheusHttp(connection)
        self._labels = labels or Labels()
        self._turns = threading.BoundedSemaphore(_AT_ONCE)

    def query(self, pod: ScrapedPod, start: float, end: float) -> str:
        return samples_query(pod, self._labels, start, end)

    def samples(self, promql: str) -> tuple[Series, ...]:
        with self._turns:
            result: Any = self._http.query(promql)
        try:
            return series_of(result)
        except ValueError as error:
            raise Unreadable(f"Prometheus' answer cannot be read: {error}") from error


def read_once(source: Source, pod: ScrapedPod, report: TrialReport) -> PrometheusReading:
    """Asks once. A reconciler that must not wait comes back while `retry` is set, up to its own deadline."""
    load = report.load or LoadReport(windows=())
    windows = load.windows
    counted = [window for window in windows if window.counts]
    if not counted:
        why = None if load.ended_early else "the report has no valid window to read from Prometheus"
        return PrometheusReading(report, _source(windows), why)
    margin_s = max(_MARGIN_S, 3 * (source.scrape_interval_s or 0))
    promql = source.query(
        pod, min(window.started for window in counted) - margin_s, max(window.ended for window in counted) + margin_s
    )
    try:
        read = windows_from_prometheus(
            windows, source.samples(promql), model=pod.model, scrape_interval_s=source.scrape_interval_s
        )
        _check_levels(counted, read)
    except Unreadable as error:
        return PrometheusReading(
            report,
            _source(windows),
            str(error),
            (promql,),
            retry=not error.lasting,
            answered=not isinstance(error, Unreachable),
        )
    return PrometheusReading(_with_windows(report, load, read), "prometheus", None, (promql,))


def _check_levels(counted: Sequence[Window], read: Sequence[Window]) -> None:
    """Raises Unreadable: of a level that the runner has measured, Prometheus leaves no window standing.

    The runner's own counts agreed with the load generator's there, and clocks that differ are more likely than that
    both are wrong: a trial is not lost over it.
    """
    left = {window.concurrency for window in read if window.invalid is None}
    for window in counted:
        if window.concurrency not in left:
            objections = (one.invalid for one in read if one.concurrency == window.concurrency and one.invalid)
            raise Unreadable(f"no window at concurrency {window.concurrency} holds: {next(objections)}")


def _with_windows(report: TrialReport, load: LoadReport, read: tuple[Window, ...]) -> TrialReport:
    """The report with these windows, and a warning for each that holds no longer."""
    marked = tuple(
        f"window {now.repeat + 1} at concurrency {now.concurrency} does not count: {now.invalid}"
        for was, now in zip(load.windows, read, strict=True)
        if was.invalid is None and now.invalid is not None
    )
    changes = {"load": load.model_copy(update={"windows": read}), "warnings": (*report.warnings, *marked)}
    return report.model_copy(update=changes)


def read_serving_metrics(
    source: Source,
    pod: ScrapedPod,
    report: TrialReport,
    deadline: float,
    *,
    outage_deadline: float | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    pause_s: float = _PAUSE_S,
) -> PrometheusReading:
    """Asks until Prometheus has scraped past the last window, or until the deadline; then the runner's windows stand.

    Blocks: run it in a thread. It returns at the latest one query's time limit after the deadline, and asks once even
    if that has passed, so that a restarted operator still reads what has long been scraped.

    Args:
        deadline: For the scrape, on `clock`.
        outage_deadline: For a Prometheus that does not answer; None = the same.
    """
    patience = deadline if outage_deadline is None else outage_deadline
    began = clock()
    while True:
        reading = read_once(source, pod, report)
        if not reading.retry:
            return _told(reading)
        if clock() + pause_s > (deadline if reading.answered else patience):
            waited = f"waited {max(0.0, clock() - began):.0f} s for Prometheus; "
            return _told(reading, waited)
        sleep(pause_s)


def _told(reading: PrometheusReading, waited: str = "") -> PrometheusReading:
    if reading.note is None:
        return reading
    stands = f"; the figures are the runner's own ({reading.source})" if reading.source else ""
    return PrometheusReading(
        reading.report, reading.source, f"not read from Prometheus: {waited}{reading.note}{stands}", reading.queries
    )


def _source(windows: Sequence[Window]) -> str | None:
    return next((window.source for window in windows if window.invalid is None), None) or next(
        (window.source for window in windows), None
    )
