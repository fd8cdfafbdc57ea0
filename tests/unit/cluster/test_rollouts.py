"""From an answer to what serves: written down once, verified before it gets requests, taken back if it does not do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.fakes.kinds import CONTROLLER_REVISION, DEPLOYMENT, DISRUPTION_BUDGET, SERVICE
from tests.fakes.simulated_cluster import NAMESPACE
from tests.unit.cluster.answered import BETTER, FIRST, answer, searching, settle
from tests.unit.cluster.tunings import ONE_POOL, Operated

from haqa_operator.api.labels import REQUEST_ANNOTATION
from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.api_server import EVENT, INFERENCE_SERVICE, JOB, NODE, POD, TRIAL, TUNING
from haqa_operator.cluster.installation import Installation


@pytest.fixture
def operated() -> Operated:
    return Operated()


@pytest.fixture
def served(operated: Operated) -> Operated:
    """A first answer serves."""
    operated.submit(**FIRST)
    operated.run()
    return operated


def endpoints(operated: Operated) -> list[str]:
    """Schemes of the pods that get requests."""
    service = operated.cluster.api.get(SERVICE, "demo-full", NAMESPACE)
    if service is None:
        return []
    names = operated.cluster.deployments.endpoints(service)
    return [revision_of(pod) for pod in winners_pods(operated) if pod["metadata"]["name"] in names]


def winners_pods(operated: Operated) -> list[Manifest]:
    pods = operated.cluster.api.list(POD, NAMESPACE, "app.kubernetes.io/component=inference")
    return [pod for pod in pods if "haqa.dev/revision" in pod["metadata"]["labels"]]


def revision_of(pod: Manifest) -> str:
    return str(pod["metadata"]["labels"]["haqa.dev/revision"])


def reaches(phase: str) -> Callable[[Manifest], bool]:
    return lambda status: any(pool.get("answer", {}).get("phase") == phase for pool in status.get("pools", []))


def annotated(operated: Operated, **annotations: str) -> None:
    found = operated.cluster.api.get(TUNING, "demo", NAMESPACE)
    assert found is not None
    given = {f"haqa.dev/{name}": value for name, value in annotations.items()}
    metadata = {"name": "demo", "namespace": NAMESPACE, "annotations": given}
    operated.cluster.api.stand_in({**found, "metadata": metadata})


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


def test_nothing_of_the_installation_changes_what_serves(served: Operated) -> None:
    before = served.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    served.installation = Installation(engine_image="another/vllm:v0.33.0", user_id=4711)
    served.restart()
    served.api.calls.clear()
    settle(served)
    assert served.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE) == before
    assert not [call for call in served.api.calls if call.writes and call.kind in (DEPLOYMENT, TRIAL, JOB)]
    stale = served.condition("Stale")
    assert stale["status"] == "True"
    assert "the engine's image is another/vllm:v0.33.0 now" in stale["message"]
    assert served.status()["phase"] == "Succeeded"


def test_nodes_that_go_away_take_no_answer_with_them(served: Operated) -> None:
    before = {name: served.status()[name] for name in ("phase", "pools", "model", "bestSpeedup")}
    served.cluster.api._stored.pop((NODE, None, "full-1"))
    settle(served)
    assert {name: served.status()[name] for name in before} == before
    drifted = served.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    assert drifted is not None
    image = drifted["spec"]["template"]["spec"]["containers"][0]["image"]
    drifted["spec"]["template"]["spec"]["containers"][0]["image"] = "somebody/else:1"
    served.cluster.api.stand_in(drifted)
    served.reconcile()
    after = served.cluster.api.get(DEPLOYMENT, "demo-full", NAMESPACE)
    assert after is not None
    assert after["spec"]["template"]["spec"]["containers"][0]["image"] == image


def test_a_new_driver_makes_the_answer_stale(operated: Operated) -> None:
    label = "nvidia.com/cuda.driver-version.full"
    operated.cluster.node("full", **{label: "550.54.15"})
    operated.submit(**FIRST)
    operated.run()
    assert operated.condition("Stale")["status"] == "False"
    operated.cluster.node("full", **{label: "570.86.15"})
    settle(operated)
    assert "there are nodes with driver 570.86.15" in operated.condition("Stale")["message"]
    assert len(operated.records()) == 1


def test_a_change_starts_a_search_only_where_it_is_wanted(operated: Operated) -> None:
    label = "nvidia.com/cuda.driver-version.full"
    operated.cluster.node("full", **{label: "550.54.15"})
    operated.submit(**FIRST, output={"onChange": "Retune"})
    operated.run()
    measured = len(operated.cluster.measured)
    (before,) = endpoints(operated)
    operated.cluster.node("full", **{label: "570.86.15"})
    operated.run(until=lambda status: status["phase"] == "Running")
    assert endpoints(operated) == [before], "it serves meanwhile"
    operated.run()
    settle(operated)
    assert len(operated.cluster.measured) == 2 * measured
    assert operated.condition("Stale")["status"] == "False"
    assert len(operated.records()) == 2
    settle(operated)
    assert len(operated.cluster.measured) == 2 * measured, "and only once"


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


def test_everything_is_measured_again_when_somebody_says_so(served: Operated) -> None:
    measured = len(served.cluster.measured)
    annotated(served, retune="2026-11-29")
    served.reconcile()
    served.run()
    settle(served)
    assert len(served.cluster.measured) == 2 * measured
    assert len(served.records()) == 2


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


def kserve(operated: Operated) -> None:
    """What KServe makes of InferenceServices."""
    for service in operated.cluster.api.list(INFERENCE_SERVICE, NAMESPACE):
        predictor = service["spec"]["predictor"]
        name = f"{service['metadata']['name']}-predictor"
        labels = {**predictor["labels"], "app": f"isvc.{name}"}
        operated.cluster.api.stand_in(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name, "namespace": NAMESPACE},
                "spec": {
                    "replicas": predictor.get("minReplicas", 1),
                    "selector": {"matchLabels": {"app": f"isvc.{name}"}},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": predictor["containers"]}},
                },
            },
            "kserve",
        )


def with_kserve(operated: Operated, until: Callable[[], bool]) -> None:
    for _ in range(40):
        operated.reconcile()
        if until():
            return
        kserve(operated)
        operated.cluster.step()
    raise AssertionError(f"{operated.pool('full')} {operated.errors[-2:]}")


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


def phases(operated: Operated) -> list[str]:
    return [record["metadata"]["annotations"]["haqa.dev/phase"] for record in operated.records()]


DRIVER = "nvidia.com/cuda.driver-version.full"


def test_an_answer_is_only_measured_again_where_that_is_wanted(operated: Operated) -> None:
    operated.cluster.node("full", **{DRIVER: "550.54.15"})
    operated.submit(**BETTER, output={"onChange": "Verify"})
    operated.run()
    assert len(operated.cluster.measured) == 3
    operated.cluster.node("full", **{DRIVER: "570.86.15"})
    operated.run(until=lambda status: status["phase"] == "Running")
    operated.run()
    settle(operated)
    assert len(operated.cluster.measured) == 5, "the baseline and the answer"
    assert operated.condition("Stale")["status"] == "False"
    first, second = (record["data"]["configuration"] for record in operated.records())
    assert first == second
    assert "there are nodes with driver 570.86.15" in operated.pool("full")["message"]
    settle(operated)
    assert len(operated.cluster.measured) == 5, "and only once"
    # Whatever is asked next is asked of all of it.
    operated.submit(**BETTER, output={"onChange": "Verify"}, budget={"maxTrials": 7})
    operated.run()
    settle(operated)
    assert len(operated.cluster.measured) == 6


def test_a_baseline_that_won_is_only_measured_again_itself(operated: Operated) -> None:
    operated.cluster.node("full", **{DRIVER: "550.54.15"})
    operated.submit(**ONE_POOL, search=searching("BF16"), output={"onChange": "Verify"})
    operated.run()
    assert len(operated.cluster.measured) == 1
    operated.cluster.node("full", **{DRIVER: "570.86.15"})
    operated.run(until=lambda status: status["phase"] == "Running")
    operated.run()
    settle(operated)
    assert len(operated.cluster.measured) == 2
    assert operated.condition("Stale")["status"] == "False"


def test_a_change_is_noticed_also_after_somebody_had_it_measured_again(operated: Operated) -> None:
    operated.cluster.node("full", **{DRIVER: "550.54.15"})
    operated.submit(**FIRST, output={"onChange": "Retune"})
    operated.run()
    annotated(operated, retune="once more")
    operated.run(until=lambda _: len(operated.records()) == 2)
    settle(operated)
    assert len(operated.cluster.measured) == 4
    operated.cluster.node("full", **{DRIVER: "570.86.15"})
    operated.run(until=lambda _: len(operated.records()) == 3)
    settle(operated)
    assert len(operated.cluster.measured) == 6
    assert operated.condition("Stale")["status"] == "False"


def test_another_price_makes_the_answer_stale_and_nothing_is_measured_again(operated: Operated) -> None:
    cheap, dear = ({**FIRST, "nodePools": [{**FIRST["nodePools"][0], "costPerHour": price}]} for price in (2.0, 4.0))
    goal: dict[str, Any] = {"objective": {"metric": "throughputPerCost"}}
    operated.submit(**cheap, **goal)
    operated.run()
    operated.submit(**dear, **goal)
    settle(operated)
    assert operated.condition("Stale")["message"].endswith("costPerHour is 4.0 now, and was 2.0")
    assert len(operated.records()) == 1
    operated.submit(**dear, **goal, output={"onChange": "Retune"})
    settle(operated)
    assert operated.condition("Stale")["status"] == "False"
    assert len(operated.cluster.measured) == 2
    before, after = (record["data"]["metrics"]["throughputPerCost"]["value"] for record in operated.records())
    assert before == pytest.approx(2 * after)
    assert phases(operated) == ["Retired", "Serving"]
    assert len(winners_pods(operated)) == 1


class TestLookingAtTheModelAgain:
    DAY = 24 * 3600.0

    def later(self, operated: Operated) -> None:
        operated.cluster.now += self.DAY
        settle(operated)

    def test_another_one_makes_the_answer_stale(self, served: Operated) -> None:
        looked = served.status()["model"]["looked"]
        served.cluster.model = "commit-2"
        settle(served)
        assert served.condition("Stale")["status"] == "False", "it is not looked at all the time"
        self.later(served)
        assert "the model is commit-2 now, and sha256-model was measured" in served.condition("Stale")["message"]
        assert served.status()["model"]["looked"] > looked
        assert len(served.cluster.measured) == 2, "and nothing is measured by itself"
        assert phases(served) == ["Serving"]

    def test_the_same_one_is_looked_at_once_a_day(self, served: Operated) -> None:
        self.later(served)
        assert served.condition("Stale")["status"] == "False"
        served.api.calls.clear()
        settle(served)
        assert not [call for call in served.api.calls if call.writes and call.kind is JOB]
        self.later(served)
        assert served.status()["phase"] == "Succeeded"

    def test_another_one_is_tuned_where_that_is_wanted(self, operated: Operated) -> None:
        operated.submit(**FIRST, output={"onChange": "Retune"})
        operated.run()
        operated.cluster.model = "commit-2"
        self.later(operated)
        operated.run()
        settle(operated)
        assert len(operated.cluster.measured) == 4
        assert operated.records()[-1]["data"]["surroundings"]["modelDigest"] == "commit-2"
        assert operated.condition("Stale")["status"] == "False"

    @pytest.mark.parametrize("never", ["suspended", "pinned", "switched off"])
    def test_where_it_cannot_change_or_nobody_wants_it_there_is_no_look(self, operated: Operated, never: str) -> None:
        model = {"uri": "hf://org/model", "revision": "0123456789" * 4} if never == "pinned" else None
        more: dict[str, Any] = {"model": model} if model else {}
        operated.submit(**FIRST, **more)
        operated.run()
        if never == "suspended":
            operated.submit(**FIRST, suspend=True)
        if never == "switched off":
            operated.installation = Installation(model_check_s=0)
            operated.restart()
        operated.cluster.model = "commit-2"
        self.later(operated)
        assert operated.condition("Stale")["status"] == "False"

    def test_a_hub_that_is_away_is_asked_again_the_next_day(self, served: Operated) -> None:
        served.cluster.model = None
        self.later(served)
        assert served.condition("Stale")["status"] == "False"
        served.cluster.model = "commit-2"
        settle(served)
        assert served.condition("Stale")["status"] == "False"
        self.later(served)
        assert "commit-2" in served.condition("Stale")["message"]


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
