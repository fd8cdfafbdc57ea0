"""What a pool's nodes are decides whether it goes on, and what its message says beside its progress."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.simulated_cluster import NAMESPACE
from tests.policies import OPEN
from tests.unit.cluster.tunings import Operated
from tests.unit.hardware.label_sets import GPU_OPERATOR, L40S, RESOURCES, Labels, feature_discovery

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.api_server import JOB
from haqa_operator.cluster.installation import Installation
from haqa_operator.serving.startup import StartupLimit

SLICED = feature_discovery("NVIDIA-L40S-SHARED", 46068, 1, "8.9", "ada-lovelace", 4, "time-slicing")


def gpu_node(name: str, labels: Labels, **devices: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"gpu": "yes", **labels}},
        "status": {"allocatable": RESOURCES | devices, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def operated(*nodes: Manifest, installation: Installation | None = None, **spec: Any) -> Operated:
    """A tuning of one pool, whose nodes are those."""
    cluster = Operated(installation=installation or Installation(policy=OPEN))
    for node in nodes:
        cluster.cluster.api.stand_in(node)
    pool = {"name": "gpu", "nodeSelector": {"gpu": "yes"}, **spec.pop("pool", {})}
    cluster.submit(nodePools=[pool], **spec)
    return cluster


def message(cluster: Operated) -> str:
    cluster.reconcile()
    assert cluster.errors == []
    return str(cluster.pool("gpu")["message"])


def searching(cluster: Operated) -> str:
    """Once the model is known."""
    cluster.run(until=lambda status: "model" in status)
    return message(cluster)


def test_a_pool_waits_for_its_nodes_to_be_ready() -> None:
    cluster = operated(gpu_node("starting", GPU_OPERATOR))
    assert message(cluster).startswith("waiting: node starting: it is said to have NVIDIA GPUs, and its kubelet offers")
    assert cluster.cluster.api.list(JOB, NAMESPACE) == []


def test_what_affinity_requires_of_nodes_counts_when_hardware_is_read() -> None:
    wanted = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-L40S"]}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    nodes = (
        gpu_node("a", L40S, **{"nvidia.com/gpu": "4"}),
        gpu_node("b", feature_discovery("NVIDIA-H100-NVL", 95830, 2, "9.0", "hopper"), **{"nvidia.com/gpu": "2"}),
    )
    assert "the pool's nodes differ" in message(operated(*nodes))
    chosen = operated(*nodes, pool={"podTemplate": {"affinity": affinity}})
    searching(chosen)
    assert "NVIDIA-L40S" in chosen.pool("gpu")["hardware"]
    without = operated(nodes[1], pool={"podTemplate": {"affinity": affinity}})
    assert "no node matches" in message(without)
    assert "podTemplate.affinity)" in message(without)


def test_a_shared_gpu_is_said_to_be_one_as_long_as_the_pool_goes_on() -> None:
    cluster = operated(gpu_node("a", SLICED, **{"nvidia.com/gpu": "4"}))
    assert "shared with other pods (time-slicing), which disturb what is measured" in searching(cluster)
    assert "shared with others (time-slicing)" in cluster.pool("gpu")["hardware"]


@pytest.mark.parametrize(("rate", "said"), [(0.5, True), (200.0, False)])
def test_a_trial_that_may_not_hold_the_start_of_its_engine_is_said(rate: float, said: bool) -> None:
    installation = Installation(policy=OPEN, startup=StartupLimit(megabytes_per_s=rate))
    node = gpu_node("a", L40S, **{"nvidia.com/gpu": "4"})
    cluster = operated(node, installation=installation, budget={"maxTrials": 5, "trialTimeout": "5m"})
    assert ("budget.trialTimeout 5m may end before an engine has started" in searching(cluster)) is said


def test_slices_are_chosen_by_the_pool_where_its_nodes_have_several() -> None:
    slices = {"nvidia.com/gpu": "0", "nvidia.com/mig-1g.10gb": "7", "nvidia.com/mig-3g.40gb": "2"}
    node = gpu_node("a", feature_discovery("NVIDIA-H100-80GB-HBM3", 81559, 8, "9.0", "hopper"), **slices)
    assert "name the one that the pool uses in nodePools[].deviceResource" in message(operated(node))
    chosen = operated(node, pool={"deviceResource": "nvidia.com/mig-3g.40gb"})
    searching(chosen)
    assert "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb" in chosen.pool("gpu")["hardware"]
