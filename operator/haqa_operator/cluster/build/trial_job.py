"""A trial as one Job with one pod: quantize, then the engine beside the container that measures it.

Data in, manifest out; everything in one object and so in one write: the request travels as an annotation that the pod
shows to its containers as a file. The engine's container is the one of the winner's Deployment (`serving.pod`).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from datetime import timedelta

from haqa_contract import FETCH_TRIAL, Configuration, EngineLaunch, TrialRequest
from haqa_contract.termination import TERMINATION_LOG, TERMINATION_LOG_VARIABLE
from haqa_operator.api.labels import (
    ATTEMPT_LABEL,
    COMPONENT_LABEL,
    POOL_LABEL,
    QUEUE_LABEL,
    REQUEST_ANNOTATION,
    TRIAL_LABEL,
    TUNING_LABEL,
)
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.pod_template import EngineResources
from haqa_operator.api.pools import ModelSpec
from haqa_operator.api.tuning import Artifacts, TuningSpec
from haqa_operator.cluster.names import MEASURE, QUANTIZE, job_name, label
from haqa_operator.serving.launch import ENGINE_PORT
from haqa_operator.serving.pod import (
    EnginePod,
    Resources,
    container_security,
    device_claims,
    engine_container,
    literal,
    once,
    placement,
    pod_volumes,
    resource_requirements,
    runner_scratch,
)
from haqa_operator.serving.volumes import (
    ADAPTERS_MOUNT,
    CLAIM_MOUNT,
    STORE_MOUNT,
    TRIAL_MOUNT,
    ExtraVolume,
    LinkedVolume,
    Scratch,
    SecretVariable,
    model_mounts,
    scratch_env,
    scratch_mounts,
    secret_env,
)
from haqa_operator.tuning.requests import TrialPlaces, adapter_sources, model_source, variant_sources

_REQUEST_FOLDER = "/etc/haqa"
_REQUEST_FILE = "request.json"
_GRACE_S = 30
"""Enough for a step to leave its report after SIGTERM (`haqa_runner.steps.GRACE_S`)."""
_SMALL = Resources(cpu="250m", memory="1Gi")
"""Requests of a container that loads no model."""


@dataclass(frozen=True)
class TrialPod:
    """Everything that a trial's Job depends on.

    Attributes:
        engine: As for the winner's Deployment, its model a `LinkedVolume` (`trial_volume`).
        namespace: None leaves it to whoever applies the Job.
        timeout: budget.trialTimeout; the whole Job ends then, waiting for a node included.
        attempt: A second Job for the same trial has another name.
        runner_secrets: Of the store, AWS_SECRET_ACCESS_KEY and its like, by reference: for quantize and measure.
        hub_secrets: Of the hub: for quantize, and for measure where its data come from there.
        runner_env: Variables of quantize and measure, for example AWS_ENDPOINT_URL.
        runner_extra: Folders that quantize and measure get beside their own.
        queue_name: Kueue's LocalQueue; the Job then starts suspended, and Kueue lets it run.
        owner: The owner reference, so that the Job goes with its trial.
    """

    engine: EnginePod
    request: TrialRequest
    runner_image: str
    timeout: timedelta
    namespace: str | None = None
    attempt: int = 1
    runner_command: tuple[str, ...] = ("python3", "-m", "haqa_runner")
    measure_resources: Resources = _SMALL
    fetch_resources: Resources = _SMALL
    runner_secrets: tuple[SecretVariable, ...] = ()
    hub_secrets: tuple[SecretVariable, ...] = ()
    runner_env: dict[str, str] = field(default_factory=dict)
    runner_extra: tuple[ExtraVolume, ...] = ()
    queue_name: str | None = None
    owner: Manifest | None = None


def build_trial_job(trial: TrialPod) -> Manifest:
    """The Job of a trial. One pod and no second try of the Job's own, except after a disruption of the pod.

    Its step `quantize` brings what is there: artifacts are made by Jobs of their own (`artifact_job`).
    """
    engine = trial.engine
    containers: Manifest = {
        "initContainers": [
            _runner_container(trial, QUANTIZE, _plain(trial.fetch_resources)),
            engine_container(engine, sidecar=True),
        ],
        "containers": [_runner_container(trial, MEASURE, _plain(trial.measure_resources))],
    } | device_claims(engine)
    scraped = {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(engine.launch.port),
        "prometheus.io/path": "/metrics",
    }
    return _job(trial, "trial", job_name(trial.request.trial, trial.attempt), containers, scraped)


def build_model_job(trial: TrialPod) -> Manifest:
    """The Job that fetches the model and reports what it is: on a node of the pool, without its accelerators.

    Its request is one of `fetch_request`; nothing is served.
    """
    name = job_name(f"{trial.request.tuning}-{trial.request.pool}-model", trial.attempt)
    return build_runner_job(trial, component="model", name=name, resources=trial.fetch_resources)


def build_runner_job(
    trial: TrialPod,
    *,
    component: str,
    name: str,
    resources: Resources,
    devices: int = 0,
    step: str = QUANTIZE,
    container: str = QUANTIZE,
) -> Manifest:
    """A Job that runs one step of the runner and serves nothing, on a node of the pool.

    Args:
        devices: Accelerators that the step gets.
        step: What it runs.
        container: What that container is called: whoever observes it reads its report as that of such a step.
    """
    needs, claims = _plain(resources), {}
    if devices:
        # What the pool gives to the engine is the engine's.
        template = trial.engine.template.model_copy(update={"resources": EngineResources()})
        accelerator = replace(trial.engine.accelerator, count=devices)
        engine = replace(trial.engine, accelerator=accelerator, resources=resources, template=template)
        needs, claims = resource_requirements(engine), device_claims(engine)
    containers = {"containers": [_runner_container(trial, container, needs, step)]}
    return _job(trial, component, name, containers | claims, {})


def job_labels(request: TrialRequest, component: str, attempt: int = 1) -> dict[str, str]:
    """Labels of Job and pod, by which the operator and Prometheus find them."""
    return {
        "app.kubernetes.io/managed-by": "haqa",
        TUNING_LABEL: label(request.tuning),
        POOL_LABEL: label(request.pool),
        TRIAL_LABEL: label(request.trial),
        COMPONENT_LABEL: component,
        ATTEMPT_LABEL: str(attempt),
    }


def trial_volume(artifacts: Artifacts | None, claim: str | None) -> LinkedVolume:
    """Where the engine of a trial finds its model: behind the link that quantize leaves.

    Args:
        claim: In which the model, or a variant of it, lies.
    """
    return LinkedVolume(store=artifacts.pvc if artifacts else None, model_claim=claim)


def trial_places(namespace: str, tuning: str, pool: str, artifacts: Artifacts | None, claim: str | None) -> TrialPlaces:
    """Where a trial reads and writes inside its pod.

    Args:
        claim: In which the model, or a variant of it, lies.

    Raises:
        ValueError: the tuning names no store that a pod can reach.
    """
    if artifacts is None or artifacts.path:
        named = f'path "{artifacts.path}"' if artifacts else "missing"
        raise ValueError(f"spec.artifacts: {named}; in a cluster name a claim (pvc) or a bucket (s3://bucket/prefix)")
    store = artifacts.s3.rstrip("/") if artifacts.s3 else STORE_MOUNT
    return TrialPlaces(
        store=store,
        directory=TRIAL_MOUNT,
        cache=f"{STORE_MOUNT}/cache",
        reference=f"{store}/references/{namespace}/{tuning}/{pool}/reference.npz",
        reports=f"{store}/reports/{namespace}/{tuning}",
        mount=CLAIM_MOUNT if claim else None,
        adapters=ADAPTERS_MOUNT,
    )


def fetch_request(spec: TuningSpec, tuning: str, pool: str, places: TrialPlaces) -> TrialRequest:
    """The request of `build_model_job`."""
    return TrialRequest(
        tuning=tuning,
        trial=FETCH_TRIAL,
        pool=pool,
        model=model_source(spec.model, places.mount),
        variants=variant_sources(spec.model, places.mount),
        adapters=adapter_sources(spec.model, places.mount),
        configuration=Configuration(),
        engine=EngineLaunch(args=(), served_model_name=tuning, port=ENGINE_PORT),
        store=places.store,
        directory=places.directory,
        cache=places.cache,
        quantize_timeout_s=spec.budget.trial_timeout / timedelta(seconds=1),
    )


def spec_in_pods(spec: TuningSpec) -> TuningSpec:
    """Without `model.tokenSecretRef.env`, which is for one machine.

    A Secret's value in a variable of any name would be code: PYTHONPATH, LD_PRELOAD and their like.
    """
    ref = spec.model.token_secret_ref
    if ref is None or ref.env is None:
        return spec
    model = spec.model.model_copy(update={"token_secret_ref": ref.model_copy(update={"env": None})})
    return spec.model_copy(update={"model": model})


def hub_secrets(model: ModelSpec) -> tuple[SecretVariable, ...]:
    """The token of a gated model, under the name that the request gives to it (`requests.model_source`)."""
    ref, name = model.token_secret_ref, model_source(model).token_env
    return (SecretVariable(name, ref.name, ref.key),) if ref and name else ()


def request_text(request: TrialRequest) -> str:
    """As the pod shows it to its containers."""
    return json.dumps(request.model_dump(mode="json", exclude_none=True), separators=(",", ":"))


def _job(trial: TrialPod, component: str, name: str, containers: Manifest, annotations: dict[str, str]) -> Manifest:
    request, template = trial.request, trial.engine.template
    labels = job_labels(request, component, trial.attempt)
    metadata: Manifest = {"name": name} | ({"namespace": trial.namespace} if trial.namespace else {})
    metadata["labels"] = labels | ({QUEUE_LABEL: trial.queue_name} if trial.queue_name else {})
    if trial.owner is not None:
        metadata["ownerReferences"] = [trial.owner]
    pod_annotations = {
        REQUEST_ANNOTATION: request_text(request),
        # A measurement does not survive that its node is given back for being little used.
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "karpenter.sh/do-not-disrupt": "true",
    }
    spec: Manifest = {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": 0,
        "podFailurePolicy": {"rules": _failure_rules()},
        "activeDeadlineSeconds": max(1, math.ceil(trial.timeout / timedelta(seconds=1))),
        "template": {
            "metadata": {
                "labels": template.labels | labels,
                "annotations": template.annotations | annotations | pod_annotations,
            },
            "spec": {"restartPolicy": "Never"}
            | placement(trial.engine, grace_s=_GRACE_S)
            | containers
            | {"volumes": _volumes(trial, containers)},
        },
    }
    if trial.queue_name:
        spec["suspend"] = True
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _failure_rules() -> list[Manifest]:
    """The first that fits decides: a pod that was drained, preempted or evicted is replaced, any other failure stays.

    By kubernetes.io, "Handling retriable and non-retriable pod failures with Pod failure policy".
    """
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
    ]


def _runner_container(trial: TrialPod, name: str, resources: Manifest, step: str | None = None) -> Manifest:
    """Args:
    step: What it runs; None: the one of its name.
    """
    given = [{"name": name, "value": literal(value)} for name, value in sorted(trial.runner_env.items())]
    own = [*scratch_env(Scratch.RUNNER), {"name": TERMINATION_LOG_VARIABLE, "value": TERMINATION_LOG}]
    return {
        "name": name,
        "image": trial.runner_image,
        "command": [literal(word) for word in trial.runner_command],
        "args": [step or name, "--request", f"{_REQUEST_FOLDER}/{_REQUEST_FILE}"],
        "env": [
            *given,
            *(entry for entry in own if entry["name"] not in trial.runner_env),
            *secret_env(_secrets(trial, name)),
        ],
        "resources": resources,
        # Without a message of its own, of a step that was killed, the end of the log says most.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": container_security(),
        "volumeMounts": [
            *model_mounts(trial.engine.model, writable=True),
            *(trial.engine.adapters.mounts(writable=name == QUANTIZE) if trial.engine.adapters else ()),
            {"name": "request", "mountPath": _REQUEST_FOLDER, "readOnly": True},
            *scratch_mounts(Scratch.RUNNER),
            *(extra.mount for extra in trial.runner_extra),
        ],
    }


def _secrets(trial: TrialPod, container: str) -> tuple[SecretVariable, ...]:
    evaluation, workload = trial.request.evaluation, trial.request.workload
    measured_with = (evaluation.dataset, workload.dataset or "")
    of_hub = evaluation.tasks or any(dataset.startswith("hf://") for dataset in measured_with)
    return (*(trial.hub_secrets if container == QUANTIZE or of_hub else ()), *trial.runner_secrets)


def _volumes(trial: TrialPod, containers: Manifest) -> list[Manifest]:
    """Those that a container mounts."""
    request = {
        "name": "request",
        "downwardAPI": {
            "items": [
                {
                    "path": _REQUEST_FILE,
                    "fieldRef": {"fieldPath": f"metadata.annotations['{REQUEST_ANNOTATION}']"},
                }
            ]
        },
    }
    extra = (extra.volume for extra in trial.runner_extra)
    there = once([*pod_volumes(trial.engine), *runner_scratch(), request, *extra])
    listed = [*containers.get("initContainers", ()), *containers["containers"]]
    mounted = {mount["name"] for container in listed for mount in container["volumeMounts"]}
    return [volume for volume in there if volume["name"] in mounted]


def _plain(resources: Resources) -> Manifest:
    requirements: Manifest = {"requests": {"cpu": resources.cpu, "memory": resources.memory}}
    if resources.ephemeral_storage:
        requirements["requests"]["ephemeral-storage"] = resources.ephemeral_storage
    if resources.memory_limit:
        requirements["limits"] = {"memory": resources.memory_limit}
    return requirements
