import pytest

from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.serving.images import NoOfficialImageError, engine_image


@pytest.mark.parametrize(
    ("vendor", "image"),
    [
        (Vendor.NVIDIA, "vllm/vllm-openai:v0.32.0"),
        (Vendor.AMD, "vllm/vllm-openai-rocm:v0.32.0"),
        (Vendor.INTEL, "vllm/vllm-openai-xpu:v0.32.0"),
        (Vendor.CPU, "vllm/vllm-openai-cpu:v0.32.0"),
    ],
)
def test_official_image_by_hardware(vendor: Vendor, image: str) -> None:
    assert engine_image(Accelerator(vendor=vendor, product="any")) == image


def test_gaudi_has_no_image_by_default_and_says_which_field_to_set() -> None:
    with pytest.raises(NoOfficialImageError, match=r"nodePools\[\]\.image is missing: HL-225 Gaudi2 needs"):
        engine_image(Accelerator(vendor=Vendor.INTEL, product="HL-225 Gaudi2"))
