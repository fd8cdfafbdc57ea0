"""Which matrix instructions a CPU has, and which of them the engine may use.

Two things follow from it, and a cap changes one of them. vLLM loads the build of its own kernels that the CPU allows
(vllm/platforms/cpu.py, `import_kernels`: AVX2, AVX512, or AVX512 with BF16), and what a build lacks, such as 4-bit
weights under AVX2, cannot be served. Most matrix products are oneDNN's: INT8 needs VNNI to be fast, BF16 needs
AVX512-BF16 or AMX, FP8 needs AVX512-FP16. `ONEDNN_MAX_CPU_ISA` caps these and nothing else, so a capped CPU is a second
kind of node, but not an older CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from haqa_operator.hardware.accelerators import Accelerator, HardwareError

WIDENING = ("avx2", "avx512", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx")
"""x86, each with everything before it."""

NEON = "neon"

NARROWER = "sse4"
"""A cap below everything named above."""

_CPUINFO = {
    "avx2": {"avx2"},
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq"},
    "avx512_vnni": {"avx512_vnni"},
    "avx512_bf16": {"avx512_bf16"},
    "avx512_fp16": {"avx512_fp16"},
    "amx": {"amx_tile", "amx_bf16", "amx_int8"},
}
"""Flags of /proc/cpuinfo that each of them needs."""

_SKIPPED = frozenset({"avx512_fp16"})
"""What a virtual machine may hide and still have what is wider."""

_CAPS = {
    "SSE41": NARROWER,
    "AVX": NARROWER,
    "AVX2": "avx2",
    "AVX2_VNNI": "avx2",
    "AVX2_VNNI_2": "avx2",
    "AVX512_CORE": "avx512",
    "AVX512_CORE_VNNI": "avx512_vnni",
    "AVX512_CORE_BF16": "avx512_bf16",
    "AVX512_CORE_FP16": "avx512_fp16",
    "AVX10_1_512": "avx512_fp16",
    "AVX512_CORE_AMX": "amx",
    "AVX512_CORE_AMX_FP16": "amx",
    "AVX10_1_512_AMX": "amx",
    "AVX10_1_512_AMX_FP16": "amx",
    "DEFAULT": "amx",
    "ALL": "amx",
}
"""oneDNN's values, from its developer guide, "CPU Dispatcher Control"."""


def from_flags(flags: Iterable[str]) -> str | None:
    """The widest instruction set among the flags of /proc/cpuinfo; None below AVX2."""
    present = set(flags)
    if "asimd" in present or "neon" in present:
        return NEON
    return widest(lambda name: _CPUINFO[name] <= present)


def widest(has: Callable[[str], bool]) -> str | None:
    """The widest instruction set of which, and of all before it, a CPU has the instructions; None below AVX2."""
    found = None
    for name in WIDENING:
        if has(name):
            found = name
        elif name not in _SKIPPED:
            break
    return found


def onednn_cap(value: str | None) -> str | None:
    """The instruction set that a value of `ONEDNN_MAX_CPU_ISA` stands for; None where nothing is capped.

    Raises:
        HardwareError: oneDNN has no such value; it would ignore it silently.
    """
    if not value:
        return None
    if value.upper() not in _CAPS:
        raise HardwareError(f"ONEDNN_MAX_CPU_ISA {value!r} is none of oneDNN's values; use one of {', '.join(_CAPS)}")
    return _CAPS[value.upper()]


def onednn_isa(accelerator: Accelerator) -> str | None:
    """The widest instruction set that oneDNN uses on a CPU: its own, or the cap's; None where its own is not known."""
    isa, cap = accelerator.isa, accelerator.onednn_cap
    if cap is None or isa not in WIDENING:
        return isa
    return min(isa, cap, key=lambda name: WIDENING.index(name) if name in WIDENING else -1)


def at_least(isa: str | None, needed: str) -> bool:
    """Whether an x86 instruction set includes another."""
    return isa in WIDENING and WIDENING.index(isa) >= WIDENING.index(needed)
