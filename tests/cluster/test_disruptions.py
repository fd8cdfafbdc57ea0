"""Nodes that are drained or lost while a trial runs on them: it counts once, and nobody is blamed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.kubectl import Kubectl, Manifest, has_condition
from tests.cluster.machinery import Machinery
from tests.cluster.tunings import tuning
from tests.cluster.workplace import Workplace, workplace

pytestmark = pytest.mark.timeout(600)

EITHER = "haqa.dev/either"
MANIFEST = {"mode": "Manifest"}
ONE_TRIAL = {"maxTrials": 1, "trialTimeout": "5m"}


@pytest.fixture(scope="module")
def place(
    cluster: Kubectl, definitions: None, python_image: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workplace]:
    with workplace(cluster, tmp_path_factory.mktemp("disruptions")) as found:
        yield found


@pytest.fixture(autouse=True)
def tidy(place: Workplace, cluster: Kubectl) -> Iterator[None]:
    yield
    cluster.run("uncordon", "full", "avx2")
    cluster.run("label", "node", "full", "avx2", f"{EITHER}-")
    place.tidied()


def ready(cluster: Kubectl, node: str) -> bool:
    return has_condition("Ready")(cluster.get("node", node))


def on_either_node(cluster: Kubectl) -> Manifest:
    """A pool of two nodes, whose pods leave a node that does not answer after a second."""
    cluster.run("label", "node", "full", "avx2", f"{EITHER}=yes")
    manifest = tuning(pools=("either",), budget=ONE_TRIAL, output=MANIFEST)
    leaving = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
    manifest["spec"]["nodePools"] = [
        {
            "name": "either",
            "nodeSelector": {EITHER: "yes"},
            "hardware": {"isa": "avx2"},
            "tolerations": [{"key": f"node.kubernetes.io/{what}", **leaving} for what in ("unreachable", "not-ready")],
        }
    ]
    return manifest


def test_a_trial_whose_node_is_drained_is_measured_again_and_counts_once(place: Workplace, cluster: Kubectl) -> None:
    place.behaviour.told(hold=["measure"])
    place.api.apply(tuning(pools=("full",), budget=ONE_TRIAL, output=MANIFEST))
    place.at_step("Evaluating", 0)
    (first,) = place.pods()
    cluster.run("drain", "full", "--ignore-daemonsets", "--delete-emptydir-data", "--force", limit_s=90)
    place.until(lambda: "unschedulable" in place.described(), "the tuning to say that the node takes no pods")
    cluster.run("uncordon", "full")

    def moved() -> bool:
        return any(pod["metadata"]["uid"] != first["metadata"]["uid"] for pod in place.pods())

    place.until(moved, "another pod")
    place.behaviour.told()
    found = place.in_phase("Succeeded")
    baseline = place.trials()[0]
    assert baseline["status"]["phase"] == "Succeeded"
    assert baseline["status"]["attempts"] == 1
    assert place.measured() == {trial["metadata"]["name"]: 1 for trial in place.trials()}
    assert found["status"]["budgetUsed"]["failedTrials"] == 0
    assert len(place.jobs()) == 2


@pytest.mark.slow
def test_a_trial_goes_on_when_its_node_comes_back(place: Workplace, cluster: Kubectl) -> None:
    machinery = Machinery.of(cluster.kubeconfig)
    place.behaviour.told(hold=["measure"])
    place.api.apply(tuning(pools=("full",), budget=ONE_TRIAL, output=MANIFEST))
    name = place.at_step("Evaluating", 0)["metadata"]["name"]
    with machinery.frozen("full"):
        place.until(lambda: not ready(cluster, "full"), "the node to be missed")
        # What was begun goes on there, though nobody is told.
        place.behaviour.told()
        place.until(lambda: place.measured()[name] == 1, "the measurement on the node that does not answer")
        place.until(lambda: "node full is not ready" in place.described(), "the tuning to say so")
    place.until(lambda: ready(cluster, "full"), "the node to be back")
    place.in_phase("Succeeded")
    assert place.trials()[0]["status"]["attempts"] == 1
    assert place.measured() == {trial["metadata"]["name"]: 1 for trial in place.trials()}


@pytest.mark.slow
def test_a_trial_of_a_lost_node_is_measured_on_another(place: Workplace, cluster: Kubectl) -> None:
    machinery = Machinery.of(cluster.kubeconfig)
    place.behaviour.told(hold=["measure"])
    place.api.apply(on_either_node(cluster))
    name = place.at_step("Evaluating", 0)["metadata"]["name"]
    (pod,) = place.pods()
    lost = pod["spec"]["nodeName"]
    with machinery.frozen(lost):
        place.until(lambda: not ready(cluster, lost), "the node to be missed")

        def elsewhere() -> bool:
            return any(found["spec"].get("nodeName") not in (None, lost) for found in place.pods())

        place.until(elsewhere, "a pod on the other node")
        assert place.trials()[0]["status"]["attempts"] == 2
        (job,) = place.jobs()
        assert job["metadata"]["labels"]["haqa.dev/attempt"] == "2"
        place.at_step("Evaluating", 0)
    place.until(lambda: ready(cluster, lost), "the lost node to be back")
    place.until(lambda: pod["metadata"]["name"] not in [p["metadata"]["name"] for p in place.pods()], "its pod to go")
    place.behaviour.told()
    place.in_phase("Succeeded")
    baseline = place.trials()[0]["status"]
    assert (baseline["phase"], baseline["attempts"]) == ("Succeeded", 2)
    assert f"the node {lost} is lost" in baseline["warnings"][0]
    assert place.measured()[name] == 1
