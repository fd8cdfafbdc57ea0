"""`nodePools[].hardware`: a person's word over what the machine or its labels say."""

from __future__ import annotations

from dataclasses import replace

from haqa_operator.api.pools import HardwareOverride
from haqa_operator.hardware.accelerators import Accelerator, Rates, Vendor
from haqa_operator.hardware.catalogue import completed


def overridden(accelerator: Accelerator, override: HardwareOverride | None) -> Accelerator:
    """The accelerator with the override's fields in place of its own, completed from the catalogue.

    Another product takes its memory, compute capability, bandwidth and rates with it, unless the override names them.
    """
    if override is None:
        return completed(accelerator)
    vendor = Vendor(override.vendor) if override.vendor is not None else accelerator.vendor
    product = override.product if override.product is not None else accelerator.product
    if (vendor, product) != (accelerator.vendor, accelerator.product):
        accelerator = replace(
            accelerator,
            vendor=vendor,
            product=product,
            memory_gib=accelerator.memory_gib if vendor is Vendor.CPU else None,
            compute_capability=None,
            bandwidth_gb_s=None,
            rates=None,
            architecture=None,
        )
    capability, peaks = override.compute_capability, override.peak_tflops
    rates = Rates(peaks.bf16, peaks.int8, peaks.fp8, peaks.fp4) if peaks else Rates()
    return completed(
        replace(
            accelerator,
            memory_gib=override.memory_gib or accelerator.memory_gib,
            compute_capability=parse_capability(capability) if capability else accelerator.compute_capability,
            architecture=override.architecture or accelerator.architecture,
            bandwidth_gb_s=override.bandwidth_gb_s or accelerator.bandwidth_gb_s,
            rates=rates.over(accelerator.rates or Rates()) if peaks else accelerator.rates,
            isa=override.isa or accelerator.isa,
        )
    )


def parse_capability(text: str) -> tuple[int, int]:
    """`8.9` -> (8, 9)."""
    major, _, minor = text.strip().partition(".")
    return int(major), int(minor or 0)
