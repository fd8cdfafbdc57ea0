"""Whether a winner's Deployment serves, and what keeps it from that. Pure: objects in, a sentence out."""

from __future__ import annotations

from collections.abc import Sequence

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.observe.pods import Container, Pod

_ON_ITS_WAY = ("", "PodInitializing", "ContainerCreating")


def serves(deployment: Manifest) -> bool:
    """Whether a pod of the newest template answers, or none is wanted."""
    status, spec = deployment.get("status", {}), deployment["spec"]
    if spec.get("replicas") == 0:
        return True
    seen = int(status.get("observedGeneration", 0)) >= int(deployment["metadata"].get("generation", 0))
    updated = int(status.get("updatedReplicas", 0)) > 0
    return seen and updated and int(status.get("availableReplicas", 0)) > 0


def complete(deployment: Manifest) -> bool:
    """Whether every pod is of the newest template and available, as `kubectl rollout status` has it."""
    status, wanted = deployment.get("status", {}), wanted_replicas(deployment)
    seen = int(status.get("observedGeneration", 0)) >= int(deployment["metadata"].get("generation", 0))
    counts = (int(status.get(name, 0)) for name in ("updatedReplicas", "availableReplicas"))
    return seen and all(count >= wanted for count in counts) and int(status.get("replicas", wanted)) <= wanted


def wanted_replicas(deployment: Manifest) -> int:
    return int(deployment["spec"].get("replicas", 1))


def waits_for(deployment: Manifest, pods: Sequence[Manifest]) -> str:
    """Why a Deployment does not serve yet, by its newest pod.

    Args:
        pods: Those that its selector finds, in any order.
    """
    seen = sorted((Pod.read(pod) for pod in pods), key=lambda pod: pod.created)
    if not seen:
        return _refused(deployment) or "waiting for its pod"
    pod = seen[-1]
    if pod.without_node is not None:
        return f"{pod.name}: {pod.without_node}"
    if pod.unnoticed:
        return f"{pod.name}: waiting for a scheduler"
    trouble = next((found for container in pod.containers.values() if (found := _trouble(container))), None)
    return f"{pod.name}: {trouble}" if trouble else f"{pod.name} starts on {pod.node}"


def _refused(deployment: Manifest) -> str | None:
    """A quota's or an admission's sentence."""
    conditions = deployment.get("status", {}).get("conditions") or ()
    failed = (one for one in conditions if one["type"] == "ReplicaFailure" and one["status"] == "True")
    return next((str(one.get("message", "")) for one in failed), None)


def _trouble(container: Container) -> str | None:
    died = container.ended or container.last
    if died is not None and died.exit_code != 0:
        said = f": {died.last_line.strip()}" if died.last_line else ""
        return f"{container.name} ended with exit code {died.exit_code} ({died.reason}){said}"
    if container.waiting in _ON_ITS_WAY:
        return None
    return f"{container.name}: {container.waiting}: {container.waiting_message}".removesuffix(": ")
