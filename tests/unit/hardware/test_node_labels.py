"""Nodes by their labels: what each discovery tool writes, and what is said where it is not enough."""

from dataclasses import replace

import pytest

from haqa_operator.api.pools import HardwareOverride
from haqa_operator.hardware.accelerators import HardwareError, Platform, Vendor
from haqa_operator.hardware.node_labels import node_accelerator, pool_accelerator
from haqa_operator.hardware.nodes import Node, parse_quantity
from haqa_operator.serving.pod import Resources, default_resources

GFD_L40S = {
    "nvidia.com/gpu.product": "NVIDIA-L40S",
    "nvidia.com/gpu.memory": "46068",
    "nvidia.com/gpu.count": "8",
    "nvidia.com/gpu.family": "ada-lovelace",
    "nvidia.com/gpu.compute.major": "8",
    "nvidia.com/gpu.compute.minor": "9",
    "nvidia.com/mig.strategy": "single",
}
GFD_H100 = GFD_L40S | {
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.memory": "81559",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0",
}
NFD_AVX512 = {f"feature.node.kubernetes.io/cpu-cpuid.{flag}": "true" for flag in ("AVX2", "AVX512F", "AVX512BW")} | {
    f"feature.node.kubernetes.io/cpu-cpuid.{flag}": "true" for flag in ("AVX512VL", "AVX512DQ")
}
NFD_VNNI = NFD_AVX512 | {"feature.node.kubernetes.io/cpu-cpuid.AVX512VNNI": "true"}
NFD_AMX = NFD_VNNI | {
    f"feature.node.kubernetes.io/cpu-cpuid.{flag}": "true" for flag in ("AVX512BF16", "AMXTILE", "AMXBF16", "AMXINT8")
}


def gpu_node(labels: dict[str, str] = GFD_L40S, name: str = "gpu-1", **allocatable: str) -> Node:
    return Node(name, labels, {"nvidia.com/gpu": "8", "memory": "500Gi", "cpu": "64", **allocatable})


def cpu_node(
    labels: dict[str, str] = NFD_VNNI, name: str = "cpu-1", memory: str = "131901456Ki", cpu: str = "15890m"
) -> Node:
    return Node(name, {"kubernetes.io/arch": "amd64", **labels}, {"memory": memory, "cpu": cpu})


def test_nvidia_node_by_gpu_feature_discovery() -> None:
    accelerator = node_accelerator(gpu_node(), gpus_per_replica=2)
    assert accelerator.vendor is Vendor.NVIDIA
    assert accelerator.product == "NVIDIA-L40S"
    assert accelerator.count == 2
    assert accelerator.memory_gib == pytest.approx(44.99, abs=0.01)
    assert accelerator.compute_capability == (8, 9)
    assert accelerator.bandwidth_gb_s == 864


def test_time_sliced_gpu_is_the_same_device() -> None:
    labels = GFD_L40S | {"nvidia.com/gpu.product": "NVIDIA-L40S-SHARED"}
    assert node_accelerator(gpu_node(labels)).product == "NVIDIA-L40S"


def test_mig_slice_of_strategy_single_is_an_accelerator_of_its_own() -> None:
    labels = GFD_L40S | {
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb",
        "nvidia.com/gpu.memory": "4864",
        "nvidia.com/gpu.count": "7",
        "nvidia.com/gpu.compute.major": "8",
        "nvidia.com/gpu.compute.minor": "0",
    }
    accelerator = node_accelerator(gpu_node(labels, **{"nvidia.com/gpu": "7"}))
    assert accelerator.memory_gib == 4.75
    assert accelerator.bandwidth_gb_s == pytest.approx(1555 / 8)


def test_amd_node_by_the_node_labeller() -> None:
    labels = {
        "amd.com/gpu.product-name": "AMD_Instinct_MI300X_OAM",
        "amd.com/gpu.vram": "192G",
        "amd.com/gpu.family": "AI",
        "beta.amd.com/gpu.product-name.AMD_Instinct_MI300X_OAM": "8",
    }
    accelerator = node_accelerator(Node("amd-1", labels, {"amd.com/gpu": "8"}))
    assert accelerator.vendor is Vendor.AMD
    assert accelerator.memory_gib == 192
    assert accelerator.architecture == "gfx942"
    assert accelerator.compute_capability is None


def test_amd_node_with_the_older_label_names() -> None:
    labels = {"beta.amd.com/gpu.product-name": "AMD_Instinct_MI210", "beta.amd.com/gpu.vram": "64G"}
    assert node_accelerator(Node("amd-1", labels, {"amd.com/gpu": "4"})).architecture == "gfx90a"


def test_gaudi_node_by_resource_and_label() -> None:
    node = Node("hpu-1", {"habana.ai/hfd.device": "gaudi3"}, {"habana.ai/gaudi": "8"})
    accelerator = node_accelerator(node)
    assert accelerator.platform is Platform.GAUDI
    assert accelerator.memory_gib == 128


def test_intel_gpu_node() -> None:
    node = Node("xpu-1", {"gpu.intel.com/product": "Max_1550"}, {"gpu.intel.com/i915": "4"})
    assert node_accelerator(node).platform is Platform.XPU


@pytest.mark.parametrize(
    ("label", "product", "capability"),
    [
        ("cloud.google.com/gke-accelerator", "nvidia-l4", (8, 9)),
        ("cloud.google.com/gke-accelerator", "nvidia-tesla-t4", (7, 5)),
        ("karpenter.k8s.aws/instance-gpu-name", "l40s", (8, 9)),
    ],
)
def test_label_of_the_cloud_stands_in_for_feature_discovery(
    label: str, product: str, capability: tuple[int, int]
) -> None:
    node = Node("cloud-1", {label: product}, {"nvidia.com/gpu": "1"})
    assert node_accelerator(node).compute_capability == capability


@pytest.mark.parametrize(
    ("labels", "isa"),
    [({}, None), (NFD_AVX512, "avx512"), (NFD_VNNI, "avx512_vnni"), (NFD_AMX, "amx")],
)
def test_cpu_node_by_node_feature_discovery(labels: dict[str, str], isa: str | None) -> None:
    accelerator = node_accelerator(cpu_node(labels))
    assert accelerator.is_cpu
    assert accelerator.isa == isa
    assert accelerator.cores == 15
    assert accelerator.memory_gib == pytest.approx(125.8, abs=0.05)


def test_arm_node_is_neon() -> None:
    node = Node("arm-1", {"kubernetes.io/arch": "arm64"}, {"memory": "32Gi", "cpu": "16"})
    assert node_accelerator(node).isa == "neon"


def test_cap_in_the_pools_environment_counts_on_cpu_nodes_and_leaves_them_what_they_are() -> None:
    accelerator = node_accelerator(cpu_node(NFD_AMX), env={"ONEDNN_MAX_CPU_ISA": "AVX2"})
    assert (accelerator.isa, accelerator.onednn_cap) == ("amx", "avx2")
    assert "instruction set up to amx, oneDNN capped to avx2" in accelerator.describe()


def test_override_says_what_labels_do_not() -> None:
    bare = Node("gpu-1", {}, {"nvidia.com/gpu": "4"})
    override = HardwareOverride(product="NVIDIA-L40S", memory_gib=44)
    accelerator = node_accelerator(bare, override=override)
    assert (accelerator.memory_gib, accelerator.compute_capability) == (44, (8, 9))


@pytest.mark.parametrize(
    ("node", "gpus", "sentence"),
    [
        (Node("g", {}, {"nvidia.com/gpu": "1"}), 1, "node g: no label nvidia.com/gpu.product; install GPU Feature"),
        (Node("a", {}, {"amd.com/gpu": "1"}), 1, "node a: no label amd.com/gpu.product-name; install AMD's"),
        (Node("h", {}, {"habana.ai/gaudi": "8"}), 1, "node h: no label says which Gaudi it has; set nodePools"),
        (gpu_node(), 16, "gpusPerReplica 16: node gpu-1 has 8 x NVIDIA-L40S; lower it to 8 or less"),
        (
            gpu_node(GFD_L40S | {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-MIG-INVALID"}),
            1,
            "MIG layout that strategy single cannot show",
        ),
        (
            gpu_node(GFD_H100 | {"nvidia.com/mig.strategy": "mixed", "nvidia.com/mig-1g.10gb.count": "7"}),
            1,
            r"node gpu-1: it has devices of several sizes: nvidia.com/gpu \(8\), nvidia.com/mig-1g.10gb \(7\)",
        ),
        (
            Node(
                "m",
                {"amd.com/gpu.product-name.MI210": "2", "amd.com/gpu.product-name.MI300X": "2"},
                {"amd.com/gpu": "4"},
            ),
            1,
            r"node m: GPUs of several kinds \(MI210, MI300X\)",
        ),
        (Node("c", {"kubernetes.io/arch": "amd64"}, {"memory": "lots", "cpu": "4"}), 1, "'lots' is not a Kubernetes"),
    ],
)
def test_what_labels_cannot_say_is_a_sentence(node: Node, gpus: int, sentence: str) -> None:
    with pytest.raises(HardwareError, match=sentence):
        node_accelerator(node, gpus)


def test_pool_of_equal_nodes_has_the_smallest_memory() -> None:
    nodes = [gpu_node(name="a"), gpu_node(GFD_L40S | {"nvidia.com/gpu.memory": "45000"}, name="b")]
    assert pool_accelerator(nodes).memory_gib == pytest.approx(45000 / 1024)


def test_pool_of_mixed_nodes_names_one_of_each_kind() -> None:
    nodes = [gpu_node(name="a"), gpu_node(name="b"), gpu_node(GFD_H100, name="c")]
    with pytest.raises(HardwareError, match=r"a has NVIDIA-L40S, c has NVIDIA-H100-80GB-HBM3.*narrower nodeSelector"):
        pool_accelerator(nodes)


def test_cpu_pool_of_two_generations_is_mixed() -> None:
    with pytest.raises(HardwareError, match="the pool's nodes differ"):
        pool_accelerator([cpu_node(NFD_VNNI, "a"), cpu_node(NFD_AMX, "b")])


def test_cap_does_not_make_two_generations_alike() -> None:
    """vLLM's own kernels, attention among them, are those of each CPU."""
    nodes = [cpu_node(NFD_VNNI, "a"), cpu_node(NFD_AMX, "b")]
    with pytest.raises(HardwareError, match="the pool's nodes differ"):
        pool_accelerator(nodes, env={"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"})


def test_pool_without_nodes_is_an_error() -> None:
    with pytest.raises(HardwareError, match="no node matches; label the nodes or fix nodeSelector"):
        pool_accelerator([])


@pytest.mark.parametrize(
    ("text", "number"),
    [("24Gi", 24 * 2**30), ("131901456Ki", 131901456 * 1024), ("3920m", 3.92), ("64", 64), ("1G", 1e9)],
)
def test_kubernetes_quantities(text: str, number: float) -> None:
    assert parse_quantity(text) == pytest.approx(number)


def test_order_of_nodes_does_not_matter() -> None:
    nodes = [cpu_node(name="a", memory="64Gi"), cpu_node(name="b", memory="32Gi")]
    first, second = pool_accelerator(nodes), pool_accelerator(list(reversed(nodes)))
    assert first == second
    assert replace(first, memory_gib=64) != first


def test_a_gpu_brings_its_share_of_the_node_and_a_small_node_is_not_asked_for_more() -> None:
    labels = {"nvidia.com/gpu.product": "NVIDIA-L40S", "nvidia.com/gpu.count": "4", "nvidia.com/gpu.memory": "46068"}
    small = Node("small", labels, {"cpu": "2", "memory": "24Gi", "nvidia.com/gpu": "4"})
    one = pool_accelerator([small], gpus_per_replica=1)
    assert (one.host_cores, one.host_memory_gib) == (0.5, 6)
    assert default_resources(one) == Resources(cpu="375m", memory="4608Mi")
    assert default_resources(pool_accelerator([small], gpus_per_replica=2)) == Resources(cpu="750m", memory="9Gi")
    big = Node("big", labels, {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": "4"})
    assert default_resources(pool_accelerator([big], gpus_per_replica=2)) == Resources(cpu="4", memory="16Gi")
