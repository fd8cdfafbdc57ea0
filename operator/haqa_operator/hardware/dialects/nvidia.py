"""NVIDIA's nodes: GPU Feature Discovery, MIG in both strategies, time-slicing, MPS and vGPU; GKE's words for the same.

Sources: docs/gpu-feature-discovery/README.md and internal/lm of NVIDIA/k8s-device-plugin; GKE's documentation of GPU
sharing and of multi-instance GPUs; NVIDIA's GPU operator for `nvidia.com/gpu.present`.
"""

from __future__ import annotations

import re

from haqa_operator.hardware.accelerators import Accelerator, HardwareError, Vendor
from haqa_operator.hardware.catalogue import find
from haqa_operator.hardware.dialects import clouds
from haqa_operator.hardware.dialects.found import Wanted, offered
from haqa_operator.hardware.nodes import Node
from haqa_operator.hardware.parts import MigProfile, mig_profile

USUAL = "nvidia.com/gpu"
SHARED = ".shared"
"""Behind the resource's name where the device plugin was told to rename what it shares."""

_RESOURCE = re.compile(r"nvidia\.com/(gpu|mig-[\w.+-]+?)(\.shared)?")
_MIG_COUNT = re.compile(r"(nvidia\.com/mig-[\w.+-]+)\.count")
_PRESENCE = ("nvidia.com/gpu.present", "nvidia.com/gpu.product", "nvidia.com/gpu.count", "nvidia.com/gpu.family")
_PCI = re.compile(r"feature\.node\.kubernetes\.io/pci-(?:03\d\d_)?10de(?:_\w+)*\.present")
_NO = ("", "0", "false", "none")


def resources(node: Node) -> dict[str, int]:
    """What the node announces of NVIDIA's, each with how many."""
    return {name: node.offers(name) or 0 for name in node.allocatable if _RESOURCE.fullmatch(name)}


def is_labelled(node: Node) -> bool:
    """Whether labels say that it has NVIDIA's GPUs, ready or not."""
    said = any(node.labels.get(label, "").lower() not in _NO for label in _PRESENCE)
    return said or any(_PCI.fullmatch(name) and value == "true" for name, value in node.labels.items())


def resource(node: Node, wanted: Wanted) -> str:
    """What a pod requests. Raises HardwareError: several sizes are there, and nobody says which."""
    announced = resources(node)
    labelled = {match[1]: node.number((name,)) for name in node.labels if (match := _MIG_COUNT.fullmatch(name))}
    # A plugin that has not seen the new layout yet announces what is not there any more.
    slices = {name: int(count) for name, count in labelled.items() if count and f"{name}{SHARED}" not in announced}
    return offered(node, wanted, slices | announced, USUAL)


def read(node: Node, wanted: Wanted, requested: str | None) -> Accelerator:
    """One device of that resource; raises HardwareError where labels do not say what it is.

    Args:
        requested: None where the devices come by a claim.
    """
    base = (requested or USUAL).removesuffix(SHARED)
    if base != USUAL and not base.startswith("nvidia.com/mig-"):
        # A resource of somebody's own: the labels that there are speak of the node's GPUs.
        base = USUAL
    product = _product(node, wanted, base)
    sharing, sharers = _sharing(node, base, requested or "")
    believed = not wanted.contradicts(node.first((f"{base}.product", "nvidia.com/gpu.product")))
    memory_gib = _memory_gib(node, product, base) if believed else None
    if sharing == "mps" and sharers > 1:
        # MPS limits each client to its share; under time-slicing everybody may take all of it.
        whole_gib = memory_gib or getattr(find(product), "memory_gib", None)
        memory_gib = whole_gib / sharers if whole_gib else None
    return Accelerator(
        Vendor.NVIDIA,
        product=product,
        memory_gib=memory_gib,
        compute_capability=_capability(node) if believed else None,
        resource=requested,
        sharing=sharing,
    )


def check_count(node: Node, accelerator: Accelerator) -> None:
    """A replica of several accelerators needs whole ones.

    Raises:
        HardwareError: it would get parts, or turns, of devices.
    """
    profile = mig_profile(accelerator.product)
    # A virtual machine's vGPUs are of different GPUs.
    if accelerator.count == 1 or not (profile or accelerator.sharing not in (None, "vgpu")):
        return
    what = f"MIG slices ({profile.name})" if profile else f"shared GPUs ({accelerator.sharing})"
    why = "which do not talk to each other" if profile else "and a replica may get several turns on the same one"
    raise HardwareError(
        f"gpusPerReplica {accelerator.count}: node {node.name} has {what}, {why}; set gpusPerReplica 1, or select "
        "nodes with whole GPUs"
    )


def _product(node: Node, wanted: Wanted, base: str) -> str:
    named = wanted.product or node.first((f"{base}.product", "nvidia.com/gpu.product")) or clouds.product(node)
    if named is None:
        raise HardwareError(
            f"node {node.name}: no label nvidia.com/gpu.product; install GPU Feature Discovery, or set "
            "nodePools[].hardware.product (for example NVIDIA-L40S)"
        )
    if named.endswith("MIG-INVALID"):
        raise HardwareError(
            f"node {node.name}: nvidia.com/gpu.product {named}: GPU Feature Discovery found a MIG layout that "
            "strategy single cannot show (slices of several sizes, or GPUs without slices); make them equal"
        )
    named = named.removesuffix("-SHARED")
    by_gke = node.labels.get(f"{clouds.GKE}gke-gpu-partition-size")
    size = by_gke if base == USUAL else base.removeprefix("nvidia.com/mig-")
    if not size or mig_profile(named):
        return named
    if MigProfile.parse(size) is None:
        raise HardwareError(
            f"node {node.name}: {size} is no MIG profile such as 1g.10gb; set nodePools[].hardware.product (for "
            "example NVIDIA-A100-SXM4-40GB-MIG-1g.5gb) and memoryGib"
        )
    return f"{named}-MIG-{size}"


def _memory_gib(node: Node, product: str, base: str) -> float | None:
    """Of the device, or of the part; a label that speaks of whole GPUs says nothing of a part."""
    labelled = node.number((f"{base}.memory",), 1 / 1024)
    profile = mig_profile(product)
    if profile is None:
        return labelled or clouds.memory_gib(node)
    return labelled if labelled is not None and labelled <= 1.1 * profile.memory_gb else None


def _sharing(node: Node, base: str, requested: str) -> tuple[str | None, int]:
    """How a device is shared, and by how many at most (1 where that is not known)."""
    replicas = int(node.number((f"{base}.replicas", f"{clouds.GKE}gke-max-shared-clients-per-gpu")) or 1)
    strategy = node.first((f"{base}.sharing-strategy", f"{clouds.GKE}gke-gpu-sharing-strategy")) or "none"
    product = node.first((f"{base}.product", "nvidia.com/gpu.product")) or ""
    if node.labels.get("nvidia.com/vgpu.present") == "true":
        return "vgpu", 1
    profile = mig_profile(product) or MigProfile.parse(base.removeprefix("nvidia.com/mig-"))
    if profile is not None and profile.shares_memory:
        return "compute instances of one MIG slice", 1
    if requested and node.offers(f"{requested}{SHARED}"):
        return None, 1  # Some of the node's GPUs are shared, under another name than these.
    if replicas > 1 or requested.endswith(SHARED) or product.endswith("-SHARED"):
        return ("mps" if strategy == "mps" else "time-slicing"), replicas
    return None, 1


def _capability(node: Node) -> tuple[int, int] | None:
    major, minor = (node.labels.get(f"nvidia.com/gpu.compute.{part}", "") for part in ("major", "minor"))
    if re.fullmatch(r"[0-9]{1,2}", major) and re.fullmatch(r"[0-9]{1,2}", minor):
        return int(major), int(minor)
    return None
