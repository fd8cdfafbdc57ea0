"""Windows read from a real Prometheus that scrapes engines with known rates, and what happens when it does not."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from tests.prometheus_server import PASSWORD, USER, Engine, PrometheusServer, until

from haqa_contract import Latency, LoadReport, TrialReport, Window
from haqa_operator.metrics.prometheus import PrometheusReading, PrometheusSource, read_serving_metrics
from haqa_operator.metrics.prometheus_http import Connection
from haqa_operator.metrics.prometheus_series import ScrapedPod

RATE = 1000.0
LATENCY = Latency(mean=1, p50=1, p90=2, p95=3, p99=4)


def window(started: float, ended: float) -> Window:
    return Window(
        concurrency=8,
        repeat=0,
        started=started,
        ended=ended,
        completed=60,
        failed=0,
        output_tokens_per_s=1.0,
        total_tokens_per_s=3.0,
        requests_per_s=1.0,
        ttft_ms=LATENCY,
        itl_ms=LATENCY,
        tpot_ms=LATENCY,
        e2e_ms=LATENCY,
        source="engine-metrics",
        client_output_tokens_per_s=RATE,
        disagreement=0.0,
    )


@dataclass
class Measured:
    """What has been scraped: windows of 5 and 8 seconds, over which the engines fared differently."""

    prometheus: PrometheusServer
    report: TrialReport
    engines: dict[str, Engine]
    first: PrometheusReading
    """Of the steady engine, asked for in the very moment that its last window ended"""

    def read(self, pod: str, *, patience_s: float = 0.5, **connection: Any) -> PrometheusReading:
        source = PrometheusSource(Connection(**{"url": self.prometheus.url, **connection}))
        return read_serving_metrics(
            source, ScrapedPod("haqa", pod, "m"), self.report, time.time() + patience_s, pause_s=0.2
        )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    engines = {pod: Engine(pod, RATE) for pod in ("steady", "restarted", "gone")}
    engines["negotiating"] = Engine("negotiating", RATE, negotiates=True)
    prometheus = PrometheusServer(tmp_path_factory.mktemp("prometheus"), engines.values())
    try:
        prometheus.start()
        until(lambda: _scrapes(prometheus) == len(engines), 30, "a scrape of every engine")
        began = time.time()
        until(lambda: time.time() > began + 4, 10, "the middle of the windows")
        engines["restarted"].restart()
        engines["gone"].down()
        until(lambda: time.time() > began + 8, 10, "the end of the windows")
        report = TrialReport(
            trial="t", load=LoadReport(windows=(window(began, began + 5), window(began + 0.37, began + 8)))
        )
        source = PrometheusSource(Connection(prometheus.url))
        first = read_serving_metrics(source, ScrapedPod("haqa", "steady", "m"), report, time.time() + 10, pause_s=0.2)
        until(lambda: time.time() > began + 10.5, 10, "two more scrapes")
        yield Measured(prometheus, report, engines, first)
    finally:
        prometheus.kill()
        for engine in engines.values():
            engine.down()


def _scrapes(prometheus: PrometheusServer) -> float:
    query = {"query": 'count({__name__=~"vllm[:_]generation_tokens_total",engine="0"})'}
    found = httpx.get(f"{prometheus.url}/api/v1/query", params=query, timeout=2, trust_env=False).json()["data"][
        "result"
    ]
    return float(found[0]["value"][1]) if found else 0


@pytest.mark.parametrize("pod", ["steady", "negotiating"])
def test_rates_of_short_windows_are_right_although_scrapes_miss_their_edges(measured: Measured, pod: str) -> None:
    reading = measured.read(pod)
    assert (reading.source, reading.note) == ("prometheus", None)
    assert reading.report.load is not None
    for read in reading.report.load.windows:
        assert read.output_tokens_per_s == pytest.approx(RATE, rel=0.03)
        assert read.total_tokens_per_s == pytest.approx(3 * RATE, rel=0.03)
        assert read.requests_per_s == pytest.approx(0.01 * RATE, rel=0.03)
        assert read.engine_mean_ms == pytest.approx({"ttft": 200, "itl": 10, "e2e": 1500}, rel=0.01)
        assert (read.source, read.invalid) == ("prometheus", None)
        assert read.ttft_ms == LATENCY


def test_the_scrape_after_the_last_window_is_waited_for(measured: Measured) -> None:
    assert (measured.first.source, measured.first.note) == ("prometheus", None)


def test_the_query_can_be_pasted_into_prometheus_and_gives_raw_samples(measured: Measured) -> None:
    (query,) = measured.read("steady").queries
    answer = httpx.get(
        f"{measured.prometheus.url}/api/v1/query", params={"query": query}, timeout=5, trust_env=False
    ).json()["data"]
    assert answer["resultType"] == "matrix"
    assert {series["metric"]["pod"] for series in answer["result"]} == {"steady"}
    assert len(answer["result"][0]["values"]) >= 9


@pytest.mark.parametrize(
    ("pod", "says"),
    [
        ("restarted", "the engine was restarted in the window"),
        ("gone", "waited .* the last scrape of this pod is of"),
        ("never-was", "Prometheus does not scrape it"),
    ],
)
def test_what_prometheus_cannot_give_is_the_runners_with_the_reason(measured: Measured, pod: str, says: str) -> None:
    reading = measured.read(pod)
    assert reading.report == measured.report
    assert reading.source == "engine-metrics"
    assert reading.note is not None
    assert re.search(says, reading.note), reading.note


def test_basic_authentication_lets_in_whoever_has_the_password(measured: Measured, tmp_path: Path) -> None:
    guarded = PrometheusServer(tmp_path, guarded=True)
    guarded.start()
    try:
        refused = measured.read("steady", url=guarded.url, username=USER, password="wrong")
        assert refused.source == "engine-metrics"
        assert "refused the credentials (HTTP 401" in str(refused.note)
        assert "HTTP 401" in str(measured.read("steady", url=guarded.url).note)
        # It is let in: this server scrapes nothing, and says so.
        allowed = measured.read("steady", url=guarded.url, username=USER, password=PASSWORD)
        assert "no samples of this pod" in str(allowed.note)
    finally:
        guarded.kill()


def test_a_bearer_token_is_read_anew_for_every_query(measured: Measured, tmp_path: Path) -> None:
    token = tmp_path / "token"
    with _TokenProxy(measured.prometheus.url, "s3cret") as url:
        token.write_text("old\n")
        refused = measured.read("steady", url=url, bearer_token_file=str(token))
        token.write_text("s3cret\n")
        allowed = measured.read("steady", url=url, bearer_token_file=str(token))
    assert "does not allow these credentials" in str(refused.note)
    assert "s3cret" not in f"{refused} {allowed}"
    assert allowed.source == "prometheus"


def test_a_killed_prometheus_is_waited_for_and_its_samples_are_still_there(measured: Measured) -> None:
    measured.prometheus.kill()
    away = measured.read("steady")
    assert away.source == "engine-metrics"
    assert "Prometheus cannot be reached (Connection refused)" in str(away.note)

    pauses: list[float] = []

    def come_back(pause_s: float) -> None:
        pauses.append(pause_s)
        measured.prometheus.start()

    source = PrometheusSource(Connection(measured.prometheus.url))
    back = read_serving_metrics(
        source, ScrapedPod("haqa", "steady", "m"), measured.report, time.time() + 60, sleep=come_back
    )
    assert len(pauses) == 1
    assert (back.source, back.note) == ("prometheus", None)


class _TokenProxy:
    """A proxy as they stand in front of Prometheus: only for those with the token."""

    def __init__(self, url: str, token: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                allowed = self.headers.get("Authorization") == f"Bearer {token}"
                answer = httpx.get(url + self.path, timeout=5, trust_env=False) if allowed else None
                self.send_response(answer.status_code if answer else 403)
                self.end_headers()
                self.wfile.write(answer.content if answer else b"")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
