"""Products are found by whatever name a tool, a cloud or a person gives them."""

import pytest

from haqa_operator.hardware.accelerators import Accelerator, Platform, Vendor
from haqa_operator.hardware.catalogue import completed, find
from haqa_operator.hardware.interconnects import has_fast_links
from haqa_operator.hardware.parts import MigProfile
from haqa_operator.hardware.products import PRODUCTS, Product


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
        ("NVIDIA-H200-NVL", "H200 NVL"),
        ("nvidia-h200-141gb", "H200 SXM"),
        ("NVIDIA-H20", "H20"),
        ("NVIDIA-H20-3e", "H20 141GB"),
        ("NVIDIA-H800", "H800 SXM"),
        ("NVIDIA-H800-PCIe", "H800 PCIe"),
        ("NVIDIA-A800-SXM4-80GB", "A800 80GB"),
        ("NVIDIA-A800-80GB-PCIe", "A800 80GB PCIe"),
        ("NVIDIA-A100-PCIE-40GB", "A100 40GB PCIe"),
        ("NVIDIA-L20", "L20"),
        ("NVIDIA-GB10", "GB10"),
        ("NVIDIA-GeForce-RTX-3090", "GeForce RTX 3090"),
        ("NVIDIA-GeForce-RTX-3090-Ti", "GeForce RTX 3090 Ti"),
        ("NVIDIA-GeForce-RTX-4090-D", "GeForce RTX 4090 D"),
        ("NVIDIA-GeForce-RTX-4080-SUPER", "GeForce RTX 4080 SUPER"),
        ("NVIDIA-GeForce-RTX-5080", "GeForce RTX 5080"),
        ("NVIDIA-RTX-5000-Ada-Generation", "RTX 5000 Ada"),
        ("NVIDIA-RTX-A5000", "RTX A5000"),
        ("Tesla-V100S-PCIE-32GB", "Tesla V100S 32GB"),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition", "RTX PRO 6000 Blackwell Max-Q"),
        ("NVIDIA-RTX-PRO-4500-Blackwell", "RTX PRO 4500 Blackwell"),
        ("nvidia-rtx-pro-6000", "RTX PRO 6000"),
        ("rtx-pro-server-6000", "RTX PRO 6000"),
        ("nvidia-tesla-t4", "Tesla T4"),
        ("t4g", "Tesla T4G"),
        ("a10g", "A10G"),
        ("H100_NVLINK_80GB", "H100 SXM"),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "A100 40GB"),
        ("AMD_Instinct_MI300X_OAM-CPX", "Instinct MI300X"),
        ("AMD_Instinct_MI300A", "Instinct MI300A"),
        ("AMD_Instinct_MI308X", "Instinct MI308X"),
        ("AMD_Instinct_MI250X", "Instinct MI250X (one die)"),
        ("AMD_Instinct_MI350X", "Instinct MI350X"),
        ("AMD_Radeon_AI_PRO_R9700", "Radeon AI PRO R9700"),
        ("AMD_Radeon_RX_7900_XTX", "Radeon RX 7900 XTX"),
        ("Arc_Pro_B60", "Arc Pro B60"),
        ("Intel(R) Arc(TM) Pro B60 Graphics", "Arc Pro B60"),
        ("Max_1550", "Data Center GPU Max 1550"),
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
    assert find("NVIDIA-GeForce-RTX-4090-Laptop-GPU") is None
    assert find("Quadro-RTX-6000") is None
    assert find("Intel(R) Xeon(R) Platinum 8480+") is None


def test_every_entry_is_found_by_its_own_words_and_no_two_are_the_same() -> None:
    for entry in PRODUCTS:
        assert find(" ".join(sorted(entry.words))) == entry
    assert len({entry.words for entry in PRODUCTS}) == len(PRODUCTS)


@pytest.mark.parametrize("entry", PRODUCTS, ids=lambda entry: entry.name)
def test_figures_are_plausible(entry: Product) -> None:
    """Narrower arithmetic is never slower, bandwidth is that of some memory, and NVIDIA has a compute capability."""
    rates = [r for r in (entry.rates.bf16, entry.rates.fp8, entry.rates.fp4) if r is not None]
    assert rates == sorted(rates)
    assert entry.rates.int8 is None or entry.rates.int8 >= (entry.rates.bf16 or 0)
    assert 200 < entry.bandwidth_gb_s <= 8000
    assert (entry.compute_capability is not None) == (entry.vendor is Vendor.NVIDIA)
    assert entry.source


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
    assert slice_.rates is not None
    assert slice_.rates.bf16 == pytest.approx(312 / 7)
    assert slice_.bandwidth_gb_s == pytest.approx(1555 / 8)
    assert slice_.memory_gib == 5


@pytest.mark.parametrize(
    ("product", "memory_gib", "compute", "bandwidth"),
    [
        ("AMD_Instinct_MI300X_OAM-CPX", 24, 8, 4),
        ("AMD_Instinct_MI300X_OAM-DPX", 96, 2, 2),
        ("AMD_Instinct_MI300A-TPX", 128 / 3, 3, 3),
        ("AMD_Instinct_MI308X-CPX", 48, 4, 4),
        ("AMD_Instinct_MI350X-CPX", 36, 8, 2),
        ("AMD_Instinct_MI300X_OAM", 192, 1, 1),
    ],
)
def test_compute_partition_has_its_share_of_everything(
    product: str, memory_gib: float, compute: int, bandwidth: int
) -> None:
    part, entry = completed(Accelerator(Vendor.AMD, product)), find(product)
    assert entry is not None
    assert part.memory_gib == pytest.approx(memory_gib)
    assert part.rates == entry.rates.share(1 / compute)
    assert part.bandwidth_gb_s == pytest.approx(entry.bandwidth_gb_s / bandwidth)


@pytest.mark.parametrize(
    ("text", "name"),
    [("1g.10gb", "1g.10gb"), ("1c.3g.40gb", "1c.3g.40gb"), ("1g.24gb.me", "1g.24gb.me"), ("1g.24gb+gfx", "1g.24gb+gfx")]
    + [(text, None) for text in ("", "8g.10gb", "1g", "3c.1g.10gb", "g.10gb", "1g.0gb", "half", "1g.10gb5")],
)
def test_mig_profiles_are_read_and_nothing_else(text: str, name: str | None) -> None:
    profile = MigProfile.parse(text)
    assert (profile.name if profile else None) == name


def test_a_slice_that_computes_alone_shares_its_memory_with_others() -> None:
    profile = MigProfile.parse("1c.3g.40gb")
    assert profile == MigProfile("1c.3g.40gb", 1, 40, shares_memory=True)


@pytest.mark.parametrize(
    ("label", "fast"),
    [
        ("NVIDIA-H100-80GB-HBM3", True),
        ("NVIDIA-H100-NVL", True),
        ("NVIDIA-H100-PCIe", False),
        ("NVIDIA-A40", False),
        ("NVIDIA-L40S", False),
        ("NVIDIA-H20", True),
        ("MI308X", True),
        ("MI210", True),
        ("Gaudi3", True),
        ("Max_1550", False),
    ],
)
def test_fast_links_are_those_made_for_splitting_layers(label: str, fast: bool) -> None:
    product = find(label)
    assert product is not None
    assert has_fast_links(product) is fast


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
