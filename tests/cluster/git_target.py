"""Where a tuning's winners go in a repository, with the Secret that opens it."""

from __future__ import annotations

import base64

from tests.cluster.kubectl import Kubectl, Manifest
from tests.fakes.forges import TOKEN, FakeForge
from tests.fakes.git_server import GitServer


def git_target(api: Kubectl, server: GitServer, forge: FakeForge) -> Manifest:
    """`output.git` for pull requests on the forge; the Secret is made."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}}
    api.apply({**secret, "data": {"token": base64.b64encode(TOKEN.encode()).decode()}})
    return {
        "url": f"{server.url}/team/clusters.git",
        "path": "apps/chat",
        "secretRef": {"name": "git"},
        "pullRequest": {"provider": forge.provider.value, "apiBase": forge.api_base},
    }
