"""Every tool's and cloud's way to say what a node has, and what becomes of it."""

from __future__ import annotations

import pytest
from tests.unit.hardware.label_cases import (
    H100_MIXED,
    L40S_RENAMED,
    L40S_SLICED,
    MI300X,
    NVIDIA_GPU,
    READ,
    REFUSED,
    Read,
)
from tests.unit.hardware.label_sets import (
    GPU_OPERATOR,
    H100,
    L40S,
    Labels,
    feature_discovery,
    mig_labels,
    node,
)

from haqa_operator.api.pools import HardwareOverride
from haqa_operator.hardware.accelerators import HardwareError, NoRoomError
from haqa_operator.hardware.node_labels import node_accelerator, pool_accelerator
from haqa_operator.serving.pod import device_resource


@pytest.mark.parametrize(("labels", "devices", "expected"), [case[1:] for case in READ], ids=[case[0] for case in READ])
def test_what_a_node_says(labels: Labels, devices: dict[str, str], expected: Read) -> None:
    found = node_accelerator(node(labels, **devices))
    assert device_resource(found) == found.resource
    assert expected == Read(
        found.product, round(found.memory_gib or 0), found.resource or "", found.sharing, found.vendor
    )
    assert found.bandwidth_gb_s is not None
    assert found.rates is not None
    assert found.host_cores is not None


@pytest.mark.parametrize(
    ("labels", "devices", "count", "sentence"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_what_cannot_be_served_on_is_a_sentence(
    labels: Labels, devices: dict[str, str], count: int, sentence: str
) -> None:
    with pytest.raises(HardwareError, match=sentence):
        node_accelerator(node(labels, **devices), count)


@pytest.mark.parametrize("labels", [GPU_OPERATOR, {"cloud.google.com/gke-tpu-accelerator": "tpu"}, L40S])
def test_a_person_may_serve_on_the_processor_of_any_node(labels: Labels) -> None:
    assert node_accelerator(node(labels), override=HardwareOverride(vendor="cpu")).is_cpu


def test_a_processor_with_a_built_in_gpu_is_a_cpu_node() -> None:
    labels = {"gpu.intel.com/device-id.0300-9a49.present": "true", "intel.feature.node.kubernetes.io/gpu": "true"}
    assert node_accelerator(node(labels)).is_cpu


def test_the_pool_names_the_slices_that_it_uses() -> None:
    labels = H100_MIXED | mig_labels("nvidia.com/mig-1g.10gb", "NVIDIA-H100-80GB-HBM3", "1g.10gb", 7, 9856, 16)
    mixed = node(labels, **{NVIDIA_GPU: "0", "nvidia.com/mig-1g.10gb": "7", "nvidia.com/mig-3g.40gb": "14"})
    found = node_accelerator(mixed, resource="nvidia.com/mig-1g.10gb")
    assert (found.product, found.resource) == ("NVIDIA-H100-80GB-HBM3-MIG-1g.10gb", "nvidia.com/mig-1g.10gb")
    assert found.memory_gib == pytest.approx(9856 / 1024)
    assert found.rates is not None
    assert found.rates.bf16 == pytest.approx(989 / 7)
    assert found.bandwidth_gb_s == pytest.approx(3350 / 8, rel=0.01)


def test_a_resource_of_another_name_is_waited_for() -> None:
    with pytest.raises(NoRoomError, match=r"its kubelet offers none of nvidia\.com/mig-7g\.80gb"):
        node_accelerator(node(H100, **{NVIDIA_GPU: "8"}), resource="nvidia.com/mig-7g.80gb")


def test_devices_that_come_by_a_claim_need_no_resource() -> None:
    found = node_accelerator(node(H100), 2, claim="two-h100")
    assert (found.product, found.count, found.resource) == ("NVIDIA-H100-80GB-HBM3", 2, None)


def test_devices_that_come_by_a_claim_and_that_no_label_names_are_named_by_the_pool() -> None:
    with pytest.raises(HardwareError, match="come by resourceClaimTemplate gpus, and no label says what they are"):
        node_accelerator(node({}), claim="gpus")
    override = HardwareOverride(vendor="amd", product="AMD_Instinct_MI300X")
    assert node_accelerator(node({}), override=override, claim="gpus").memory_gib == 192


def test_gpus_that_are_not_shared_beside_others_that_are_are_whole() -> None:
    some = node(L40S_RENAMED, **{NVIDIA_GPU: "2", "nvidia.com/gpu.shared": "4"})
    with pytest.raises(HardwareError, match=r"nvidia.com/gpu \(2\), nvidia.com/gpu.shared \(4\); name the one"):
        node_accelerator(some)
    assert node_accelerator(some, 2, resource=NVIDIA_GPU).sharing is None
    assert node_accelerator(some, resource="nvidia.com/gpu.shared").sharing == "time-slicing"


def test_several_vgpus_may_serve_together() -> None:
    labels = feature_discovery("NVIDIA-A40-48Q", 49152, 2, "8.6", "ampere") | {"nvidia.com/vgpu.present": "true"}
    assert node_accelerator(node(labels, **{NVIDIA_GPU: "2"}), 2).sharing == "vgpu"


@pytest.mark.parametrize(
    ("labels", "devices", "product", "memory_gib"),
    [
        (L40S, {NVIDIA_GPU: "4"}, "NVIDIA-H100-NVL", 94),
        (L40S, {NVIDIA_GPU: "4"}, "nvidia-l40s", 45),
        (H100, {NVIDIA_GPU: "8"}, "NVIDIA-H100-80GB-HBM3-MIG-2g.20gb", 19),
        (MI300X, {"amd.com/gpu": "8"}, "AMD_Instinct_MI325X", 256),
        (MI300X, {"amd.com/gpu": "8"}, "MI300X", 192),
    ],
)
def test_labels_of_another_product_are_not_believed(
    labels: Labels, devices: dict[str, str], product: str, memory_gib: int
) -> None:
    found = node_accelerator(node(labels, **devices), override=HardwareOverride(product=product))
    assert round(found.memory_gib or 0) == memory_gib


def test_nodes_that_are_not_ready_are_left_out_while_others_are() -> None:
    ready, starting = node(L40S, "ready", **{NVIDIA_GPU: "4"}), node(GPU_OPERATOR, "starting")
    assert pool_accelerator([starting, ready]).product == "NVIDIA-L40S"
    with pytest.raises(HardwareError, match=r"node starting: .*\(and 1 more like it\)"):
        pool_accelerator([starting, node(L40S, "sick", **{NVIDIA_GPU: "0"})])


def test_nodes_that_are_too_small_for_a_replica_are_left_out_while_others_are_not() -> None:
    small, big = node(L40S, "small", **{NVIDIA_GPU: "1"}), node(L40S, "big", **{NVIDIA_GPU: "4"})
    assert pool_accelerator([small, big], 4).count == 4


@pytest.mark.parametrize(
    ("labels", "devices", "sentence"),
    [
        (
            L40S_SLICED,
            {NVIDIA_GPU: "4"},
            r"a has NVIDIA-L40S \(nvidia.com/gpu, whole\), b has NVIDIA-L40S \(nvidia.com/g",
        ),
        (L40S_RENAMED, {"nvidia.com/gpu.shared": "4"}, r"b has NVIDIA-L40S \(nvidia.com/gpu.shared, shared by time-sl"),
        (L40S | {"nvidia.com/gpu.memory": "24000"}, {NVIDIA_GPU: "4"}, "b has 23 GiB, a has 45 GiB"),
    ],
)
def test_a_pool_is_of_one_kind(labels: Labels, devices: dict[str, str], sentence: str) -> None:
    with pytest.raises(HardwareError, match=rf"the pool's nodes differ.*{sentence}"):
        pool_accelerator([node(L40S, "a", **{NVIDIA_GPU: "4"}), node(labels, "b", **devices)])


def test_a_shared_gpu_has_a_caveat_and_a_whole_one_none() -> None:
    shared = node_accelerator(node(L40S_SLICED, **{NVIDIA_GPU: "4"}))
    assert shared.caveat is not None
    assert "shared with other pods (time-slicing), which disturb what is measured" in shared.caveat
    assert "shared with others (time-slicing)" in shared.describe()
    assert node_accelerator(node(L40S, **{NVIDIA_GPU: "4"})).caveat is None
