"""Labels and resources of nodes as each tool and cloud writes them, whole: what is not read may not disturb either."""

from __future__ import annotations

from haqa_operator.hardware.nodes import Node

Labels = dict[str, str]

KUBERNETES = {
    "beta.kubernetes.io/arch": "amd64",
    "beta.kubernetes.io/os": "linux",
    "kubernetes.io/arch": "amd64",
    "kubernetes.io/os": "linux",
    "kubernetes.io/hostname": "node-1",
    "topology.kubernetes.io/region": "eu-1",
    "topology.kubernetes.io/zone": "eu-1a",
}
RESOURCES = {"cpu": "191450m", "memory": "1056270604Ki", "ephemeral-storage": "95551679124", "pods": "110"} | {
    "hugepages-1Gi": "0",
    "hugepages-2Mi": "0",
}

GPU_OPERATOR = {
    "feature.node.kubernetes.io/cpu-cpuid.AVX512F": "true",
    "feature.node.kubernetes.io/pci-10de.present": "true",
    "feature.node.kubernetes.io/pci-10de.sriov.capable": "true",
    "nvidia.com/gpu.deploy.container-toolkit": "true",
    "nvidia.com/gpu.deploy.device-plugin": "true",
    "nvidia.com/gpu.deploy.driver": "true",
    "nvidia.com/gpu.deploy.gpu-feature-discovery": "true",
    "nvidia.com/gpu.deploy.operator-validator": "true",
    "nvidia.com/gpu.present": "true",
}


def feature_discovery(
    product: str, memory_mib: int, count: int, capability: str, family: str, replicas: int = 1, sharing: str = "none"
) -> Labels:
    """GPU Feature Discovery's labels of whole GPUs, with the GPU operator's beside them."""
    major, minor = capability.split(".")
    return GPU_OPERATOR | {
        "nvidia.com/cuda.driver-version.full": "580.95.05",
        "nvidia.com/cuda.driver-version.major": "580",
        "nvidia.com/cuda.runtime-version.full": "13.0",
        "nvidia.com/gfd.timestamp": "1764400000",
        "nvidia.com/gpu.compute.major": major,
        "nvidia.com/gpu.compute.minor": minor,
        "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.family": family,
        "nvidia.com/gpu.machine": "ProLiant",
        "nvidia.com/gpu.memory": str(memory_mib),
        "nvidia.com/gpu.mode": "compute",
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.replicas": str(replicas),
        "nvidia.com/gpu.sharing-strategy": sharing,
        "nvidia.com/mig.capable": "true" if capability in ("8.0", "9.0", "10.0") else "false",
        "nvidia.com/mig.strategy": "single",
        "nvidia.com/mps.capable": "true" if sharing == "mps" else "false",
        "nvidia.com/vgpu.present": "false",
    }


def mig_labels(base: str, product: str, profile: str, count: int, memory_mib: int, multiprocessors: int) -> Labels:
    """What GPU Feature Discovery says of one size of slices; `base` is `nvidia.com/gpu` under strategy single."""
    compute = profile[0]
    return {
        f"{base}.count": str(count),
        f"{base}.engines.copy": compute,
        f"{base}.engines.decoder": "1",
        f"{base}.engines.encoder": "0",
        f"{base}.engines.jpeg": "1",
        f"{base}.engines.ofa": "0",
        f"{base}.memory": str(memory_mib),
        f"{base}.multiprocessors": str(multiprocessors),
        f"{base}.product": f"{product}-MIG-{profile}",
        f"{base}.replicas": "1",
        f"{base}.sharing-strategy": "none",
        f"{base}.slices.ci": compute,
        f"{base}.slices.gi": compute,
    }


def amd_labels(product: str, device: str, vram: str, count: int, partition: str | None = None) -> Labels:
    """AMD's node labeller, present release: where all GPUs are alike each property is there in both forms."""
    properties = {"product-name": product, "device-id": device, "vram": vram, "family": "AI", "cu-count": "304"}
    plain = {f"amd.com/gpu.{name}": value for name, value in properties.items()}
    older = {f"beta.amd.com/gpu.{name}": value for name, value in properties.items()}
    counted = {f"beta.amd.com/gpu.{name}.{value}": str(count) for name, value in properties.items()}
    parts = {
        "amd.com/gpu.compute-partitioning-supported": "true",
        "amd.com/gpu.memory-partitioning-supported": "true",
        "amd.com/gpu.compute-memory-partition": partition or "spx_nps1",
    }
    driver = {"amd.com/gpu.driver-version": "6.14.14", "feature.node.kubernetes.io/amd-gpu": "true"}
    return plain | older | counted | driver | parts


def node(labels: Labels, name: str = "node-1", **devices: str) -> Node:
    """A node with those labels beside Kubernetes' own; `nvidia_com__gpu="8"` is the resource `nvidia.com/gpu`."""
    return Node(name, KUBERNETES | labels, RESOURCES | devices)


L40S = feature_discovery("NVIDIA-L40S", 46068, 4, "8.9", "ada-lovelace")
H100 = feature_discovery("NVIDIA-H100-80GB-HBM3", 81559, 8, "9.0", "hopper")
A100_40 = feature_discovery("NVIDIA-A100-SXM4-40GB", 40960, 8, "8.0", "ampere")
