"""The API server in memory does what the real one does."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from tests.fakes.api_server import InMemoryApiServer
from tests.fakes.api_server_contract import ApiServerContract

from haqa_operator.api.manifests import Manifest


@pytest.fixture
def api() -> InMemoryApiServer:
    return InMemoryApiServer()


@dataclass(frozen=True)
class Another:
    server: InMemoryApiServer
    namespace: str = "team"

    def write(self, manifest: Manifest) -> None:
        self.server.stand_in(manifest)


@pytest.fixture
def somebody(api: InMemoryApiServer) -> Another:
    return Another(api)


class TestInMemoryApiServer(ApiServerContract):
    pass
