"""What a pool's nodes are, by the labels that discovery tools put on them.

- NVIDIA GPU Feature Discovery: `nvidia.com/gpu.product`, `.memory` (MiB), `.count`, `.compute.{major,minor}` and
  `nvidia.com/mig.strategy`
- AMD's node labeller: `amd.com/gpu.product-name` and `.vram`, in older releases `beta.amd.com/gpu.…`
- Intel's device plugins and Gaudi's operator: `gpu.intel.com/product`, `habana.ai/…`
- clouds, where no tool of the vendor runs: `cloud.google.com/gke-accelerator`, `karpenter.k8s.aws/instance-gpu-name`
- Node Feature Discovery, for CPU nodes: `feature.node.kubernetes.io/cpu-cpuid.AVX512VNNI` and its like

Pure: labels and allocatable resources in, an `Accelerator` or a sentence out. What labels say wrongly or not at all,
`nodePools[].hardware` says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from haqa_operator.api.pools import HardwareOverride
from haqa_operator.hardware.accelerators import Accelerator, HardwareError, Vendor
from haqa_operator.hardware.catalogue import find
from haqa_operator.hardware.instruction_sets import NEON, onednn_cap, widest
from haqa_operator.hardware.override import overridden, parse_capability


@dataclass(frozen=True)
class Node:
    """A Kubernetes node as far as its hardware goes.

    Attributes:
        allocatable: Resource -> quantity as Kubernetes writes it: `nvidia.com/gpu: "8"`, `memory: 515Gi`, `cpu: 3920m`.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, str] = field(default_factory=dict)


def pool_accelerator(
    nodes: Sequence[Node],
    gpus_per_replica: int = 1,
    override: HardwareOverride | None = None,
    env: Mapping[str, str] | None = None,
) -> Accelerator:
    """What one replica gets on any node of a pool; the smallest memory, where equal products differ in it.

    Args:
        env: The pool's environment; `ONEDNN_MAX_CPU_ISA` caps what oneDNN uses of a CPU.

    Raises:
        HardwareError: no node, nodes of several kinds, or a node whose labels do not say what it is.
    """
    if not nodes:
        raise HardwareError("no node matches; label the nodes or fix nodeSelector")
    found = [(node, node_accelerator(node, gpus_per_replica, override, env)) for node in nodes]
    kinds = {_kind(accelerator): (node, accelerator) for node, accelerator in reversed(found)}
    if len(kinds) > 1:
        named = ", ".join(f"{node.name} has {accelerator.product}" for node, accelerator in reversed(kinds.values()))
        raise HardwareError(
            f"the pool's nodes differ ({named}), so a winner on one says nothing of the other; "
            "make a pool of each kind with a narrower nodeSelector"
        )
    smallest = min(
        (accelerator for _, accelerator in found), key=lambda a: (a.memory_gib or 0, a.cores or 0, a.host_cores or 0)
    )
    return smallest


def _kind(accelerator: Accelerator) -> tuple[object, ...]:
    """What has to be equal for measurements to carry over from one node to another."""
    if accelerator.is_cpu:
        return (accelerator.vendor, accelerator.isa, accelerator.cores)
    return (accelerator.vendor, accelerator.product, accelerator.compute_capability)


def node_accelerator(
    node: Node,
    gpus_per_replica: int = 1,
    override: HardwareOverride | None = None,
    env: Mapping[str, str] | None = None,
) -> Accelerator:
    """What one replica gets on this node; raises `HardwareError` as `pool_accelerator` does."""
    vendor = Vendor(override.vendor) if override and override.vendor else _vendor(node)
    product = override.product if override else None
    match vendor:
        case Vendor.NVIDIA:
            accelerator = _nvidia(node, product)
        case Vendor.AMD:
            accelerator = _amd(node, product)
        case Vendor.INTEL:
            accelerator = _intel(node, product)
        case Vendor.CPU:
            return overridden(_cpu(node, env or {}), override)
    accelerator = overridden(replace(accelerator, count=max(1, gpus_per_replica)), override)
    devices = _devices(node, accelerator)
    _check_count(node, accelerator, devices)
    return _with_share(node, accelerator, devices)


_RESOURCES = {
    Vendor.NVIDIA: ("nvidia.com/gpu",),
    Vendor.AMD: ("amd.com/gpu",),
    Vendor.INTEL: ("habana.ai/gaudi", "gpu.intel.com/xe", "gpu.intel.com/i915"),
}
"""What a pod requests to get a device of the vendor."""

_CLOUD_PRODUCTS = ("cloud.google.com/gke-accelerator", "karpenter.k8s.aws/instance-gpu-name")


def _vendor(node: Node) -> Vendor:
    """The vendor whose devices the node offers or whose labels it has; CPU where there are none."""
    if any(name.startswith("nvidia.com/mig-") for name in (*node.labels, *node.allocatable)):
        return Vendor.NVIDIA
    for vendor, resources in _RESOURCES.items():
        if any(node.allocatable.get(resource, "0") != "0" for resource in resources):
            return vendor
    labelled = {
        Vendor.NVIDIA: ("nvidia.com/gpu.product",),
        Vendor.AMD: tuple(f"{prefix}product-name" for prefix in _AMD_PREFIXES),
        Vendor.INTEL: ("gpu.intel.com/product",),
    }
    for vendor, names in labelled.items():
        if any(name in node.labels for name in names):
            return vendor
    for label in _CLOUD_PRODUCTS:
        if entry := find(node.labels.get(label, "")):
            return entry.vendor
    return Vendor.CPU


def _nvidia(node: Node, product: str | None) -> Accelerator:
    labels = node.labels
    slices = sorted(
        name.removeprefix("nvidia.com/mig-").removesuffix(".count")
        for name, value in labels.items()
        if re.fullmatch(r"nvidia\.com/mig-[\w.]+\.count", name) and value != "0"
    )
    if slices:
        raise HardwareError(
            f"node {node.name}: MIG strategy {labels.get('nvidia.com/mig.strategy', 'mixed')} with slices "
            f"{', '.join(slices)} as resources of their own, which HAQA does not request; use mig.strategy single "
            "(one slice size a node, seen as nvidia.com/gpu) or switch MIG off on the pool's nodes"
        )
    named = product or labels.get("nvidia.com/gpu.product") or _cloud_product(node)
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
    major, minor = (labels.get(f"nvidia.com/gpu.compute.{part}") for part in ("major", "minor"))
    return Accelerator(
        Vendor.NVIDIA,
        # Time-slicing and MPS append -SHARED; the device is the same.
        product=named.removesuffix("-SHARED"),
        memory_gib=_number(node, "nvidia.com/gpu.memory", 1 / 1024),
        compute_capability=parse_capability(f"{major}.{minor}") if major and minor else None,
    )


_AMD_PREFIXES = ("amd.com/gpu.", "beta.amd.com/gpu.")


def _amd(node: Node, product: str | None) -> Accelerator:
    def label(name: str) -> str | None:
        return next((node.labels[p + name] for p in _AMD_PREFIXES if p + name in node.labels), None)

    # The labeller counts devices by product in `…product-name.PRODUCT: COUNT`.
    counted = {
        name.removeprefix(f"{prefix}product-name.")
        for prefix in _AMD_PREFIXES
        for name in node.labels
        if name.startswith(f"{prefix}product-name.")
    }
    if len(counted) > 1 and product is None:
        raise HardwareError(
            f"node {node.name}: GPUs of several kinds ({', '.join(sorted(counted))}); a replica could get any of "
            "them, so use nodes with one kind"
        )
    named = product or label("product-name") or next(iter(counted), None) or _cloud_product(node)
    if named is None:
        raise HardwareError(
            f"node {node.name}: no label amd.com/gpu.product-name; install AMD's node labeller, or set "
            "nodePools[].hardware.product (for example MI300X)"
        )
    vram = label("vram")
    memory_gib = parse_quantity(vram + "i" if vram[-1:] in "KMGT" else vram) / 2**30 if vram else None
    return Accelerator(Vendor.AMD, product=named, memory_gib=memory_gib)


def _intel(node: Node, product: str | None) -> Accelerator:
    gaudi = node.allocatable.get("habana.ai/gaudi", "0") != "0"
    said = " ".join(f"{name}={value}" for name, value in node.labels.items() if name.startswith("habana.ai/"))
    generation = re.search(r"gaudi[\s_-]?(\d)", said, re.IGNORECASE)
    named = product or node.labels.get("gpu.intel.com/product") or (f"Gaudi{generation[1]}" if generation else None)
    if named is None:
        what = "which Gaudi it has" if gaudi else "which Intel GPU it has"
        raise HardwareError(
            f"node {node.name}: no label says {what}; set nodePools[].hardware.product (for example Gaudi3)"
        )
    return Accelerator(Vendor.INTEL, product=named)


_NFD = "feature.node.kubernetes.io/"
_CPUID = {
    "avx2": ("AVX2",),
    "avx512": ("AVX512F", "AVX512BW", "AVX512VL", "AVX512DQ"),
    "avx512_vnni": ("AVX512VNNI",),
    "avx512_bf16": ("AVX512BF16",),
    "avx512_fp16": ("AVX512FP16",),
    "amx": ("AMXTILE", "AMXBF16", "AMXINT8"),
}
"""NFD's names (those of github.com/klauspost/cpuid) for the flags of `instruction_sets`."""


def _cpu(node: Node, env: Mapping[str, str]) -> Accelerator:
    memory, cores = node.allocatable.get("memory"), node.allocatable.get("cpu")
    return Accelerator(
        Vendor.CPU,
        product=_cpu_product(node),
        memory_gib=parse_quantity(memory) / 2**30 if memory else None,
        isa=_isa(node),
        onednn_cap=onednn_cap(env.get("ONEDNN_MAX_CPU_ISA")),
        cores=max(1, int(parse_quantity(cores))) if cores else None,
    )


def _cpu_product(node: Node) -> str:
    vendor, family, model = (node.labels.get(f"{_NFD}cpu-model.{part}") for part in ("vendor_id", "family", "id"))
    architecture = node.labels.get("kubernetes.io/arch", "unknown architecture")
    known = f", {vendor} family {family} model {model}" if vendor else ""
    return f"{architecture} CPU{known}"


def _isa(node: Node) -> str | None:
    """The widest set that Node Feature Discovery labels; None where it does not run."""
    if node.labels.get("kubernetes.io/arch") == "arm64":
        return NEON
    return widest(lambda name: all(node.labels.get(f"{_NFD}cpu-cpuid.{flag}") == "true" for flag in _CPUID[name]))


def _cloud_product(node: Node) -> str | None:
    return next((node.labels[label] for label in _CLOUD_PRODUCTS if label in node.labels), None)


def _devices(node: Node, accelerator: Accelerator) -> int | None:
    """Accelerators of the node; None where neither its kubelet nor a label says."""
    labels = ("nvidia.com/gpu.count",) if accelerator.vendor is Vendor.NVIDIA else ()
    texts = [node.allocatable.get(resource) for resource in _RESOURCES.get(accelerator.vendor, ())]
    texts += [node.labels.get(label) for label in labels]
    return next((int(text) for text in texts if text and text.isdigit()), None)


def _check_count(node: Node, accelerator: Accelerator, devices: int | None) -> None:
    """A replica lives on one node, so the node has to have all of its accelerators."""
    if devices is not None and accelerator.count > devices:
        raise HardwareError(
            f"gpusPerReplica {accelerator.count}: node {node.name} has {devices} x {accelerator.product}; "
            f"lower it to {devices} or less, or select bigger nodes"
        )


def _with_share(node: Node, accelerator: Accelerator, devices: int | None) -> Accelerator:
    """With the part of the node's processor and memory that belongs to an accelerator."""
    cores, memory = node.allocatable.get("cpu"), node.allocatable.get("memory")
    if not (devices and cores and memory):
        return accelerator
    share = 1 / devices
    return replace(
        accelerator, host_cores=parse_quantity(cores) * share, host_memory_gib=parse_quantity(memory) / 2**30 * share
    )


def _number(node: Node, label: str, factor: float) -> float | None:
    text = node.labels.get(label)
    return float(text) * factor if text and text.isdigit() and text != "0" else None


_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)([a-zA-Z]*)$")
_SUFFIXES = {"": 1.0, "m": 1e-3, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15} | {
    unit + "i": 2.0 ** (10 * power) for power, unit in enumerate("KMGTP", 1)
}


def parse_quantity(text: str) -> float:
    """A Kubernetes quantity: `24Gi`, `3920m`, `131901456Ki`, `64`.

    Raises:
        HardwareError: for anything else.
    """
    match = _QUANTITY.match(text.strip())
    if match is None or match[2] not in _SUFFIXES:
        raise HardwareError(f"{text!r} is not a Kubernetes quantity such as 24Gi, 131901456Ki or 3920m")
    return float(match[1]) * _SUFFIXES[match[2]]
