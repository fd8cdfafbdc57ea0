"""Answers that KServe rolls out."""

from __future__ import annotations

from tests.fakes.simulated_cluster import NAMESPACE
from tests.unit.cluster.answered import (
    BETTER,
    FIRST,
    answer,
)
from tests.unit.cluster.played_kserve import with_kserve
from tests.unit.cluster.tunings import Operated

from haqa_operator.cluster.edges.api_server import INFERENCE_SERVICE


def test_kserve_rolls_out_what_is_verified_and_taken_back_here(operated: Operated) -> None:
    output = {"target": "KServe", "deployment": {"replicas": 2}}
    operated.submit(**FIRST, output=output)
    with_kserve(operated, lambda: operated.pool("full")["phase"] == "Succeeded")
    assert answer(operated)["message"] == "as fast as its trial"
    assert operated.names()["Service"] == [], "KServe makes its own"
    (service,) = operated.cluster.api.list(INFERENCE_SERVICE, NAMESPACE)
    assert service["spec"]["predictor"]["minReplicas"] == 2
    operated.cluster.deployed["full"] = 0.5
    operated.submit(**BETTER, output=output)
    with_kserve(operated, lambda: operated.pool("full").get("answer", {}).get("phase") == "RolledBack")
    with_kserve(operated, lambda: operated.pool("full")["phase"] == "Succeeded")
    (service,) = operated.cluster.api.list(INFERENCE_SERVICE, NAMESPACE)
    assert service["spec"]["predictor"]["labels"]["haqa.dev/revision"] == operated.records()[0]["metadata"]["name"]
    assert operated.condition("Degraded")["reason"] == "RolledBack"


def test_a_first_answer_that_kserve_serves_too_slowly_is_removed(operated: Operated) -> None:
    operated.cluster.deployed["full"] = 0.5
    operated.submit(**FIRST, output={"target": "KServe"})
    with_kserve(operated, lambda: operated.pool("full")["phase"] == "Failed")
    assert operated.cluster.api.list(INFERENCE_SERVICE, NAMESPACE) == []
    assert "nothing was before it" in operated.pool("full")["message"]
    assert not operated.errors
