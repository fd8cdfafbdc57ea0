"""What a CPU has, and what a cap leaves of it to oneDNN."""

import pytest

from haqa_operator.hardware.accelerators import Accelerator, HardwareError, Vendor
from haqa_operator.hardware.instruction_sets import at_least, from_flags, onednn_cap, onednn_isa

AVX512 = "avx2 avx512f avx512bw avx512vl avx512dq"


@pytest.mark.parametrize(
    ("flags", "isa"),
    [
        ("sse4_2 avx", None),
        ("avx2 fma", "avx2"),
        ("avx2 avx_vnni", "avx2"),
        ("avx2 avx512f", "avx2"),
        (AVX512, "avx512"),
        (f"{AVX512} avx512_vnni", "avx512_vnni"),
        (f"{AVX512} avx512_vnni avx512_bf16", "avx512_bf16"),
        (f"{AVX512} avx512_vnni avx512_bf16 avx512_fp16", "avx512_fp16"),
        (f"{AVX512} avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_bf16 amx_int8", "amx"),
        (f"{AVX512} avx512_vnni avx512_bf16 amx_tile amx_bf16 amx_int8", "amx"),
        (f"{AVX512} avx512_fp16 amx_tile amx_bf16 amx_int8", "avx512"),
        ("fp asimd asimddp", "neon"),
    ],
)
def test_widest_instruction_set_of_the_flags(flags: str, isa: str | None) -> None:
    assert from_flags(flags.split()) == isa


@pytest.mark.parametrize(
    ("isa", "cap", "left"),
    [
        ("amx", None, "amx"),
        ("amx", "", "amx"),
        ("amx", "AVX2", "avx2"),
        ("amx", "avx512_core", "avx512"),
        ("amx", "AVX512_CORE_VNNI", "avx512_vnni"),
        ("amx", "AVX512_CORE_BF16", "avx512_bf16"),
        ("amx", "AVX512_CORE_FP16", "avx512_fp16"),
        ("amx", "AVX512_CORE_AMX", "amx"),
        ("amx", "DEFAULT", "amx"),
        ("avx512_vnni", "AVX512_CORE_BF16", "avx512_vnni"),
        ("avx512_vnni", "SSE41", "sse4"),
        (None, "AVX2", None),
        ("neon", "AVX2", "neon"),
    ],
)
def test_cap_leaves_the_narrower_of_the_two_to_onednn(isa: str | None, cap: str, left: str | None) -> None:
    assert onednn_isa(Accelerator(Vendor.CPU, "CPU", isa=isa, onednn_cap=onednn_cap(cap))) == left


def test_cap_that_onednn_would_ignore_is_an_error() -> None:
    with pytest.raises(HardwareError, match=r"ONEDNN_MAX_CPU_ISA 'AVX512' is none of oneDNN's values; use one of"):
        onednn_cap("AVX512")


def test_wider_includes_narrower() -> None:
    assert at_least("amx", "avx512_vnni")
    assert not at_least("avx512", "avx512_vnni")
    assert not at_least("neon", "avx2")
    assert not at_least(None, "avx2")
    assert not at_least("sse4", "avx2")
