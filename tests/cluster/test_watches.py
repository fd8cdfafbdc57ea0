"""What the operator's watches are sent by the real API server."""

from __future__ import annotations

import asyncio
import json
import logging

import kopf
import pytest
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.tunings import tuning

from haqa_operator.handlers.main import APPROVALS, TUNINGS
from haqa_operator.handlers.watches import Watches


@pytest.fixture
def watches(definitions: None, kubectl: Kubectl, monkeypatch: pytest.MonkeyPatch) -> Watches:
    monkeypatch.setenv("KUBECONFIG", str(kubectl.kubeconfig))
    approval = {
        "spec": {"tuning": "demo", "trial": "demo-full-001", "approvedBy": "somebody"},
        "metadata": {"name": "demo"},
    }
    kubectl.apply(tuning(), {"apiVersion": "haqa.dev/v1alpha1", "kind": "QuantizationApproval", **approval})
    return Watches([TUNINGS[-1], APPROVALS[-1]], whole=[APPROVALS[-1]])


def asked(watches: Watches, path: str, **query: str) -> list[Manifest]:
    """What comes, as kopf asks for it: a document a line."""
    info = kopf.login_via_client(logger=logging.getLogger(__name__), settings=kopf.OperatorSettings())
    assert info is not None

    async def answer() -> str:
        session = watches.session(info).aiohttp_session
        try:
            async with session.get(f"{info.server}/apis/haqa.dev/v1alpha1/{path}", params=query) as response:
                assert response.status == 200
                return str(await response.text())
        finally:
            await session.close()

    return [json.loads(line) for line in asyncio.run(answer()).splitlines()]


def test_of_a_tuning_the_metadata_alone_is_listed_and_watched(kubectl: Kubectl, watches: Watches) -> None:
    path = f"namespaces/{kubectl.namespace}/quantizationtunings"
    (found,) = asked(watches, path)
    (listed,) = found["items"]
    (event,) = asked(watches, path, watch="true", resourceVersion="0", timeoutSeconds="1")
    for one in (listed, event["object"]):
        assert one["metadata"]["name"] == "demo"
        assert "spec" not in one
    assert event["type"] == "ADDED"


def test_an_approval_comes_with_the_tuning_that_it_names(kubectl: Kubectl, watches: Watches) -> None:
    (found,) = asked(watches, f"namespaces/{kubectl.namespace}/quantizationapprovals")
    assert [one["spec"]["tuning"] for one in found["items"]] == ["demo"]
