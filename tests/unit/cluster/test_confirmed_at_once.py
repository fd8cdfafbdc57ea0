"""Winner and baseline at once, on two accelerators of the winner's node."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.simulated_cluster import NAMESPACE
from tests.unit.cluster.tunings import Operated

from haqa_operator.cluster.edges.api_server import JOB, TRIAL

L40S = {
    "nvidia.com/gpu.product": "NVIDIA-L40S",
    "nvidia.com/gpu.memory": "46068",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "9",
}


def confirmed(gpus: int, labels: dict[str, str] | None = None, *, parallel: int = 2, **pool: Any) -> list[set[str]]:
    """Schemes of the windows by the time at which their Jobs were made, on a node with so many GPUs."""
    operated = Operated()
    operated.cluster.node("gpu", **L40S, **{"nvidia.com/gpu.count": str(gpus)}, **(labels or {}))
    operated.submit(
        nodePools=[{"name": "gpu", "nodeSelector": {"pool": "gpu"}, **pool}],
        search={
            "strategy": "grid",
            "schemes": ["BF16", "W4A16"],
            "algorithms": ["rtn"],
            "engineDefaults": False,
        },
        parallelTrials=parallel,
        confirmation={"rounds": 4},
    )
    operated.run()
    assert operated.pool("gpu")["answer"]["confirmed"] is True
    at: dict[str, set[str]] = {}
    for window in operated.cluster.api.list(TRIAL, NAMESPACE):
        if window["spec"]["proposer"] == "confirmation":
            job = operated.cluster.api.get(JOB, window["metadata"]["name"], NAMESPACE)
            assert job is not None
            made = job["metadata"]["creationTimestamp"]
            at.setdefault(made, set()).add(window["spec"]["configuration"]["scheme"])
    return [schemes for _, schemes in sorted(at.items())]


def test_both_windows_of_a_round_run_at_once_where_the_node_has_a_gpu_for_each() -> None:
    assert confirmed(2, gpusPerReplica=1) == [{"BF16", "W4A16"}] * 2


@pytest.mark.parametrize(
    ("gpus", "labels", "more"),
    [
        (2, {}, {"gpusPerReplica": 2}),
        (2, {}, {"gpusPerReplica": 1, "parallel": 1}),
        (4, {"nvidia.com/gpu.replicas": "2", "nvidia.com/gpu.sharing-strategy": "time-slicing"}, {"gpusPerReplica": 1}),
    ],
    ids=["a replica takes the node", "one trial at a time", "GPUs that are shared"],
)
def test_else_one_after_the_other(gpus: int, labels: dict[str, str], more: dict[str, Any]) -> None:
    assert [len(schemes) for schemes in confirmed(gpus, labels, **more)] == [1] * 4
