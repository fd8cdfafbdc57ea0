"""What the operator has asked of the API server in a whole session of tests, by the API server's own audit log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.kubectl import Kubectl

ACCOUNT = re.compile(r"system:serviceaccount:[a-z0-9-]+:haqa")
"""Every operator's of the tests: the chart names its service account after the release."""
DOCUMENT = Path(__file__).parents[2] / "docs" / "installing.md"

Right = tuple[str, str, str]
"""API group (core for the one without a name), resource with its subresource, verb."""


@dataclass(frozen=True)
class Request:
    right: Right
    allowed: bool
    user: str
    uri: str


def requests(cluster: Kubectl) -> list[Request]:
    """Of operators, as far as they are about objects."""
    log = cluster.kubeconfig.parent / "log" / "audit.json"
    assert log.is_file(), f"{log} is not there: this cluster writes no audit log, use one of `make cluster`"
    return list(_read(log.read_text().splitlines()))


def documented() -> set[Right]:
    """The tables of rights in docs/installing.md."""
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \| ([a-z, ]+) \|", DOCUMENT.read_text(), re.MULTILINE)
    return {(group, resource, verb) for group, resource, verbs in rows for verb in verbs.split(", ")}


def _read(lines: Iterable[str]) -> Iterator[Request]:
    for line in lines:
        event = json.loads(line)
        user, of = event["user"]["username"], event.get("objectRef")
        if of is None or "resource" not in of or not ACCOUNT.fullmatch(user):
            continue
        below = f"/{of['subresource']}" if of.get("subresource") else ""
        right = (of.get("apiGroup") or "core", f"{of['resource']}{below}", event["verb"])
        decision = event.get("annotations", {}).get("authorization.k8s.io/decision", "allow")
        yield Request(right, decision == "allow", user, event["requestURI"])
