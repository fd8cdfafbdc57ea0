"""Pods that cannot start, or do not end: what their tuning says while it waits, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.building import BUSYBOX_IMAGE
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.tunings import pool_of, tuning
from tests.cluster.workplace import Workplace, workplace

pytestmark = pytest.mark.timeout(600)

WAIT_S = 10
IMPATIENT = {"HAQA_UNSCHEDULABLE_SECONDS": str(WAIT_S), "HAQA_IMAGE_PULL_SECONDS": "3"}
GPU_NODE = {"nvidia.com/gpu.product": "NVIDIA-L40S"}
MANIFEST = {"mode": "Manifest"}
"""No Deployment, so that the nodes stay free for the other tests."""


@pytest.fixture(scope="module")
def place(
    cluster: Kubectl, definitions: None, python_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    with workplace(cluster, tmp_path_factory.mktemp("stuck"), IMPATIENT) as found:
        yield found


@pytest.fixture(autouse=True)
def tidy(place: Workplace) -> Iterator[None]:
    yield
    place.tidied()


@pytest.fixture
def cordoned(cluster: Kubectl) -> Iterator[str]:
    """A node that takes no more pods."""
    cluster.run("cordon", "full")
    yield "full"
    cluster.run("uncordon", "full")


def pod_with_a_gpu() -> Manifest:
    container = {
        "name": "main",
        "image": BUSYBOX_IMAGE,
        "command": ["sleep", "600"],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    spec = {"nodeSelector": GPU_NODE, "terminationGracePeriodSeconds": 0, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "neighbour"}, "spec": spec}


def test_a_trial_for_which_no_node_has_room_says_so_and_runs_once_there_is(
    place: Workplace, cluster: Kubectl, cordoned: str
) -> None:
    # The model is looked at on the other pool; of this one no node takes a pod.
    manifest = tuning("room", pools=("avx2", cordoned), output=MANIFEST)
    place.api.apply(manifest)
    place.until(lambda: "Unschedulable" in place.described("room"), "the tuning to say what it waits for")
    told = place.described("room")
    assert "unschedulable" in told
    assert "nodes are available" in told

    def tried_again() -> bool:
        waiting = [trial for trial in place.trials("room") if trial["spec"]["pool"] == cordoned]
        return any(trial["status"].get("attempts", 1) > 1 for trial in waiting if "status" in trial)

    place.until(tried_again, "the second attempt")
    cluster.run("uncordon", cordoned)
    found = place.in_phase("Succeeded", name="room")
    baseline = next(trial for trial in place.trials("room") if trial["spec"]["pool"] == cordoned)
    assert baseline["status"]["attempts"] > 1
    assert "no node took the pod" in baseline["status"]["warnings"][0]
    assert pool_of(found, cordoned)["best"]["configuration"] == "W8A8-INT8/rtn"


def test_pools_that_cannot_start_a_pod_end_with_the_reason_and_others_go_on(place: Workplace) -> None:
    place.api.apply(pod_with_a_gpu())
    place.until(lambda: place.api.get("pod", "neighbour")["status"].get("phase") == "Running", "the neighbour")
    manifest = tuning("mixed", pools=("avx2",), output=MANIFEST)
    manifest["spec"]["nodePools"] += [
        {"name": "no-image", "nodeSelector": GPU_NODE, "image": "localhost/no-such-vllm:1"},
        {"name": "no-room", "nodeSelector": GPU_NODE, "gpusPerReplica": 4},
    ]
    place.api.apply(manifest)
    found = place.in_phase("Failed", name="mixed")
    assert pool_of(found, "avx2")["phase"] == "Succeeded"
    assert pool_of(found, "avx2")["best"]["configuration"] == "W4A16/rtn"
    for pool, reason, words in (
        ("no-image", "ImagePull", "the image localhost/no-such-vllm:1 of the container vllm cannot be had"),
        ("no-room", "Unschedulable", "Insufficient nvidia.com/gpu"),
    ):
        (trial,) = [trial for trial in place.trials("mixed") if trial["spec"]["pool"] == pool]
        assert trial["status"]["failure"]["reason"] == reason
        assert words in trial["status"]["failure"]["message"]
        assert trial["status"]["attempts"] == 3
        assert f"the baseline cannot be served: {reason}" in pool_of(found, pool)["stopped"]
        assert reason in place.described("mixed")


def test_a_model_that_is_not_there_is_named_in_the_conditions(place: Workplace) -> None:
    place.api.apply(tuning("lost", pools=("avx2",), model={"uri": "pvc://models/no-such-model"}))
    found = place.in_phase("Failed", name="lost")
    (degraded,) = [condition for condition in found["status"]["conditions"] if condition["type"] == "Degraded"]
    assert degraded["reason"] == "ModelFetch"
    assert "pvc://models/no-such-model" in degraded["message"]
    assert "the claim has no folder no-such-model" in place.described("lost")
    assert len(place.jobs("model")) <= 3


def test_a_trial_that_does_not_end_is_a_timeout_and_the_limit_is_that_of_its_start(place: Workplace) -> None:
    """The limit is shortened for one trial alone: by an edit while nothing runs, and one back while it runs."""
    endless = {scheme: {"measure": "hang"} for scheme in ("W8A8-INT8", "W4A16")}
    search = {"strategy": "grid", "schemes": list(endless), "algorithms": ["rtn"], "engineDefaults": False}

    def slow(**more: Any) -> Manifest:
        return tuning("slow", pools=("full",), output=MANIFEST, search=search, **more)

    place.behaviour.told(hold=["measure"], misbehaviours=endless)
    place.api.apply(slow())
    place.at_step("Evaluating", 0, "slow")
    place.api.apply(slow(suspend=True))
    place.behaviour.told(misbehaviours=endless)
    place.at_step("Succeeded", 0, "slow")
    place.in_phase("Suspended", name="slow")
    assert len(place.trials("slow")) == 1, "suspended: the running trial ends and none starts"
    place.api.apply(slow(budget={"maxTrials": 5, "trialTimeout": "15s"}))

    def hanging() -> bool:
        return any(job["spec"]["activeDeadlineSeconds"] == 15 for job in place.jobs())

    place.until(hanging, "the Job with the short limit")
    place.api.apply(slow())
    late = place.at_step("Failed", 1, "slow")
    place.behaviour.told()
    assert late["status"]["failure"]["reason"] == "Timeout"
    assert "longer than budget.trialTimeout (15 s)" in late["status"]["failure"]["message"]
    assert late["status"]["attempts"] == 1
    found = place.in_phase("Succeeded", name="slow")
    assert pool_of(found, "full")["trials"] == {"total": 3, "running": 0, "succeeded": 2, "failed": 1}
    assert pool_of(found, "full")["best"]["trial"] == place.trials("slow")[2]["metadata"]["name"]
