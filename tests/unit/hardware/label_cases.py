"""What nodes say of themselves, by every tool and cloud, and what is to become of it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.unit.hardware.label_sets import (
    A100_40,
    GPU_OPERATOR,
    H100,
    L40S,
    Labels,
    amd_labels,
    feature_discovery,
    mig_labels,
)

from haqa_operator.hardware.accelerators import Vendor


@dataclass(frozen=True)
class Read:
    """What a node is read as; memory to the nearest GiB."""

    product: str
    memory_gib: int
    resource: str
    sharing: str | None = None
    vendor: Vendor = Vendor.NVIDIA


H100_MIXED = (
    feature_discovery("NVIDIA-H100-80GB-HBM3", 81559, 8, "9.0", "hopper", replicas=0)
    | {"nvidia.com/mig.strategy": "mixed"}
    | mig_labels("nvidia.com/mig-3g.40gb", "NVIDIA-H100-80GB-HBM3", "3g.40gb", 16, 40320, 60)
)
A100_SINGLE = A100_40 | mig_labels("nvidia.com/gpu", "NVIDIA-A100-SXM4-40GB", "1g.5gb", 56, 4864, 14)
L40S_SLICED = feature_discovery("NVIDIA-L40S-SHARED", 46068, 1, "8.9", "ada-lovelace", 4, "time-slicing")
L40S_MPS = feature_discovery("NVIDIA-L40S-SHARED", 46068, 1, "8.9", "ada-lovelace", 4, "mps")
L40S_RENAMED = feature_discovery("NVIDIA-L40S", 46068, 1, "8.9", "ada-lovelace", 4, "time-slicing")
MI300X = amd_labels("AMD_Instinct_MI300X_OAM", "74a1", "192G", 8)
MI300X_CPX = amd_labels("AMD_Instinct_MI300X_OAM", "74a1", "24G", 64, "cpx_nps4")


def gke(accelerator: str, count: int, **more: str) -> Labels:
    return {
        "cloud.google.com/gke-accelerator": accelerator,
        "cloud.google.com/gke-accelerator-count": str(count),
        "cloud.google.com/gke-boot-disk": "pd-balanced",
        "cloud.google.com/gke-gpu": "true",
        "cloud.google.com/gke-gpu-driver-version": "latest",
        "cloud.google.com/gke-nodepool": "gpus",
        "node.kubernetes.io/instance-type": "custom",
    } | {f"cloud.google.com/gke-{name.replace('_', '-')}": value for name, value in more.items()}


def karpenter(
    name: str, maker: str, count: int, memory_mib: int, kind: str, prefix: str = "karpenter.k8s.aws"
) -> Labels:
    family = kind.partition(".")[0]
    return {
        f"{prefix}/instance-category": family[0],
        f"{prefix}/instance-cpu": "192",
        f"{prefix}/instance-family": family,
        f"{prefix}/instance-gpu-count": str(count),
        f"{prefix}/instance-gpu-manufacturer": maker,
        f"{prefix}/instance-gpu-memory": str(memory_mib),
        f"{prefix}/instance-gpu-name": name,
        "karpenter.sh/capacity-type": "spot",
        "karpenter.sh/nodepool": "gpus",
        "node.kubernetes.io/instance-type": kind,
    }


def instance(kind: str) -> Labels:
    return {"node.kubernetes.io/instance-type": kind, "beta.kubernetes.io/instance-type": kind}


NVIDIA_GPU = "nvidia.com/gpu"
CPX_SHARING = "compute partitions of one GPU"

READ: list[tuple[str, Labels, dict[str, str], Read]] = [
    ("gfd", L40S, {NVIDIA_GPU: "4"}, Read("NVIDIA-L40S", 45, NVIDIA_GPU)),
    ("gfd h100", H100, {NVIDIA_GPU: "8"}, Read("NVIDIA-H100-80GB-HBM3", 80, NVIDIA_GPU)),
    ("mig single", A100_SINGLE, {NVIDIA_GPU: "56"}, Read("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", 5, NVIDIA_GPU)),
    (
        "mig mixed, one size",
        H100_MIXED,
        {NVIDIA_GPU: "0", "nvidia.com/mig-3g.40gb": "16"},
        Read("NVIDIA-H100-80GB-HBM3-MIG-3g.40gb", 39, "nvidia.com/mig-3g.40gb"),
    ),
    (
        "mig mixed without labels of the slices",
        feature_discovery("NVIDIA-H100-80GB-HBM3", 81559, 8, "9.0", "hopper", replicas=0),
        {NVIDIA_GPU: "0", "nvidia.com/mig-1g.10gb.me": "8"},
        Read("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb.me", 10, "nvidia.com/mig-1g.10gb.me"),
    ),
    (
        "compute instances of one slice",
        H100_MIXED,
        {NVIDIA_GPU: "0", "nvidia.com/mig-3g.40gb": "0", "nvidia.com/mig-1c.3g.40gb": "6"},
        Read(
            "NVIDIA-H100-80GB-HBM3-MIG-1c.3g.40gb",
            38,
            "nvidia.com/mig-1c.3g.40gb",
            "compute instances of one MIG slice",
        ),
    ),
    ("time slices", L40S_SLICED, {NVIDIA_GPU: "4"}, Read("NVIDIA-L40S", 45, NVIDIA_GPU, "time-slicing")),
    ("mps", L40S_MPS, {NVIDIA_GPU: "4"}, Read("NVIDIA-L40S", 11, NVIDIA_GPU, "mps")),
    (
        "renamed time slices",
        L40S_RENAMED,
        {NVIDIA_GPU: "0", "nvidia.com/gpu.shared": "4"},
        Read("NVIDIA-L40S", 45, "nvidia.com/gpu.shared", "time-slicing"),
    ),
    (
        "renamed slices of MIG slices",
        H100_MIXED
        | {"nvidia.com/mig-3g.40gb.replicas": "2", "nvidia.com/mig-3g.40gb.sharing-strategy": "time-slicing"},
        {NVIDIA_GPU: "0", "nvidia.com/mig-3g.40gb": "0", "nvidia.com/mig-3g.40gb.shared": "32"},
        Read("NVIDIA-H100-80GB-HBM3-MIG-3g.40gb", 39, "nvidia.com/mig-3g.40gb.shared", "time-slicing"),
    ),
    (
        "vgpu",
        feature_discovery("NVIDIA-A40-24Q", 24576, 1, "8.6", "ampere") | {"nvidia.com/vgpu.present": "true"},
        {NVIDIA_GPU: "1"},
        Read("NVIDIA-A40-24Q", 24, NVIDIA_GPU, "vgpu"),
    ),
    ("gke", gke("nvidia-l4", 2), {NVIDIA_GPU: "2"}, Read("nvidia-l4", 22, NVIDIA_GPU)),
    ("gke h100", gke("nvidia-h100-mega-80gb", 8), {NVIDIA_GPU: "8"}, Read("nvidia-h100-mega-80gb", 80, NVIDIA_GPU)),
    ("gke rtx pro", gke("nvidia-rtx-pro-6000", 1), {NVIDIA_GPU: "1"}, Read("nvidia-rtx-pro-6000", 96, NVIDIA_GPU)),
    (
        "gke partition",
        gke("nvidia-tesla-a100", 1, gpu_partition_size="1g.5gb"),
        {NVIDIA_GPU: "7"},
        Read("nvidia-tesla-a100-MIG-1g.5gb", 5, NVIDIA_GPU),
    ),
    (
        "gke time-sharing",
        gke("nvidia-l4", 1, gpu_sharing_strategy="time-sharing", max_shared_clients_per_gpu="3"),
        {NVIDIA_GPU: "3"},
        Read("nvidia-l4", 22, NVIDIA_GPU, "time-slicing"),
    ),
    (
        "gke mps",
        gke("nvidia-l4", 1, gpu_sharing_strategy="mps", max_shared_clients_per_gpu="3"),
        {NVIDIA_GPU: "3"},
        Read("nvidia-l4", 8, NVIDIA_GPU, "mps"),
    ),
    (
        "karpenter",
        karpenter("l40s", "nvidia", 4, 45776, "g6e.12xlarge"),
        {NVIDIA_GPU: "4"},
        Read("l40s", 45, NVIDIA_GPU),
    ),
    (
        "eks auto mode",
        karpenter("h200", "nvidia", 8, 143360, "p5en.48xlarge", prefix="eks.amazonaws.com"),
        {NVIDIA_GPU: "8", "vpc.amazonaws.com/efa": "16"},
        Read("h200", 140, NVIDIA_GPU),
    ),
    (
        "eks node group",
        instance("p4de.24xlarge") | {"eks.amazonaws.com/nodegroup": "a100"},
        {NVIDIA_GPU: "8"},
        Read("NVIDIA-A100-SXM4-80GB", 80, NVIDIA_GPU),
    ),
    (
        "aks",
        instance("Standard_NC48ads_A100_v4") | {"kubernetes.azure.com/accelerator": "nvidia", "accelerator": "nvidia"},
        {NVIDIA_GPU: "2"},
        Read("NVIDIA-A100-80GB-PCIe", 80, NVIDIA_GPU),
    ),
    (
        "aks mi300x",
        instance("Standard_ND96isr_MI300X_v5"),
        {"amd.com/gpu": "8"},
        Read("AMD_Instinct_MI300X_VF", 192, "amd.com/gpu", vendor=Vendor.AMD),
    ),
    ("oke", instance("BM.GPU.H100.8"), {NVIDIA_GPU: "8"}, Read("NVIDIA-h100", 80, NVIDIA_GPU)),
    (
        "coreweave",
        {"gpu.nvidia.com/class": "H100_NVLINK_80GB", "gpu.nvidia.com/vram": "81", "gpu.nvidia.com/count": "8"},
        {NVIDIA_GPU: "8", "rdma/ib": "1"},
        Read("H100_NVLINK_80GB", 81, NVIDIA_GPU),
    ),
    (
        "alibaba",
        {"aliyun.accelerator/nvidia_name": "NVIDIA-L20", "aliyun.accelerator/nvidia_count": "4"},
        {NVIDIA_GPU: "4"},
        Read("NVIDIA-L20", 48, NVIDIA_GPU),
    ),
    ("amd", MI300X, {"amd.com/gpu": "8"}, Read("AMD_Instinct_MI300X_OAM", 192, "amd.com/gpu", vendor=Vendor.AMD)),
    (
        "amd cpx",
        MI300X_CPX,
        {"amd.com/gpu": "64"},
        Read("AMD_Instinct_MI300X_OAM-CPX", 24, "amd.com/gpu", CPX_SHARING, vendor=Vendor.AMD),
    ),
    (
        "amd cpx, memory labelled as the whole GPU's",
        amd_labels("AMD_Instinct_MI300X_OAM", "74a1", "192G", 64, "cpx_nps1"),
        {"amd.com/gpu": "64"},
        Read("AMD_Instinct_MI300X_OAM-CPX", 24, "amd.com/gpu", CPX_SHARING, vendor=Vendor.AMD),
    ),
    (
        "amd mixed naming",
        {name: value for name, value in MI300X_CPX.items() if "partition" not in name and "vram" not in name},
        {"amd.com/cpx_nps4": "64"},
        Read("AMD_Instinct_MI300X_OAM-CPX", 24, "amd.com/cpx_nps4", CPX_SHARING, vendor=Vendor.AMD),
    ),
    (
        "amd spx by its resource",
        MI300X,
        {"amd.com/spx_nps1": "8"},
        Read("AMD_Instinct_MI300X_OAM", 192, "amd.com/spx_nps1", vendor=Vendor.AMD),
    ),
    (
        "amd, oldest labels",
        {
            "beta.amd.com/gpu.cu-count.304": "8",
            "beta.amd.com/gpu.device-id.74a5": "8",
            "beta.amd.com/gpu.family.AI": "8",
            "beta.amd.com/gpu.vram.256G": "8",
        },
        {"amd.com/gpu": "8"},
        Read("AMD_Instinct_MI325X", 256, "amd.com/gpu", vendor=Vendor.AMD),
    ),
    (
        "amd r9700",
        amd_labels("AMD_Radeon_AI_PRO_R9700", "7551", "32G", 2),
        {"amd.com/gpu": "2"},
        Read("AMD_Radeon_AI_PRO_R9700", 32, "amd.com/gpu", vendor=Vendor.AMD),
    ),
    (
        "gaudi 3",
        {
            "habana.ai/device.count": "8",
            "habana.ai/device.id": "1060",
            "habana.ai/device.family": "gaudi",
            "habana.ai/device.name": "gaudi3",
            "habana.ai/device.type": "GAUDI3",
            "habana.ai/driver.version": "1.22.0-740",
            "habana.ai/hfd.timestamp": "1764400000",
            "feature.node.kubernetes.io/pci-1da3.present": "true",
        },
        {"habana.ai/gaudi": "8"},
        Read("Gaudi3", 128, "habana.ai/gaudi", vendor=Vendor.INTEL),
    ),
    (
        "gaudi by its PCI id alone",
        {"habana.ai/device.id": "1020", "habana.ai/device.count": "8"},
        {"habana.ai/gaudi": "8"},
        Read("Gaudi2", 96, "habana.ai/gaudi", vendor=Vendor.INTEL),
    ),
    (
        "intel max",
        {
            "gpu.intel.com/device.count": "4",
            "gpu.intel.com/device-id.0380-0bd5.count": "4",
            "gpu.intel.com/device-id.0380-0bd5.present": "true",
            "gpu.intel.com/family": "Max_Series",
            "gpu.intel.com/product": "Max_1550",
            "intel.feature.node.kubernetes.io/gpu": "true",
        },
        {"gpu.intel.com/i915": "4", "gpu.intel.com/i915_monitoring": "1"},
        Read("Max_1550", 128, "gpu.intel.com/i915", vendor=Vendor.INTEL),
    ),
    (
        "arc pro by its PCI id",
        {
            "gpu.intel.com/device-id.0300-e211.count": "2",
            "gpu.intel.com/device-id.0300-e211.present": "true",
            "intel.feature.node.kubernetes.io/gpu": "true",
        },
        {"gpu.intel.com/xe": "2"},
        Read("Arc_Pro_B60", 24, "gpu.intel.com/xe", vendor=Vendor.INTEL),
    ),
]


REFUSED: list[tuple[str, Labels, dict[str, str], int, str]] = [
    (
        "several MIG sizes",
        H100_MIXED | mig_labels("nvidia.com/mig-1g.10gb", "NVIDIA-H100-80GB-HBM3", "1g.10gb", 7, 9856, 16),
        {NVIDIA_GPU: "0", "nvidia.com/mig-1g.10gb": "7", "nvidia.com/mig-3g.40gb": "14"},
        1,
        r"node-1: it has devices of several sizes: nvidia.com/mig-1g.10gb \(7\), nvidia.com/mig-3g.40gb \(14\); name",
    ),
    (
        "whole GPUs beside slices",
        H100_MIXED,
        {NVIDIA_GPU: "6", "nvidia.com/mig-3g.40gb": "4"},
        1,
        r"nvidia.com/gpu \(6\), nvidia.com/mig-3g.40gb \(4\); name the one that the pool uses in nodePools",
    ),
    (
        "several slices for a replica",
        A100_SINGLE,
        {NVIDIA_GPU: "56"},
        2,
        r"gpusPerReplica 2: node node-1 has MIG slices \(1g.5gb\), which do not talk to each other; set gpus",
    ),
    (
        "several time slices for a replica",
        L40S_SLICED,
        {NVIDIA_GPU: "4"},
        4,
        r"gpusPerReplica 4: node node-1 has shared GPUs \(time-slicing\), and a replica may get several turns",
    ),
    (
        "a GKE partition that is none",
        gke("nvidia-tesla-a100", 1, gpu_partition_size="half"),
        {NVIDIA_GPU: "2"},
        1,
        "node node-1: half is no MIG profile such as 1g.10gb; set nodePools",
    ),
    ("device plugin offers none", L40S, {NVIDIA_GPU: "0"}, 1, "its kubelet offers 0 of nvidia.com/gpu; look at the"),
    (
        "device plugin is not there",
        L40S,
        {},
        1,
        "its kubelet offers none of nvidia.com/gpu; look at the vendor's driver",
    ),
    ("operator is at work", GPU_OPERATOR, {}, 1, "is said to have NVIDIA GPUs, and its kubelet offers none of nvidia"),
    (
        "NFD alone",
        {"feature.node.kubernetes.io/pci-0302_10de.present": "true"},
        {},
        1,
        "is said to have NVIDIA GPUs, and its kubelet offers none",
    ),
    ("stale resource", {}, {NVIDIA_GPU: "0"}, 1, "its kubelet offers 0 of nvidia.com/gpu"),
    (
        "gke without driver",
        gke("nvidia-l4", 1),
        {},
        1,
        "is said to have nvidia-l4, and its kubelet offers none of nvidia",
    ),
    ("karpenter, starting", karpenter("l4", "nvidia", 1, 22528, "g6.xlarge"), {}, 1, "is said to have l4, and its"),
    ("instance type", instance("p5.48xlarge"), {}, 1, "is said to have NVIDIA-H100-80GB-HBM3, and its kubelet offers"),
    ("part of a GPU by type", instance("g6f.xlarge"), {NVIDIA_GPU: "1"}, 1, "no label nvidia.com/gpu.product; install"),
    (
        "amd, starting",
        {"feature.node.kubernetes.io/amd-gpu": "true"},
        {},
        1,
        "is said to have AMD GPUs, and its kubelet offers none of amd.com/gpu",
    ),
    ("amd by type", instance("Standard_ND96isr_MI300X_v5"), {}, 1, "MI300X_VF, and its kubelet offers none of amd.com"),
    (
        "gaudi, starting",
        {"habana.ai/device.type": "GAUDI3"},
        {},
        1,
        "is said to have Intel accelerators, and its kubelet offers none of habana.ai/gaudi",
    ),
    (
        "amd in two partitions",
        {name: value for name, value in MI300X.items() if "partition" not in name},
        {"amd.com/spx_nps1": "5", "amd.com/cpx_nps1": "24"},
        1,
        r"amd.com/cpx_nps1 \(24\), amd.com/spx_nps1 \(5\); name the one",
    ),
    (
        "amd of two sizes",
        {"amd.com/gpu.vram.64G": "4", "amd.com/gpu.vram.192G": "4", "amd.com/gpu.product-name": "AMD_Instinct"},
        {"amd.com/gpu": "8"},
        1,
        "GPUs with 64G, 192G of memory",
    ),
    (
        "tpu",
        {"cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice", "cloud.google.com/gke-tpu-topology": "2x4"},
        {"google.com/tpu": "8"},
        1,
        "node-1: the resource google.com/tpu says that it has Google's TPU, for which HAQA knows no engine",
    ),
    (
        "tpu, starting",
        {"cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice"},
        {},
        1,
        "the label cloud.google.com/gke-tpu-accelerator=tpu-v6e-slice says that it has Google's TPU",
    ),
    ("neuron", instance("trn2.48xlarge"), {"aws.amazon.com/neuron": "16"}, 1, r"AWS Neuron \(Inferentia, Trainium\)"),
    ("neuron, starting", instance("inf2.xlarge"), {}, 1, "instance-type=inf2.xlarge says that it has AWS Neuron"),
    ("another vendor's", {}, {"huawei.com/Ascend910": "8"}, 1, "huawei.com/Ascend910 says that it has Huawei's Ascend"),
    (
        "shares of a scheduler",
        {},
        {"aliyun.com/gpu-mem": "80"},
        1,
        "the resource aliyun.com/gpu-mem says that it",
    ),
]
