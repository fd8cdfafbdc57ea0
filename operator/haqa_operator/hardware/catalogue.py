"""What the vendors' data sheets say of the accelerators that vLLM runs on.

Node labels name a product; which schemes run on it and how fast its memory is follow from the product. Rates are dense
(data sheets like to print the figure with 2:4 sparsity, twice as high) and for one device as Kubernetes counts devices:
one GPU, one of the two dies of an MI250X.

Sources: NVIDIA's data sheets of each product and the architecture papers (Volta, Turing, GA102, A100, Ada, H100,
Blackwell, RTX Blackwell); AMD's Instinct data sheets and CDNA papers; Intel's Gaudi white papers and ARK.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache, partial

from haqa_operator.hardware.accelerators import Accelerator, Vendor


@dataclass(frozen=True)
class Product:
    """One line of the catalogue.

    Attributes:
        words: Words of the product's name that single it out, lower case.
        memory_gib: As the device itself reports it, less than the figure it is sold by.
        bandwidth_gb_s: Peak memory bandwidth.
        bf16_tflops: Dense; FP16's where the chip has no BF16 (before Ampere).
        int8_tops, fp8_tflops, fp4_tflops: Dense; None where the chip has no such units, or no figure is published.
    """

    name: str
    words: frozenset[str]
    vendor: Vendor
    architecture: str
    memory_gib: float
    bandwidth_gb_s: float
    bf16_tflops: float
    int8_tops: float | None = None
    fp8_tflops: float | None = None
    fp4_tflops: float | None = None
    compute_capability: tuple[int, int] | None = None


def _nvidia(
    name: str, words: str, capability: str, memory_gib: float, bandwidth: float, *rates: float | None
) -> Product:
    major, minor = (int(part) for part in capability.split("."))
    entry = _product(Vendor.NVIDIA, name, words, _ARCHITECTURES[major, minor], memory_gib, bandwidth, *rates)
    return replace(entry, compute_capability=(major, minor))


def _product(
    vendor: Vendor,
    name: str,
    words: str,
    architecture: str,
    memory_gib: float,
    bandwidth: float,
    *rates: float | None,
) -> Product:
    bf16, int8, fp8, fp4 = (*rates, None, None, None)[:4]
    return Product(
        name=name,
        words=frozenset(words.split()),
        vendor=vendor,
        architecture=architecture,
        memory_gib=memory_gib,
        bandwidth_gb_s=bandwidth,
        bf16_tflops=bf16 or 0.0,
        int8_tops=int8,
        fp8_tflops=fp8,
        fp4_tflops=fp4,
    )


_amd = partial(_product, Vendor.AMD)
_intel = partial(_product, Vendor.INTEL)

_ARCHITECTURES = {
    (7, 0): "volta",
    (7, 5): "turing",
    (8, 0): "ampere",
    (8, 6): "ampere",
    (8, 9): "ada",
    (9, 0): "hopper",
    (10, 0): "blackwell",
    (10, 3): "blackwell-ultra",
    (12, 0): "blackwell-rtx",
}

# name, words in it, compute capability or architecture; GiB, GB/s, then dense TFLOPS or TOPS: BF16, INT8, FP8, FP4
PRODUCTS: tuple[Product, ...] = (
    _nvidia("Tesla V100 16GB", "v100", "7.0", 16, 900, 125),
    _nvidia("Tesla V100 32GB", "v100 32gb", "7.0", 32, 900, 125),
    _nvidia("Tesla T4", "t4", "7.5", 15, 320, 65, 130),
    _nvidia("A10", "a10", "8.6", 22.5, 600, 125, 250),
    _nvidia("A10G", "a10g", "8.6", 22.5, 600, 70, 140),
    _nvidia("A30", "a30", "8.0", 24, 933, 165, 330),
    _nvidia("A40", "a40", "8.6", 45, 696, 150, 299),
    _nvidia("RTX A6000", "a6000", "8.6", 48, 768, 155, 310),
    _nvidia("A100 40GB", "a100", "8.0", 40, 1555, 312, 624),
    _nvidia("A100 80GB", "a100 80gb", "8.0", 80, 2039, 312, 624),
    _nvidia("A100 80GB PCIe", "a100 80gb pcie", "8.0", 80, 1935, 312, 624),
    _nvidia("L4", "l4", "8.9", 22.5, 300, 121, 242, 242),
    _nvidia("L40", "l40", "8.9", 45, 864, 181, 362, 362),
    _nvidia("L40S", "l40s", "8.9", 45, 864, 362, 733, 733),
    _nvidia("GeForce RTX 4090", "rtx 4090", "8.9", 24, 1008, 165, 661, 330),
    _nvidia("RTX 6000 Ada", "rtx 6000 ada", "8.9", 48, 960, 364, 729, 729),
    _nvidia("H100 SXM", "h100", "9.0", 79.6, 3350, 989, 1979, 1979),
    _nvidia("H100 PCIe", "h100 pcie", "9.0", 79.6, 2039, 756, 1513, 1513),
    _nvidia("H100 NVL", "h100 nvl", "9.0", 93.6, 3938, 835, 1671, 1671),
    _nvidia("H200 SXM", "h200", "9.0", 140.4, 4800, 989, 1979, 1979),
    _nvidia("H200 NVL", "h200 nvl", "9.0", 140.4, 4800, 835, 1671, 1671),
    _nvidia("GH200 96GB", "gh200", "9.0", 95.6, 4000, 990, 1979, 1979),
    _nvidia("GH200 144GB", "gh200 144g", "9.0", 140.4, 4900, 990, 1979, 1979),
    _nvidia("B200", "b200", "10.0", 179, 8000, 2250, 4500, 4500, 9000),
    _nvidia("GB200", "gb200", "10.0", 185, 8000, 2500, 5000, 5000, 10000),
    _nvidia("B300", "b300", "10.3", 268, 8000, 2250, None, 4500, 13500),
    _nvidia("GB300", "gb300", "10.3", 278, 8000, 2500, None, 5000, 15000),
    _nvidia("GeForce RTX 5090", "rtx 5090", "12.0", 31.8, 1792, 210, 838, 419, 1676),
    _nvidia("RTX PRO 6000 Blackwell", "rtx pro 6000 blackwell", "12.0", 95.6, 1792, 504, 1007, 1007, 2015),
    _nvidia(
        "RTX PRO 6000 Blackwell Server", "rtx pro 6000 blackwell server", "12.0", 95.6, 1597, 504, 1007, 1007, 2015
    ),
    _amd("Instinct MI210", "mi210", "gfx90a", 64, 1638, 181, 181),
    _amd("Instinct MI250 (one die)", "mi250", "gfx90a", 64, 1638, 181, 181),
    _amd("Instinct MI250X (one die)", "mi250x", "gfx90a", 64, 1638, 191.5, 191.5),
    _amd("Instinct MI300X", "mi300x", "gfx942", 192, 5300, 1307, 2615, 2615),
    _amd("Instinct MI325X", "mi325x", "gfx942", 256, 6000, 1307, 2615, 2615),
    _amd("Instinct MI350X", "mi350x", "gfx950", 288, 8000, 2307, 4614, 4614, 9227),
    _amd("Instinct MI355X", "mi355x", "gfx950", 288, 8000, 2517, 5033, 5033, 10066),
    _intel("Gaudi 2", "gaudi2", "gaudi2", 96, 2450, 432, None, 865),
    _intel("Gaudi 3", "gaudi3", "gaudi3", 128, 3700, 1835, None, 1835),
    _intel("Data Center GPU Max 1100", "max 1100", "xpu", 48, 1229, 352, 704),
    _intel("Data Center GPU Max 1550", "max 1550", "xpu", 128, 3277, 839, 1678),
)

_RENAMED = {"mi300": "mi300x", "mi325": "mi325x", "mi350": "mi350x", "mi355": "mi355x"}
"""Words that the vendors' own tools write for a product, e.g. `AMD_Instinct_MI325_OAM`."""


@cache
def find(product: str, memory_gib: float | None = None) -> Product | None:
    """The catalogue's entry for a product, by the name that a node label, `nvidia-smi` or a person gives it.

    The entry with most words in the name wins (`NVIDIA-A100-80GB-PCIe` over `A100 80GB`). Where the name leaves the
    size open (`nvidia-tesla-v100`), the memory decides.

    Args:
        memory_gib: Memory of the device, None if unknown. Of a MIG slice this is the slice's, so it is not used.
    """
    words = _words(product)
    if memory_gib is not None and "mig" not in words:
        sized = [entry for entry in PRODUCTS if _undecided(entry, words) and _fits(entry, memory_gib)]
        words |= {word for entry in sized for word in entry.words}
    matches = [entry for entry in PRODUCTS if entry.words <= words]
    return max(matches, key=lambda entry: len(entry.words), default=None)


def peak_rates(product: Product) -> dict[str, float | None]:
    """Number format -> dense TFLOPS or TOPS of one device; None = no units for it, or none that anybody published."""
    sixteen = "FP16" if product.architecture in ("volta", "turing") else "BF16"
    return {
        sixteen: product.bf16_tflops,
        "INT8": product.int8_tops,
        "FP8": product.fp8_tflops,
        "FP4": product.fp4_tflops,
    }


def completed(accelerator: Accelerator) -> Accelerator:
    """The accelerator with what the catalogue knows filled in where nothing better is known.

    A MIG slice has the share of the memory's bandwidth that it has of the memory.
    """
    entry = find(accelerator.product, accelerator.memory_gib)
    if entry is None or entry.vendor is not accelerator.vendor:
        return accelerator
    memory_gib = accelerator.memory_gib or entry.memory_gib
    share = min(1.0, memory_gib / entry.memory_gib) if "mig" in _words(accelerator.product) else 1.0
    return replace(
        accelerator,
        memory_gib=memory_gib,
        compute_capability=accelerator.compute_capability or entry.compute_capability,
        bandwidth_gb_s=accelerator.bandwidth_gb_s or entry.bandwidth_gb_s * share,
        architecture=accelerator.architecture or entry.architecture,
    )


def _words(product: str) -> set[str]:
    """`NVIDIA-A100-SXM4-80GB` -> {nvidia, a100, sxm4, 80gb}; `Gaudi 3` -> {gaudi3}."""
    text = re.sub(r"gaudi[\s_-]*(?=\d)", "gaudi", product.lower())
    words = {word for word in re.split(r"[^a-z0-9]+", text) if word}
    return words | {_RENAMED[word] for word in words if word in _RENAMED}


_SIZES = frozenset({"32gb", "80gb", "144g"})


def _undecided(entry: Product, words: set[str]) -> bool:
    """Only the memory's size is missing from the name for this entry to match."""
    missing = entry.words - words
    return bool(missing) and missing <= _SIZES


def _fits(entry: Product, memory_gib: float) -> bool:
    return abs(entry.memory_gib - memory_gib) < 0.1 * entry.memory_gib
