"""Which image an engine runs from, where the pool does not name one.

The official ones, by vLLM's installation documents (docs.vllm.ai, "Installation", "Pre-built images"), at the version
that HAQA's settings and feasibility rules are made for.
"""

from __future__ import annotations

from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.serving.settings import catalogue


class NoOfficialImageError(ValueError):
    """There is no image that fits by itself; the message says which field to set."""


def engine_image(accelerator: Accelerator) -> str:
    """The official vLLM image for this hardware.

    Raises:
        NoOfficialImageError: for Gaudi, whose images are tied to the version of the driver on the node.
    """
    tag = f"v{catalogue().version}"
    match accelerator.vendor:
        case Vendor.NVIDIA:
            return f"vllm/vllm-openai:{tag}"
        case Vendor.AMD:
            return f"vllm/vllm-openai-rocm:{tag}"
        case Vendor.INTEL if is_gaudi(accelerator):
            raise NoOfficialImageError(
                f"nodePools[].image is missing: {accelerator.product} needs the image that fits the driver on its "
                "nodes; take the vllm-plugin image of that version from Intel's Gaudi registry"
            )
        case Vendor.INTEL:
            return f"vllm/vllm-openai-xpu:{tag}"
        case Vendor.CPU:
            # The tag without an architecture is a manifest of both.
            return f"vllm/vllm-openai-cpu:{tag}"


def is_gaudi(accelerator: Accelerator) -> bool:
    return accelerator.vendor is Vendor.INTEL and "gaudi" in accelerator.product.lower()
