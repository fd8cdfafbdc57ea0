"""What the Deployment controller, the scheduler and the kubelets do to a winner's Deployment, one moment at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from tests.fakes.api_server import InMemoryApiServer
from tests.unit.cluster.observe.pods import T0, at

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.api_server import POD


@dataclass
class DeploymentController:
    """Rolls as `strategy` and `minReadySeconds` say; a pod needs one moment to be ready.

    Attributes:
        starting: New pods become ready.
        room: There is room for a pod beside those that are there.
    """

    api: InMemoryApiServer
    namespace: str
    starting: bool = True
    room: bool = True

    def step(self, deployment: Manifest, now: float) -> None:
        spec, name = deployment["spec"], deployment["metadata"]["name"]
        template = spec.get("template")
        if template is None:
            # Somebody's, of which a test needs no more than the name.
            return
        revision = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:8]
        pods = self._pods(deployment)
        new = [pod for pod in pods if pod["metadata"]["labels"]["pod-template-hash"] == revision]
        old = [pod for pod in pods if pod not in new]
        replicas, held = int(spec.get("replicas", 1)), int(spec.get("minReadySeconds") or 0) > 0
        surge = int(spec.get("strategy", {}).get("rollingUpdate", {}).get("maxSurge", 1))
        wanted = min(1, replicas) if held and old else replicas
        for pod in new:
            self._start(pod, beside=bool(old))
        if not surge and old and not any(_ready(pod) for pod in new):
            self._delete(old.pop())
        if len(new) < wanted:
            self._create(deployment, f"{name}-{revision}-{len(new)}", revision, now)
        available = [pod for pod in new if _ready(pod)] if not held else []
        if replicas == 0 or (not held and len(available) >= replicas):
            for pod in old if replicas else pods:
                self._delete(pod)
        pods = self._pods(deployment)
        current = [pod for pod in pods if pod["metadata"]["labels"]["pod-template-hash"] == revision]
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(pods),
            "updatedReplicas": len(current),
            "availableReplicas": sum(_ready(pod) for pod in pods if not held or pod not in current),
        }
        self._report(deployment, status, "deployment-controller")

    def endpoints(self, service: Manifest) -> list[str]:
        """Names of the pods that get its requests."""
        selector = service["spec"]["selector"].items()
        return [
            pod["metadata"]["name"]
            for pod in self.api.list(POD, self.namespace)
            if _ready(pod) and selector <= pod["metadata"]["labels"].items()
        ]

    def _pods(self, deployment: Manifest) -> list[Manifest]:
        uid = deployment["metadata"]["uid"]
        owned = [
            pod
            for pod in self.api.list(POD, self.namespace)
            if any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences", ()))
        ]
        return sorted(owned, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def _create(self, deployment: Manifest, name: str, revision: str, now: float) -> None:
        template, metadata = deployment["spec"]["template"], deployment["metadata"]
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"], "uid": metadata["uid"]}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": self.namespace,
                "labels": {**template["metadata"]["labels"], "pod-template-hash": revision},
                "ownerReferences": [owner],
            },
            "spec": template["spec"],
            "status": {"phase": "Pending", "conditions": [_condition("PodScheduled", at(now - T0), holds=False)]},
        }
        self.api.stand_in(pod, "deployment-controller")

    def _start(self, pod: Manifest, *, beside: bool) -> None:
        if _ready(pod):
            return
        since = pod["metadata"]["creationTimestamp"]
        if beside and not self.room:
            return
        status = {
            "phase": "Running",
            "podIP": f"10.0.0.{1 + len(pod['metadata']['name']) % 200}",
            "conditions": [
                _condition("PodScheduled", since, holds=True),
                _condition("Ready", since, holds=self.starting),
            ],
        }
        self._report(pod, status, "kubelet")

    def _delete(self, pod: Manifest) -> None:
        self.api.delete(POD, pod["metadata"]["name"], self.namespace)

    def _report(self, of: Manifest, status: Manifest, controller: str) -> None:
        """Its status alone: a controller owns nothing of the spec."""
        metadata = {name: of["metadata"][name] for name in ("name", "namespace")}
        identity = {"apiVersion": of["apiVersion"], "kind": of["kind"], "metadata": metadata}
        self.api.stand_in({**identity, "status": status}, controller)


def _condition(kind: str, since: str, *, holds: bool) -> Manifest:
    entry = {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": since}
    return entry if holds else {**entry, "reason": "Unschedulable", "message": "0/1 nodes are available"}


def _ready(pod: Manifest) -> bool:
    conditions: Sequence[Manifest] = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
