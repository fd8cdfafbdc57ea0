import pytest

from haqa_operator.hardware.catalogue import find
from haqa_operator.hardware.interconnects import INTERCONNECTS, interconnect
from haqa_operator.hardware.products import PRODUCTS


def test_every_product_has_its_links_but_those_whose_bridges_differ() -> None:
    names = {product.name for product in PRODUCTS}
    assert names - INTERCONNECTS.keys() == {"Data Center GPU Max 1100", "Data Center GPU Max 1550", "GB10"}
    assert INTERCONNECTS.keys() <= names


@pytest.mark.parametrize(
    ("label", "described"),
    [
        ("NVIDIA-H100-80GB-HBM3", "NVLink, 900 GB/s for each, both directions together"),
        (
            "NVIDIA-H100-PCIe",
            "NVLink, 600 GB/s for each, both directions together where the devices have a bridge, else PCIe",
        ),
        ("NVIDIA-L40S", "PCIe 4.0, 64 GB/s for each, both directions together"),
        ("AMD_Instinct_MI300X_OAM", "Infinity Fabric, 896 GB/s for each, both directions together"),
    ],
)
def test_links_are_told_in_a_sentence(label: str, described: str) -> None:
    product = find(label)
    assert product is not None
    links = interconnect(product)
    assert links is not None
    assert links.describe() == described
