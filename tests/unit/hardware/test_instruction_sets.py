"""What a CPU has, and what a cap leaves of it."""

import pytest

from haqa_operator.hardware.accelerators import HardwareError
from haqa_operator.hardware.instruction_sets import at_least, capped, from_flags

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
        (f"{AVX512} avx512_vnni avx512_bf16 amx_tile amx_bf16 amx_int8", "amx"),
        ("fp asimd asimddp", "neon"),
    ],
)
def test_widest_instruction_set_of_the_flags(flags, isa):
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
        ("amx", "AVX512_CORE_AMX", "amx"),
        ("amx", "DEFAULT", "amx"),
        ("avx512_vnni", "AVX512_CORE_BF16", "avx512_vnni"),
        ("avx512_vnni", "SSE41", None),
        (None, "AVX2", None),
        ("neon", "AVX2", "neon"),
    ],
)
def test_cap_leaves_the_narrower_of_the_two(isa, cap, left):
    assert capped(isa, cap) == left


def test_cap_that_onednn_would_ignore_is_an_error():
    with pytest.raises(HardwareError, match=r"ONEDNN_MAX_CPU_ISA 'AVX512' is none of oneDNN's values; use one of"):
        capped("amx", "AVX512")


def test_wider_includes_narrower():
    assert at_least("amx", "avx512_vnni")
    assert not at_least("avx512", "avx512_vnni")
    assert not at_least("neon", "avx2")
    assert not at_least(None, "avx2")
