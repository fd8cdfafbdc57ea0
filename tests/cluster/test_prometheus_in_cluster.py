"""Trials read from a real Prometheus that finds their pods by itself, and what happens where it cannot give them.

Runner and engine are stubs, but the engine's counters move with requests that are really sent, and the windows are
those in which they were. Prometheus' figures are held against the report that the runner left in its log.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.operator_process import OperatorProcess
from tests.cluster.prometheus_access import PASSWORD, USER, Certificate, api_server, web_files
from tests.cluster.prometheus_pod import SCRAPE_INTERVAL_S, PrometheusPod, documented_configuration
from tests.cluster.tunings import tuning
from tests.cluster.waiting import wait_until
from tests.cluster.workplace import emptied, supplied

TRIAL_LIMIT_S = 240.0
LEVEL = 4

pytestmark = pytest.mark.timeout(600)


@dataclass
class Bench:
    """A namespace with a Prometheus and, once it is started, an operator that reads from it."""

    kubectl: Kubectl
    folder: Path
    prometheus: PrometheusPod
    cleaning: ExitStack

    @property
    def log(self) -> Path:
        return self.folder / "operator.log"

    def operator(self, **settings: str) -> OperatorProcess:
        environment = {
            "HAQA_PROMETHEUS_URL": self.prometheus.url,
            "HAQA_SCRAPE_INTERVAL_SECONDS": str(SCRAPE_INTERVAL_S),
            **settings,
        }
        process = OperatorProcess(self.kubectl, self.log, environment)
        self.cleaning.callback(process.stop)
        process.start()
        return process

    def trial(self, number: int = 0) -> Manifest | None:
        found = self.kubectl.list("quantizationtrials")
        return next((trial for trial in found if trial["spec"]["number"] == number), None)

    def finished(self, number: int = 0) -> Manifest:
        """The trial's status, once it has its last one."""

        def probe() -> Manifest | None:
            trial = self.trial(number)
            status: Manifest = (trial or {}).get("status", {})
            return status if status.get("phase") in ("Succeeded", "Failed") else None

        return wait_until(probe, TRIAL_LIMIT_S, f"trial {number} is over", lambda: self.log.read_text()[-6000:])

    def pod(self, number: int = 0) -> str:
        """Name of the trial's pod, once there is one."""

        def probe() -> str | None:
            trial = self.trial(number)
            if trial is None:
                return None
            pods = self.kubectl.list("pods", f"haqa.dev/trial={trial['metadata']['name']}")
            return str(pods[0]["metadata"]["name"]) if pods else None

        return wait_until(probe, TRIAL_LIMIT_S, f"trial {number} has a pod", lambda: self.log.read_text()[-6000:])

    def log_of_measure(self, pod: str) -> str:
        containers = self.kubectl.get("pod", pod)["status"].get("containerStatuses", [])
        begun = any(set(container["state"]) & {"running", "terminated"} for container in containers)
        return self.kubectl.run("logs", pod, "--container=measure") if begun else ""

    def ended(self, pod: str) -> None:
        """Returns when the pod has succeeded."""
        self.kubectl.wait_for("pod", pod, lambda it: it["status"]["phase"] == "Succeeded", "has ended", TRIAL_LIMIT_S)

    def windows(self, pod: str) -> list[dict[str, Any]]:
        """The runner's own."""
        found = re.search(r"^HAQA-REPORT (.*)$", self.log_of_measure(pod), re.MULTILINE)
        assert found is not None
        measured: list[dict[str, Any]] = json.loads(found[1])["load"]["windows"]
        return measured

    def measured(self, pod: str) -> None:
        """Returns when the trial's windows are over and Prometheus has the scrape after them, with the pod still up."""
        over = "waiting for the last scrape"
        wait_until(lambda: over in self.log_of_measure(pod), TRIAL_LIMIT_S, "the windows are over")
        query = f'timestamp(vllm:generation_tokens_total{{pod="{pod}"}})'
        scraped = [float(series["value"][1]) for series in self.prometheus.ask(query)]
        assert scraped, f"{pod} is scraped"

        def once_more() -> bool:
            now = [float(series["value"][1]) for series in self.prometheus.ask(query)]
            return not now or now > scraped

        wait_until(once_more, 10, "another scrape")


@pytest.fixture
def bench(
    definitions: None, python_image: None, prometheus_image: None, kubectl: Kubectl, tmp_path: Path
) -> Iterator[Callable[..., Bench]]:
    """Makes one; its Prometheus has the documented configuration unless another one is given."""
    supplied(kubectl, tmp_path)
    with ExitStack() as cleaning:

        def make(**settings: Any) -> Bench:
            prometheus = PrometheusPod(kubectl, tmp_path / "samples", **settings)
            cleaning.callback(prometheus.remove)
            prometheus.start()
            return Bench(kubectl, tmp_path, prometheus, cleaning)

        yield make
        emptied(kubectl)


def searching(*schemes: str, **spec: Any) -> Manifest:
    """A tuning whose windows are long enough for several scrapes."""
    workload = {"inputTokens": 32, "outputTokens": 32, "concurrency": [LEVEL], "repeats": 2, "durationSeconds": 5}
    search = {"strategy": "grid", "schemes": ["BF16", *schemes], "algorithms": ["rtn"], "engineDefaults": False}
    return tuning(pools=("full",), workload=workload, search=search, output={"mode": "Manifest"}, **spec)


def warnings(status: Manifest) -> str:
    return "\n".join(status.get("warnings", ()))


def assert_read_from_prometheus(bench: Bench, status: Manifest, pod: str) -> None:
    assert status["source"] == "prometheus", warnings(status)
    assert "Prometheus" not in warnings(status)
    runners = fmean(window["output_tokens_per_s"] for window in bench.windows(pod))
    read = status["metrics"][f"throughput@{LEVEL}"]["value"]
    assert read == pytest.approx(runners, rel=0.05)
    assert read != runners, "no copy of the runner's figure"


def assert_runners_own(bench: Bench, status: Manifest, pod: str, why: str) -> None:
    assert (status["phase"], status["source"]) == ("Succeeded", "engine-metrics")
    assert re.search(f"not read from Prometheus: .*{why}.*runner's own", warnings(status)), warnings(status)
    assert status["samples"][f"throughput@{LEVEL}"] == [window["output_tokens_per_s"] for window in bench.windows(pod)]


def test_trials_are_read_from_prometheus_by_a_query_that_can_be_pasted(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.operator()
    made.kubectl.apply(searching("W8A8-INT8"))
    rates = []
    for number in (0, 1):
        status, pod = made.finished(number), made.pod(number)
        assert_read_from_prometheus(made, status, pod)
        result = made.prometheus.ask(status["queries"]["windows"])
        assert {series["metric"]["pod"] for series in result} == {pod}
        assert {series["metric"]["namespace"] for series in result} == {made.kubectl.namespace}
        assert len({series["metric"]["instance"] for series in result}) == 1, "one target for each pod"
        assert min(len(series["values"]) for series in result) >= 5, "raw samples"
        rates.append(status["metrics"]["throughput"]["value"])
    assert rates[1] / rates[0] == pytest.approx(1.6, rel=0.1)


def test_an_outage_that_ends_in_time_costs_nothing(bench: Callable[..., Bench]) -> None:
    made = bench()
    # Scraped more often than the operator knows: the pod then stays up for some scrapes after its last window.
    made.operator(HAQA_SCRAPE_INTERVAL_SECONDS="6")
    made.kubectl.apply(searching())
    pod = made.pod()
    made.measured(pod)
    made.prometheus.stop()
    made.kubectl.wait_for("pod", pod, lambda found: found["status"]["phase"] == "Succeeded", "has ended", TRIAL_LIMIT_S)
    trial = made.trial()
    assert trial is not None
    assert trial["status"]["phase"] not in ("Succeeded", "Failed"), "it is waited for"
    made.prometheus.again()
    assert_read_from_prometheus(made, made.finished(), pod)


def test_an_outage_that_lasts_leaves_the_runners_figures(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.operator()
    made.kubectl.apply(searching())
    pod = made.pod()
    made.prometheus.stop()
    assert_runners_own(made, made.finished(), pod, r"waited \d+ s for Prometheus; .*Connection refused")


def test_an_outage_in_the_middle_of_a_window_is_told(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.operator()
    made.kubectl.apply(searching())
    pod = made.pod()
    query = f'vllm:generation_tokens_total{{pod="{pod}"}} > 0'
    wait_until(lambda: made.prometheus.ask(query), TRIAL_LIMIT_S, "the load has begun")
    made.prometheus.stop()
    made.kubectl.wait_for("pod", pod, lambda found: found["status"]["phase"] == "Succeeded", "has ended", TRIAL_LIMIT_S)
    made.prometheus.again()
    assert_runners_own(made, made.finished(), pod, "the last scrape of this pod is of .*, and the window ended at")


def test_a_prometheus_that_never_answers_holds_up_nothing_else(bench: Callable[..., Bench]) -> None:
    made = bench()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        made.operator(HAQA_PROMETHEUS_URL=url, HAQA_PROMETHEUS_TIMEOUT_SECONDS="40")
        made.kubectl.apply(searching("W8A8-INT8"))
        pod = made.pod()
        wait_until(
            lambda: made.kubectl.get("pod", pod)["status"]["phase"] == "Succeeded", TRIAL_LIMIT_S, "it has ended"
        )
        made.kubectl.apply(searching("W8A8-INT8", suspend=True))

        def looked() -> bool:
            found = made.kubectl.get("quantizationtuning", "demo")
            return bool(found["status"]["observedGeneration"] == found["metadata"]["generation"] > 1)

        wait_until(looked, 30, "the operator sees the edit", made.log.read_text)
        trial = made.trial()
        assert trial is not None
        assert trial["status"]["phase"] not in ("Succeeded", "Failed"), "the reading goes on"
        assert_runners_own(made, made.finished(), pod, "did not answer within 40 s")


def test_a_pod_that_is_not_scraped_is_told(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.operator()
    made.kubectl.apply(searching())
    pod = made.pod()
    made.kubectl.run("annotate", "pod", pod, "prometheus.io/scrape-")
    assert_runners_own(made, made.finished(), pod, "this pod")


def test_a_series_that_prometheus_drops_is_named(bench: Callable[..., Bench]) -> None:
    configuration = documented_configuration()
    configuration["scrape_configs"][0]["metric_relabel_configs"] = [
        {"source_labels": ["__name__"], "action": "drop", "regex": "vllm:prompt_tokens_total"}
    ]
    made = bench(configuration=configuration)
    made.operator()
    made.kubectl.apply(searching())
    status = made.finished()
    assert_runners_own(made, status, made.pod(), "vllm:prompt_tokens_total is missing; look for a metric_relabel")


def test_a_restart_of_the_engine_in_a_window_is_told(bench: Callable[..., Bench]) -> None:
    made = bench()
    made.operator(HAQA_RUNNER_ENV=json.dumps({"STUB_RESTART_ENGINE": "BF16"}))
    made.kubectl.apply(searching("W8A8-INT8"))
    assert_runners_own(made, made.finished(0), made.pod(0), "the engine was restarted in the window that began at")
    assert_read_from_prometheus(made, made.finished(1), made.pod(1))


def test_tls_by_an_own_ca_and_a_password(bench: Callable[..., Bench], tmp_path: Path) -> None:
    certificate = Certificate.make(tmp_path)
    made = bench(web=web_files(certificate))
    password = {"HAQA_PROMETHEUS_USERNAME": USER, "HAQA_PROMETHEUS_PASSWORD": "wrong"}
    authority = {"HAQA_PROMETHEUS_CA_FILE": str(certificate.path)}
    made.kubectl.apply(searching("W8A8-INT8", "W4A16"))
    for number, settings, why in (
        (0, password, r"TLS with Prometheus failed \(self.signed certificate\); its CA belongs in ca_file"),
        (1, password | authority, r"refused the credentials \(HTTP 401\)"),
    ):
        operator = made.operator(**settings)
        status = made.finished(number)
        operator.stop()
        assert_runners_own(made, status, made.pod(number), why)
    made.operator(**authority, HAQA_PROMETHEUS_USERNAME=USER, HAQA_PROMETHEUS_PASSWORD=PASSWORD)
    assert_read_from_prometheus(made, made.finished(2), made.pod(2))
    assert PASSWORD not in made.log.read_text()


def test_a_token_that_is_replaced_while_the_operator_runs(bench: Callable[..., Bench], tmp_path: Path) -> None:
    """The API server's proxy of Services stands in front: it wants a token, and has a CA of its own."""
    made = bench()
    access = api_server(made.kubectl, tmp_path)
    token = tmp_path / "token"
    token.write_text("outdated")
    made.operator(
        HAQA_PROMETHEUS_URL=f"{access.server}{made.prometheus.proxy_path}",
        HAQA_PROMETHEUS_TOKEN_FILE=str(token),
        HAQA_PROMETHEUS_CA_FILE=str(access.authority),
    )
    made.kubectl.apply(searching("W8A8-INT8", "W4A16"))
    assert_runners_own(made, made.finished(0), made.pod(0), r"refused the credentials \(HTTP 401\)")
    token.write_text(made.kubectl.run("create", "token", "default"))
    assert_runners_own(
        made, made.finished(1), made.pod(1), r"does not allow these credentials to query it \(HTTP 403\)"
    )
    token.write_text(access.token)
    assert_read_from_prometheus(made, made.finished(2), made.pod(2))
    assert access.token not in made.log.read_text() + json.dumps(made.trial(2))
