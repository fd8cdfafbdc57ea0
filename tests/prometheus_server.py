"""A real Prometheus on a loopback port, and exporters that count as vLLM does, for it to scrape."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import httpx
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

BINARY = "prometheus"
SCRAPE_INTERVAL_S = 1
USER, PASSWORD = "haqa", "påssword"
_PASSWORD_HASH = "$2b$04$jSG7ixQkNVDhSzO0fvHS4.D9Cnd2aRMFwoeBSvGN5gx8v11CrunE."
"""bcrypt, as Prometheus' web configuration wants it."""


def until(condition: Callable[[], object], limit_s: float, what: str) -> None:
    """Polls; fails the test with `what` when the limit is reached."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} has not come about within {limit_s:g} s"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class Engine:
    """Exports counters that rise evenly with the clock, so that the true rate of any window is known.

    It answers as vLLM 0.32 does, in the plain text format whatever is asked for; or, with `negotiates`, in OpenMetrics,
    where prometheus_client writes `vllm_` for `vllm:` to a Prometheus 2.

    Two ranks share the output tokens; a hundredth of the rate are finished requests, and as many are aborted.
    """

    def __init__(self, pod: str, tokens_per_s: float, negotiates: bool = False) -> None:
        self._negotiates = negotiates
        self.pod = pod
        self.port = free_port()
        self._rate = tokens_per_s
        self._server: WSGIServer | None = None
        self._thread: Thread | None = None
        self.restart()
        self.up()

    def up(self) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        app = make_wsgi_app(registry)

        def plain(environ: dict[str, object], start_response: Callable[..., object]) -> Iterable[bytes]:
            if not self._negotiates:
                environ.pop("HTTP_ACCEPT", None)
            body: Iterable[bytes] = app(environ, start_response)
            return body

        self._server = make_server("127.0.0.1", self.port, plain, handler_class=_Silent)
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    def down(self) -> None:
        """Connections are refused from now on."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(10)
            self._server = self._thread = None

    def restart(self) -> None:
        """A new process: all counters begin at zero."""
        self._started = time.time()

    def collect(self) -> Iterable[Metric]:
        tokens = self._rate * (time.time() - self._started)
        yield _counter("vllm:generation_tokens", "engine", {"0": 0.25 * tokens, "1": 0.75 * tokens})
        yield _counter("vllm:prompt_tokens", "engine", {"0": 2 * tokens})
        finished = {"stop": 0.004 * tokens, "length": 0.006 * tokens, "abort": 0.01 * tokens}
        yield _counter("vllm:request_success", "finished_reason", finished)
        yield _counter("vllm:num_preemptions", "engine", {"0": 0.0})
        for name, mean_s in (("time_to_first_token", 0.2), ("inter_token_latency", 0.01), ("e2e_request_latency", 1.5)):
            histogram = HistogramMetricFamily(f"vllm:{name}_seconds", name, labels=["model_name"])
            histogram.add_metric(["m"], [("+Inf", tokens)], sum_value=mean_s * tokens)
            yield histogram
        yield GaugeMetricFamily("process_start_time_seconds", "of this engine", self._started)


def _counter(name: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, name, labels=["model_name", label])
    for given, value in values.items():
        family.add_metric(["m", given], value)
    return family


class PrometheusServer:
    """One server process; its data outlive a kill. Guarded, it asks for `USER` and `PASSWORD`."""

    def __init__(self, folder: Path, engines: Iterable[Engine] = (), guarded: bool = False) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._auth = (USER, PASSWORD) if guarded else None
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "prometheus.yml").write_text(json.dumps(_configuration(engines)))
        (folder / "web.yml").write_text(json.dumps({"basic_auth_users": {USER: _PASSWORD_HASH}}))

    def start(self) -> None:
        """Returns when it answers."""
        command = [BINARY, f"--config.file={self._folder / 'prometheus.yml'}", "--log.level=warn"]
        command += [f"--storage.tsdb.path={self._folder / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}"]
        if self._auth:
            command.append(f"--web.config.file={self._folder / 'web.yml'}")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._ready, 30, f"an answer of {BINARY}, which said {(self._folder / 'log').read_text()[-500:]!r},")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", auth=self._auth, timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


def _configuration(engines: Iterable[Engine]) -> dict[str, object]:
    """JSON is YAML. The relabelling is the one of docs/prometheus.md, fed by static targets."""
    targets = [
        {
            "targets": [f"127.0.0.1:{engine.port}"],
            "labels": {"__meta_kubernetes_namespace": "haqa", "__meta_kubernetes_pod_name": engine.pod},
        }
        for engine in engines
    ]
    relabelling = [
        {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
        {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    ]
    interval = f"{SCRAPE_INTERVAL_S}s"
    return {
        "global": {"scrape_interval": interval, "scrape_timeout": interval},
        "scrape_configs": [{"job_name": "pods", "static_configs": targets, "relabel_configs": relabelling}],
    }
