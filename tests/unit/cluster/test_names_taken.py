"""Names are made of the tuning's and the pool's, so that two may be one: no object of somebody else's is written."""

from __future__ import annotations

from typing import Any

import pytest
from tests.fakes.faulty_api import Call
from tests.fakes.kinds import DEPLOYMENT, SERVICE
from tests.fakes.simulated_cluster import NAMESPACE
from tests.unit.cluster.tunings import ONE_POOL, Operated, tuning_manifest

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.api_server import JOB, TRIAL, ApiUnavailable, Kind

MODEL_JOB = "demo-full-model"


def foreign(kind: Kind, name: str, owner: Manifest | None = None) -> Manifest:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"app": "theirs"},
            **({"ownerReferences": [owner]} if owner else {}),
        },
        "spec": {"template": {"metadata": {"annotations": {}}, "spec": {}}, "suspend": True},
    }


def test_two_tunings_whose_names_run_into_one_keep_their_trials_apart(operated: Operated) -> None:
    spec: dict[str, Any] = {
        "search": {"strategy": "grid", "schemes": ["BF16", "W8A8-INT8"], "algorithms": ["rtn"], "engineDefaults": False}
    }
    pools = {"chat": ("llama", "chat-full"), "full": ("llama-chat", "full")}
    for tuning, pool in pools.values():
        operated.submit(tuning, nodePools=[{"name": pool, "nodeSelector": {"pool": "full"}}], **spec)
    operated.run(name="llama")
    owners = {one["metadata"]["name"]: one["spec"]["tuning"] for one in operated.cluster.api.list(TRIAL, NAMESPACE)}
    for _ in range(3):
        operated.reconcile("llama-chat")
        operated.cluster.step()
    assert operated.condition("Degraded", "llama-chat")["reason"] == "Refused"
    message = operated.condition("Degraded", "llama-chat")["message"]
    assert "Job llama-chat-full-model exists already and belongs to QuantizationTuning llama" in message
    assert "rename" in message
    assert set(owners.values()) == {"llama"}
    after = {one["metadata"]["name"]: one["spec"]["tuning"] for one in operated.cluster.api.list(TRIAL, NAMESPACE)}
    assert after == owners
    assert not operated.errors


def test_a_trial_of_another_tuning_is_named_and_never_started(operated: Operated) -> None:
    operated.submit(**ONE_POOL)
    operated.run(until=lambda status: "model" in status)
    (trial,) = operated.cluster.api.list(TRIAL, NAMESPACE)
    other = Operated()
    owner = {"apiVersion": "haqa.dev/v1alpha1", "kind": "QuantizationTuning", "name": "demo-full", "uid": "another"}
    spec = {**trial["spec"], "tuning": "demo-full"}
    labels = {"haqa.dev/tuning": "demo-full"}
    metadata = {"name": trial["metadata"]["name"], "namespace": NAMESPACE, "ownerReferences": [owner], "labels": labels}
    other.cluster.api.stand_in({**trial, "metadata": metadata, "spec": spec, "status": {}})
    other.submit(**ONE_POOL)
    other.run(until=lambda status: "model" in status)
    assert (
        f"QuantizationTrial {trial['metadata']['name']} exists already and belongs to QuantizationTuning demo-full"
        in other.pool("full")["message"]
    )
    assert trial["metadata"]["name"] not in other.names()["Job"]
    other.cluster.api.delete(TRIAL, trial["metadata"]["name"], NAMESPACE)
    assert other.run()["phase"] == "Succeeded"


@pytest.mark.parametrize("which", ["model", "trial"])
def test_a_job_that_is_not_the_tunings_is_neither_written_nor_deleted(operated: Operated, which: str) -> None:
    name = MODEL_JOB
    if which == "trial":
        rehearsal = Operated()
        rehearsal.submit(**ONE_POOL)
        rehearsal.run()
        name = min(one["metadata"]["name"] for one in rehearsal.cluster.api.list(TRIAL, NAMESPACE))
    theirs = operated.cluster.api.stand_in(foreign(JOB, name))
    operated.submit(**ONE_POOL)
    for _ in range(5):
        operated.reconcile()
        operated.cluster.step()
    found = operated.cluster.api.get(JOB, name, NAMESPACE)
    assert found is not None
    assert found["spec"] == theirs["spec"]
    assert found["metadata"]["labels"] == {"app": "theirs"}
    assert f"Job {name} exists already and belongs to nobody" in operated.condition("Degraded")["message"]


def test_what_is_left_of_an_earlier_tuning_of_the_same_name_is_waited_for(operated: Operated) -> None:
    earlier = {"apiVersion": "haqa.dev/v1alpha1", "kind": "QuantizationTuning", "name": "demo", "uid": "earlier"}
    operated.cluster.api.stand_in(foreign(JOB, MODEL_JOB, earlier))
    operated.submit(**ONE_POOL)
    operated.reconcile()
    assert all(isinstance(error, ApiUnavailable) for error in operated.errors)
    assert operated.condition("Degraded")["status"] == "False"
    operated.cluster.api.delete(JOB, MODEL_JOB, NAMESPACE)
    assert operated.run()["phase"] == "Succeeded"


@pytest.mark.parametrize("kind", [DEPLOYMENT, SERVICE])
def test_what_somebody_makes_while_the_winner_is_deployed_is_not_written(operated: Operated, kind: Kind) -> None:
    def made_meanwhile(call: Call) -> None:
        if call.verb == "get" and call.kind == SERVICE:
            operated.api.after = lambda _: None
            theirs = foreign(kind, "demo-full")
            theirs["spec"] = {"selector": {"matchLabels": {"app.kubernetes.io/instance": "theirs"}}, "type": "NodePort"}
            operated.cluster.api.stand_in(theirs)

    operated.api.after = made_meanwhile
    operated.submit(**ONE_POOL)
    operated.run(until=lambda status: status.get("phase") == "Failed")
    found = operated.cluster.api.get(kind, "demo-full", NAMESPACE)
    assert found is not None
    assert found["metadata"]["labels"] == {"app": "theirs"}
    assert "demo-full exists already and was not made by this tuning" in operated.pool("full")["message"]


def test_one_name_for_the_winners_of_two_pools_is_refused_before_anything_is_measured(operated: Operated) -> None:
    operated.submit(output={"deployment": {"name": "chat"}})
    operated.reconcile()
    assert operated.status()["phase"] == "Failed"
    assert operated.condition("Degraded")["message"] == (
        "spec.output.deployment.name: chat: one Deployment for 2 node pools; leave it out, so that each gets its own, "
        "or write a tuning for each pool"
    )
    assert operated.names()["Job"] == []


def test_the_winner_of_another_pool_is_not_overwritten(operated: Operated) -> None:
    operated.submit(
        nodePools=[{"name": "avx2", "nodeSelector": {"pool": "avx2"}}], output={"deployment": {"name": "chat"}}
    )
    operated.run()
    before = operated.cluster.api.get(DEPLOYMENT, "chat", NAMESPACE)
    operated.cluster.api.stand_in(tuning_manifest(pools=("full",), output={"deployment": {"name": "chat"}}))
    operated.run(until=lambda status: status["phase"] == "Failed")
    after = operated.cluster.api.get(DEPLOYMENT, "chat", NAMESPACE)
    assert before is not None
    assert after is not None
    assert after["spec"] == before["spec"]
    assert (
        'Deployment chat exists already and was not made by this tuning for pool "full"'
        in (operated.pool("full")["message"])
    )
