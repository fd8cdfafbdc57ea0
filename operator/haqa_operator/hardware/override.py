"""`nodePools[].hardware`: a person's word over what the machine or its labels say."""

from __future__ import annotations

from dataclasses import replace

from haqa_operator.api.pools import HardwareOverride
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.hardware.catalogue import completed


def overridden(accelerator: Accelerator, override: HardwareOverride | None) -> Accelerator:
    """The accelerator with the override's fields in place of its own, completed from the catalogue.

    Another product takes its memory, compute capability and bandwidth with it, unless the override names them too.
    """
    if override is None:
        return completed(accelerator)
    if override.product is not None and override.product != accelerator.product:
        accelerator = replace(
            accelerator,
            product=override.product,
            memory_gib=accelerator.memory_gib if accelerator.is_cpu else None,
            compute_capability=None,
            bandwidth_gb_s=None,
            architecture=None,
        )
    if override.vendor is not None:
        accelerator = replace(accelerator, vendor=Vendor(override.vendor))
    if override.memory_gib is not None:
        accelerator = replace(accelerator, memory_gib=override.memory_gib)
    if override.compute_capability is not None:
        accelerator = replace(accelerator, compute_capability=parse_capability(override.compute_capability))
    if override.isa is not None:
        accelerator = replace(accelerator, isa=override.isa)
    return completed(accelerator)


def parse_capability(text: str) -> tuple[int, int]:
    """`8.9` -> (8, 9)."""
    major, _, minor = text.strip().partition(".")
    return int(major), int(minor or 0)
