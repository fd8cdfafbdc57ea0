"""Gives nodes the labels and GPUs of nodes.yaml: `python -m tests.cluster.labelling KUBECONFIG NODE...`.

It goes through the API, as the labelling daemons of real clusters do: a kubelet may not give itself labels under
kubernetes.io. Called as a program it is for clusters that others made, such as kind's: it takes the nodes in the order
of the file and advertises GPUs without a device plugin, so the scheduler counts them and no container sees any.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.building import components
from tests.cluster.kubectl import Kubectl
from tests.cluster.node_specs import NodeSpec, configured_nodes


def label_node(kubectl: Kubectl, name: str, spec: NodeSpec) -> None:
    labels = spec.all_labels(Path("/proc/cpuinfo").read_text())
    if labels:
        kubectl.run("label", "--overwrite", "node", name, *(f"{key}={value}" for key, value in labels.items()))
    if spec.resources:
        advertise(kubectl, name, spec.resources)


def advertise(kubectl: Kubectl, name: str, resources: Mapping[str, str]) -> None:
    patch = {"status": {"capacity": dict(resources)}}
    kubectl.run("patch", "node", name, "--subresource=status", "--type=merge", "-p", json.dumps(patch))


def main(kubeconfig: str, names: list[str]) -> None:
    specs = configured_nodes()
    if len(names) != len(specs):
        raise SystemExit(f"{len(specs)} nodes are described, {len(names)} were given: {' '.join(names)}")
    kubectl = Kubectl(shutil.which("kubectl") or str(components() / "kubectl"), Path(kubeconfig))
    for name, spec in zip(names, specs, strict=True):
        label_node(kubectl, name, spec)
        if spec.gpus:
            advertise(kubectl, name, {"nvidia.com/gpu": str(spec.gpus)})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
