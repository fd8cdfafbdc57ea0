"""helm as tests call it: this project's chart, values as dicts, nothing written outside a folder of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.cluster.kubectl import Manifest

CHART = Path(__file__).parents[2] / "charts" / "haqa"
_CALL_LIMIT_S = 300.0

Values = dict[str, Any]


class HelmRefused(Exception):
    """helm ended with an error; the text is what it wrote."""


@dataclass(frozen=True)
class Helm:
    program: Path
    folder: Path
    """For its caches and settings."""
    kubeconfig: Path | None = None

    def run(self, *arguments: str, values: Values | None = None) -> str:
        command = [str(self.program), *arguments]
        if values is not None:
            command += ["--values", "-"]
        homes = {f"HELM_{kind}_HOME": str(self.folder / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
        kubeconfig = {"KUBECONFIG": str(self.kubeconfig)} if self.kubeconfig else {}
        done = subprocess.run(
            command,
            input=json.dumps(values or {}),
            env={**os.environ, **homes, **kubeconfig},
            capture_output=True,
            text=True,
            timeout=_CALL_LIMIT_S,
            check=False,
        )
        if done.returncode:
            raise HelmRefused(f"helm {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def rendered(self, values: Values | None = None, *more: str, namespace: str = "haqa-system") -> list[Manifest]:
        """The manifests of a release named haqa, without the definitions and what `helm test` runs."""
        text = self.run("template", "haqa", str(CHART), "--namespace", namespace, *more, values=values)
        found = [manifest for manifest in yaml.safe_load_all(text) if manifest]
        return [
            manifest for manifest in found if manifest["kind"] != "CustomResourceDefinition" and not _is_test(manifest)
        ]

    def definitions(self, values: Values | None = None) -> list[Manifest]:
        text = self.run("template", "haqa", str(CHART), "--namespace", "haqa-system", values=values)
        found = [manifest for manifest in yaml.safe_load_all(text) if manifest]
        return [manifest for manifest in found if manifest["kind"] == "CustomResourceDefinition"]


def _is_test(manifest: Manifest) -> bool:
    return (manifest["metadata"].get("annotations") or {}).get("helm.sh/hook") == "test"
