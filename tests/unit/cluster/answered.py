"""Tunings whose answers come one after the other, and letting time pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fakes.kinds import SERVICE
from tests.fakes.simulated_cluster import NAMESPACE
from tests.unit.cluster.tunings import ONE_POOL, Operated

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.api_server import POD, TUNING


def searching(*schemes: str) -> dict[str, Any]:
    return {"strategy": "grid", "schemes": list(schemes), "algorithms": ["rtn"], "engineDefaults": False}


FIRST = {**ONE_POOL, "search": searching("BF16", "W4A16")}
BETTER = {**ONE_POOL, "search": searching("BF16", "W4A16", "W8A8-INT8")}


def answer(operated: Operated) -> Manifest:
    found: Manifest = operated.pool("full")["answer"]
    return found


def settle(operated: Operated, moments: int = 6) -> None:
    for _ in range(moments):
        operated.reconcile()
        operated.cluster.step()
    operated.reconcile()


def endpoints(operated: Operated) -> list[str]:
    """Schemes of the pods that get requests."""
    service = operated.cluster.api.get(SERVICE, "demo-full", NAMESPACE)
    if service is None:
        return []
    names = operated.cluster.deployments.endpoints(service)
    return [revision_of(pod) for pod in winners_pods(operated) if pod["metadata"]["name"] in names]


def winners_pods(operated: Operated) -> list[Manifest]:
    pods = operated.cluster.api.list(POD, NAMESPACE, "app.kubernetes.io/component=inference")
    return [pod for pod in pods if "haqa.dev/revision" in pod["metadata"]["labels"]]


def revision_of(pod: Manifest) -> str:
    return str(pod["metadata"]["labels"]["haqa.dev/revision"])


def reaches(phase: str) -> Callable[[Manifest], bool]:
    return lambda status: any(pool.get("answer", {}).get("phase") == phase for pool in status.get("pools", []))


def annotated(operated: Operated, **annotations: str) -> None:
    found = operated.cluster.api.get(TUNING, "demo", NAMESPACE)
    assert found is not None
    given = {f"haqa.dev/{name}": value for name, value in annotations.items()}
    metadata = {"name": "demo", "namespace": NAMESPACE, "annotations": given}
    operated.cluster.api.stand_in({**found, "metadata": metadata})


def phases(operated: Operated) -> list[str]:
    return [record["metadata"]["annotations"]["haqa.dev/phase"] for record in operated.records()]


DRIVER = "nvidia.com/cuda.driver-version.full"
