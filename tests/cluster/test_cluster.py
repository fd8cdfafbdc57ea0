"""That the test cluster does what the operator counts on: node labels, trial-shaped Jobs, and GPUs that are counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cluster.building import BUSYBOX_IMAGE
from tests.cluster.kubectl import Kubectl, Manifest, has_condition
from tests.cluster.local_cluster import node_ready
from tests.cluster.node_specs import NodeSpec

POD_LIMIT_S = 60.0


def pod_with_gpus(gpus: int) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "gpus"},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L40S"},
            "containers": [
                {
                    "name": "main",
                    "image": BUSYBOX_IMAGE,
                    "command": ["true"],
                    "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
                }
            ],
        },
    }


def trial_shaped_job() -> Manifest:
    """An init container that writes, a sidecar that serves what it wrote, and a main container that reads it once."""
    shared = {"volumeMounts": [{"name": "work", "mountPath": "/shared"}], "image": BUSYBOX_IMAGE}
    # Slow to answer on purpose: the main container tries once, so it has to be held back by the startup probe.
    serve = "sleep 2; exec httpd -f -p 8000 -h /shared"
    read = "wget -q -O /dev/termination-log http://127.0.0.1:8000/artifact"
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "trial"},
        "spec": {
            "backoffLimit": 0,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "nodeSelector": {"haqa.dev/pool": "avx2"},
                    "automountServiceAccountToken": False,
                    "terminationGracePeriodSeconds": 2,
                    "volumes": [{"name": "work", "emptyDir": {}}],
                    "initContainers": [
                        {"name": "quantize", "command": ["sh", "-c", "echo quantized > /shared/artifact"], **shared},
                        {
                            "name": "vllm",
                            "restartPolicy": "Always",
                            "command": ["sh", "-c", serve],
                            "startupProbe": {
                                "httpGet": {"path": "/artifact", "port": 8000},
                                "periodSeconds": 1,
                                "failureThreshold": 30,
                            },
                            **shared,
                        },
                    ],
                    "containers": [{"name": "measure", "command": ["sh", "-c", read], **shared}],
                }
            },
        },
    }


def unschedulable_because(pod: Manifest) -> str:
    for condition in pod["status"].get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return str(condition["message"])
    return ""


def test_nodes_are_ready_with_their_labels_and_gpus(cluster: Kubectl, nodes: list[NodeSpec]) -> None:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    found = cluster.list("nodes")
    for spec in nodes:
        labels = spec.all_labels(cpuinfo)
        matching = [node for node in found if labels.items() <= node["metadata"]["labels"].items()]
        assert len(matching) == 1, f"{spec.name}: {len(matching)} nodes have all of {labels}"
        assert node_ready(spec.gpus)(matching[0])


def test_job_with_init_container_and_sidecar_completes(kubectl: Kubectl) -> None:
    kubectl.apply(trial_shaped_job())
    kubectl.wait_for("job", "trial", has_condition("Complete"), "complete", POD_LIMIT_S)
    (pod,) = kubectl.list("pods", "job-name=trial")
    (measure,) = pod["status"]["containerStatuses"]
    assert measure["state"]["terminated"]["message"] == "quantized\n"
    _, sidecar = pod["status"]["initContainerStatuses"]
    assert sidecar["name"] == "vllm"
    assert "terminated" in sidecar["state"]
    assert sidecar["restartCount"] == 0
    node = kubectl.get("node", pod["spec"]["nodeName"])
    assert node["metadata"]["labels"]["haqa.dev/pool"] == "avx2"


@pytest.fixture
def gpus(nodes: list[NodeSpec]) -> int:
    return next(node.gpus for node in nodes if node.labels.get("nvidia.com/gpu.product") == "NVIDIA-L40S")


def test_pod_that_asks_for_every_gpu_of_a_node_runs(kubectl: Kubectl, gpus: int) -> None:
    kubectl.apply(pod_with_gpus(gpus))
    kubectl.wait_for("pod", "gpus", lambda pod: pod["status"]["phase"] == "Succeeded", "to succeed", POD_LIMIT_S)


def test_pod_that_asks_for_one_gpu_too_many_stays_pending(kubectl: Kubectl, gpus: int) -> None:
    kubectl.apply(pod_with_gpus(gpus + 1))
    refused = kubectl.wait_for(
        "pod", "gpus", lambda pod: bool(unschedulable_because(pod)), "told why it is not scheduled", POD_LIMIT_S
    )
    assert "Insufficient nvidia.com/gpu" in unschedulable_because(refused)
    assert refused["status"]["phase"] == "Pending"
    assert "nodeName" not in refused["spec"]


def test_service_brings_traffic_from_one_node_to_a_pod_on_another(kubectl: Kubectl) -> None:
    labels = {"app": "server"}
    server = busybox_pod("server", "full", "echo served > /tmp/page; exec httpd -f -p 8000 -h /tmp")
    server["metadata"]["labels"] = labels
    server["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/page", "port": 8000}, "periodSeconds": 1}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "server"},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8000}]},
    }
    kubectl.apply(service, server)
    kubectl.wait_for("pod", "server", has_condition("Ready"), "ready", POD_LIMIT_S)
    address = kubectl.get("service", "server")["spec"]["clusterIP"]
    # The rules of a Service follow its endpoints a moment later. Static busybox crashes on wget's own -T.
    ask = f"until timeout 2 wget -q -O /dev/termination-log http://{address}/page; do sleep 0.2; done"
    kubectl.apply(busybox_pod("client", "avx2", ask))
    client = kubectl.wait_for(
        "pod", "client", lambda pod: pod["status"]["phase"] == "Succeeded", "answered", POD_LIMIT_S
    )
    assert client["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == "served\n"


def busybox_pod(name: str, pool: str, script: str) -> Manifest:
    main = {"name": "main", "image": BUSYBOX_IMAGE, "command": ["sh", "-c", script]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": {"haqa.dev/pool": pool},
            "containers": [main],
        },
    }
