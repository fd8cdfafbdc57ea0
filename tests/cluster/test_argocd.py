"""Tunings in Git, with a real Argo CD: an application is as healthy as its tuning, and the winner is never its own.

The applications have the names of the winners' Deployments. Under label tracking Argo CD takes whatever has its name in
`app.kubernetes.io/instance` for its own: it would be out of sync by the winner, and delete it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from tests.cluster.argo_cd import ArgoCD, argo_cd_beside
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.tunings import tuning
from tests.cluster.waiting import wait_until
from tests.cluster.workplace import LIMIT_S, Workplace, workplace

from haqa_operator.api.argocd import SETTINGS

pytestmark = pytest.mark.timeout(900)

KEPT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}, "data": {}}
"""Argo CD empties no application by itself."""


@pytest.fixture(scope="module")
def place(
    cluster: Kubectl, definitions: None, python_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    with workplace(cluster, tmp_path_factory.mktemp("argocd")) as found:
        yield found


@pytest.fixture(scope="module")
def argo(cluster: Kubectl, place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ArgoCD]:
    """With the health of HAQA's resources, as its documentation says."""
    with argo_cd_beside(cluster, tmp_path_factory.mktemp("repository")) as found:
        found.patch_settings(yaml.safe_load(SETTINGS.read_text()))
        yield found


@pytest.fixture(autouse=True)
def tidy(place: Workplace, argo: ArgoCD) -> Iterator[None]:
    yield
    argo.kubectl.run("delete", "applications", "--all", "--wait=true", limit_s=60)
    place.tidied()


def small(name: str, **more: Any) -> Manifest:
    """Two trials on one pool; W8A8-INT8 wins."""
    search = {"strategy": "grid", "schemes": ["BF16", "W8A8-INT8"], "algorithms": ["rtn"], "engineDefaults": False}
    return tuning(name, pools=("full",), **{"search": search, **more})


def becomes(argo: ArgoCD, place: Workplace, app: str, health: str, said: str = "") -> None:
    """The application has this health, and its tuning a message with these words."""

    def so() -> bool:
        status = argo.status(app)
        own = [one.get("health", {}) for one in status.get("resources", ()) if one["kind"] == "QuantizationTuning"]
        healthy = [status.get("health", {}).get("status")] == [one.get("status") for one in own] == [health]
        return healthy and said in own[0].get("message", "")

    def why_not() -> str:
        return f"{json.dumps(argo.status(app), indent=1)[-4000:]}\n{place.told()}\n{argo.log()}"

    wait_until(so, LIMIT_S, f"application {app} to be {health}", why_not)


def test_an_application_is_as_healthy_as_its_tuning(argo: ArgoCD, place: Workplace) -> None:
    def commit(**spec: Any) -> None:
        argo.repository.commit("health", small("careful", **spec))
        argo.refresh("health")

    argo.repository.commit("health", small("careful", suspend=True))
    argo.create("health", place.api.namespace, "health")
    becomes(argo, place, "health", "Suspended", "spec.suspend is true")
    place.behaviour.told(hold=["measure"])
    commit(output={"approval": "Manual"})
    becomes(argo, place, "health", "Progressing")
    place.behaviour.told()
    becomes(argo, place, "health", "Suspended", 'pool "full":')
    assert place.api.list("deployment") == []
    commit(output={"mode": "Manifest"})
    becomes(argo, place, "health", "Healthy")
    wrong = {"strategy": "grid", "engine": {"no-such-setting": [1]}}
    commit(search=wrong)
    becomes(argo, place, "health", "Degraded", "no-such-setting")


@pytest.mark.parametrize(
    ("method", "sync_options"),
    [("label", []), ("annotation", ["ServerSideApply=true"]), ("annotation+label", [])],
    ids=["label", "annotation, server-side apply", "annotation and label"],
)
def test_a_winner_is_never_the_applications(
    argo: ArgoCD, place: Workplace, method: str, sync_options: list[str]
) -> None:
    name = f"by-{method.replace('+', '-')}"
    winner = f"{name}-full"
    argo.configure(application_resourceTrackingMethod=method)
    argo.repository.commit(winner, small(name), KEPT)
    argo.create(winner, place.api.namespace, winner, syncOptions=sync_options)
    becomes(argo, place, winner, "Healthy")

    before = written(place, name, winner)
    for _ in range(2):
        status = argo.refresh(winner)["status"]
        assert status["sync"]["status"] == "Synced"
        assert {one["kind"] for one in status["resources"]} == {"QuantizationTuning", "ConfigMap"}
    assert written(place, name, winner) == before

    # Self-heal takes back what somebody changes of what Git says.
    place.api.run("patch", "quantizationtuning", name, "--type=merge", "-p", '{"spec":{"budget":{"maxTrials":4}}}')
    place.until(lambda: place.tuning(name)["spec"]["budget"]["maxTrials"] == 5, "the budget of Git again")
    becomes(argo, place, winner, "Healthy")

    # A tuning that leaves Git goes with its trials, and nothing else.
    argo.repository.commit(winner, KEPT)
    argo.refresh(winner)
    place.until(lambda: not place.api.list("quantizationtunings,quantizationtrials,jobs"), "the tuning is gone")
    assert identities(place, winner) == before["winner"]

    # Nor does the application take the winner with it.
    argo.kubectl.run("delete", "application", winner, "--wait=true", limit_s=60)
    assert place.api.run("get", "configmap", "kept", "--ignore-not-found") == ""
    assert identities(place, winner) == before["winner"]


def identities(place: Workplace, winner: str) -> list[Any]:
    found = (place.api.get(kind, winner)["metadata"] for kind in ("deployment", "service"))
    return [(one["uid"], one.get("generation"), one.get("deletionTimestamp")) for one in found]


def written(place: Workplace, tuning: str, winner: str) -> dict[str, Any]:
    """What nobody has a reason to write any more."""
    return {
        "winner": identities(place, winner),
        "tuning": place.tuning(tuning)["metadata"]["generation"],
        "trials": [trial["metadata"]["resourceVersion"] for trial in place.trials(tuning)],
    }
