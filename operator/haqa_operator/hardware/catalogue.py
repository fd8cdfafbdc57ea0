"""Finds what an accelerator is in the vendors' documents, by the name that somebody gives it.

Node labels name a product; which schemes run on it and how fast its memory is follow from the product.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from haqa_operator.hardware.accelerators import Accelerator, Rates
from haqa_operator.hardware.parts import is_part, mig_profile, partition_of, partitions, whole
from haqa_operator.hardware.products import PRODUCTS, Product

_RENAMED = {"mi300": "mi300x", "mi325": "mi325x", "mi350": "mi350x", "mi355": "mi355x"}
"""Words that the vendors' own tools write for a product, e.g. `AMD_Instinct_MI325_OAM`."""

_MOBILE = frozenset({"laptop", "mobile"})
"""A product of the same name with other memory and rates."""


@lru_cache(1024)
def find(product: str, memory_gib: float | None = None) -> Product | None:
    """The catalogue's entry for a product, by the name that a node label, `nvidia-smi` or a person gives it.

    The entry with most words in the name wins (`NVIDIA-A100-80GB-PCIe` over `A100 80GB`). Where the name leaves the
    size open (`nvidia-tesla-v100`), the memory decides.

    Args:
        memory_gib: Memory of the device, None if unknown. Of a part of a device this is the part's, so it is not used.
    """
    words = _words(whole(product))
    if words & _MOBILE:
        return None
    if memory_gib is not None and not is_part(product):
        sized = [entry for entry in PRODUCTS if _undecided(entry, words) and _fits(entry, memory_gib)]
        words |= {word for entry in sized for word in entry.words}
    matches = [entry for entry in PRODUCTS if entry.words <= words]
    return max(matches, key=lambda entry: len(entry.words), default=None)


def peak_rates(accelerator: Accelerator) -> dict[str, float | None]:
    """Number format -> dense TFLOPS or TOPS of one device; None = no units for it, or none that anybody published."""
    rates = accelerator.rates
    if rates is None:
        return {}
    sixteen = "FP16" if accelerator.architecture in ("volta", "turing") else "BF16"
    return {sixteen: rates.bf16, "INT8": rates.int8, "FP8": rates.fp8, "FP4": rates.fp4}


def completed(accelerator: Accelerator) -> Accelerator:
    """The accelerator with what the catalogue knows filled in where nothing better is known.

    A part of a device has its share of the device's memory, bandwidth and rates (`shares`).
    """
    entry = find(accelerator.product, accelerator.memory_gib)
    if entry is None or entry.vendor is not accelerator.vendor:
        return accelerator
    compute, bandwidth = shares(accelerator.product, entry)
    rates = accelerator.rates or Rates()
    return replace(
        accelerator,
        memory_gib=accelerator.memory_gib or part_memory_gib(accelerator.product, entry),
        compute_capability=accelerator.compute_capability or entry.compute_capability,
        bandwidth_gb_s=accelerator.bandwidth_gb_s or entry.bandwidth_gb_s * bandwidth,
        rates=rates.over(entry.rates.share(compute)),
        architecture=accelerator.architecture or entry.architecture,
    )


def shares(product: str, entry: Product) -> tuple[float, float]:
    """What a part has of the whole device's arithmetic, and at most of its bandwidth; 1 and 1 for a whole one.

    Of AMD's compute partitions those beside the same part of the memory take what their neighbours leave.
    """
    if (profile := mig_profile(product)) is not None:
        return profile.compute_share(entry.slices or 7), min(1.0, profile.memory_gb / entry.memory_gib)
    if (mode := partition_of(product)) is not None:
        share = 1 / partitions(mode, entry.dies)
        return share, max(share, 1 / entry.memory_domains)
    return 1.0, 1.0


def part_memory_gib(product: str, entry: Product) -> float:
    """Memory of a device or of a part of it, where no label says."""
    if (profile := mig_profile(product)) is not None:
        return min(profile.memory_gib, entry.memory_gib)
    mode = partition_of(product)
    return entry.memory_gib / (partitions(mode, entry.dies) if mode else 1)


def _words(product: str) -> set[str]:
    """`NVIDIA-A100-SXM4-80GB` -> {nvidia, a100, sxm4, 80gb}; `Gaudi 3` -> {gaudi3}."""
    text = re.sub(r"gaudi[\s_-]*(?=\d)", "gaudi", product.lower())
    words = {word for word in re.split(r"[^a-z0-9]+", text) if word}
    return words | {_RENAMED[word] for word in words if word in _RENAMED}


_SIZES = frozenset({"32gb", "80gb", "144g", "3e"})


def _undecided(entry: Product, words: set[str]) -> bool:
    """Only the memory's size is missing from the name for this entry to match."""
    missing = entry.words - words
    return bool(missing) and missing <= _SIZES


def _fits(entry: Product, memory_gib: float) -> bool:
    return abs(entry.memory_gib - memory_gib) < 0.1 * entry.memory_gib
