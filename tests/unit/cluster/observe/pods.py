"""Jobs and pods of a trial in every state, in the shapes that the API server gives them.

`make_pod().quantized().serving().measured(report).obj()`: each call returns a new builder. Times are seconds after
`T0`, by default about when they would be.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from haqa_contract import (
    FETCH_TRIAL,
    ArtifactReport,
    Configuration,
    Failure,
    FailureReason,
    Latency,
    LoadReport,
    ModelSource,
    TrialReport,
    TrialRequest,
    Window,
)
from haqa_contract.termination import encode_termination
from haqa_operator.api.tuning import Artifacts
from haqa_operator.cluster.build.trial_job import TrialPod, build_model_job, build_trial_job, trial_places, trial_volume
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.serving.images import engine_image
from haqa_operator.serving.launch import engine_launch
from haqa_operator.serving.pod import EnginePod
from haqa_operator.serving.volumes import MODEL_MOUNT
from haqa_operator.tuning.requests import TrialPlaces

T0 = datetime(2026, 11, 26, 10, 0, 0, tzinfo=UTC).timestamp()
CPU = Accelerator(vendor=Vendor.CPU, product="a CPU", memory_gib=24, cores=2)
CLAIM = Artifacts(pvc="artifacts")
STARTUP_S = 900


def at(seconds: float) -> str:
    return datetime.fromtimestamp(T0 + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def claim_of(uri: str) -> str | None:
    return uri.removeprefix("pvc://").partition("/")[0] if uri.startswith("pvc://") else None


def make_request(
    trial: str = "demo-here-003", artifacts: Artifacts = CLAIM, uri: str = "pvc://models/llama", **more: Any
) -> TrialRequest:
    places: TrialPlaces = trial_places("team", "demo", "here", artifacts, claim_of(uri))
    configuration = more.pop("configuration", Configuration.of("W8A8-INT8", "rtn", max_num_seqs=64))
    return TrialRequest(
        tuning="demo",
        trial=trial,
        pool="here",
        model=ModelSource(uri=uri, mount=places.mount),
        configuration=configuration,
        engine=engine_launch(
            configuration, CPU, model_path=MODEL_MOUNT, served_model_name="demo", startup_timeout_s=STARTUP_S
        ),
        store=places.store,
        directory=places.directory,
        cache=places.cache,
        reference=places.reference,
        **more,
    )


def make_trial_pod(request: TrialRequest | None = None, artifacts: Artifacts = CLAIM, **more: Any) -> TrialPod:
    request = request or make_request(artifacts=artifacts)
    volume = trial_volume(artifacts, claim_of(request.model.uri))
    engine = EnginePod(request.engine, CPU, engine_image(CPU), volume, node_selector={"pool": "here"})
    given = {"engine": engine, "runner_image": "example/haqa-runner:1", "timeout": timedelta(hours=2), **more}
    return TrialPod(request=request, **given)


ARTIFACT = ArtifactReport(
    digest="3fa1", path="/store/artifacts/3fa1/model", size_bytes=7, reused=False, model_digest="sha256-9"
)
QUANTIZED = TrialReport(trial="demo-here-003", artifact=ARTIFACT)


def measured(failure: Failure | None = None, windows: int = 1) -> TrialReport:
    """A report of measure."""
    latency = Latency(mean=1.5, p50=1.25, p90=2.0, p95=2.5, p99=3.0)
    window = Window(
        concurrency=8,
        repeat=0,
        started=T0 + 200,
        ended=T0 + 230,
        completed=32,
        failed=0,
        output_tokens_per_s=331.25,
        total_tokens_per_s=900.5,
        requests_per_s=2.5,
        ttft_ms=latency,
        itl_ms=latency,
        tpot_ms=latency,
        e2e_ms=latency,
        source="engine-metrics",
        client_output_tokens_per_s=330.0,
        disagreement=0.004,
    )
    load = None if failure else LoadReport(windows=(window,) * windows)
    return TrialReport(trial="demo-here-003", load=load, failure=failure)


def failed(reason: FailureReason, message: str = "it did not work; try another") -> TrialReport:
    return TrialReport(trial="demo-here-003", failure=Failure(reason=reason, message=message))


@dataclass(frozen=True)
class JobBuilder:
    manifest: dict[str, Any]
    status: dict[str, Any] = field(default_factory=lambda: {"startTime": at(0), "active": 1})

    def condition(self, kind: str, reason: str = "", message: str = "", seconds: float = 300) -> JobBuilder:
        entry = {
            "type": kind,
            "status": "True",
            "reason": reason,
            "message": message,
            "lastTransitionTime": at(seconds),
        }
        return replace(self, status={**self.status, "conditions": [*self.status.get("conditions", []), entry]})

    def suspended(self) -> JobBuilder:
        spec = {**self.manifest["spec"], "suspend": True}
        return replace(self, manifest={**self.manifest, "spec": spec}, status={})

    def deleted(self, seconds: float = 100) -> JobBuilder:
        metadata = {**self.manifest["metadata"], "deletionTimestamp": at(seconds)}
        return replace(self, manifest={**self.manifest, "metadata": metadata})

    def obj(self) -> dict[str, Any]:
        metadata = {"creationTimestamp": at(0), **self.manifest["metadata"]}
        return {**self.manifest, "metadata": metadata, "status": self.status}


def make_job(trial: TrialPod | None = None) -> JobBuilder:
    return JobBuilder(build_trial_job(trial or make_trial_pod()))


def make_model_job() -> JobBuilder:
    return JobBuilder(build_model_job(make_trial_pod(make_request(FETCH_TRIAL))))


@dataclass(frozen=True)
class PodBuilder:
    spec: dict[str, Any]
    name: str = "demo-here-003-abcde"
    created: float = 0
    phase: str = "Pending"
    metadata: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    conditions: tuple[dict[str, Any], ...] = ()
    states: dict[str, dict[str, Any]] = field(default_factory=dict)

    def condition(
        self, kind: str, status: str = "True", reason: str = "", message: str = "", seconds: float = 0
    ) -> PodBuilder:
        entry = {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": at(seconds),
        }
        return replace(self, conditions=(*self.conditions, entry))

    def runs(self, step: str) -> bool:
        """Whether one of its containers was made for this step of the runner."""
        return any(entry.get("args", [])[:1] == [step] for entry in self.spec["containers"])

    def unschedulable(self, seconds: float = 0) -> PodBuilder:
        message = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
        return self.condition("PodScheduled", "False", "Unschedulable", message, seconds)

    def scheduled(self, seconds: float = 1) -> PodBuilder:
        on_node = replace(self, spec={**self.spec, "nodeName": "node-1"})
        return on_node.condition("PodScheduled", seconds=seconds)

    def waiting(self, container: str, reason: str, message: str = "") -> PodBuilder:
        return self._state(container, {"state": {"waiting": {"reason": reason, "message": message}}})

    def running(self, container: str, seconds: float, started: bool = True) -> PodBuilder:
        return self._state(container, {"state": {"running": {"startedAt": at(seconds)}}, "started": started})

    def ended(
        self,
        container: str,
        message: str | TrialReport = "",
        *,
        exit_code: int = 0,
        reason: str | None = None,
        began: float = 0,
        finished: float = 100,
    ) -> PodBuilder:
        terminated = termination(message, exit_code, reason, began, finished)
        return self._state(container, {"state": {"terminated": terminated}})

    def restarted(
        self,
        message: str = "",
        *,
        exit_code: int = 1,
        reason: str | None = None,
        began: float = 101,
        finished: float = 140,
        again: float | None = None,
    ) -> PodBuilder:
        """The engine has failed once; it runs since `again`, or waits to be started again."""
        last = termination(message, exit_code, reason, began, finished)
        waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}}
        state = waiting if again is None else {"running": {"startedAt": at(again)}}
        return self._state("vllm", {"state": state, "lastState": {"terminated": last}, "restartCount": 1})

    def quantized(self, report: TrialReport = QUANTIZED, finished: float = 100) -> PodBuilder:
        """On a node, quantize is through."""
        return self.scheduled().ended("quantize", report, began=2, finished=finished)

    def serving(self, began: float = 101) -> PodBuilder:
        """Quantized, and the engine answers."""
        return self.quantized().running("vllm", began)

    def measuring(self) -> PodBuilder:
        return replace(self.serving().running("measure", 160), phase="Running")

    def measured(self, report: TrialReport | str, exit_code: int = 0, **more: Any) -> PodBuilder:
        """Measure has ended, the engine not yet."""
        return self.serving().ended("measure", report, exit_code=exit_code, **{"began": 160, "finished": 260, **more})

    def failed_as(self, reason: str, message: str = "") -> PodBuilder:
        return replace(self, phase="Failed", status={"reason": reason, "message": message})

    def disrupted(self, reason: str = "EvictionByEvictionAPI", message: str = "Eviction API: evicting") -> PodBuilder:
        return self.condition("DisruptionTarget", reason=reason, message=message)

    def deleted(self, gone_by: float) -> PodBuilder:
        return replace(self, metadata={"deletionTimestamp": at(gone_by)})

    def another(self, name: str, created: float) -> PodBuilder:
        return replace(self, name=name, created=created)

    def obj(self) -> dict[str, Any]:
        inits = {entry["name"] for entry in self.spec.get("initContainers", [])}
        statuses = [{"name": name, "restartCount": 0, **state} for name, state in self.states.items()]
        return {
            "metadata": {"name": self.name, "creationTimestamp": at(self.created), **self.metadata},
            "spec": self.spec,
            "status": {
                "phase": self.phase,
                "conditions": list(self.conditions),
                "initContainerStatuses": [entry for entry in statuses if entry["name"] in inits],
                "containerStatuses": [entry for entry in statuses if entry["name"] not in inits],
                **self.status,
            },
        }

    def _state(self, container: str, state: dict[str, Any]) -> PodBuilder:
        return replace(self, states={**self.states, container: state})


def termination(
    message: str | TrialReport, exit_code: int, reason: str | None, began: float, finished: float
) -> dict[str, Any]:
    text = encode_termination(message) if isinstance(message, TrialReport) else message
    return {
        "exitCode": exit_code,
        "reason": reason or ("Completed" if exit_code == 0 else "Error"),
        "message": text,
        "startedAt": at(began),
        "finishedAt": at(finished),
    }


def make_pod(trial: TrialPod | None = None) -> PodBuilder:
    return PodBuilder(build_trial_job(trial or make_trial_pod())["spec"]["template"]["spec"])


def make_model_pod() -> PodBuilder:
    return PodBuilder(make_model_job().manifest["spec"]["template"]["spec"])
