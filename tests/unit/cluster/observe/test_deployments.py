"""A winner that does not come up says why where people look first."""

from __future__ import annotations

from typing import Any

import pytest

from haqa_operator.cluster.observe.deployments import serves, waits_for


def deployment(generation: int = 2, replicas: int = 1, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "chat", "generation": generation}, "spec": {"replicas": replicas}, "status": status}


def pod(name: str = "chat-1", created: str = "2026-11-26T10:00:00Z", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {
            "nodeName": "node-1",
            "initContainers": [{"name": "fetch-model"}],
            "containers": [{"name": "vllm", "image": "vllm:1"}],
        },
        "status": status,
    }


def died(name: str, message: str = "", exit_code: int = 1, reason: str = "Error") -> dict[str, Any]:
    over = {"terminated": {"exitCode": exit_code, "reason": reason, "message": message}}
    return {"name": name, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": over}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (deployment(observedGeneration=2, updatedReplicas=1, availableReplicas=1), True),
        (deployment(observedGeneration=1, updatedReplicas=1, availableReplicas=1), False),
        (deployment(observedGeneration=2, updatedReplicas=0, availableReplicas=1), False),
        (deployment(observedGeneration=2, updatedReplicas=1), False),
        (deployment(), False),
        (deployment(replicas=0), True),
    ],
)
def test_it_serves_once_a_pod_of_the_newest_template_answers(found: dict[str, Any], expected: bool) -> None:
    assert serves(found) is expected


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient cpu.",
}
PULLING = {"waiting": {"reason": "ErrImagePull", "message": "no such host"}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([pod(conditions=[UNSCHEDULABLE])], "chat-1: Unschedulable: 0/3 nodes are available: 3 Insufficient cpu."),
        ([pod(containerStatuses=[{"name": "vllm", "state": PULLING}])], "chat-1: vllm: ErrImagePull: no such host"),
        (
            [pod(initContainerStatuses=[died("fetch-model", "loading\nModelFetch: s3://b/m: access denied\n")])],
            "chat-1: fetch-model ended with exit code 1 (Error): ModelFetch: s3://b/m: access denied",
        ),
        (
            [pod(containerStatuses=[died("vllm", exit_code=137, reason="OOMKilled")])],
            "chat-1: vllm ended with exit code 137 (OOMKilled)",
        ),
        ([pod(containerStatuses=[{"name": "vllm", "state": {"running": {}}}])], "chat-1 starts on node-1"),
        ([pod()], "chat-1 starts on node-1"),
        ([pod("new", "2026-11-26T11:00:00Z"), pod("old", conditions=[UNSCHEDULABLE])], "new starts on node-1"),
        ([], "waiting for its pod"),
    ],
)
def test_the_newest_pod_says_what_it_waits_for(found: list[dict[str, Any]], expected: str) -> None:
    assert waits_for(deployment(), found) == expected


def test_a_quota_that_allows_no_pod_is_named() -> None:
    refused = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: team"}
    assert waits_for(deployment(conditions=[refused]), []) == "exceeded quota: team"
