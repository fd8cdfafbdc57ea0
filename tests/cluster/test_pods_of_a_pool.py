"""A real API server takes the pods of a pool that says all it may, under the restricted Pod Security Standard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.waiting import wait_until
from tests.unit.api.rule_cases import POD_TEMPLATE
from tests.unit.cluster.build.pool_pods import L40S, MI300X, TEMPLATE_FIELDS, built

from haqa_operator.cluster.observe.pods import Pod
from haqa_operator.hardware.accelerators import Accelerator

CLUSTER_WIDE: list[Manifest] = [
    {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"},
    {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "serving"}, "value": 1000},
]
CLAIM_TEMPLATE: Manifest = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaimTemplate",
    "metadata": {"name": "two-l40s"},
    "spec": {"spec": {"devices": {"requests": [{"name": "gpus", "exactly": {"deviceClassName": "gpu", "count": 2}}]}}},
}


@pytest.fixture
def restricted(kubectl: Kubectl) -> Iterator[Kubectl]:
    """A namespace in which the API server refuses every pod that is not restricted."""
    kubectl.run("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    account: Manifest = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "models"}}
    kubectl.apply(*CLUSTER_WIDE, account, CLAIM_TEMPLATE)
    yield kubectl
    kubectl.run("delete", "runtimeclass/nvidia", "priorityclass/serving")


def taken(api: Kubectl, name: str, template: Manifest) -> Manifest:
    """The pod as the API server would store it."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, **template["metadata"]}}
    if name == "winner":
        template["spec"]["restartPolicy"] = "Always"
    text = json.dumps({**pod, "spec": template["spec"]})
    found: Manifest = json.loads(api.run("apply", "--dry-run=server", "-f", "-", "-o", "json", stdin=text))
    return found


@pytest.mark.parametrize(
    "accelerator",
    [L40S, MI300X, replace(L40S, count=1, resource="nvidia.com/mig-3g.40gb.shared")],
    ids=["nvidia", "amd", "mig"],
)
def test_everything_that_a_pool_may_say_is_taken(restricted: Kubectl, accelerator: Accelerator) -> None:
    for name, template in built(accelerator, podTemplate=POD_TEMPLATE).items():
        spec = taken(restricted, name, template)["spec"]
        for field in (*TEMPLATE_FIELDS, "securityContext"):
            assert spec[field] == template["spec"][field]
        assert "kube-api-access" not in json.dumps(spec)


def test_devices_of_a_claim_are_kept(restricted: Kubectl) -> None:
    for name, template in built(L40S, resourceClaimTemplate="two-l40s").items():
        spec = taken(restricted, name, template)["spec"]
        assert spec.get("resourceClaims") == template["spec"].get("resourceClaims")
        for kind in ("initContainers", "containers"):
            resources = [one["resources"].get("claims") for one in spec.get(kind, [])]
            assert resources == [one["resources"].get("claims") for one in template["spec"].get(kind, [])]


def waiting_for_claim(api: Kubectl, name: str) -> None:
    """A small pod that gets its devices as a trial's does."""
    claims = built(L40S, resourceClaimTemplate=name)["trial"]["spec"]["resourceClaims"]
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "main",
        "image": "localhost/busybox:test",
        "securityContext": security,
        "resources": {"claims": [{"name": claims[0]["name"]}]},
    }
    context = {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": [container], "securityContext": context, "resourceClaims": claims}
    api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


def test_why_a_claim_is_not_met_is_said(restricted: Kubectl) -> None:
    """No driver offers such devices."""
    waiting_for_claim(restricted, "two-l40s")
    stored = restricted.wait_for("pod", "two-l40s", lambda found: Pod.read(found).without_node is not None, "waits", 30)
    assert "claim" in str(Pod.read(stored).without_node)


def test_a_claim_template_that_is_not_there_is_never_scheduled(restricted: Kubectl) -> None:
    """The scheduler leaves such a pod alone and says nothing of it: `failures.unnoticed` relies on that."""
    waiting_for_claim(restricted, "of-nobody")
    wait_until(
        lambda: "FailedResourceClaimCreation" in restricted.run("get", "events", "-o", "yaml"), 30, "the event of it"
    )
    assert Pod.read(restricted.get("pod", "of-nobody")).unnoticed
