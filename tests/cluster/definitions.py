"""The custom resource definitions, in a cluster."""

from __future__ import annotations

from pathlib import Path

import yaml
from tests.cluster.kubectl import Kubectl, has_condition

_CRDS = Path(__file__).parents[2] / "crds"


def define(cluster: Kubectl) -> None:
    """Returns when the API server knows them."""
    for file in sorted(_CRDS.glob("*.yaml")):
        manifest = yaml.safe_load(file.read_text())
        cluster.apply(manifest)
        name = manifest["metadata"]["name"]
        cluster.wait_for("customresourcedefinition", name, has_condition("Established"), "established", 60)
