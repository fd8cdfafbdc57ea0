"""What the operator's watches are sent by the real API server."""

from __future__ import annotations

import asyncio
import json

import kopf
import pytest
from kubernetes import config
from tests.cluster.kubectl import Kubectl, Manifest
from tests.cluster.tunings import tuning

from haqa_operator.handlers.main import APPROVALS, TUNINGS
from haqa_operator.handlers.watches import Watches


@pytest.fixture
def watches(definitions: None, kubectl: Kubectl) -> Watches:
    approval = {
        "spec": {"tuning": "demo", "trial": "demo-full-001", "approvedBy": "somebody"},
        "metadata": {"name": "demo"},
    }
    kubectl.apply(tuning(), {"apiVersion": "haqa.dev/v1alpha1", "kind": "QuantizationApproval", **approval})
    return Watches([TUNINGS[-1], APPROVALS[-1]], whole=[APPROVALS[-1]])


@pytest.fixture
def info(kubectl: Kubectl) -> kopf.ConnectionInfo:
    given = config.new_client_from_config(str(kubectl.kubeconfig)).configuration
    (token,) = given.api_key.values()
    return kopf.ConnectionInfo(
        server=given.host,
        ca_path=given.ssl_ca_cert,
        token=token.removeprefix("Bearer "),
    )


def asked(watches: Watches, info: kopf.ConnectionInfo, path: str, **query: str) -> list[Manifest]:
    """What comes, as kopf asks for it: a document a line."""

    async def answer() -> str:
        session = watches.session(info).aiohttp_session
        try:
            async with session.get(f"{info.server}/apis/haqa.dev/v1alpha1/{path}", params=query) as response:
                assert response.status == 200
                return str(await response.text())
        finally:
            await session.close()

    return [json.loads(line) for line in asyncio.run(answer()).splitlines()]


def test_of_a_tuning_the_metadata_alone_is_sent(kubectl: Kubectl, watches: Watches, info: kopf.ConnectionInfo) -> None:
    path = f"namespaces/{kubectl.namespace}/quantizationtunings"
    (event,) = asked(watches, info, path, watch="true", resourceVersion="0", timeoutSeconds="1")
    assert event["type"] == "ADDED"
    assert event["object"]["metadata"]["name"] == "demo"
    assert "spec" not in event["object"]


def test_an_approval_comes_with_the_tuning_that_it_names(
    kubectl: Kubectl, watches: Watches, info: kopf.ConnectionInfo
) -> None:
    path = f"namespaces/{kubectl.namespace}/quantizationapprovals"
    (event,) = asked(watches, info, path, watch="true", resourceVersion="0", timeoutSeconds="1")
    assert event["object"]["spec"]["tuning"] == "demo"


@pytest.mark.parametrize("path", ["quantizationtunings", "quantizationapprovals"])
def test_an_empty_list_is_one(kubectl: Kubectl, info: kopf.ConnectionInfo, definitions: None, path: str) -> None:
    (found,) = asked(Watches([path]), info, f"namespaces/{kubectl.namespace}/{path}", limit="100")
    assert found["items"] == []
