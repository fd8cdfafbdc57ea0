"""What a GPU pool is measured with is shown, the same for every trial, and outlives restarts and upgrades."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.fakes.simulated_cluster import NAMESPACE
from tests.unit.cluster.tunings import Operated
from tests.unit.search.builders import nvidia

from haqa_operator.api.labels import REQUEST_ANNOTATION
from haqa_operator.cluster.act import context
from haqa_operator.cluster.build.measure_resources import measure_resources
from haqa_operator.cluster.edges.api_server import EVENT, NODE

GPU = {
    "nvidia.com/gpu.product": "NVIDIA-L40S",
    "nvidia.com/gpu.count": "1",
    "nvidia.com/gpu.memory": "46068",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "9",
}
POOL = {"name": "gpu", "nodeSelector": {"pool": "gpu"}}


@pytest.fixture
def operated() -> Operated:
    made = Operated()
    made.cluster.node("gpu", **GPU)
    return made


def requests(operated: Operated) -> list[dict[str, Any]]:
    jobs = (one["spec"]["template"]["metadata"]["annotations"] for one in operated.jobs())
    found = [json.loads(annotations[REQUEST_ANNOTATION]) for annotations in jobs if REQUEST_ANNOTATION in annotations]
    return [request for request in found if request["trial"].startswith("demo-")]


def workloads(operated: Operated) -> set[str]:
    return {json.dumps(request["workload"], sort_keys=True) for request in requests(operated)}


def begun(status: dict[str, Any]) -> bool:
    return status.get("trialsDone") not in (None, "0/0", "0/1")


def test_the_filled_in_values_are_in_the_status_and_in_every_trial(operated: Operated) -> None:
    operated.submit(nodePools=[POOL], workload={"outputTokens": 64})
    operated.run()
    shown = operated.pool("gpu")["measuredWith"]
    (measured,) = map(json.loads, workloads(operated))
    assert measured["concurrency"] == shown["workload"]["concurrency"] == [1, 8, 64, 256]
    assert (measured["output_tokens"], measured["input_tokens"], measured["duration_s"]) == (64, 512, 30.0)
    assert shown["evaluation"]["samples"] == 128
    assert {tuple(request["samples_by_default"]) for request in requests(operated)} == {("calibration", "evaluation")}


def test_a_cpu_pool_beside_it_has_its_own(operated: Operated) -> None:
    operated.submit(nodePools=[POOL, {"name": "full", "nodeSelector": {"pool": "full"}}], workload={})
    operated.run()
    assert operated.pool("full")["measuredWith"]["workload"]["concurrency"] == [1, 8]
    assert len(workloads(operated)) == 2


def test_an_upgrade_in_the_middle_of_a_run_and_after_it_measures_nothing_twice(
    operated: Operated, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(context, "pool_spec", lambda spec, *_, **__: spec)
        operated.submit(nodePools=[POOL], workload={})
        operated.run(until=begun)
        (before,) = workloads(operated)
    operated.restart()
    operated.run()
    assert workloads(operated) == {before}
    done = list(operated.cluster.measured)
    operated.restart()
    operated.reconcile()
    assert operated.cluster.measured == done


def test_a_driver_that_tells_another_memory_starts_nothing_anew(operated: Operated) -> None:
    operated.submit(nodePools=[POOL], workload={})
    operated.run(until=begun)
    for node in operated.cluster.api.list(NODE, selector="pool=gpu"):
        node["metadata"]["labels"]["nvidia.com/gpu.memory"] = "22000"
        operated.cluster.api.stand_in(node)
    operated.restart()
    operated.run()
    assert len(workloads(operated)) == 1
    assert operated.pool("gpu")["measuredWith"]["workload"]["concurrency"] == [1, 8, 64, 256]


def test_the_built_in_text_is_a_condition_and_one_event(operated: Operated) -> None:
    operated.submit(nodePools=[POOL])
    operated.run()
    found = operated.condition("OwnText")
    assert (found["status"], found["reason"]) == ("False", "BuiltInText")
    assert "set evaluation.dataset and calibration.dataset" in found["message"]
    events = [one for one in operated.cluster.api.list(EVENT, NAMESPACE) if one["reason"] == "BuiltInText"]
    assert [event["type"] for event in events] == ["Warning"]


def test_data_of_one_s_own_is_no_condition(operated: Operated) -> None:
    own = {"dataset": "s3://bucket/chats.jsonl"}
    operated.submit(nodePools=[POOL], evaluation=own, calibration=own)
    operated.run()
    assert {one["type"] for one in operated.status()["conditions"]} == {"Ready", "Progressing", "Degraded", "Stale"}


def test_the_measuring_container_asks_for_cpu_by_the_rate(operated: Operated) -> None:
    operated.submit(nodePools=[POOL], workload={})
    operated.run(until=begun)
    jobs = operated.jobs()
    asked = {
        container["resources"]["requests"]["cpu"]
        for job in jobs
        for container in job["spec"]["template"]["spec"]["containers"]
        if container["name"] == "measure"
    }
    rates = [request["expected_tokens_per_s"] for request in requests(operated)]
    accelerator = replace(nvidia("NVIDIA-L40S"), host_cores=16.0, host_memory_gib=64.0)
    assert all(rate > 1000 for rate in rates)
    assert asked == {measure_resources(accelerator, rate).cpu for rate in rates} != {"250m"}
