"""What clouds say of their nodes, where no tool of the accelerator's vendor runs.

Labels of GKE, Karpenter, EKS Auto Mode, EKS node groups, AKS, CoreWeave, DigitalOcean and Alibaba Cloud, and the names
of instance types, which every cloud controller writes into `node.kubernetes.io/instance-type`.
"""

from __future__ import annotations

import re

from haqa_operator.hardware.accelerators import Vendor
from haqa_operator.hardware.catalogue import find
from haqa_operator.hardware.nodes import Node

GKE = "cloud.google.com/"

_PRODUCTS = (
    f"{GKE}gke-accelerator",
    "karpenter.k8s.aws/instance-gpu-name",
    "eks.amazonaws.com/instance-gpu-name",
    "k8s.amazonaws.com/accelerator",
    "gpu.nvidia.com/model",
    "gpu.nvidia.com/class",
    "doks.digitalocean.com/gpu-model",
    "aliyun.accelerator/nvidia_name",
)
_MEMORIES_MIB = ("karpenter.k8s.aws/instance-gpu-memory", "eks.amazonaws.com/instance-gpu-memory")
_MEMORIES_GIB = ("gpu.nvidia.com/vram",)
_MAKERS = (
    "karpenter.k8s.aws/instance-gpu-manufacturer",
    "eks.amazonaws.com/instance-gpu-manufacturer",
    "doks.digitalocean.com/gpu-brand",
    "kubernetes.azure.com/accelerator",
    "accelerator",
)
_INSTANCE_TYPES = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")

_TYPES: tuple[tuple[str, Vendor, str | None], ...] = (
    (r"p3dn\..*", Vendor.NVIDIA, "Tesla-V100-SXM2-32GB"),
    (r"p3\..*", Vendor.NVIDIA, "Tesla-V100-SXM2-16GB"),
    (r"p4d\..*", Vendor.NVIDIA, "NVIDIA-A100-SXM4-40GB"),
    (r"p4de\..*", Vendor.NVIDIA, "NVIDIA-A100-SXM4-80GB"),
    (r"p5\..*", Vendor.NVIDIA, "NVIDIA-H100-80GB-HBM3"),
    (r"p5en?\..*", Vendor.NVIDIA, "NVIDIA-H200"),
    (r"p6-b200\..*", Vendor.NVIDIA, "NVIDIA-B200"),
    (r"p6-b300\..*", Vendor.NVIDIA, "NVIDIA-B300"),
    (r"p6e-gb200\..*", Vendor.NVIDIA, "NVIDIA-GB200"),
    (r"p6e-gb300\..*", Vendor.NVIDIA, "NVIDIA-GB300"),
    (r"g4dn\..*", Vendor.NVIDIA, "Tesla-T4"),
    (r"g5\..*", Vendor.NVIDIA, "NVIDIA-A10G"),
    (r"g5g\..*", Vendor.NVIDIA, "NVIDIA-T4G"),
    (r"gr?6\..*", Vendor.NVIDIA, "NVIDIA-L4"),
    (r"g6e\..*", Vendor.NVIDIA, "NVIDIA-L40S"),
    (r"g7e\..*", Vendor.NVIDIA, "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition"),
    # A part of a GPU, of a size that the type does not say.
    (r"gr?6f\..*", Vendor.NVIDIA, None),
    (r"g4ad\..*", Vendor.AMD, None),
    (r"standard_nc\d+as_t4_v3", Vendor.NVIDIA, "Tesla-T4"),
    (r"standard_nc\d+r?s_v3", Vendor.NVIDIA, "Tesla-V100-PCIE-16GB"),
    (r"standard_nc\d+ads_a100_v4", Vendor.NVIDIA, "NVIDIA-A100-80GB-PCIe"),
    (r"standard_nd96asr_v4", Vendor.NVIDIA, "NVIDIA-A100-SXM4-40GB"),
    (r"standard_nd96am\w*_a100_v4", Vendor.NVIDIA, "NVIDIA-A100-SXM4-80GB"),
    (r"standard_ncc?\d+a?ds_h100_v5|standard_nc\d+adis_h100_v5", Vendor.NVIDIA, "NVIDIA-H100-NVL"),
    (r"standard_nd96is\w*_h100_v5", Vendor.NVIDIA, "NVIDIA-H100-80GB-HBM3"),
    (r"standard_nd96is\w*_h200_v5", Vendor.NVIDIA, "NVIDIA-H200"),
    (r"standard_nd96is\w*_mi300x_v5", Vendor.AMD, "AMD_Instinct_MI300X_VF"),
    (r"standard_nd128is\w*_gb200_v6", Vendor.NVIDIA, "NVIDIA-GB200"),
    (r"standard_nd128is\w*_gb300_v6", Vendor.NVIDIA, "NVIDIA-GB300"),
    (r"standard_nv(36|72)\w*_a10_v5", Vendor.NVIDIA, "NVIDIA-A10"),
    (r"standard_nv\d+\w*_a10_v5", Vendor.NVIDIA, None),
    (r"standard_n[cdv]\d.*", Vendor.NVIDIA, None),
    (r"a2-highgpu-.*|a2-megagpu-.*", Vendor.NVIDIA, "NVIDIA-A100-SXM4-40GB"),
    (r"a2-ultragpu-.*", Vendor.NVIDIA, "NVIDIA-A100-SXM4-80GB"),
    (r"a3-(high|mega|edge)gpu-.*", Vendor.NVIDIA, "NVIDIA-H100-80GB-HBM3"),
    (r"a3-ultragpu-.*", Vendor.NVIDIA, "NVIDIA-H200"),
    (r"a4-highgpu-.*", Vendor.NVIDIA, "NVIDIA-B200"),
    (r"a4x-(high|max)gpu-.*", Vendor.NVIDIA, None),
    (r"g2-standard-.*", Vendor.NVIDIA, "NVIDIA-L4"),
    (r"g4-standard-.*", Vendor.NVIDIA, "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition"),
    (r"bm\.gpu4\.8", Vendor.NVIDIA, "NVIDIA-A100-SXM4-40GB"),
    (r"bm\.gpu\.a100-v2\.8", Vendor.NVIDIA, "NVIDIA-A100-SXM4-80GB"),
    (r"(?:bm|vm)\.gpu\.((?:gb|b|h|l|a)\d+s?)\..*", Vendor.NVIDIA, r"NVIDIA-\1"),
    (r"(?:bm|vm)\.gpu\.(mi\d+x)\..*", Vendor.AMD, r"AMD_Instinct_\1"),
    (r"dl1\..*|dl2q\..*", Vendor.INTEL, None),
)
"""Pattern of an instance type, lower case; who made its accelerators; which they are, where the type says so."""


def product(node: Node) -> str | None:
    """What the cloud's labels or the instance type call the accelerators."""
    named = node.first(_PRODUCTS)
    if named is not None:
        return named
    kind = _kind(node)
    return kind[1] if kind else None


def memory_gib(node: Node) -> float | None:
    """Memory of one accelerator, by the cloud's labels."""
    return node.number(_MEMORIES_MIB, 1 / 1024) or node.number(_MEMORIES_GIB)


def vendor(node: Node) -> Vendor | None:
    """Who made the accelerators that the cloud says the node has; None where it speaks of none."""
    makers = {"nvidia": Vendor.NVIDIA, "amd": Vendor.AMD, "habana": Vendor.INTEL, "intel": Vendor.INTEL}
    for label in _MAKERS:
        value = node.labels.get(label, "").lower()
        maker = next((maker for name, maker in makers.items() if value.startswith(name)), None)
        if maker is not None:
            return maker
    named = node.first(_PRODUCTS)
    if named is not None:
        entry = find(named)
        if entry is not None:
            return entry.vendor
        return Vendor.NVIDIA if "nvidia" in named.lower() else None
    kind = _kind(node)
    return kind[0] if kind else None


def _kind(node: Node) -> tuple[Vendor, str | None] | None:
    name = (node.first(_INSTANCE_TYPES) or "").lower()
    for pattern, maker, called in _TYPES:
        if match := re.fullmatch(pattern, name):
            return maker, match.expand(called) if called else None
    return None
