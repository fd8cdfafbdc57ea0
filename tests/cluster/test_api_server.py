"""The real API server, by the operator's own client, does what the operator's unit tests rely on."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from tests.cluster.kubectl import Kubectl
from tests.fakes.api_server_contract import ApiServerContract

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.api_server import ApiRefused
from haqa_operator.cluster.edges.kubernetes_api import KubernetesApi


@pytest.fixture
def api(definitions: None, kubectl: Kubectl) -> KubernetesApi:
    return KubernetesApi.connect(str(kubectl.kubeconfig))


@dataclass(frozen=True)
class Another:
    """Somebody with kubectl."""

    kubectl: Kubectl

    @property
    def namespace(self) -> str:
        return self.kubectl.namespace

    def write(self, manifest: Manifest) -> None:
        self.kubectl.run("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(manifest))


@pytest.fixture
def somebody(kubectl: Kubectl) -> Another:
    return Another(kubectl)


class TestKubernetesApi(ApiServerContract):
    pass


def test_an_immutable_field_is_refused_with_the_servers_own_sentence(api: KubernetesApi, kubectl: Kubectl) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "fixed", "namespace": kubectl.namespace}}
    api.apply({**secret, "immutable": True, "stringData": {"a": "1"}})
    with pytest.raises(ApiRefused, match="immutable") as refused:
        api.apply({**secret, "immutable": True, "stringData": {"a": "2"}})
    assert refused.value.status == 422
