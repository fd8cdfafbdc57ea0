"""The operator, crashed after every single write that changes anything, and started again each time.

`python -m tests.cluster.crashing_operator CRASHES`: a line is added to the file CRASHES for each crash. What crashes is
the operator itself; only its way to the API server is wrapped. The modules are imported once, and each life of the
operator is a fork of this process, since a start from nothing takes seconds.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.edges.api_server import Kind
from haqa_operator.cluster.edges.kubernetes_api import KubernetesApi
from haqa_operator.handlers import main as operator

CRASHED = 57
_WRITES = ("create", "server_side_apply", "delete")

crashes = Path(sys.argv[1])


class CrashingApi(KubernetesApi):
    """Ends the process between a write and whatever the operator would have done next."""

    def _call(self, kind: Kind, verb: str, **arguments: Any) -> Manifest:
        if verb not in _WRITES:
            return super()._call(kind, verb, **arguments)
        name = arguments.get("name") or arguments["body"]["metadata"]["name"]
        before = self._version(kind, name, arguments.get("namespace"))
        written = super()._call(kind, verb, **arguments)
        if before != self._version(kind, name, arguments.get("namespace")):
            part = f"/{arguments['subresource']}" if arguments.get("subresource") else ""
            with crashes.open("a") as file:
                file.write(f"{verb} {kind.kind}{part} {name}\n")
            os._exit(CRASHED)
        return written

    def _version(self, kind: Kind, name: str, namespace: str | None) -> str | None:
        found = self.get(kind, name, namespace)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return None
        return str(found["metadata"]["resourceVersion"])


def live() -> int:
    """One life of the operator, in a process of its own."""
    child = os.fork()
    if child == 0:
        vars(operator)["KubernetesApi"] = CrashingApi
        os._exit(operator.main())
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


while live() == CRASHED:
    pass
