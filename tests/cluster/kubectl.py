"""kubectl as tests call it: one kubeconfig and namespace, a limit on every call, objects in and out as dicts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.cluster.waiting import wait_until

_CALL_LIMIT_S = 30.0

Manifest = dict[str, Any]


class Refused(Exception):
    """kubectl ended with an error; the text is what it wrote."""


@dataclass(frozen=True)
class Kubectl:
    program: str
    kubeconfig: Path
    namespace: str = "default"

    def within(self, namespace: str) -> Kubectl:
        return replace(self, namespace=namespace)

    def run(self, *arguments: str, stdin: str | None = None, limit_s: float = _CALL_LIMIT_S) -> str:
        command = [self.program, "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=limit_s, check=False)
        if done.returncode:
            raise Refused(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def apply(self, *manifests: Manifest, dry_run: bool = False) -> None:
        mode = ("--dry-run=server",) if dry_run else ()
        listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.run("apply", *mode, "-f", "-", stdin=json.dumps(listed))

    def get(self, kind: str, name: str) -> Manifest:
        found: Manifest = json.loads(self.run("get", kind, name, "-o", "json"))
        return found

    def list(self, kind: str, selector: str = "") -> list[Manifest]:
        found = json.loads(self.run("get", kind, "--selector", selector, "-o", "json"))
        items: list[Manifest] = found["items"]
        return items

    def wait_for(
        self, kind: str, name: str, condition: Callable[[Manifest], bool], what: str, limit_s: float
    ) -> Manifest:
        """The object once `condition` holds; where it does not in time, the error has kubectl's description of it."""

        def probe() -> Manifest | None:
            found = self.get(kind, name)
            return found if condition(found) else None

        return wait_until(probe, limit_s, f"{kind}/{name} {what}", lambda: self.run("describe", kind, name))


def has_condition(name: str) -> Callable[[Manifest], bool]:
    """Whether the object's status has the condition, and it is True."""
    return lambda found: any(
        condition["type"] == name and condition["status"] == "True"
        for condition in found.get("status", {}).get("conditions") or ()
    )
