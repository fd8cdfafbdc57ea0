"""CPU nodes by the labels of Node Feature Discovery, `feature.node.kubernetes.io/cpu-cpuid.AVX512VNNI` and its like."""

from __future__ import annotations

from collections.abc import Mapping

from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.hardware.instruction_sets import NEON, onednn_cap, widest
from haqa_operator.hardware.nodes import Node, parse_quantity

_NFD = "feature.node.kubernetes.io/"
_CPUID = {
    "avx2": ("AVX2",),
    "avx512": ("AVX512F", "AVX512BW", "AVX512VL", "AVX512DQ"),
    "avx512_vnni": ("AVX512VNNI",),
    "avx512_bf16": ("AVX512BF16",),
    "avx512_fp16": ("AVX512FP16",),
    "amx": ("AMXTILE", "AMXBF16", "AMXINT8"),
}
"""NFD's names (those of github.com/klauspost/cpuid) for the flags of `instruction_sets`."""


def read(node: Node, env: Mapping[str, str]) -> Accelerator:
    """The node's processor. Raises HardwareError: its resources are no quantities, or the cap is none of oneDNN's."""
    memory, cores = node.allocatable.get("memory"), node.allocatable.get("cpu")
    return Accelerator(
        Vendor.CPU,
        product=_product(node),
        memory_gib=parse_quantity(memory) / 2**30 or None if memory else None,
        isa=_isa(node),
        onednn_cap=onednn_cap(env.get("ONEDNN_MAX_CPU_ISA")),
        cores=max(1, int(parse_quantity(cores))) if cores else None,
    )


def _product(node: Node) -> str:
    vendor, family, model = (node.labels.get(f"{_NFD}cpu-model.{part}") for part in ("vendor_id", "family", "id"))
    architecture = node.labels.get("kubernetes.io/arch", "unknown architecture")
    known = f", {vendor} family {family} model {model}" if vendor else ""
    return f"{architecture} CPU{known}"


def _isa(node: Node) -> str | None:
    """The widest set that Node Feature Discovery labels; None where it does not run."""
    if node.labels.get("kubernetes.io/arch") == "arm64":
        return NEON
    return widest(lambda name: all(node.labels.get(f"{_NFD}cpu-cpuid.{flag}") == "true" for flag in _CPUID[name]))
