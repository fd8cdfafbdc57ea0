"""What the vendors' documents say of the accelerators that vLLM runs on, one line each.

Rates are dense (data sheets like to print the figure with 2:4 sparsity, twice as high) and for one device as Kubernetes
counts devices: one GPU, one of the two dies of an MI250X. FP8 of GeForce cards is the rate with FP32 accumulation,
which vLLM's kernels use. Where a vendor publishes some formats only, the others follow from the architecture's ratio
between them (`derived` in the source).
"""

from __future__ import annotations

from dataclasses import dataclass

from haqa_operator.hardware.accelerators import Rates, Vendor


@dataclass(frozen=True)
class Product:
    """One line of the catalogue.

    Attributes:
        words: Words of the product's name that single it out, lower case.
        memory_gib: As the device itself reports it, less than the figure it is sold by.
        bandwidth_gb_s: Peak memory bandwidth.
        source: The document that the figures are from.
        slices: NVIDIA: compute slices that MIG cuts it into; 0 where it has no MIG.
        dies: AMD: compute dies, which CPX makes devices of; 1 where it has no partitions.
        memory_domains: AMD: parts of its memory, each with a share of the bandwidth for the dies beside it.
    """

    name: str
    words: frozenset[str]
    vendor: Vendor
    architecture: str
    memory_gib: float
    bandwidth_gb_s: float
    rates: Rates
    source: str
    compute_capability: tuple[int, int] | None = None
    slices: int = 0
    dies: int = 1
    memory_domains: int = 1


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
    (12, 1): "blackwell-rtx",
}
_WITH_SEVEN_SLICES = frozenset({(8, 0), (9, 0), (10, 0), (10, 3)})

_Row = tuple[str, str, str, float, float, tuple[float | None, ...]]
"""Name, words in it, compute capability or architecture, GiB, GB/s, rates: BF16, INT8, FP8, FP4."""


def _nvidia(source: str, *rows: _Row, slices: int | None = None) -> tuple[Product, ...]:
    found = []
    for name, words, capability, memory_gib, bandwidth, rates in rows:
        major, minor = (int(part) for part in capability.split("."))
        found.append(
            Product(
                name=name,
                words=frozenset(words.split()),
                vendor=Vendor.NVIDIA,
                architecture=_ARCHITECTURES[major, minor],
                memory_gib=memory_gib,
                bandwidth_gb_s=bandwidth,
                rates=Rates(*rates),
                source=source,
                compute_capability=(major, minor),
                slices=(7 if (major, minor) in _WITH_SEVEN_SLICES else 0) if slices is None else slices,
            )
        )
    return tuple(found)


def _others(vendor: Vendor, source: str, *rows: _Row, dies: int = 1, memory_domains: int = 1) -> tuple[Product, ...]:
    return tuple(
        Product(
            name=name,
            words=frozenset(words.split()),
            vendor=vendor,
            architecture=architecture,
            memory_gib=memory_gib,
            bandwidth_gb_s=bandwidth,
            rates=Rates(*rates),
            source=source,
            dies=dies,
            memory_domains=memory_domains,
        )
        for name, words, architecture, memory_gib, bandwidth, rates in rows
    )


_NVIDIA = (
    *_nvidia(
        "NVIDIA, V100 data sheet and Volta architecture paper",
        ("Tesla V100 16GB", "v100", "7.0", 16, 900, (125,)),
        ("Tesla V100 32GB", "v100 32gb", "7.0", 32, 900, (125,)),
        ("Tesla V100S 32GB", "v100s", "7.0", 32, 1134, (130,)),
    ),
    *_nvidia(
        "NVIDIA, T4 data sheet and Turing architecture paper",
        ("Tesla T4", "t4", "7.5", 15, 320, (65, 130)),
        ("Tesla T4G", "t4g", "7.5", 15, 320, (65, 130)),
    ),
    *_nvidia(
        "NVIDIA, A10 data sheet",
        ("A10", "a10", "8.6", 22.5, 600, (125, 250)),
    ),
    *_nvidia(
        "AWS, G5 instances: A10G",
        ("A10G", "a10g", "8.6", 22.5, 600, (70, 140)),
    ),
    *_nvidia(
        "NVIDIA, A30 data sheet",
        ("A30", "a30", "8.0", 24, 933, (165, 330)),
        slices=4,
    ),
    *_nvidia(
        "NVIDIA, A40 data sheet",
        ("A40", "a40", "8.6", 45, 696, (150, 299)),
    ),
    *_nvidia(
        "NVIDIA, RTX A series data sheets and GA102 architecture paper",
        ("RTX A4000", "a4000", "8.6", 16, 448, (76.7, 153.4)),
        ("RTX A5000", "a5000", "8.6", 24, 768, (111.1, 222.2)),
        ("RTX A6000", "a6000", "8.6", 48, 768, (155, 310)),
    ),
    *_nvidia(
        "NVIDIA, GA102 architecture paper",
        ("GeForce RTX 3090", "rtx 3090", "8.6", 24, 936, (71, 284)),
        ("GeForce RTX 3090 Ti", "rtx 3090 ti", "8.6", 24, 1008, (80, 320)),
    ),
    *_nvidia(
        "NVIDIA, A100 data sheet and architecture paper",
        ("A100 40GB", "a100", "8.0", 40, 1555, (312, 624)),
        ("A100 40GB PCIe", "a100 pcie", "8.0", 40, 1555, (312, 624)),
        ("A100 80GB", "a100 80gb", "8.0", 80, 2039, (312, 624)),
        ("A100 80GB PCIe", "a100 80gb pcie", "8.0", 80, 1935, (312, 624)),
    ),
    *_nvidia(
        "NVIDIA, A800 data sheet: A100 with less NVLink",
        ("A800 40GB", "a800", "8.0", 40, 1555, (312, 624)),
        ("A800 80GB", "a800 80gb", "8.0", 80, 2039, (312, 624)),
        ("A800 80GB PCIe", "a800 80gb pcie", "8.0", 80, 1935, (312, 624)),
    ),
    *_nvidia(
        "NVIDIA, L4, L40 and L40S data sheets and Ada architecture paper",
        ("L4", "l4", "8.9", 22.5, 300, (121, 242, 242)),
        ("L40", "l40", "8.9", 45, 864, (181, 362, 362)),
        ("L40S", "l40s", "8.9", 45, 864, (362, 733, 733)),
    ),
    *_nvidia(
        "NVIDIA, L20 and L2 product briefs",
        ("L2", "l2", "8.9", 24, 300, (96.5, 193, 193)),
        ("L20", "l20", "8.9", 48, 864, (119.5, 239, 239)),
    ),
    *_nvidia(
        "NVIDIA, Ada architecture paper",
        ("GeForce RTX 4080", "rtx 4080", "8.9", 16, 717, (97.5, 390, 195)),
        ("GeForce RTX 4080 SUPER", "rtx 4080 super", "8.9", 16, 736, (104.4, 418, 209)),
        ("GeForce RTX 4090", "rtx 4090", "8.9", 24, 1008, (165, 661, 330)),
        ("GeForce RTX 4090 D", "rtx 4090 d", "8.9", 24, 1008, (147, 588, 294)),
        ("RTX 5000 Ada", "rtx 5000 ada", "8.9", 32, 576, (261, 522, 522)),
        ("RTX 6000 Ada", "rtx 6000 ada", "8.9", 48, 960, (364, 729, 729)),
    ),
    *_nvidia(
        "NVIDIA, H100 data sheet and architecture paper",
        ("H100 SXM", "h100", "9.0", 79.6, 3350, (989, 1979, 1979)),
        ("H100 PCIe", "h100 pcie", "9.0", 79.6, 2039, (756, 1513, 1513)),
        ("H100 NVL", "h100 nvl", "9.0", 93.6, 3938, (835, 1671, 1671)),
    ),
    *_nvidia(
        "NVIDIA, H800 data sheet: H100 with less NVLink",
        ("H800 SXM", "h800", "9.0", 79.6, 3350, (989, 1979, 1979)),
        ("H800 PCIe", "h800 pcie", "9.0", 79.6, 2039, (756, 1513, 1513)),
        ("H800 NVL", "h800 nvl", "9.0", 93.6, 3938, (835, 1671, 1671)),
    ),
    *_nvidia(
        "NVIDIA, H20 product brief",
        ("H20", "h20", "9.0", 95.6, 4000, (148, 296, 296)),
        ("H20 141GB", "h20 3e", "9.0", 140.4, 4800, (148, 296, 296)),
    ),
    *_nvidia(
        "NVIDIA, H200 data sheet",
        ("H200 SXM", "h200", "9.0", 140.4, 4800, (989, 1979, 1979)),
        ("H200 NVL", "h200 nvl", "9.0", 140.4, 4800, (835, 1671, 1671)),
    ),
    *_nvidia(
        "NVIDIA, GH200 data sheet",
        ("GH200 96GB", "gh200", "9.0", 95.6, 4000, (990, 1979, 1979)),
        ("GH200 144GB", "gh200 144g", "9.0", 140.4, 4900, (990, 1979, 1979)),
    ),
    *_nvidia(
        "NVIDIA, Blackwell architecture paper and data sheets of HGX B200 and GB200 NVL72",
        ("B200", "b200", "10.0", 179, 8000, (2250, 4500, 4500, 9000)),
        ("GB200", "gb200", "10.0", 185, 8000, (2500, 5000, 5000, 10000)),
    ),
    *_nvidia(
        "NVIDIA, data sheets of HGX B300 and GB300 NVL72",
        ("B300", "b300", "10.3", 268, 8000, (2250, None, 4500, 13500)),
        ("GB300", "gb300", "10.3", 278, 8000, (2500, None, 5000, 15000)),
    ),
    *_nvidia(
        "NVIDIA, DGX Spark data sheet: FP4 and bandwidth; the other rates derived",
        ("GB10", "gb10", "12.1", 119.7, 273, (125, 250, 250, 500)),
    ),
    *_nvidia(
        "NVIDIA, RTX Blackwell architecture paper",
        ("GeForce RTX 5080", "rtx 5080", "12.0", 15.9, 960, (112.6, 450, 225, 900)),
        ("GeForce RTX 5090", "rtx 5090", "12.0", 31.8, 1792, (210, 838, 419, 1676)),
        ("GeForce RTX 5090 D", "rtx 5090 d", "12.0", 31.8, 1792, (210, 838, 419, 1187)),
    ),
    *_nvidia(
        "NVIDIA, RTX PRO Blackwell data sheets and RTX PRO Blackwell architecture paper",
        ("RTX PRO 4000 Blackwell", "rtx pro 4000 blackwell", "12.0", 23.9, 672, (147, 295, 295, 589)),
        ("RTX PRO 4500 Blackwell", "rtx pro 4500 blackwell", "12.0", 31.8, 896, (220, 440, 440, 879)),
        ("RTX PRO 5000 Blackwell", "rtx pro 5000 blackwell", "12.0", 47.8, 1344, (268, 536, 536, 1071)),
    ),
    *_nvidia(
        "NVIDIA, RTX PRO 6000 Blackwell data sheets and RTX PRO Blackwell architecture paper",
        ("RTX PRO 6000 Blackwell", "rtx pro 6000 blackwell", "12.0", 95.6, 1792, (504, 1007, 1007, 2015)),
        (
            "RTX PRO 6000 Blackwell Max-Q",
            "rtx pro 6000 blackwell max q",
            "12.0",
            95.6,
            1792,
            (439, 878, 878, 1755),
        ),
        # Clouds leave the rest of the name out: GKE's nvidia-rtx-pro-6000, Karpenter's rtx-pro-server-6000.
        ("RTX PRO 6000", "rtx pro 6000", "12.0", 95.6, 1597, (504, 1007, 1007, 2015)),
        (
            "RTX PRO 6000 Blackwell Server",
            "rtx pro 6000 blackwell server",
            "12.0",
            95.6,
            1597,
            (504, 1007, 1007, 2015),
        ),
        slices=4,
    ),
)

_AMD = (
    *_others(
        Vendor.AMD,
        "AMD, Instinct MI200 data sheets and CDNA 2 paper",
        ("Instinct MI210", "mi210", "gfx90a", 64, 1638, (181, 181)),
        ("Instinct MI250 (one die)", "mi250", "gfx90a", 64, 1638, (181, 181)),
        ("Instinct MI250X (one die)", "mi250x", "gfx90a", 64, 1638, (191.5, 191.5)),
    ),
    *_others(
        Vendor.AMD,
        "AMD, Instinct MI300A data sheet and CDNA 3 paper",
        ("Instinct MI300A", "mi300a", "gfx942", 128, 5300, (980.6, 1961, 1961)),
        dies=6,
        memory_domains=4,
    ),
    *_others(
        Vendor.AMD,
        "AMD, MI308X: MI300X's memory; the rates derived from its 80 of 304 compute units",
        ("Instinct MI308X", "mi308x", "gfx942", 192, 5300, (344, 688, 688)),
        dies=4,
        memory_domains=4,
    ),
    *_others(
        Vendor.AMD,
        "AMD, Instinct MI300X and MI325X data sheets and CDNA 3 paper",
        ("Instinct MI300X", "mi300x", "gfx942", 192, 5300, (1307, 2615, 2615)),
        ("Instinct MI325X", "mi325x", "gfx942", 256, 6000, (1307, 2615, 2615)),
        dies=8,
        memory_domains=4,
    ),
    *_others(
        Vendor.AMD,
        "AMD, Instinct MI350 data sheets and CDNA 4 paper",
        ("Instinct MI350X", "mi350x", "gfx950", 288, 8000, (2307, 4614, 4614, 9227)),
        ("Instinct MI355X", "mi355x", "gfx950", 288, 8000, (2517, 5033, 5033, 10066)),
        dies=8,
        memory_domains=2,
    ),
    *_others(
        Vendor.AMD,
        "AMD, Radeon product pages: peak matrix rates",
        ("Radeon RX 7900 XTX", "rx 7900 xtx", "gfx1100", 24, 960, (123, 123)),
        ("Radeon PRO W7900", "w7900", "gfx1100", 48, 864, (123, 123)),
        ("Radeon RX 9070 XT", "rx 9070 xt", "gfx1201", 16, 640, (195, 389, 389)),
        ("Radeon AI PRO R9700", "r9700", "gfx1201", 32, 640, (191, 383, 383)),
    ),
)

_INTEL = (
    *_others(
        Vendor.INTEL,
        "Intel, Gaudi 2 and Gaudi 3 white papers",
        ("Gaudi 2", "gaudi2", "gaudi2", 96, 2450, (432, None, 865)),
        ("Gaudi 3", "gaudi3", "gaudi3", 128, 3700, (1835, None, 1835)),
    ),
    *_others(
        Vendor.INTEL,
        "Intel, ARK: Data Center GPU Max",
        ("Data Center GPU Max 1100", "max 1100", "xpu", 48, 1229, (352, 704)),
        ("Data Center GPU Max 1550", "max 1550", "xpu", 128, 3277, (839, 1678)),
    ),
    *_others(
        Vendor.INTEL,
        "Intel, ARK: Arc and Arc Pro B series; BF16 derived from INT8",
        ("Arc B580", "b580", "xpu", 12, 456, (116.5, 233)),
        ("Arc Pro B50", "b50", "xpu", 16, 224, (85, 170)),
        ("Arc Pro B60", "b60", "xpu", 24, 456, (98.5, 197)),
        ("Arc Pro B65", "b65", "xpu", 32, 608, (98.5, 197)),
        ("Arc Pro B70", "b70", "xpu", 32, 608, (183.5, 367)),
    ),
)

PRODUCTS: tuple[Product, ...] = (*_NVIDIA, *_AMD, *_INTEL)
