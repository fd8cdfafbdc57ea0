"""A trial's serving metrics, read from Prometheus; from the runner's own report where Prometheus cannot give them.

A trial is never lost for want of a scrape: the runner has read the same counters at the same edges by itself. What is
read where is on the trial (`source`), and so is the reason when it is not Prometheus.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from haqa_operator.metrics.prometheus_http import Connection, PrometheusHttp
from haqa_operator.metrics.prometheus_series import Labels, Pod, Series, samples_query, series_of
from haqa_operator.metrics.prometheus_windows import Unreadable, windows_from_prometheus
from haqa_runner.contract import TrialReport, Window

_MARGIN_S = 150.0
"""Asked for on both sides of the windows: two scrapes of the longest usual interval, a minute, and some."""
_PAUSE_S = 2.0
"""Between two questions while a scrape is awaited: intervals are seconds, and a query costs milliseconds."""


@dataclass(frozen=True)
class PrometheusReading:
    """What came of reading one trial's metrics.

    Attributes:
        report: The trial's, with Prometheus' windows if they could be read and unchanged if not.
        source: Who counted the tokens of its windows; None without windows.
        note: Why it was not Prometheus, for the trial's warnings.
        queries: PromQL as it was sent.
        retry: Asking again later may give more.
    """

    report: TrialReport
    source: str | None
    note: str | None = None
    queries: tuple[str, ...] = ()
    retry: bool = False


class Source(Protocol):
    """Something that keeps the samples of pods."""

    scrape_interval_s: float | None

    def query(self, pod: Pod, start: float, end: float) -> str:
        """PromQL for all samples of the pod between two Unix times."""
        ...

    def samples(self, promql: str) -> tuple[Series, ...]:
        """Raises Unreadable."""
        ...


class PrometheusSource:
    """One Prometheus, or anything that speaks its query API (Thanos, Mimir, VictoriaMetrics)."""

    def __init__(
        self, connection: Connection, labels: Labels | None = None, scrape_interval_s: float | None = None
    ) -> None:
        """`scrape_interval_s`: None = what the samples show."""
        self.scrape_interval_s = scrape_interval_s
        self._http = PrometheusHttp(connection)
        self._labels = labels or Labels()

    def query(self, pod: Pod, start: float, end: float) -> str:
        return samples_query(pod, self._labels, start, end)

    def samples(self, promql: str) -> tuple[Series, ...]:
        result: Any = self._http.query(promql)
        try:
            return series_of(result)
        except ValueError as error:
            raise Unreadable(f"Prometheus' answer cannot be read: {error}") from error


def read_once(source: Source, pod: Pod, report: TrialReport) -> PrometheusReading:
    """Asks once. A reconciler that must not wait comes back while `retry` is set, up to its own deadline."""
    windows = report.load.windows if report.load else ()
    counted = [window for window in windows if window.invalid is None]
    if not counted:
        return PrometheusReading(report, _source(windows), "the report has no valid window to read from Prometheus")
    margin_s = max(_MARGIN_S, 3 * (source.scrape_interval_s or 0))
    promql = source.query(
        pod, min(window.started for window in counted) - margin_s, max(window.ended for window in counted) + margin_s
    )
    try:
        read = windows_from_prometheus(
            windows, source.samples(promql), model=pod.model, scrape_interval_s=source.scrape_interval_s
        )
    except Unreadable as error:
        return PrometheusReading(report, _source(windows), str(error), (promql,), retry=not error.lasting)
    load = report.load.model_copy(update={"windows": read}) if report.load else None
    return PrometheusReading(report.model_copy(update={"load": load}), "prometheus", None, (promql,))


def read_serving_metrics(
    source: Source,
    pod: Pod,
    report: TrialReport,
    deadline: float,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    pause_s: float = _PAUSE_S,
) -> PrometheusReading:
    """Asks until Prometheus has scraped past the last window, or until the deadline; then the runner's windows stand.

    Blocks: run it in a thread. It returns at the latest one query's time limit after the deadline, and asks once even
    if that has passed, so that a restarted operator still reads what has long been scraped.

    Args:
        deadline: On `clock`.
    """
    began = clock()
    while True:
        reading = read_once(source, pod, report)
        if not reading.retry:
            return _told(reading)
        if clock() + pause_s > deadline:
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
