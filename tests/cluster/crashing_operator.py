"""The operator, crashed after every single write that changes anything, and started again each time.

`python -m tests.cluster.crashing_operator CRASHES`: a line is added to the file CRASHES for each crash. What crashes is
the operator itself; only its ways to the API server and to Git repositories are wrapped. The modules are imported once,
and each life of the operator is a fork of this process, since a start from nothing takes seconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from haqa_operator.api.git_output import GitOutput
from haqa_operator.api.manifests import Manifest
from haqa_operator.cluster.act.dependencies import Dependencies
from haqa_operator.cluster.edges.api_server import Kind
from haqa_operator.cluster.edges.kubernetes_api import KubernetesApi
from haqa_operator.cluster.edges.publications import Publish
from haqa_operator.gitops import GitCredentials, Publication, Published
from haqa_operator.gitops.apart import publish_apart
from haqa_operator.handlers import main as operator

CRASHED = 57
_PR_SET_PDEATHSIG = 1
_WRITES = ("create", "server_side_apply", "delete")

crashes = Path(sys.argv[1])
crashes.touch()


def crash(after: str) -> None:
    with crashes.open("a") as file:
        file.write(f"{after}\n")
    os._exit(CRASHED)


def crashing_publish(
    publication: Publication, output: GitOutput, credentials: GitCredentials, last: Published | None = None
) -> Published:
    """Ends the process when something is new in the repository, before that can be written down; once for each."""
    published = publish_apart(publication, output, credentials, last)
    after = f"publish {published.state.value} {publication.name}"
    if after not in crashes.read_text().splitlines():
        crash(after)
    return published


@dataclass(frozen=True)
class CrashingDependencies(Dependencies):
    publish: Publish = crashing_publish


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
            crash(f"{verb} {kind.kind}{part} {name}")
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
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # whoever kills this process means the operator
        vars(operator)["KubernetesApi"] = CrashingApi
        vars(operator)["Dependencies"] = CrashingDependencies
        os._exit(operator.main())
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


while live() == CRASHED:
    pass
