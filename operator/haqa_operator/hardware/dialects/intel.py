"""Intel's nodes: Gaudi by Gaudi Feature Discovery, GPUs by the rules of Intel's device plugins for NFD.

Sources: collector/collector.go of HabanaAI/gaudi-feature-discovery; deployments/nfd and cmd/gpu_plugin of
intel/intel-device-plugins-for-kubernetes, whose plugin announces GPUs of the older driver as `i915` and of the newer as
`xe`; PCI ids by Intel's product pages.
"""

from __future__ import annotations

import re

from haqa_operator.hardware.accelerators import Accelerator, HardwareError, Vendor
from haqa_operator.hardware.dialects.found import Wanted, offered
from haqa_operator.hardware.nodes import Node

GAUDI, XE, I915 = "habana.ai/gaudi", "gpu.intel.com/xe", "gpu.intel.com/i915"

_GAUDI_IDS = {
    "Gaudi": {"1000", "1001", "1010", "1011"},
    "Gaudi2": {"1020", "1021"},
    "Gaudi3": {"1030", "1060", "1061", "1062", "1063"},
}
_GPU_IDS = {
    "0bd5": "Max_1550",
    "0bda": "Max_1100",
    "e20b": "Arc_B580",
    "e211": "Arc_Pro_B60",
    "e212": "Arc_Pro_B50",
    "e222": "Arc_Pro_B65",
    "e223": "Arc_Pro_B70",
}
_GPU_ID = re.compile(r"gpu\.intel\.com/device-id\.03[08]0-([0-9a-f]{4})\.present")
_GAUDI_PCI = re.compile(r"feature\.node\.kubernetes\.io/pci-(?:1200_)?1da3(?:_\w+)*\.present")


def resources(node: Node) -> dict[str, int]:
    """What the node announces of Intel's, each with how many."""
    return {name: node.offers(name) or 0 for name in (GAUDI, XE, I915) if name in node.allocatable}


def is_labelled(node: Node) -> bool:
    """Whether labels say that it has Gaudi, or a GPU that one would serve on; a desktop's built-in one is none."""
    return _has_gaudi(node) or "gpu.intel.com/product" in node.labels or bool(_gpus(node))


def resource(node: Node, wanted: Wanted) -> str:
    """What a pod requests. Raises HardwareError: several kinds are there, and nobody says which."""
    return offered(node, wanted, resources(node), GAUDI if _has_gaudi(node) else XE)


def read(node: Node, wanted: Wanted, requested: str | None) -> Accelerator:
    """One device of that resource; raises HardwareError where labels do not say what it is."""
    gaudi = requested == GAUDI or (requested is None and _has_gaudi(node))
    named = wanted.product or (_gaudi(node) if gaudi else _gpu(node))
    if named is None:
        what = "which Gaudi it has" if gaudi else "which Intel GPU it has"
        example = "Gaudi3" if gaudi else "Max_1550"
        raise HardwareError(
            f"node {node.name}: no label says {what}; set nodePools[].hardware.product (for example {example})"
        )
    return Accelerator(Vendor.INTEL, product=named, resource=requested)


def _has_gaudi(node: Node) -> bool:
    if any(name.startswith("habana.ai/") for name in node.labels):
        return True
    return any(_GAUDI_PCI.fullmatch(name) and value == "true" for name, value in node.labels.items())


def _gaudi(node: Node) -> str | None:
    said = {name: value for name, value in node.labels.items() if name.startswith("habana.ai/")}
    generation = re.search(r"gaudi[\s_-]?([0-9])", " ".join(f"{n}={v}" for n, v in said.items()), re.IGNORECASE)
    if generation is not None:
        return f"Gaudi{generation[1]}"
    device = said.get("habana.ai/device.id", "").lower()
    return next((name for name, ids in _GAUDI_IDS.items() if device in ids), None)


def _gpus(node: Node) -> set[str]:
    ids = {match[1] for name, value in node.labels.items() if value == "true" and (match := _GPU_ID.fullmatch(name))}
    return {_GPU_IDS[one] for one in ids if one in _GPU_IDS}


def _gpu(node: Node) -> str | None:
    named = node.labels.get("gpu.intel.com/product")
    found = _gpus(node)
    if named is None and len(found) > 1:
        raise HardwareError(
            f"node {node.name}: GPUs of several kinds ({', '.join(sorted(found))}); a replica could get any of "
            "them, so use nodes with one kind"
        )
    return named or next(iter(found), None)
