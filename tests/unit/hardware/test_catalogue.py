"""Products are found by whatever name a tool, a cloud or a person gives them."""

import pytest

from haqa_operator.hardware.accelerators import Accelerator, Platform, Vendor
from haqa_operator.hardware.catalogue import PRODUCTS, Product, completed, find


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Tesla-V100-SXM2-16GB", "Tesla V100 16GB"),
        ("Tesla-V100-SXM2-32GB", "Tesla V100 32GB"),
        ("Tesla-T4", "Tesla T4"),
        ("NVIDIA-A10", "A10"),
        ("NVIDIA-A10G", "A10G"),
        ("NVIDIA-A100-SXM4-40GB", "A100 40GB"),
        ("NVIDIA-A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA-A100-80GB-PCIe", "A100 80GB PCIe"),
        ("NVIDIA-A30", "A30"),
        ("NVIDIA-A40", "A40"),
        ("NVIDIA-RTX-A6000", "RTX A6000"),
        ("NVIDIA-L4", "L4"),
        ("NVIDIA-L40", "L40"),
        ("NVIDIA-L40S", "L40S"),
        ("NVIDIA-GeForce-RTX-4090", "GeForce RTX 4090"),
        ("NVIDIA-RTX-6000-Ada-Generation", "RTX 6000 Ada"),
        ("NVIDIA-GeForce-RTX-5090", "GeForce RTX 5090"),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition", "RTX PRO 6000 Blackwell"),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "RTX PRO 6000 Blackwell Server"),
        ("NVIDIA-H100-80GB-HBM3", "H100 SXM"),
        ("NVIDIA-H100-PCIe", "H100 PCIe"),
        ("NVIDIA-H100-NVL", "H100 NVL"),
        ("NVIDIA-H200", "H200 SXM"),
        ("NVIDIA-GH200-480GB", "GH200 96GB"),
        ("NVIDIA-B200", "B200"),
        ("NVIDIA-B300-SXM6-AC", "B300"),
        ("NVIDIA-GB200", "GB200"),
        ("AMD_Instinct_MI300X_OAM", "Instinct MI300X"),
        ("AMD_Instinct_MI325_OAM", "Instinct MI325X"),
        ("AMD_Instinct_MI210", "Instinct MI210"),
        ("AMD_Instinct_MI355X", "Instinct MI355X"),
        ("Gaudi 3", "Gaudi 3"),
        ("gaudi2", "Gaudi 2"),
        ("nvidia-l4", "L4"),
        ("nvidia-h100-mega-80gb", "H100 SXM"),
        ("l40s", "L40S"),
        ("A100-80GB", "A100 80GB"),
    ],
)
def test_product_is_found_by_the_name_its_tool_writes(label: str, name: str) -> None:
    found = find(label)
    assert found is not None
    assert found.name == name


def test_memory_decides_where_the_name_leaves_the_size_open() -> None:
    def found(label: str, memory_gib: float) -> str | None:
        product = find(label, memory_gib)
        return product.name if product else None

    assert found("nvidia-tesla-v100", 31.7) == "Tesla V100 32GB"
    assert found("nvidia-tesla-v100", 15.9) == "Tesla V100 16GB"
    assert found("nvidia-tesla-a100", 79.3) == "A100 80GB"


def test_unknown_product_is_not_guessed() -> None:
    assert find("Quadro-P2000") is None
    assert find("Intel(R) Xeon(R) Platinum 8480+") is None


def test_every_entry_is_found_by_its_own_words_and_no_two_are_the_same() -> None:
    for entry in PRODUCTS:
        assert find(" ".join(sorted(entry.words))) == entry
    assert len({entry.words for entry in PRODUCTS}) == len(PRODUCTS)


@pytest.mark.parametrize("entry", PRODUCTS, ids=lambda entry: entry.name)
def test_figures_are_plausible(entry: Product) -> None:
    """Narrower arithmetic is never slower, bandwidth is that of some memory, and NVIDIA has a compute capability."""
    rates = [r for r in (entry.bf16_tflops, entry.fp8_tflops, entry.fp4_tflops) if r is not None]
    assert rates == sorted(rates)
    assert entry.int8_tops is None or entry.int8_tops >= entry.bf16_tflops
    assert 250 < entry.bandwidth_gb_s <= 8000
    assert (entry.compute_capability is not None) == (entry.vendor is Vendor.NVIDIA)


def test_accelerator_is_completed_without_overruling_what_was_read() -> None:
    read = Accelerator(Vendor.NVIDIA, "NVIDIA-L40S", count=2, memory_gib=44.7)
    accelerator = completed(read)
    assert accelerator.memory_gib == 44.7
    assert accelerator.compute_capability == (8, 9)
    assert accelerator.bandwidth_gb_s == 864
    assert accelerator.architecture == "ada"
    assert accelerator.count == 2


def test_mig_slice_has_its_share_of_the_bandwidth() -> None:
    whole = completed(Accelerator(Vendor.NVIDIA, "NVIDIA-A100-SXM4-40GB", memory_gib=40))
    slice_ = completed(Accelerator(Vendor.NVIDIA, "NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", memory_gib=5))
    assert whole.bandwidth_gb_s == 1555
    assert slice_.bandwidth_gb_s == pytest.approx(1555 / 8)
    assert slice_.memory_gib == 5


@pytest.mark.parametrize(
    ("vendor", "product", "platform"),
    [
        (Vendor.NVIDIA, "NVIDIA-L4", Platform.CUDA),
        (Vendor.AMD, "MI300X", Platform.ROCM),
        (Vendor.INTEL, "Gaudi3", Platform.GAUDI),
        (Vendor.INTEL, "Max_1550", Platform.XPU),
        (Vendor.CPU, "Xeon", Platform.CPU),
    ],
)
def test_vendor_and_product_say_which_platform_vllm_runs_as(vendor: Vendor, product: str, platform: Platform) -> None:
    assert completed(Accelerator(vendor, product)).platform is platform
