"""A cluster without nodes: what controllers, kubelets and trials would do to the objects of the API server in memory.

Each `step` is a moment: Jobs get pods, pods come to their end with the reports that a runner would have left, and
Deployments get their replicas while the clock goes on. Nothing here knows the operator; it sees the API server alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.fakes.api_server import InMemoryApiServer
from tests.fakes.kinds import DEPLOYMENT
from tests.fakes.simulated_deployments import DeploymentController
from tests.model_headers import facts
from tests.unit.cluster.observe.pods import T0, PodBuilder, at

from haqa_contract import (
    FETCH_TRIAL,
    AccuracyReport,
    ArtifactReport,
    Estimate,
    Failure,
    FailureReason,
    Latency,
    LoadReport,
    TrialReport,
    TrialRequest,
    Window,
)
from haqa_operator.api.labels import REQUEST_ANNOTATION
from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.api_server import JOB, POD
from haqa_operator.cluster.names import ARTIFACT_TRIAL

NAMESPACE = "team"
SPEED = {
    "full": {"BF16": 100.0, "W8A8-INT8": 160.0, "W4A16": 130.0},
    "avx2": {"BF16": 20.0, "W8A8-INT8": 12.0, "W4A16": 90.0},
}
"""Output tokens/s of one stream, by pool and scheme."""

_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 1536,
    "intermediate_size": 4608,
    "num_hidden_layers": 4,
    "num_attention_heads": 24,
    "num_key_value_heads": 24,
    "vocab_size": 2048,
    "max_position_embeddings": 4096,
    "dtype": "bfloat16",
}
_TRIAL_S = 30.0

Ending = Callable[[PodBuilder], PodBuilder]
"""How the pod of a trial ends, from the pod as it was scheduled."""


_GPUS = "nvidia.com/gpu.count"


@dataclass
class SimulatedCluster:
    """Controllers, kubelets and trials over one API server.

    Attributes:
        endings: (pool, scheme) -> how the pods of such trials end, one for each attempt; then as planned.
        makings: Scheme -> how the pods that make such an artifact end; then as planned.
        layers: Of the model; 25 million parameters each.
        model: Its digest; None: it cannot be fetched.
        deployed: Pool -> how fast a winner is where it is deployed, in shares of its trial's speed; else as fast.
        now: Unix seconds.
        measured: Names of trials that were measured, in order; one that is there twice was measured twice.
    """

    api: InMemoryApiServer = field(init=False)
    now: float = T0
    endings: dict[tuple[str, str], list[Ending]] = field(default_factory=dict)
    measured: list[str] = field(default_factory=list)
    makings: dict[str, list[Ending]] = field(default_factory=dict)
    layers: int = 4
    model: str | None = "sha256-model"
    deployed: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.api = InMemoryApiServer(lambda: self.now)
        self.deployments = DeploymentController(self.api, NAMESPACE)

    def node(self, pool: str, **labels: str) -> None:
        """A node with AVX512 and VNNI, and with what more its labels say."""
        features = {"AVX2", "AVX512F", "AVX512BW", "AVX512VL", "AVX512DQ", "AVX512VNNI"}
        gpus = {"nvidia.com/gpu": labels[_GPUS]} if _GPUS in labels else {}
        found = {f"feature.node.kubernetes.io/cpu-cpuid.{name}": "true" for name in features}
        found["kubernetes.io/arch"] = "amd64"
        found["kubernetes.io/hostname"] = f"{pool}-1"
        self.api.stand_in(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": f"{pool}-1", "labels": {"pool": pool, **found, **labels}},
                "status": {
                    "allocatable": {"cpu": "16", "memory": "64Gi", **gpus},
                    "conditions": [{"type": "Ready", "status": "True"}],
                },
            }
        )

    def step(self) -> None:
        """What happens until the next reconciliation."""
        self.now += _TRIAL_S
        for job in self.api.list(JOB, NAMESPACE):
            if not _over(job) and not job["spec"].get("suspend"):
                self._run(job)
        for deployment in self.api.list(DEPLOYMENT, NAMESPACE):
            self.deployments.step(deployment, self.now)

    def _run(self, job: Manifest) -> None:
        template, metadata = job["spec"]["template"], job["metadata"]
        name = f"{metadata['name']}-abcde"
        if self.api.get(POD, name, NAMESPACE) is not None:
            return
        seconds = self.now - T0
        request = TrialRequest.model_validate_json(template["metadata"]["annotations"][REQUEST_ANNOTATION])
        began = PodBuilder(template["spec"], name=name, created=seconds - _TRIAL_S).scheduled(seconds - _TRIAL_S)
        node = f"{template['spec'].get('nodeSelector', {}).get('pool', 'any')}-1"
        began = replace(began, spec={**began.spec, "nodeName": node})
        ended = self._ended(began, request, seconds)
        pod = ended.obj()
        pod["metadata"] |= {"namespace": NAMESPACE, "labels": template["metadata"]["labels"]}
        pod["metadata"]["ownerReferences"] = [
            {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
        ]
        self.api.stand_in({"apiVersion": "v1", "kind": "Pod", **pod}, "kubelet")
        status: dict[str, Any] = {"startTime": at(seconds - _TRIAL_S)}
        status["conditions"] = [{"type": "Complete", "status": "True", "lastTransitionTime": at(seconds)}]
        self._report(job, status, "job-controller")

    def _ended(self, pod: PodBuilder, request: TrialRequest, seconds: float) -> PodBuilder:
        began: dict[str, Any] = {"began": seconds - _TRIAL_S, "finished": seconds}
        if request.trial == FETCH_TRIAL:
            if self.model is None:
                away = Failure(reason=FailureReason.MODEL_FETCH, message="the hub does not answer; try later")
                return pod.ended("quantize", TrialReport(trial=FETCH_TRIAL, failure=away), exit_code=3, **began)
            return pod.ended("quantize", _fetched(self.layers, self.model), **began)
        if request.trial == ARTIFACT_TRIAL:
            made = self.makings.get(request.configuration.scheme.value)
            return made.pop(0)(pod) if made else pod.ended("quantize", _quantized(request), **began)
        if pod.runs("verify"):
            share = self.deployed.get(request.pool, 1.0)
            return pod.ended("measure", _measured(request, self.now, share), **began)
        if pod.runs("reference"):
            return pod.ended("quantize", _scored(request), **began)
        planned = self.endings.get((request.pool, request.configuration.scheme.value), [])
        if planned:
            return planned.pop(0)(pod)
        self.measured.append(request.trial)
        quantized = pod.ended("quantize", _quantized(request), **began).running("vllm", seconds - 20)
        return quantized.ended("measure", _measured(request, self.now), **began)

    def _report(self, of: Manifest, status: Manifest, controller: str) -> None:
        """Its status alone: a controller owns nothing of the spec."""
        metadata = {name: of["metadata"][name] for name in ("name", "namespace")}
        identity = {"apiVersion": of["apiVersion"], "kind": of["kind"], "metadata": metadata}
        self.api.stand_in({**identity, "status": status}, controller)


def reporting(reason: FailureReason, message: str = "it did not work; try another") -> Ending:
    """The measuring step says so itself."""
    report = TrialReport(trial="any", failure=Failure(reason=reason, message=message))
    return lambda pod: (
        pod.ended("quantize", QUANTIZED)
        .running("vllm", 101)
        .ended("measure", report, exit_code=1, began=160, finished=260)
    )


QUANTIZED = TrialReport(
    trial="any",
    artifact=ArtifactReport(
        digest="3fa1", path="/store/artifacts/3fa1/model", size_bytes=7, reused=False, model_digest="m"
    ),
)


def _over(job: Mapping[str, Any]) -> bool:
    conditions = job.get("status", {}).get("conditions", ())
    return any(one["type"] in ("Complete", "Failed") and one["status"] == "True" for one in conditions)


def _fetched(layers: int, digest: str) -> TrialReport:
    artifact = ArtifactReport(
        digest="0" * 64,
        path="/models/model",
        size_bytes=258_000_000,
        reused=False,
        model_digest=digest,
        facts=facts({**_CONFIG, "num_hidden_layers": layers}),
    )
    return TrialReport(trial=FETCH_TRIAL, artifact=artifact)


def _quantized(request: TrialRequest) -> TrialReport:
    scheme = request.configuration.scheme.value
    digest = scheme.lower().encode().hex().ljust(64, "0")[:64]
    path = f"/store/artifacts/{digest}/model" if request.configuration.quantized else "/models/model"
    artifact = ArtifactReport(digest=digest, path=path, size_bytes=1000, reused=False, model_digest="sha256-model")
    return TrialReport(trial=request.trial, artifact=artifact)


def _scored(request: TrialRequest) -> TrialReport:
    """Of a baseline that is not served."""
    exact = Estimate(value=70.0, low=70.0, high=70.0, n=3)
    accuracy = AccuracyReport(metrics={"perplexity": exact}, tokens=1000)
    return _quantized(request).model_copy(update={"accuracy": accuracy})


def _measured(request: TrialRequest, now: float, share: float = 1.0) -> TrialReport:
    rate = share * SPEED.get(request.pool, SPEED["full"])[request.configuration.scheme.value]
    latency = Latency(**dict.fromkeys(("mean", "p50", "p90", "p95", "p99"), 1000 / rate))
    windows = tuple(
        Window(
            concurrency=level,
            repeat=repeat,
            started=now - 10 + repeat,
            ended=now - 9 + repeat,
            completed=8,
            failed=0,
            output_tokens_per_s=rate * level * (1 + 0.002 * repeat),
            total_tokens_per_s=2 * rate * level,
            requests_per_s=rate / 32,
            ttft_ms=latency,
            itl_ms=latency,
            tpot_ms=latency,
            e2e_ms=latency,
            source="engine-metrics",
            client_output_tokens_per_s=rate * level,
            disagreement=0.0,
        )
        for level in request.workload.concurrency
        for repeat in range(request.workload.repeats)
    )
    exact = Estimate(value=70.0, low=70.0, high=70.0, n=3)
    accuracy = AccuracyReport(metrics={"perplexity": exact}, tokens=1000)
    return TrialReport(trial=request.trial, load=LoadReport(windows=windows), accuracy=accuracy)
