"""Which matrix instructions a CPU has, and which of them the engine may use.

vLLM's CPU kernels are oneDNN's: INT8 needs VNNI to be fast, BF16 needs AVX512-BF16 or AMX. `ONEDNN_MAX_CPU_ISA` caps
what oneDNN uses, which makes a second kind of node out of the same machine.
"""

from __future__ import annotations

from collections.abc import Iterable

from haqa_operator.hardware.accelerators import HardwareError

WIDENING = ("avx2", "avx512", "avx512_vnni", "avx512_bf16", "amx")
"""x86, each with everything before it."""

NEON = "neon"

_CPUINFO = {
    "avx2": {"avx2"},
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq"},
    "avx512_vnni": {"avx512_vnni"},
    "avx512_bf16": {"avx512_bf16"},
    "amx": {"amx_tile", "amx_bf16", "amx_int8"},
}
"""Flags of /proc/cpuinfo that each of them needs."""

_CAPS = {
    "SSE41": None,
    "AVX": None,
    "AVX2": "avx2",
    "AVX2_VNNI": "avx2",
    "AVX2_VNNI_2": "avx2",
    "AVX512_CORE": "avx512",
    "AVX512_CORE_VNNI": "avx512_vnni",
    "AVX512_CORE_BF16": "avx512_bf16",
    "AVX512_CORE_FP16": "avx512_bf16",
    "AVX10_1_512": "avx512_bf16",
    "AVX512_CORE_AMX": "amx",
    "AVX512_CORE_AMX_FP16": "amx",
    "AVX10_1_512_AMX": "amx",
    "AVX10_1_512_AMX_FP16": "amx",
    "DEFAULT": "amx",
    "ALL": "amx",
}
"""oneDNN's values, from its developer guide, "CPU Dispatcher Control"; None: narrower than anything named here."""


def from_flags(flags: Iterable[str]) -> str | None:
    """The widest instruction set among the flags of /proc/cpuinfo; None below AVX2."""
    present = set(flags)
    if "asimd" in present or "neon" in present:
        return NEON
    widest = None
    for name in WIDENING:
        if not _CPUINFO[name] <= present:
            break
        widest = name
    return widest


def capped(isa: str | None, cap: str | None) -> str | None:
    """What is left of an instruction set under a value of `ONEDNN_MAX_CPU_ISA`.

    Raises:
        HardwareError: oneDNN has no such value; it would ignore it silently.
    """
    if not cap:
        return isa
    if cap.upper() not in _CAPS:
        raise HardwareError(f"ONEDNN_MAX_CPU_ISA {cap!r} is none of oneDNN's values; use one of {', '.join(_CAPS)}")
    limit = _CAPS[cap.upper()]
    if isa is None or limit is None or isa not in WIDENING:
        return isa if isa == NEON else None
    return min(isa, limit, key=WIDENING.index)


def at_least(isa: str | None, needed: str) -> bool:
    """Whether an x86 instruction set includes another."""
    return isa in WIDENING and WIDENING.index(isa) >= WIDENING.index(needed)
