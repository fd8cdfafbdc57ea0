"""One operator acts at a time, by a Lease of the real API server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.cluster.kubectl import Kubectl
from tests.cluster.waiting import wait_until
from urllib3.exceptions import HTTPError

from haqa_operator.cluster.edges.kubernetes_api import KubernetesApi
from haqa_operator.handlers.lease import Lease, LeaseTimes

TIMES = LeaseTimes(duration_s=5, renew_deadline_s=4, retry_s=1)
NAME = "haqa"

Operator = Callable[[str], "Candidate"]


class Candidate:
    """Somebody who wants to act, and whether they do."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.acts = threading.Event()
        self.lost = threading.Event()
        lease.lost = self.lost.set
        threading.Thread(target=self._acquire, daemon=True).start()

    def _acquire(self) -> None:
        asyncio.run(self.lease.acquire())
        self.acts.set()


@pytest.fixture
def operator(kubectl: Kubectl) -> Iterator[Operator]:
    made: list[Candidate] = []

    def candidate(name: str) -> Candidate:
        api = KubernetesApi.connect(str(kubectl.kubeconfig)).leases()
        made.append(Candidate(Lease(api, NAME, kubectl.namespace, name, TIMES)))
        return made[-1]

    yield candidate
    for one in made:
        one.lease.give_back()


def holder(kubectl: Kubectl) -> str:
    return str(kubectl.get("lease", NAME)["spec"].get("holderIdentity", ""))


def test_the_second_waits_until_the_first_gives_it_back(kubectl: Kubectl, operator: Operator) -> None:
    first = operator("first")
    assert first.acts.wait(10)
    second = operator("second")
    assert not second.acts.wait(2 * TIMES.duration_s), "it is renewed"
    assert holder(kubectl) == "first"
    first.lease.give_back()
    began = time.monotonic()
    assert second.acts.wait(10)
    assert time.monotonic() - began < TIMES.duration_s, "nobody waits for what was given back"
    assert holder(kubectl) == "second"
    assert not first.lost.is_set()


def nobody_answers(*_: object, **__: object) -> None:
    raise HTTPError("nobody answers")


def test_one_that_is_cut_off_is_succeeded_and_never_acts_beside_the_next(
    kubectl: Kubectl, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = operator("first")
    assert first.acts.wait(10)
    # Its calls fail from now on, as if the network were gone.
    monkeypatch.setattr(first.lease.api, "read_namespaced_lease", nobody_answers)
    monkeypatch.setattr(first.lease.api, "replace_namespaced_lease", nobody_answers)
    second = operator("second")
    assert second.acts.wait(4 * TIMES.duration_s)
    assert first.lost.is_set(), "it has given up before"
    assert holder(kubectl) == "second"
    monkeypatch.undo()


def test_somebody_who_takes_it_by_hand_ends_the_one_who_has_it(kubectl: Kubectl, operator: Operator) -> None:
    first = operator("first")
    assert first.acts.wait(10)
    patch = '{"spec":{"holderIdentity":"somebody","leaseDurationSeconds":60}}'
    # It renews meanwhile, and may overwrite this once.
    wait_until(
        lambda: kubectl.run("patch", "lease", NAME, "--type=merge", "-p", patch) and first.lost.is_set(),
        30,
        "the first gives up",
    )
