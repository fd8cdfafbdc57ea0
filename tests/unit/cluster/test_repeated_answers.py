"""Records that say the same as another, and records that somebody else has written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.fakes.kinds import DEPLOYMENT
from tests.fakes.simulated_cluster import NAMESPACE
from tests.unit.cluster.answered import (
    BETTER,
    DRIVER,
    FIRST,
    annotated,
    answer,
    endpoints,
    phases,
    reaches,
    settle,
    winners_pods,
)
from tests.unit.cluster.tunings import Operated

from haqa_operator.cluster.edges.api_server import JOB


def test_the_same_answer_to_another_question_is_on_record_and_starts_nothing(served: Operated) -> None:
    (before,) = winners_pods(served)
    served.submit(**FIRST, budget={"maxTrials": 7})
    served.run()
    settle(served)
    assert [pod["metadata"]["uid"] for pod in winners_pods(served)] == [before["metadata"]["uid"]]
    assert len(endpoints(served)) == 1
    assert (answer(served)["revision"], answer(served)["phase"]) == (2, "Serving")
    assert answer(served)["message"] == "the same as answer 1"
    assert phases(served) == ["Retired", "Serving"]
    verified = [record["metadata"]["annotations"]["haqa.dev/verified"] for record in served.records()]
    assert verified[0] == verified[1]
    # It is answered: nothing is searched any more.
    settle(served)
    assert len(served.records()) == 2


def test_what_was_rolled_back_stays_so_where_another_question_has_the_same_answer(served: Operated) -> None:
    (before,) = endpoints(served)
    served.cluster.deployed["full"] = 0.6
    served.submit(**BETTER)
    served.run(until=reaches("RolledBack"))
    served.cluster.deployed.clear()
    served.submit(**BETTER, budget={"maxTrials": 7})
    served.run()
    settle(served)
    assert phases(served) == ["Serving", "RolledBack", "RolledBack"]
    assert endpoints(served) == [before]
    assert answer(served)["message"].startswith("the same as answer 2, which was rolled back: ")


def test_a_repeated_answer_goes_on_where_the_first_one_is(served: Operated) -> None:
    served.submit(**BETTER)
    served.run(until=reaches("Verifying"))
    made = {pod["metadata"]["uid"] for pod in winners_pods(served)}
    served.submit(**BETTER, budget={"maxTrials": 7})
    served.run()
    settle(served)
    assert {pod["metadata"]["uid"] for pod in winners_pods(served)} < made, "no pod was made anew"
    assert phases(served) == ["Retired", "Dropped", "Serving"]


class TestForgedRecords:
    """The operator applies with its own rights what is on record: what it would not write it does not read."""

    def forged(self, served: Operated, **deployment: Any) -> None:
        (real,) = served.records()
        data = json.loads(json.dumps(real["data"]))
        made = next(one for one in data["manifests"] if one["kind"] == "Deployment")
        made["metadata"] |= deployment.pop("metadata", {})
        made |= deployment
        metadata = {
            **{name: real["metadata"][name] for name in ("namespace", "labels", "ownerReferences")},
            "name": "forged",
            "annotations": {"haqa.dev/phase": "Serving", "haqa.dev/since": "2026-11-26T10:00:00Z"},
        }
        served.cluster.api.stand_in({**real, "metadata": metadata, "revision": 9, "data": data})

    def test_nothing_is_put_into_another_namespace(self, served: Operated) -> None:
        self.forged(served, metadata={"namespace": "kube-system", "name": "pwn"})
        settle(served)
        assert served.cluster.api.get(DEPLOYMENT, "pwn", "kube-system") is None
        assert "is for another namespace, kube-system" in served.condition("Degraded")["message"]
        assert len(endpoints(served)) == 1, "what serves goes on"

    def test_nothing_else_is_put_into_the_cluster(self, served: Operated) -> None:
        self.forged(served, apiVersion="rbac.authorization.k8s.io/v1", kind="RoleBinding")
        settle(served)
        assert "is nothing that an answer consists of" in served.condition("Degraded")["message"]

    @pytest.mark.parametrize("data", ["text", ["a", "list"], None, {"manifests": [1]}])
    def test_what_cannot_be_understood_is_said(self, served: Operated, data: object) -> None:
        (real,) = served.records()
        metadata = {**real["metadata"], "name": "broken"}
        metadata.pop("uid")
        metadata.pop("resourceVersion", None)
        served.cluster.api.stand_in({**real, "metadata": metadata, "revision": 9, "data": data})
        settle(served)
        assert "ControllerRevision broken" in served.condition("Degraded")["message"]
        assert not served.errors


class TestTwins:
    """Two records with the same pods are one thing to whoever looks at the cluster."""

    def repeated_while_verifying(self, served: Operated) -> None:
        served.submit(**BETTER)
        served.run(until=reaches("Verifying"))
        served.reconcile()
        served.submit(**BETTER, budget={"maxTrials": 7})
        served.reconcile()

    def test_only_one_of_them_is_measured(self, served: Operated) -> None:
        self.repeated_while_verifying(served)
        first, dropped, _ = (record["metadata"]["name"] for record in served.records())
        jobs = [str(job["metadata"]["name"]) for job in served.cluster.api.list(JOB, NAMESPACE)]
        assert [name for name in jobs if name.startswith(first)], "the first one was measured"
        assert not [name for name in jobs if name.startswith(dropped)]
        assert phases(served)[:2] == ["Serving", "Dropped"]

    def test_one_that_is_rolled_back_takes_the_other_with_it(self, served: Operated) -> None:
        (before,) = endpoints(served)
        served.cluster.deployed["full"] = 0.6
        self.repeated_while_verifying(served)
        served.run(until=reaches("RolledBack"))
        settle(served)
        assert endpoints(served) == [before]
        assert phases(served) == ["Serving", "Dropped", "RolledBack"]

    def test_going_back_to_what_serves_sends_nobody_to_what_was_on_its_way(self, served: Operated) -> None:
        (before,) = endpoints(served)
        served.submit(**BETTER)
        served.run(until=reaches("Verifying"))
        served.submit(**BETTER, constraints=[{"metric": "throughput", "max": 400}])
        served.reconcile()
        assert endpoints(served) == [before]
        settle(served)
        assert endpoints(served) == [before]
        assert phases(served) == ["Retired", "Dropped", "Serving"]

    def test_a_persons_rejection_of_one_is_of_both(self, served: Operated) -> None:
        (before,) = endpoints(served)
        served.submit(**BETTER)
        served.run()
        settle(served)
        served.submit(**BETTER, budget={"maxTrials": 7})
        served.run()
        settle(served)
        assert phases(served) == ["Retired", "Retired", "Serving"]
        annotated(served, rollback=served.records()[-1]["metadata"]["name"])
        settle(served)
        assert endpoints(served) == [before]


def test_a_price_and_a_check_start_no_pod_where_the_answer_is_the_same(operated: Operated) -> None:
    operated.cluster.node("full", **{DRIVER: "550.54.15"})
    operated.submit(**FIRST, output={"onChange": "Verify"})
    operated.run()
    before = {pod["metadata"]["uid"] for pod in winners_pods(operated)}
    operated.cluster.node("full", **{DRIVER: "570.86.15"})
    operated.run(until=lambda status: status["phase"] == "Running")
    operated.run()
    settle(operated)
    priced = {**FIRST, "nodePools": [{**FIRST["nodePools"][0], "costPerHour": 4.0}]}
    operated.submit(**priced, output={"onChange": "Verify"})
    settle(operated)
    assert len(operated.records()) == 3
    assert {pod["metadata"]["uid"] for pod in winners_pods(operated)} == before
    assert "measured again" not in operated.pool("full")["message"], "nothing was, for a price"


def test_taking_back_the_word_that_asked_once_more_asks_nothing(served: Operated) -> None:
    annotated(served, retune="once more")
    served.run(until=lambda _: len(served.records()) == 2)
    settle(served)
    measured = len(served.cluster.measured)
    served.submit(**FIRST)
    settle(served)
    assert len(served.cluster.measured) == measured
    assert served.records()[-1]["data"]["again"] == "once more"
