"""What joins the accelerators of one machine, for each product of the catalogue.

Splitting a model over accelerators is worth its communication on some links and not on others. Figures are GB/s of one
device over all its links, both directions together, as data sheets print them.

Sources: NVIDIA's data sheets and architecture papers (NVLink 2 to 5; PCIe by generation, x16); AMD's Instinct data
sheets (Infinity Fabric: MI210 3 links of 100 GB/s, MI250 and MI250X 8 for both dies, MI300A 6 and MI300X, MI308X and
MI325X 7 of 128 GB/s, MI350X and MI355X 7 of 153.6 GB/s); Intel's Gaudi 2 and 3 white papers (24 Ethernet ports of 100
and 200 Gb/s, of which 21 stay inside of the machine) and its product pages.
"""

from __future__ import annotations

from dataclasses import dataclass

from haqa_operator.hardware.products import Product


@dataclass(frozen=True)
class Interconnect:
    """Attributes:
    kind: `NVLink`, `PCIe 4.0`…
    gb_s: Of one device, both directions together.
    """

    kind: str
    gb_s: float
    bridged: bool = False
    """Only between devices that somebody has put a bridge on; PCIe otherwise."""

    def describe(self) -> str:
        bridge = " where the devices have a bridge, else PCIe" if self.bridged else ""
        return f"{self.kind}, {self.gb_s:g} GB/s for each, both directions together{bridge}"


_PCIE_3, _PCIE_4, _PCIE_5 = (Interconnect(f"PCIe {n}.0", gb_s) for n, gb_s in ((3, 32), (4, 64), (5, 128)))

_PCIE_4_X8, _PCIE_5_X8 = Interconnect("PCIe 4.0 x8", 32), Interconnect("PCIe 5.0 x8", 64)


def _nvlink(gb_s: float) -> Interconnect:
    return Interconnect("NVLink", gb_s)


def _bridge(gb_s: float) -> Interconnect:
    return Interconnect("NVLink", gb_s, bridged=True)


def _fabric(gb_s: float) -> Interconnect:
    return Interconnect("Infinity Fabric", gb_s)


INTERCONNECTS = {
    "Tesla V100 16GB": _nvlink(300),
    "Tesla V100 32GB": _nvlink(300),
    "Tesla V100S 32GB": _PCIE_3,
    "Tesla T4": _PCIE_3,
    "Tesla T4G": _PCIE_3,
    "A10": _PCIE_4,
    "A10G": _PCIE_4,
    "A30": _bridge(200),
    "A40": _bridge(112.5),
    "RTX A4000": _PCIE_4,
    "RTX A5000": _bridge(112.5),
    "RTX A6000": _bridge(112.5),
    "GeForce RTX 3090": _bridge(112.5),
    "GeForce RTX 3090 Ti": _bridge(112.5),
    "A100 40GB": _nvlink(600),
    "A100 40GB PCIe": _bridge(600),
    "A100 80GB": _nvlink(600),
    "A100 80GB PCIe": _bridge(600),
    "A800 40GB": _nvlink(400),
    "A800 80GB": _nvlink(400),
    "A800 80GB PCIe": _bridge(400),
    "L4": _PCIE_4,
    "L40": _PCIE_4,
    "L40S": _PCIE_4,
    "L2": _PCIE_4,
    "L20": _PCIE_4,
    "GeForce RTX 4080": _PCIE_4,
    "GeForce RTX 4080 SUPER": _PCIE_4,
    "GeForce RTX 4090": _PCIE_4,
    "GeForce RTX 4090 D": _PCIE_4,
    "RTX 5000 Ada": _PCIE_4,
    "RTX 6000 Ada": _PCIE_4,
    "H100 SXM": _nvlink(900),
    "H100 PCIe": _bridge(600),
    "H100 NVL": _bridge(600),
    "H800 SXM": _nvlink(400),
    "H800 PCIe": _bridge(400),
    "H800 NVL": _bridge(400),
    "H20": _nvlink(900),
    "H20 141GB": _nvlink(900),
    "H200 SXM": _nvlink(900),
    "H200 NVL": _bridge(900),
    "GH200 96GB": _nvlink(900),
    "GH200 144GB": _nvlink(900),
    "B200": _nvlink(1800),
    "GB200": _nvlink(1800),
    "B300": _nvlink(1800),
    "GB300": _nvlink(1800),
    "GeForce RTX 5080": _PCIE_5,
    "GeForce RTX 5090": _PCIE_5,
    "GeForce RTX 5090 D": _PCIE_5,
    "RTX PRO 4000 Blackwell": _PCIE_5,
    "RTX PRO 4500 Blackwell": _PCIE_5,
    "RTX PRO 5000 Blackwell": _PCIE_5,
    "RTX PRO 6000": _PCIE_5,
    "RTX PRO 6000 Blackwell": _PCIE_5,
    "RTX PRO 6000 Blackwell Max-Q": _PCIE_5,
    "RTX PRO 6000 Blackwell Server": _PCIE_5,
    "Instinct MI210": Interconnect("Infinity Fabric", 300, bridged=True),
    "Instinct MI250 (one die)": _fabric(400),
    "Instinct MI250X (one die)": _fabric(400),
    "Instinct MI300A": _fabric(768),
    "Instinct MI300X": _fabric(896),
    "Instinct MI308X": _fabric(896),
    "Instinct MI325X": _fabric(896),
    "Instinct MI350X": _fabric(1075),
    "Instinct MI355X": _fabric(1075),
    "Radeon RX 7900 XTX": _PCIE_4,
    "Radeon PRO W7900": _PCIE_4,
    "Radeon RX 9070 XT": _PCIE_5,
    "Radeon AI PRO R9700": _PCIE_5,
    "Gaudi 2": Interconnect("Ethernet", 525),
    "Gaudi 3": Interconnect("Ethernet", 1050),
    "Arc B580": _PCIE_4_X8,
    "Arc Pro B50": _PCIE_5_X8,
    "Arc Pro B60": _PCIE_5_X8,
    "Arc Pro B65": _PCIE_5,
    "Arc Pro B70": _PCIE_5,
}
"""Name of a product -> its links. The product's name does not tell PCIe cards of the V100 apart: those have PCIe 3.0.
Of Intel's Data Center GPU Max the bridges differ, so that nothing is said; a machine with a GB10 has one of them."""


def interconnect(product: Product) -> Interconnect | None:
    """The links of a product, None where no figure is known."""
    return INTERCONNECTS.get(product.name)


def has_fast_links(product: Product) -> bool:
    """Whether its links are made for splitting layers over accelerators; bridges count where cards come with them."""
    links = interconnect(product)
    if links is None or links.kind.startswith("PCIe"):
        return False
    return not links.bridged or (links.gb_s >= 300 and "pcie" not in product.words)
