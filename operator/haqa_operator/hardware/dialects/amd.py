"""AMD's nodes: the node labeller, in its present and its older names, and compute partitions in both naming strategies.

Sources: cmd/k8s-node-labeller and docs/user-guide/configuration.md of ROCm/k8s-device-plugin. A property whose value is
the same for all GPUs of a node is `amd.com/gpu.PROPERTY: VALUE`; where they differ, and in older releases always, it is
`amd.com/gpu.PROPERTY.VALUE: COUNT`, with `beta.` before it in older releases.
"""

from __future__ import annotations

import re

from haqa_operator.hardware.accelerators import Accelerator, HardwareError, Vendor
from haqa_operator.hardware.catalogue import find, part_memory_gib
from haqa_operator.hardware.dialects import clouds
from haqa_operator.hardware.dialects.found import Wanted, offered
from haqa_operator.hardware.nodes import Node
from haqa_operator.hardware.parts import compute_partition, partition_of, partitions

USUAL = "amd.com/gpu"

_PREFIXES = ("amd.com/gpu.", "beta.amd.com/gpu.")
_PARTITION_LABELS = ("amd.com/gpu.compute-memory-partition", "amd.com/compute-memory-partition")
_PRESENCE = ("feature.node.kubernetes.io/amd-gpu", "feature.node.kubernetes.io/amd-vgpu")
_PCI = re.compile(r"feature\.node\.kubernetes\.io/pci-(?:1200|0380)_1002(?:_\w+)*\.present")

_DEVICES = {
    "7408": "AMD_Instinct_MI250X",
    "740c": "AMD_Instinct_MI250X",
    "740f": "AMD_Instinct_MI210",
    "7448": "AMD_Radeon_PRO_W7900",
    "744a": "AMD_Radeon_PRO_W7900",
    "744c": "AMD_Radeon_RX_7900_XTX",
    "74a0": "AMD_Instinct_MI300A",
    "74a1": "AMD_Instinct_MI300X",
    "74a2": "AMD_Instinct_MI308X",
    "74a5": "AMD_Instinct_MI325X",
    "74a8": "AMD_Instinct_MI308X_HF",
    "74a9": "AMD_Instinct_MI300X_HF",
    "74b5": "AMD_Instinct_MI300X_VF",
    "74b6": "AMD_Instinct_MI308X",
    "74b9": "AMD_Instinct_MI325X_VF",
    "7550": "AMD_Radeon_RX_9070_XT",
    "7551": "AMD_Radeon_AI_PRO_R9700",
    "75a0": "AMD_Instinct_MI350X",
    "75a3": "AMD_Instinct_MI355X",
    "75b0": "AMD_Instinct_MI350X_VF",
    "75b3": "AMD_Instinct_MI355X_VF",
}
"""PCI ids that the labeller writes even where the driver has no product's name (libdrm's amdgpu.ids)."""


def resources(node: Node) -> dict[str, int]:
    """What the node announces of AMD's, each with how many."""
    names = (name for name in node.allocatable if name == USUAL or _partition_resource(name))
    return {name: node.offers(name) or 0 for name in names}


def is_labelled(node: Node) -> bool:
    """Whether labels say that it has AMD's GPUs, ready or not."""
    by_labeller = any(name.startswith(_PREFIXES) for name in node.labels)
    by_discovery = any(node.labels.get(label) == "true" for label in _PRESENCE)
    return by_labeller or by_discovery or any(_PCI.fullmatch(n) and v == "true" for n, v in node.labels.items())


def resource(node: Node, wanted: Wanted) -> str:
    """What a pod requests. Raises HardwareError: several partitions are there, and nobody says which."""
    return offered(node, wanted, resources(node), USUAL)


def read(node: Node, wanted: Wanted, requested: str | None) -> Accelerator:
    """One device of that resource; raises HardwareError where labels do not say what it is."""
    named = _product(node, wanted)
    mode = _mode(node, requested)
    product = f"{named}-{mode}" if mode not in (None, "SPX") and partition_of(named) is None else named
    return Accelerator(
        Vendor.AMD,
        product=product,
        memory_gib=_memory_gib(node, product, wanted),
        resource=requested,
        sharing=_sharing(product),
    )


def _product(node: Node, wanted: Wanted) -> str:
    if wanted.product is not None:
        return wanted.product
    found = _kinds(node)
    if len(found) > 1:
        raise HardwareError(
            f"node {node.name}: GPUs of several kinds ({', '.join(sorted(found))}); a replica could get any of "
            "them, so use nodes with one kind"
        )
    named = next(iter(found), None) or clouds.product(node)
    if named is None:
        raise HardwareError(
            f"node {node.name}: no label amd.com/gpu.product-name; install AMD's node labeller, or set "
            "nodePools[].hardware.product (for example MI300X)"
        )
    return named


def _kinds(node: Node) -> set[str]:
    devices = {_DEVICES[value.lower()] for value in _values(node, "device-id") if value.lower() in _DEVICES}
    return _values(node, "product-name") or devices


def _labelled(node: Node) -> str | None:
    return next(iter(_kinds(node)), None)


def _mode(node: Node, requested: str | None) -> str | None:
    """The compute partition that a device is: by the resource's name where that says it, else by the node's label."""
    by_resource = _partition_resource(requested or "")
    return by_resource or compute_partition(node.first(_PARTITION_LABELS) or "")


def _sharing(product: str) -> str | None:
    """Partitions that outnumber the parts of the memory share its bandwidth."""
    entry, mode = find(product), partition_of(product)
    crowded = mode is not None and (entry is None or partitions(mode, entry.dies) > entry.memory_domains)
    return "compute partitions of one GPU" if crowded else None


def _memory_gib(node: Node, product: str, wanted: Wanted) -> float | None:
    """The labeller writes a device's; releases that wrote the whole GPU's for its partitions are not believed."""
    sizes = {int(match[1]) for text in _values(node, "vram") if (match := re.fullmatch(r"([1-9][0-9]{0,4})G", text))}
    if len(sizes) > 1 and wanted.product is None:
        named = ", ".join(f"{size}G" for size in sorted(sizes))
        raise HardwareError(
            f"node {node.name}: GPUs with {named} of memory; a replica could get any of them, so use nodes with one "
            "kind"
        )
    believed = len(sizes) == 1 and not wanted.contradicts(_labelled(node))
    labelled = float(next(iter(sizes))) if believed else None
    entry = find(product)
    if entry is None or partition_of(product) is None:
        return labelled
    own = part_memory_gib(product, entry)
    return labelled if labelled is not None and labelled <= 1.1 * own else own


def _values(node: Node, kind: str) -> set[str]:
    """What the labels say of a property: one value where all GPUs are alike."""
    plain = {node.labels[prefix + kind] for prefix in _PREFIXES if node.labels.get(prefix + kind)}
    counted = {
        name.removeprefix(f"{prefix}{kind}.")
        for prefix in _PREFIXES
        for name, count in node.labels.items()
        if name.startswith(f"{prefix}{kind}.") and count != "0"
    }
    return counted | plain


def _partition_resource(name: str) -> str | None:
    domain, _, kind = name.partition("/")
    return compute_partition(kind) if domain == "amd.com" else None
