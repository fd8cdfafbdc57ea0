"""The engine's container and pod: built here once, for the trial and for the winner's Deployment.

Data in, manifests out. What was measured is what is deployed because both call `engine_container`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from haqa_contract import EngineLaunch
from haqa_operator.api.manifests import Manifest
from haqa_operator.api.pod_template import PodTemplate
from haqa_operator.api.pools import Toleration
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.serving.images import is_gaudi
from haqa_operator.serving.launch import drain_s
from haqa_operator.serving.volumes import (
    MODEL_MOUNT,
    TRIAL_MOUNT,
    AdaptersVolume,
    ExtraVolume,
    Fetching,
    LinkedVolume,
    ModelVolume,
    Scratch,
    SecretVariable,
    model_mounts,
    model_volumes,
    scratch_env,
    scratch_mounts,
    scratch_volumes,
    secret_env,
)

ENGINE_COMMAND = ("python3", "-m", "vllm.entrypoints.openai.api_server")
ENGINE_CONTAINER = "vllm"

USER_ID = 10001
"""No user of any image: the engine needs none, and a number above 0 is what runAsNonRoot can check."""

PRE_STOP_S = 10
"""Time for the Service to stop sending requests before the engine is stopped."""

_TEARDOWN_S = 20
_PROBE_PERIOD_S = 5
_STARTUP_PERIOD_S = 2
"""A trial does not begin to measure before its engine's startup probe: on average it loses half of this."""
_AMD_GROUPS = (44, 109)
"""video and render on Debian and Ubuntu nodes, the owners of /dev/kfd and /dev/dri; other systems count differently,
and there the pool names its own (podTemplate.supplementalGroups)."""

_CLAIM = "accelerators"
"""What a pod calls the devices that it gets by a ResourceClaimTemplate."""


@dataclass(frozen=True)
class Resources:
    """Requests and limits beside the accelerators, as Kubernetes quantities."""

    cpu: str
    memory: str
    memory_limit: str | None = None
    ephemeral_storage: str | None = None


@dataclass(frozen=True)
class EnginePod:
    """Everything that the engine's pod depends on.

    Attributes:
        launch: The command; its `args` are taken as they are, host and port added.
        resources: None: derived from the accelerator (`default_resources`).
        user_id: None leaves it to the cluster, as OpenShift wants it.
        secrets: More variables by reference, for example HF_TOKEN.
        command: For images in which vLLM is started otherwise.
        extra: Folders that the engine gets wherever it runs.
        adapters: None where the model has none.
        template: What the pool's pods have beside all this.
        claim_template: The ResourceClaimTemplate by which it gets its accelerators, instead of an extended resource.
    """

    launch: EngineLaunch
    accelerator: Accelerator
    image: str
    model: ModelVolume
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    resources: Resources | None = None
    user_id: int | None = USER_ID
    secrets: tuple[SecretVariable, ...] = ()
    command: tuple[str, ...] = ENGINE_COMMAND
    extra: tuple[ExtraVolume, ...] = ()
    adapters: AdaptersVolume | None = None
    template: PodTemplate = field(default_factory=PodTemplate)
    claim_template: str | None = None


def pod_spec(pod: EnginePod) -> Manifest:
    """The `spec` of a pod that serves until it is stopped."""
    spec = placement(pod, grace_s=PRE_STOP_S + drain_s(pod.launch) + _TEARDOWN_S) | device_claims(pod)
    if init := init_containers(pod):
        spec["initContainers"] = init
    return spec | {"containers": [engine_container(pod)], "volumes": pod_volumes(pod)}


def placement(pod: EnginePod, *, grace_s: int) -> Manifest:
    """The part of a pod's `spec` that says where and as whom it runs; the same for a trial and for the winner."""
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(pod),
        "terminationGracePeriodSeconds": grace_s,
    }
    if pod.node_selector:
        spec["nodeSelector"] = dict(sorted(pod.node_selector.items()))
    if pod.tolerations:
        spec["tolerations"] = tolerations(pod.tolerations)
    return spec | _chosen_by_the_pool(pod.template)


def _chosen_by_the_pool(template: PodTemplate) -> Manifest:
    fields = {"runtime_class_name", "priority_class_name", "service_account_name", "scheduler_name", "affinity"}
    chosen = template.model_dump(
        mode="json", by_alias=True, exclude_unset=True, exclude_none=True, include=fields | {"image_pull_secrets"}
    )
    return {name: value for name, value in chosen.items() if value not in ([], {})}


def device_claims(pod: EnginePod) -> Manifest:
    """The part of a pod's `spec` by which its containers can have devices of a claim; empty where they need none."""
    if pod.claim_template is None or pod.accelerator.is_cpu:
        return {}
    return {"resourceClaims": [{"name": _CLAIM, "resourceClaimTemplateName": pod.claim_template}]}


def engine_container(pod: EnginePod, *, sidecar: bool = False) -> Manifest:
    """The container that runs vLLM.

    Args:
        sidecar: As the native sidecar of a trial, beside the container that measures: an init container that keeps
            running. It has no liveness probe, since an engine that is restarted in the middle of a measurement would
            spoil it unseen.
    """
    container: Manifest = {
        "name": ENGINE_CONTAINER,
        "image": pod.image,
        "command": [literal(word) for word in pod.command],
        "args": [literal(argument) for argument in (*pod.launch.args, "--host=0.0.0.0", f"--port={pod.launch.port}")],
        "env": engine_env(pod),
        "ports": [{"name": "http", "containerPort": pod.launch.port}],
        "resources": resource_requirements(pod),
        "startupProbe": _startup_probe(pod.launch.startup_timeout_s),
    }
    if sidecar:
        container["restartPolicy"] = "Always"
        # The engine writes no message: the end of its log says why it ended.
        container["terminationMessagePolicy"] = "FallbackToLogsOnError"
    else:
        container["livenessProbe"] = _health(period_s=10, timeout_s=10, failures=6)
        container["readinessProbe"] = _health(period_s=_PROBE_PERIOD_S, timeout_s=5, failures=3)
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": PRE_STOP_S}}}
    return container | {
        "securityContext": container_security(),
        "volumeMounts": [
            *model_mounts(pod.model),
            *(pod.adapters.mounts() if pod.adapters else ()),
            *scratch_mounts(Scratch.ENGINE),
            *(volume.mount for volume in pod.extra),
        ],
    }


def engine_env(pod: EnginePod) -> list[Manifest]:
    """The launch's environment, what the pod's folders need, and secrets by reference."""
    own = [{"name": name, "value": literal(value)} for name, value in sorted(pod.launch.env.items())]
    given = set(pod.launch.env)
    return [
        *own,
        *(entry for entry in scratch_env(Scratch.ENGINE) if entry["name"] not in given),
        *secret_env(pod.secrets),
    ]


def init_containers(pod: EnginePod) -> list[Manifest]:
    """What has to run before the engine where model and adapters do not lie on a volume at their place."""
    adapters = pod.adapters
    fetching = adapters.fetching if adapters else None
    beside = [_fetching("fetch-adapters", fetching, adapters.fetching_mounts())] if adapters and fetching else []
    return [*_model_first(pod), *beside]


def _fetching(name: str, fetching: Fetching, mounts: Sequence[Manifest]) -> Manifest:
    return {
        "name": name,
        "image": fetching.image,
        "command": [literal(word) for word in fetching.command],
        "env": [
            *({"name": name, "value": literal(text)} for name, text in sorted(fetching.env.items())),
            *(entry for entry in scratch_env(Scratch.RUNNER) if entry["name"] not in fetching.env),
            *secret_env(fetching.secrets),
        ],
        # Its last line says why it failed.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": container_security(),
        "volumeMounts": [*mounts, *scratch_mounts(Scratch.RUNNER), *(extra.mount for extra in fetching.extra)],
    }


def _model_first(pod: EnginePod) -> list[Manifest]:
    match pod.model:
        case LinkedVolume(fetching=Fetching() as fetching):
            return [_fetching("fetch-model", fetching, model_mounts(pod.model, writable=True))]
        case LinkedVolume(target=str(target)):
            return [
                {
                    "name": "link-model",
                    "image": pod.image,
                    "command": ["ln", "-sfn", literal(target), MODEL_MOUNT],
                    "securityContext": container_security(),
                    "volumeMounts": [{"name": "trial", "mountPath": TRIAL_MOUNT}],
                }
            ]
        case _:
            return []


def pod_volumes(pod: EnginePod) -> list[Manifest]:
    # Tensor parallelism talks through shared memory; vLLM's documents give 10 GiB to it.
    scratch = scratch_volumes(Scratch.ENGINE, shm_gib=10 if pod.accelerator.count > 1 else 2)
    adapters = pod.adapters
    bringing = (
        pod.model.fetching if isinstance(pod.model, LinkedVolume) else None,
        adapters.fetching if adapters else None,
    )
    if any(bringing):
        scratch += runner_scratch()
    extra = [*pod.extra, *(volume for fetching in bringing if fetching for volume in fetching.extra)]
    beside = adapters.volumes if adapters else []
    return once([*model_volumes(pod.model), *beside, *scratch, *(volume.volume for volume in extra)])


def runner_scratch() -> list[Manifest]:
    """Volumes of the containers that run the runner."""
    return scratch_volumes(Scratch.RUNNER, shm_gib=2)


def pod_security(pod: EnginePod) -> Manifest:
    """The pod's half of the restricted Pod Security Standard."""
    context: Manifest = {"runAsNonRoot": True}
    if pod.user_id is not None:
        # OnRootMismatch: a claim with many large files is not walked through at every start.
        context |= {"runAsUser": pod.user_id, "runAsGroup": pod.user_id, "fsGroup": pod.user_id}
        context["fsGroupChangePolicy"] = "OnRootMismatch"
    if groups := pod.template.supplemental_groups or (_AMD_GROUPS if pod.accelerator.vendor is Vendor.AMD else ()):
        context["supplementalGroups"] = list(groups)
    return context | {"seccompProfile": {"type": "RuntimeDefault"}}


def container_security() -> Manifest:
    """The container's half of it, and a root file system that nothing can be written to."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def resource_requirements(pod: EnginePod) -> Manifest:
    """Requests and limits, the pool's own before the usual ones; accelerators are whole and equal in both."""
    resources = pod.resources or default_resources(pod.accelerator)
    given = pod.template.resources
    asked, most = given.requests.given, given.limits.given
    usual = {"cpu": resources.cpu, "memory": resources.memory}
    if resources.ephemeral_storage:
        usual["ephemeral-storage"] = resources.ephemeral_storage
    requests = usual | most | asked
    limits = {"memory": asked.get("memory", resources.memory_limit)} | most if resources.memory_limit else most
    requirements: Manifest = {"requests": requests}
    if device_claims(pod):
        requirements["claims"] = [{"name": _CLAIM}]
    elif name := device_resource(pod.accelerator):
        requests[name] = limits[name] = str(pod.accelerator.count)
    return requirements | ({"limits": limits} if limits else {})


def default_resources(accelerator: Accelerator) -> Resources:
    """What the engine asks for where nobody said.

    Accelerators: a little of the machine, so that it fits beside its neighbours, but never nothing, since a pod without
    requests is the first to be evicted; on a small machine three quarters of what belongs to its accelerators. CPU:
    three quarters of the node, which leaves room for the node's own daemons; memory is limited to the same, so that a
    leak ends this pod and not its neighbours. No CPU limit: throttling would add latency that no setting explains.
    """
    if not accelerator.is_cpu:
        cores = min(2.0, 0.75 * (accelerator.host_cores or 4))
        memory_mib = min(8 * 1024, int(0.75 * 1024 * (accelerator.host_memory_gib or 16)))
        return Resources(cpu=_cores(cores * accelerator.count), memory=_mebibytes(memory_mib * accelerator.count))
    millicores = int((accelerator.cores or 2) * 750)
    memory = f"{int((accelerator.memory_gib or 8) * 0.75 * 1024)}Mi"
    return Resources(cpu=f"{millicores}m", memory=memory, memory_limit=memory)


def _cores(cores: float) -> str:
    return str(int(cores)) if cores == int(cores) else f"{int(cores * 1000)}m"


def _mebibytes(mib: int) -> str:
    return f"{mib // 1024}Gi" if mib % 1024 == 0 else f"{mib}Mi"


def device_resource(accelerator: Accelerator) -> str | None:
    """The extended resource that the nodes announce, or else the vendor's usual name; None on CPU."""
    if accelerator.resource is not None and not accelerator.is_cpu:
        return accelerator.resource
    match accelerator.vendor:
        case Vendor.NVIDIA:
            return "nvidia.com/gpu"
        case Vendor.AMD:
            return "amd.com/gpu"
        case Vendor.INTEL:
            return "habana.ai/gaudi" if is_gaudi(accelerator) else "gpu.intel.com/xe"
        case Vendor.CPU:
            return None


def tolerations(given: Sequence[Toleration]) -> list[Manifest]:
    return [toleration.model_dump(mode="json", by_alias=True, exclude_none=True) for toleration in given]


def _startup_probe(timeout_s: float) -> Manifest:
    return _health(period_s=_STARTUP_PERIOD_S, timeout_s=5, failures=max(1, math.ceil(timeout_s / _STARTUP_PERIOD_S)))


def _health(*, period_s: int, timeout_s: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": "/health", "port": "http"},
        "periodSeconds": period_s,
        "timeoutSeconds": timeout_s,
        "failureThreshold": failures,
    }


def once(volumes: Iterable[Manifest]) -> list[Manifest]:
    """Each name once: engine and runner may have the same extra volume."""
    return list({volume["name"]: volume for volume in volumes}.values())


def literal(text: str) -> str:
    """Kubernetes replaces `$(NAME)` in commands, arguments and variables; a doubled dollar stays a dollar."""
    return text.replace("$", "$$")
