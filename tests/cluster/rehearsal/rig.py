"""A cluster whose nodes pretend to have GPUs, an operator whose pods rehearse on them, and a model of 70 billion
parameters without a number in it."""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster.building import PYTHON_IMAGE, python_image
from tests.cluster.definitions import define
from tests.cluster.kubectl import Kubectl
from tests.cluster.local_cluster import LocalCluster
from tests.cluster.node_specs import NodeSpec, read_nodes
from tests.cluster.operator_process import ROOT
from tests.cluster.rehearsal.checkpoints import Tensor, write
from tests.model_headers import headers

from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.serving.images import engine_image

NODES = Path(__file__).with_name("nodes.yaml")
MODEL = "llama-70b"
CONFIG = ROOT / "tests" / "data" / "model_configs" / "meta-llama--Meta-Llama-3.1-70B.config.json"
"""The same shapes as Llama 3.3."""
_DRIVER = Path("/var/lib/kubelet/device")
"""Each node has a /var/lib/kubelet of its own, so that pods find there what their node is."""
_PRODUCTS = ("nvidia.com/gpu.product", "amd.com/gpu.product-name")
_STARTUP_S = 30


@contextmanager
def gpu_cluster() -> Iterator[Kubectl]:
    """kubectl with all rights on a cluster that is stopped afterwards.

    Raises:
        CannotBuild, CannotStart: not on this machine; with the remedy.
    """
    cluster, nodes = LocalCluster.beside_others(), read_nodes(NODES)
    try:
        kubectl = cluster.start(nodes)
        for node in nodes:
            _install_driver(cluster.folder / node.name / "root" / _DRIVER.name, node)
        cluster.load_image(python_image())
        for image in engine_images().values():
            cluster.tag_image(PYTHON_IMAGE, f"docker.io/{image}")
        define(kubectl)
        yield kubectl
    finally:
        cluster.stop()


def engine_images() -> dict[str, str]:
    """The official image by vendor, which the pods ask for and in whose place the nodes have the rehearsal's."""
    return {vendor.value: engine_image(Accelerator(vendor, "any")) for vendor in (Vendor.NVIDIA, Vendor.AMD)}


def _install_driver(folder: Path, node: NodeSpec) -> None:
    product = next(node.labels[label] for label in _PRODUCTS if label in node.labels)
    folder.mkdir(parents=True)
    devices = node.gpus or int(node.resources["amd.com/gpu"])
    (folder / "driver.json").write_text(json.dumps({"product": product, "devices": devices}))


def settings() -> dict[str, str]:
    """Variables of the operator."""
    folders = {"tests": ROOT / "tests", "source": ROOT / "runner", "packages": Path(sysconfig.get_path("purelib"))}
    volumes = [
        {"name": name, "mountPath": f"/{name}", "source": {"hostPath": {"path": str(path), "type": "Directory"}}}
        for name, path in {**folders, "device": _DRIVER}.items()
    ]
    rehearsing = ["python3", "-m", "tests.cluster.rehearsal"]
    return {
        "HAQA_ENGINE_IMAGE": "",
        "HAQA_ENGINE_COMMAND": json.dumps(["env", "PYTHONPATH=/", *rehearsing[:2], f"{rehearsing[2]}.engine"]),
        "HAQA_RUNNER_COMMAND": json.dumps([*rehearsing[:2], f"{rehearsing[2]}.runner"]),
        "HAQA_RUNNER_ENV": json.dumps({"PYTHONPATH": "/:/source:/packages"}),
        "HAQA_EXTRA_VOLUMES": json.dumps(volumes),
        "HAQA_STARTUP_SECONDS": str(_STARTUP_S),
    }


def write_model(folder: Path) -> None:
    """141 GB of holes with the headers of Llama 3.3 70B."""
    config: Mapping[str, Any] = json.loads(CONFIG.read_text())
    write(folder, config, [Tensor(one.name, one.dtype, one.shape) for one in headers(config)])
