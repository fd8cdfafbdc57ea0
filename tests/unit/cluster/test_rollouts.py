"""From an answer to what serves: written down once, verified before it gets requests, taken back if it does not do."""

from __future__ import annotations

import json

import pytest
from tests.fakes.kinds import CONTROLLER_REVISION, DEPLOYMENT, DISRUPTION_BUDGET
from tests.fakes.simulated_cluster import NAMESPACE
from tests.unit.cluster.answered import (
    BETTER,
    FIRST,
    annotated,
    answer,
    endpoints,
    reaches,
    revision_of,
    settle,
    winners_pods,
)
from tests.unit.cluster.tunings import Operated

from haqa_operator.api.labels import REQUEST_ANNOTATION
from haqa_operator.cluster.edges.api_server import EVENT, JOB, TRIAL, TUNING


def test_there_is_no_service_before_the_first_answer_is_verified(operated: Operated) -> None:
    operated.submit(**FIRST)
    operated.run(until=reaches("Verifying"))
    assert operated.pool("full")["phase"] == "Verifying"
    assert operated.names()["Service"] == []
    assert operated.condition("Ready")["status"] == "False"
    assert operated.run()["phase"] == "Succeeded"
    assert len(endpoints(operated)) == 1
    assert (answer(operated)["phase"], answer(operated)["message"]) == ("Serving", "as fast as its trial")
    assert operated.cluster.api.get(DISRUPTION_BUDGET, "demo-full", NAMESPACE) is not None


def test_a_record_says_everything_that_serving_takes(served: Operated) -> None:
    (record,) = served.records()
    data = record["data"]
    assert [one["kind"] for one in data["manifests"]] == ["Deployment", "Service", "PodDisruptionBudget"]
    assert data["trial"] == served.pool("full")["best"]["trial"]
    assert data["surroundings"]["modelDigest"] == "sha256-model"
    assert data["status"]["trials"]["total"] == 2
    assert record["metadata"]["ownerReferences"][0]["kind"] == "QuantizationTuning"
    assert "throughput" in record["metadata"]["annotations"]["haqa.dev/verified"]


def test_the_earlier_answer_serves_until_the_later_one_is_verified(served: Operated) -> None:
    (before,) = endpoints(served)
    served.submit(**BETTER)
    served.run(until=reaches("Verifying"))
    assert endpoints(served) == [before]
    assert len(winners_pods(served)) == 2, "side by side"
    served.run()
    settle(served)
    (after,) = endpoints(served)
    assert after != before
    assert [record["metadata"]["annotations"]["haqa.dev/phase"] for record in served.records()] == [
        "Retired",
        "Serving",
    ]
    assert answer(served)["revision"] == answer(served)["serving"] == 2


def test_one_that_is_slower_where_it_is_deployed_is_rolled_back_once(served: Operated) -> None:
    (before,) = endpoints(served)
    served.cluster.deployed["full"] = 0.6
    served.submit(**BETTER)
    served.run(until=reaches("RolledBack"))
    settle(served)
    assert endpoints(served) == [before]
    assert [revision_of(pod) for pod in winners_pods(served)] == [before]
    assert answer(served)["revision"] == 2
    assert answer(served)["serving"] == 1
    assert "less by more than output.verify.tolerancePercent" in answer(served)["message"]
    degraded = served.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "RolledBack")
    assert served.condition("Ready")["status"] == "True", "the earlier one serves"
    assert any(event["reason"] == "RolledBack" for event in served.cluster.api.list(EVENT, NAMESPACE))
    served.cluster.deployed.clear()
    settle(served)
    assert len(served.records()) == 2, "it is not tried again by itself"
    assert endpoints(served) == [before]


def test_the_first_answer_that_does_not_do_leaves_nothing(operated: Operated) -> None:
    operated.cluster.deployed["full"] = 0.5
    operated.submit(**FIRST)
    status = operated.run()
    settle(operated)
    assert status["phase"] == "Failed"
    assert operated.names()["Deployment"] == operated.names()["Service"] == []
    assert "nothing was before it" in operated.pool("full")["message"]


def test_a_record_that_is_deleted_is_worked_out_and_tried_again(operated: Operated) -> None:
    operated.cluster.deployed["full"] = 0.5
    operated.submit(**FIRST)
    operated.run()
    operated.cluster.deployed.clear()
    (record,) = operated.records()
    operated.cluster.api.delete(CONTROLLER_REVISION, record["metadata"]["name"], NAMESPACE)
    measured = len(operated.cluster.measured)
    operated.reconcile()
    assert operated.run()["phase"] == "Succeeded"
    assert len(operated.cluster.measured) == measured


def test_the_tolerance_is_the_specs(operated: Operated) -> None:
    operated.cluster.deployed["full"] = 0.6
    operated.submit(**FIRST, output={"verify": {"tolerancePercent": 50}})
    assert operated.run()["phase"] == "Succeeded"


def test_verifying_can_be_left_out(operated: Operated) -> None:
    operated.cluster.deployed["full"] = 0.1
    operated.submit(**FIRST, output={"verify": {"enabled": False}})
    assert operated.run()["phase"] == "Succeeded"
    assert "not verified" in answer(operated)["message"]
    assert not operated.cluster.api.list(JOB, NAMESPACE, "haqa.dev/component=verify")


def test_where_there_is_no_room_beside_the_first_pod_is_replaced(served: Operated) -> None:
    (before,) = endpoints(served)
    served.cluster.deployments.room = False
    served.submit(**BETTER)
    served.run(
        until=lambda _: (
            len(served.records()) == 2
            and served.records()[1]["metadata"]["annotations"].get("haqa.dev/rollout") == "Replace"
        )
    )
    assert served.run()["phase"] == "Succeeded"
    (after,) = endpoints(served)
    assert after != before
    found = served.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    assert found is not None
    assert found["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_where_there_is_no_room_going_back_frees_the_place_first(served: Operated) -> None:
    (before,) = endpoints(served)
    served.cluster.deployments.room = False
    served.cluster.deployed["full"] = 0.5
    served.submit(**BETTER)
    served.run(until=reaches("RolledBack"))
    settle(served)
    assert endpoints(served) == [before]
    assert [revision_of(pod) for pod in winners_pods(served)] == [before]
    assert served.pool("full")["phase"] == "Succeeded"


def test_one_that_never_starts_is_rolled_back_after_its_deadline(served: Operated) -> None:
    (before,) = endpoints(served)
    served.cluster.deployments.starting = False
    served.submit(**BETTER)
    served.run(until=lambda _: len(served.records()) == 2)
    served.cluster.now += 100_000
    served.run(until=reaches("RolledBack"))
    assert "not ready after" in answer(served)["message"]
    settle(served)
    assert endpoints(served) == [before]


def test_a_person_can_go_back_to_the_answer_before(served: Operated) -> None:
    (before,) = endpoints(served)
    served.submit(**BETTER)
    served.run()
    settle(served)
    later = served.records()[1]["metadata"]["name"]
    annotated(served, rollback=later)
    settle(served)
    assert endpoints(served) == [before]
    annotated(served, rollback="")
    settle(served)
    assert endpoints(served) == [later]


def test_another_output_name_leaves_the_old_deployment_and_says_so(served: Operated) -> None:
    served.submit(**FIRST, output={"deployment": {"name": "chat"}})
    served.run(until=lambda _: len(served.records()) == 2)
    served.run()
    settle(served)
    assert served.names()["Deployment"] == ["chat", "demo-full"]
    assert answer(served)["leftBehind"] == ["demo-full"]


def test_adopting_keeps_the_selector_that_is_there(operated: Operated) -> None:
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "chat", "namespace": NAMESPACE},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "chat"}},
            "template": {
                "metadata": {"labels": {"app": "chat"}},
                "spec": {"containers": [{"name": "x", "image": "x"}]},
            },
        },
    }
    operated.cluster.api.stand_in(theirs)
    operated.submit(**FIRST, output={"deployment": {"name": "chat", "adopt": True}})
    assert operated.run()["phase"] == "Succeeded"
    found = operated.cluster.api.get(DEPLOYMENT, "chat", NAMESPACE)
    assert found is not None
    assert found["spec"]["selector"]["matchLabels"] == {"app": "chat"}
    assert found["spec"]["template"]["metadata"]["labels"]["app"] == "chat"


def test_a_status_that_is_lost_comes_back_from_the_record(served: Operated) -> None:
    before = served.pool("full")
    found = served.cluster.api.get(TUNING, "demo", NAMESPACE)
    assert found is not None
    served.cluster.api._stored[(TUNING, NAMESPACE, "demo")].manifest["status"] = {}
    measured = len(served.cluster.measured)
    settle(served)
    assert served.pool("full") == before
    assert len(served.cluster.measured) == measured


def test_the_winner_is_confirmed_on_its_node_before_it_is_the_answer(operated: Operated) -> None:
    operated.submit(**FIRST, confirmation={"rounds": 5})
    operated.run(until=lambda status: any(pool["phase"] == "Confirming" for pool in status.get("pools", [])))
    assert operated.names()["Deployment"] == []
    operated.run()
    windows = [one for one in operated.cluster.api.list(TRIAL, NAMESPACE) if one["spec"]["proposer"] == "confirmation"]
    assert [one["spec"]["configuration"]["scheme"] for one in windows] == ["W4A16", "BF16", "BF16", "W4A16"]
    jobs = [operated.cluster.api.get(JOB, one["metadata"]["name"], NAMESPACE) for one in windows]
    requests = [
        json.loads(job["spec"]["template"]["metadata"]["annotations"][REQUEST_ANNOTATION]) for job in jobs if job
    ]
    assert [request["accuracy"] for request in requests] == [False] * 4
    selectors = [job["spec"]["template"]["spec"]["nodeSelector"] for job in jobs if job is not None]
    assert [one.get("kubernetes.io/hostname") for one in selectors] == ["full-1"] * 4
    assert answer(operated)["confirmed"] is True
    assert operated.pool("full")["trials"]["total"] == 2, "windows are no trials of the search"
    assert operated.pool("full")["best"]["speedup"]["value"] == pytest.approx(1.3, rel=0.01)
    assert "measured alternately" in operated.pool("full")["message"]
