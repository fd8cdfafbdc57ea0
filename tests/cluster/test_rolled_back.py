"""A winner that is slower where it is deployed than in its trial gets no request, and the one before it goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.tunings import tuning
from tests.cluster.workplace import Workplace, workplace

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(900)]

IMPATIENT = {"HAQA_UNSCHEDULABLE_SECONDS": "6"}
SLOW = {"W8A8-INT8": {"verify": "slow"}}


@pytest.fixture(scope="module")
def place(
    cluster: Kubectl, definitions: None, python_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    with workplace(cluster, tmp_path_factory.mktemp("rolled-back"), extra=IMPATIENT) as found:
        yield found


@pytest.fixture(autouse=True)
def tidy(place: Workplace) -> Iterator[None]:
    yield
    place.tidied()


def searching(name: str, *schemes: str, **more: Any) -> Manifest:
    search = {"strategy": "grid", "schemes": list(schemes), "algorithms": ["rtn"], "engineDefaults": False}
    return tuning(name, pools=("full",), search=search, **more)


def answer(place: Workplace, name: str) -> Manifest:
    pools = place.tuning(name).get("status", {}).get("pools", ())
    found: Manifest = pools[0].get("answer", {}) if pools else {}
    return found


def condition(place: Workplace, name: str, kind: str) -> Manifest:
    found: Manifest = next(one for one in place.tuning(name)["status"]["conditions"] if one["type"] == kind)
    return found


def requests_go_to(place: Workplace, service: str) -> list[str]:
    """Answers whose pods get the Service's requests."""
    pods = {pod["metadata"]["name"]: pod["metadata"]["labels"] for pod in place.api.list("pod")}
    slices = place.api.list("endpointslice", f"kubernetes.io/service-name={service}")
    ready = [
        endpoint["targetRef"]["name"]
        for found in slices
        for endpoint in found.get("endpoints") or ()
        if endpoint["conditions"].get("ready")
    ]
    return sorted({pods[name]["haqa.dev/revision"] for name in ready if name in pods})


def approve(place: Workplace, name: str) -> None:
    trial = answer(place, name)["trial"]
    place.api.apply(
        {
            "apiVersion": "haqa.dev/v1alpha1",
            "kind": "QuantizationApproval",
            "metadata": {"name": f"{name}-{trial[-3:]}"},
            "spec": {"tuning": name, "trial": trial, "approvedBy": "tests"},
        }
    )


def test_a_first_one_leaves_nothing(place: Workplace) -> None:
    place.behaviour.told(misbehaviours=SLOW)
    place.api.apply(searching("first", "BF16", "W8A8-INT8"))
    place.in_phase("Failed", name="first")
    assert "less by more than output.verify.tolerancePercent" in answer(place, "first")["message"]
    assert condition(place, "first", "Degraded")["reason"] == "RolledBack"
    place.until(lambda: not place.api.list("deployment"), "its Deployment is removed")
    assert not place.api.list("service", "haqa.dev/tuning=first")


def test_a_later_one_is_replaced_by_the_one_before_which_alone_gets_requests(place: Workplace) -> None:
    """The node has no room for two engines, as is usual with GPUs: the new pod takes the old one's place."""
    manual = {"approval": "Manual"}
    place.api.apply(searching("later", "BF16", "W4A16", output=manual))
    place.until(lambda: answer(place, "later").get("revision") == 1, "the first winner waits")
    approve(place, "later")
    place.in_phase("Succeeded", name="later")
    (before,) = requests_go_to(place, "later-full")
    # A trial needs most of the node, too.
    place.api.run("scale", "deployment", "later-full", "--replicas=0")
    place.behaviour.told(misbehaviours=SLOW)
    place.api.apply(searching("later", "BF16", "W4A16", "W8A8-INT8", output=manual))
    place.until(lambda: answer(place, "later").get("revision") == 2, "a better one is found")
    place.api.run("scale", "deployment", "later-full", "--replicas=1")
    place.until(lambda: requests_go_to(place, "later-full") == [before], "the one before serves meanwhile")
    approve(place, "later")
    seen: set[str] = set()

    def rolled_back() -> bool:
        seen.update(requests_go_to(place, "later-full"))
        return bool(answer(place, "later")["phase"] == "RolledBack")

    place.until(rolled_back, "it is rolled back")
    place.until(lambda: requests_go_to(place, "later-full") == [before], "the one before serves again")
    assert seen <= {before}, "the slow one never got a request"
    assert answer(place, "later")["serving"] == 1
    place.until(lambda: condition(place, "later", "Ready")["status"] == "True", "it is ready")
    assert condition(place, "later", "Degraded")["reason"] == "RolledBack"
    records = place.api.list("controllerrevision", "haqa.dev/tuning=later")
    marks = {one["revision"]: one["metadata"]["annotations"] for one in records}
    assert {number: one["haqa.dev/phase"] for number, one in marks.items()} == {1: "Serving", 2: "RolledBack"}
    assert marks[2]["haqa.dev/approved-by"] == "tests"
    assert marks[2]["haqa.dev/rollout"] == "Replace"
