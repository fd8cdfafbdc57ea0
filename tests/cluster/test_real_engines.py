"""One tuning, two node types; real llm-compressor, vLLM and Prometheus in the pods. The LLM alone is scripted.

`make cluster-real`; too long for `make cluster-tests`. Needs the environments of `make envs` and the demo model
(HAQA_DEMO_MODEL where it lies elsewhere).
"""

from __future__ import annotations

import base64
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.node_specs import machine_features
from tests.cluster.operator_process import OperatorProcess, claim
from tests.cluster.prometheus_pod import SCRAPE_INTERVAL_S, PrometheusPod
from tests.cluster.real.environments import ROOT, NodeEnvironments
from tests.cluster.real.summary import summary
from tests.cluster.service_client import complete
from tests.cluster.waiting import wait_until
from tests.fakes.llm_server import LLMServer

TUNING_LIMIT_S = 3600.0
POOLS = ("full", "avx2")

pytestmark = [pytest.mark.real, pytest.mark.timeout(4500)]


@dataclass(frozen=True)
class Tuned:
    """The tuning once it is over."""

    api: Kubectl
    tuning: Manifest
    trials: dict[str, Manifest]
    """By name."""
    log: Path
    key: str
    llm: LLMServer

    def pool(self, name: str) -> Manifest:
        return next(pool for pool in self.tuning["status"]["pools"] if pool["name"] == name)

    def trials_of(self, pool: str) -> list[Manifest]:
        found = [trial for trial in self.trials.values() if trial["spec"]["pool"] == pool]
        return sorted(found, key=lambda trial: trial["spec"]["number"])


@pytest.fixture(scope="module")
def demo_model() -> Path:
    folder = Path(os.environ.get("HAQA_DEMO_MODEL", ROOT / "demo" / "model"))
    assert (folder / "config.json").is_file(), f"no model in {folder}: `haqa model demo` makes it"
    return folder


@pytest.fixture(scope="module")
def tuned(
    definitions: None,
    python_image: None,
    prometheus_image: None,
    cluster: Kubectl,
    demo_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Tuned]:
    key = f"sk-{secrets.token_hex(16)}"
    folder = tmp_path_factory.mktemp("real")
    api = cluster.within(f"real-{secrets.token_hex(4)}")
    cluster.run("create", "namespace", api.namespace)
    _let_pods_reach(folder)
    environments = NodeEnvironments.of_this_machine()
    prometheus = PrometheusPod(api, folder / "samples", node_selector={"haqa.dev/role": "system"})
    with ExitStack() as cleaning:
        cleaning.callback(cluster.run, "delete", "namespace", api.namespace, "--wait=false")
        llm = cleaning.enter_context(LLMServer(api_key=key))
        cleaning.callback(prometheus.remove)
        prometheus.start()
        read = {"HAQA_PROMETHEUS_URL": prometheus.url, "HAQA_SCRAPE_INTERVAL_SECONDS": str(SCRAPE_INTERVAL_S)}
        operator = OperatorProcess(api, folder / "operator.log", environments.settings() | read)
        environments.compile(api)
        api.apply(*_needed(api.namespace, demo_model, folder / "artifacts", key), _example(llm.url))
        operator.start()
        cleaning.callback(operator.stop)
        tuning = _finished(api, operator.log)
        trials = {trial["metadata"]["name"]: trial for trial in api.list("quantizationtrial")}
        yield Tuned(api, tuning, trials, operator.log, key, llm)


def _let_pods_reach(folder: Path) -> None:
    """pytest's folders are private; a hostPath is reached by the pods' own user."""
    folder.chmod(0o755)


def _needed(namespace: str, model: Path, artifacts: Path, key: str) -> list[Manifest]:
    encoded = base64.b64encode(key.encode()).decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "llm"}, "data": {"api-key": encoded}}
    return [*claim("models", namespace, model.parent), *claim("artifacts", namespace, artifacts), secret]


def _example(llm_url: str) -> Manifest:
    tuning: Manifest = yaml.safe_load((ROOT / "examples" / "cluster-demo.yaml").read_text())
    secret = {"name": "llm", "key": "api-key"}
    agent = {"model": "openai/rule-of-thumb-1", "apiBase": llm_url, "secretRef": secret}
    tuning["spec"]["search"] |= {"strategy": "agent", "agent": agent}
    return tuning


def _finished(api: Kubectl, log: Path) -> Manifest:
    began = time.monotonic()

    def probe() -> Manifest | None:
        found = api.get("quantizationtuning", "demo")
        return found if found.get("status", {}).get("phase") in ("Succeeded", "Failed") else None

    def why_not() -> str:
        return "\n".join([api.run("get", "pods"), api.run("describe", "quantizationtuning"), log.read_text()[-6000:]])

    # kubectl would take a tenth of a core from what is measured.
    found = wait_until(probe, TUNING_LIMIT_S, "the tuning is over", why_not, pause_s=5)
    print(f"\n{summary(found, api.list('quantizationtrial'), time.monotonic() - began)}")
    return found


@pytest.mark.parametrize("pool", POOLS)
def test_every_pool_has_its_answer(tuned: Tuned, pool: str) -> None:
    status = tuned.pool(pool)
    assert status["phase"] == "Succeeded", status
    assert status["trials"]["succeeded"] >= 2
    deployment = tuned.api.get("deployment", status["deployment"])
    assert deployment["status"]["availableReplicas"] == 1


def test_the_pools_differ_by_what_the_cap_takes_from_this_cpu(tuned: Tuned) -> None:
    """The unquantized model is served far slower without tiles and wide registers, where the CPU has them."""
    speeds = {pool: tuned.trials_of(pool)[0]["status"]["metrics"]["throughput"]["value"] for pool in POOLS}
    if "AVX512F" in machine_features(Path("/proc/cpuinfo").read_text()):
        assert speeds["full"] > 1.3 * speeds["avx2"], speeds
        assert tuned.pool("full")["hardware"] != tuned.pool("avx2")["hardware"]
    else:
        assert speeds["full"] == pytest.approx(speeds["avx2"], rel=0.3), "AVX2 is all that this CPU has"


@pytest.mark.parametrize("pool", POOLS)
def test_what_is_served_is_what_was_measured(tuned: Tuned, pool: str) -> None:
    status = tuned.pool(pool)
    (job,) = tuned.api.list("job", f"haqa.dev/trial={status['best']['trial']}")
    measured = next(c for c in job["spec"]["template"]["spec"]["initContainers"] if c["name"] == "vllm")
    (served,) = tuned.api.get("deployment", status["deployment"])["spec"]["template"]["spec"]["containers"]
    for part in ("image", "command", "args", "env", "resources"):
        assert served[part] == measured[part], part


@pytest.mark.parametrize("pool", POOLS)
def test_the_service_answers_requests_of_another_pod(tuned: Tuned, pool: str) -> None:
    service = tuned.api.get("service", tuned.pool(pool)["deployment"])
    answer = complete(tuned.api, service, model="demo", prompt="def __init__(self, ", max_tokens=8)
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["choices"][0]["text"].strip()


@pytest.mark.parametrize("pool", POOLS)
def test_every_trial_tells_what_it_measured(tuned: Tuned, pool: str) -> None:
    for trial in tuned.trials_of(pool):
        status, name = trial["status"], trial["metadata"]["name"]
        assert status["phase"] == "Succeeded", (name, status.get("failure"))
        assert status["metrics"].keys() >= {"throughput@1", "throughput@8", "ttft.p95@8", "perplexity"}, name
        # An engine that is busy with one core may be too late for a scrape; then the trial says so.
        missed = any("not read from Prometheus: scrapes lie too far apart" in w for w in status.get("warnings", ()))
        assert status["source"] == ("engine-metrics" if missed else "prometheus"), (name, status.get("warnings"))
        assert len(status["artifactDigest"]) == 64, name
        assert status["engineArgs"], name


def test_prometheus_is_the_record_of_most_trials(tuned: Tuned) -> None:
    sources = [trial["status"]["source"] for trial in tuned.trials.values()]
    assert sources.count("prometheus") > len(sources) / 2, sources


def test_both_pools_share_the_quantized_models(tuned: Tuned) -> None:
    made = [t["status"] for t in tuned.trials.values() if not t["status"]["artifactReused"]]
    quantized = [t for t in tuned.trials.values() if t["spec"]["configuration"]["scheme"] != "BF16"]
    digests = {t["status"]["artifactDigest"] for t in quantized}
    assert len(made) == len(digests) < len(quantized)
    assert {status["artifactDigest"] for status in made} == digests


def test_the_agent_chose_and_its_key_is_nowhere(tuned: Tuned) -> None:
    proposers = [trial["spec"]["proposer"] for trial in tuned.trials.values()]
    assert proposers.count("baseline") == len(POOLS)
    assert set(proposers) == {"baseline", "agent"}
    assert len(tuned.llm.requests) == proposers.count("agent")
    # Everything but Secrets, which hold it in base64.
    kinds = "quantizationtunings,quantizationtrials,jobs,pods,deployments,services,events,configmaps"
    texts = [tuned.api.run("get", kinds, "-o", "yaml"), tuned.log.read_text()]
    for pod in tuned.api.list("pod"):
        texts.append(tuned.api.run("logs", pod["metadata"]["name"], "--all-containers"))
    for text in texts:
        assert tuned.key not in text
        assert base64.b64encode(tuned.key.encode()).decode() not in text
