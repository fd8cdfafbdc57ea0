"""The one view of nodes that all tunings share, against the real API server."""

from __future__ import annotations

import queue
import secrets
import time
from collections.abc import Iterator, Mapping

import pytest
from tests.cluster.kubectl import Kubectl, Manifest

from haqa_operator.cluster.edges.api_server import ApiRefused
from haqa_operator.cluster.edges.kubernetes_api import KubernetesApi
from haqa_operator.cluster.edges.nodes import WatchedNodes

SOON_S = 2.0
QUIET_S = 3.0


@pytest.fixture
def watched(cluster: Kubectl) -> Iterator[WatchedNodes]:
    view = KubernetesApi.connect(str(cluster.kubeconfig)).nodes()
    view.start()
    yield view
    view.stop()


@pytest.fixture
def told(watched: WatchedNodes) -> queue.Queue[Mapping[str, str]]:
    """Labels of nodes that have changed, from now on."""
    watched.matching({"haqa.dev/pool": "full"})
    changes: queue.Queue[Mapping[str, str]] = queue.Queue()
    watched.listen(changes.put)
    return changes


@pytest.fixture
def fake_node(cluster: Kubectl) -> Iterator[Manifest]:
    """A node that no kubelet speaks for."""
    name = f"fake-{secrets.token_hex(4)}"
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"haqa.dev/fake": name}},
        "spec": {"taints": [{"key": "haqa.dev/fake", "effect": "NoSchedule"}]},
    }
    cluster.apply(node)
    yield node
    cluster.run("delete", "node", name, "--ignore-not-found")


def test_it_is_what_the_api_server_lists_as_far_as_it_is_looked_at(cluster: Kubectl, watched: WatchedNodes) -> None:
    (seen,) = watched.matching({"haqa.dev/pool": "full"})
    real = cluster.get("node", "full")
    assert seen["metadata"]["labels"] == real["metadata"]["labels"]
    assert seen["status"]["allocatable"] == real["status"]["allocatable"]
    assert {one["type"]: one["status"] for one in seen["status"]["conditions"]} == {
        one["type"]: one["status"] for one in real["status"]["conditions"]
    }
    assert "images" not in seen["status"]


def test_no_node_at_all_is_asked_of_the_api_server_which_knows_what_is_no_selector(watched: WatchedNodes) -> None:
    assert watched.matching({"haqa.dev/pool": "none"}) == []
    with pytest.raises(ApiRefused):
        watched.matching({"haqa.dev/pool": "no label value"})


def test_who_waits_is_told_at_once_of_what_comes_changes_and_goes(
    cluster: Kubectl, watched: WatchedNodes, told: queue.Queue[Mapping[str, str]], fake_node: Manifest
) -> None:
    name = fake_node["metadata"]["name"]

    def heard(value: str) -> Mapping[str, str]:
        """What is told of the node with this label; others' heartbeats are no news."""
        deadline = time.monotonic() + SOON_S
        while True:
            labels = told.get(timeout=max(0.01, deadline - time.monotonic()))
            if labels.get("haqa.dev/fake") == value:
                return labels

    heard(name)
    cluster.run("label", "node", name, "haqa.dev/fake=another", "--overwrite")
    before, after = heard(name), heard("another")
    assert before != after, "whoever waits for the old labels is told too"
    assert [one["metadata"]["name"] for one in watched.matching({"haqa.dev/fake": "another"})] == [name]
    cluster.run("delete", "node", name)
    heard("another")
    assert watched.matching({"haqa.dev/fake": "another"}) == []


def test_what_does_not_bear_on_a_tuning_wakes_nobody(
    cluster: Kubectl, told: queue.Queue[Mapping[str, str]], fake_node: Manifest
) -> None:
    name = fake_node["metadata"]["name"]
    time.sleep(QUIET_S)
    while not told.empty():
        told.get()
    cluster.run("annotate", "node", name, "note=changed")
    time.sleep(QUIET_S)
    found = [labels for labels in iter(lambda: None if told.empty() else told.get(), None)]
    assert [labels for labels in found if labels.get("haqa.dev/fake") == name] == []
