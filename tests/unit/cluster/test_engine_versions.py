"""The image of a pool says which vLLM its engines are: in the search, in trials' arguments and in the Deployment."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.fakes.kinds import DEPLOYMENT
from tests.fakes.simulated_cluster import NAMESPACE
from tests.policies import OPEN
from tests.unit.cluster.tunings import Operated

from haqa_operator.api.labels import REQUEST_ANNOTATION
from haqa_operator.cluster.installation import Installation


def pool(name: str = "full", **fields: Any) -> dict[str, Any]:
    return {"name": name, "nodeSelector": {"pool": name}, **fields}


def arguments(operated: Operated) -> list[list[str]]:
    """Of every trial's engine."""
    jobs = (one["spec"]["template"]["metadata"]["annotations"] for one in operated.jobs())
    requests = [json.loads(found[REQUEST_ANNOTATION]) for found in jobs if REQUEST_ANNOTATION in found]
    return [one["engine"]["args"] for one in requests if one["trial"] != "fetch"]


def test_an_older_image_gets_the_arguments_that_it_has() -> None:
    operated = Operated()
    operated.submit(nodePools=[pool(image="vllm/vllm-openai-cpu:v0.17.1")])
    assert operated.run()["phase"] == "Succeeded"
    measured = arguments(operated)
    assert measured
    assert not [args for args in measured if any("shutdown-timeout" in text for text in args)]
    deployment = operated.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    assert deployment is not None
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "vllm/vllm-openai-cpu:v0.17.1"
    assert not [text for text in container["args"] if "shutdown-timeout" in text]


def test_engine_version_alone_chooses_the_image() -> None:
    operated = Operated()
    operated.submit(nodePools=[pool(engineVersion="0.33.0")])
    operated.run()
    deployment = operated.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    assert deployment is not None
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "vllm/vllm-openai-cpu:v0.33.0"


def test_what_the_release_lacks_is_on_record() -> None:
    operated = Operated()
    operated.submit(
        nodePools=[pool(image="vllm/vllm-openai-cpu:v0.16.0")],
        search={
            "strategy": "grid",
            "schemes": ["W8A8-INT8"],
            "algorithms": ["rtn"],
            "engineDefaults": False,
            "engine": {"performance-mode": ["balanced", "throughput"]},
        },
    )
    operated.run()
    reasons = [skipped["reason"] for skipped in operated.pool("full")["skipped"]]
    assert "vLLM 0.16.0 has no performance-mode; vLLM 0.17.0 has it" in reasons


@pytest.mark.parametrize("installed", [False, True])
def test_a_tag_that_says_nothing_is_noted(installed: bool) -> None:
    image = "us/vllm:latest"
    operated = Operated(installation=Installation(policy=OPEN, engine_image=image)) if installed else Operated()
    operated.submit(nodePools=[pool() if installed else pool(image=image)])
    operated.run()
    assert "nothing in us/vllm:latest says which vLLM it is, so 0.32.0 is assumed" in operated.pool("full")["message"]


def test_an_engine_that_is_too_old_is_refused_before_anything_is_started() -> None:
    operated = Operated()
    operated.submit(nodePools=[pool(image="vllm/vllm-openai-cpu:v0.9.2")])
    operated.run()
    assert operated.names()["Job"] == []
    assert operated.pool("full")["phase"] == "Failed"
    degraded = operated.condition("Degraded")
    assert degraded["status"] == "True"
    assert "is vLLM 0.9.2, and HAQA needs 0.11.0 or newer" in degraded["message"]


def test_an_old_engine_in_one_pool_leaves_the_others_alone() -> None:
    operated = Operated()
    operated.submit(nodePools=[pool(image="vllm/vllm-openai-cpu:v0.9.2"), pool("avx2")])
    operated.run(lambda status: any(one["phase"] == "Succeeded" for one in status.get("pools", ())))
    assert operated.pool("avx2")["phase"] == "Succeeded"
    assert operated.pool("full")["phase"] == "Failed"
