"""The table: compute capability x scheme x vLLM release, and what other platforms load."""

import pytest
from tests.optional import present
from tests.unit.search.builders import amd, cpu, gaudi, gpu_of, nvidia

from haqa_contract import MADE_SCHEMES, Scheme
from haqa_operator.hardware.accelerators import Accelerator, Platform, Vendor
from haqa_operator.hardware.instruction_sets import WIDENING
from haqa_operator.search.requirements import TABLE, Capability, note, product_bits, requirement, unmet
from haqa_operator.serving.versions import Version, parse_version

CAPABILITIES = ("7.0", "7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0")

# What vLLM 0.32 runs, in the order of CAPABILITIES: y = yes, 8 = in FP8, w = weight-only, - = no.
VLLM_0_32 = {
    "BF16": "-yyyyyyy",
    "W8A8-INT8": "-yyyyy--",
    "W4A16": "-yyyyyyy",
    "W4A16-ASYM": "-yyyyyyy",
    "W8A16": "-yyyyyyy",
    "W4A8": "--------",
    "W4AFP8": "-----y--",
    "FP8-DYNAMIC": "-wwwyyyy",
    "FP8-BLOCK": "-wwwwyyy",
    "NVFP4": "-wwwwwyy",
    "NVFP4A16": "-yyyyyyy",
    "MXFP4": "--www8yy",
    "MXFP4A16": "--www8yy",
    "MXFP8": "-wwwwwyy",
}


def answer(accelerator: Accelerator, scheme: str, vllm: str = "0.32.0") -> str:
    version = parse_version(vllm)
    if unmet(accelerator, Scheme(scheme), version):
        return "-"
    said = note(accelerator, Scheme(scheme), version) or ""
    return "w" if "weight-only" in said else "8" if "computed in FP8" in said else "y"


@pytest.mark.parametrize("scheme", VLLM_0_32)
def test_scheme_by_compute_capability(scheme: str) -> None:
    answers = "".join(answer(gpu_of(*map(int, c.split("."))), scheme) for c in CAPABILITIES)
    assert answers == VLLM_0_32[scheme]


@pytest.mark.parametrize(
    ("capability", "scheme", "vllm", "expected"),
    [
        ((7, 0), "BF16", "0.22.1", "y"),
        ((7, 0), "BF16", "0.23.0", "-"),
        ((7, 5), "W4A16", "0.12.0", "-"),
        ((7, 5), "W4A16", "0.13.0", "y"),
        ((8, 0), "W4A16", "0.12.0", "y"),
        ((9, 0), "W4AFP8", "0.9.2", "-"),
        ((9, 0), "W4AFP8", "0.10.2", "y"),
        ((9, 0), "FP8-BLOCK", "0.10.2", "-"),
        ((9, 0), "FP8-BLOCK", "0.11.0", "y"),
        ((10, 0), "NVFP4", "0.8.5", "-"),
        ((10, 0), "NVFP4", "0.9.0", "y"),
        ((9, 0), "MXFP4", "0.14.0", "-"),
        ((9, 0), "MXFP4", "0.15.1", "w"),
        ((9, 0), "MXFP4", "0.31.0", "w"),
        ((9, 0), "MXFP4", "0.32.0", "8"),
        ((9, 0), "MXFP8", "0.21.0", "-"),
        ((9, 0), "MXFP8", "0.22.1", "w"),
        ((9, 0), "W8A8-INT8", "0.6.0", "y"),
        ((9, 0), "FP8-DYNAMIC", "v0.33.0rc1", "y"),
    ],
)
def test_scheme_by_release(capability: Capability, scheme: str, vllm: str, expected: str) -> None:
    assert answer(gpu_of(*capability), scheme, vllm) == expected


@pytest.mark.parametrize(
    ("accelerator", "scheme", "sentence"),
    [
        (nvidia("Tesla-T4"), "MXFP4", "MXFP4 needs compute capability 8.0 or more; Tesla-T4 has 7.5"),
        (nvidia("NVIDIA-B200"), "W8A8-INT8", "does not run on compute capability 10.0 and above; NVIDIA-B200 has 10.0"),
        (nvidia("NVIDIA-L4"), "W4AFP8", "W4AFP8 runs on compute capability 9.0 only; NVIDIA-L4 has 8.9"),
        (
            nvidia("NVIDIA-H200"),
            "W4A8",
            "no kernel for NVIDIA that reads W4A8 as HAQA stores it, a weight in a byte; use W4AFP8",
        ),
        (amd("MI210"), "FP8-DYNAMIC", "FP8-DYNAMIC needs gfx1200, gfx1201, gfx1250, gfx942, gfx950; MI210 is gfx90a"),
        (amd("MI300X"), "MXFP4", "MXFP4 needs gfx1250, gfx950; MI300X is gfx942"),
        (amd("MI300X"), "NVFP4", "vLLM only emulates NVFP4 on AMD"),
        (gaudi(), "NVFP4", "vllm-gaudi does not load NVFP4"),
        (cpu(), "W8A16", "Failed to find a kernel that can implement the WNA16 linear layer"),
        (cpu(), "NVFP4", "vLLM has no NVFP4 kernel for CPUs"),
        (cpu("avx512_bf16"), "FP8-BLOCK", "FP8-BLOCK needs AMX on a CPU; Xeon has avx512_bf16, for which vLLM has no"),
        (
            cpu("avx512_fp16", onednn_cap="avx512_bf16"),
            "FP8-DYNAMIC",
            "needs AVX512_FP16 of oneDNN, and ONEDNN_MAX_CPU_ISA leaves it avx512_bf16; raise the cap",
        ),
        (
            cpu("avx2"),
            "W4A16",
            "needs AVX512 on a CPU; Xeon has avx2, for which vLLM has no kernel; use W8A8-INT8",
        ),
        (cpu("neon"), "W4A16-ASYM", "W4A16-ASYM needs AVX512 on a CPU; Xeon has neon"),
    ],
)
def test_reason_has_the_numbers_and_what_to_do(accelerator: Accelerator, scheme: str, sentence: str) -> None:
    assert sentence in present(unmet(accelerator, Scheme(scheme), (0, 32, 0)))


@pytest.mark.parametrize("isa", ["avx2", "avx512", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx"])
def test_fp8_is_served_by_onednn_or_beside_it(isa: str) -> None:
    assert unmet(cpu(isa), Scheme.FP8_DYNAMIC, (0, 32, 0)) is None


def test_fp8_in_blocks_is_served_by_amx_alone() -> None:
    assert unmet(cpu("avx512_fp16"), Scheme.FP8_BLOCK, (0, 32, 0)) is not None


def test_release_that_is_too_old_is_named_with_the_one_that_will_do() -> None:
    reason = unmet(gpu_of(9, 0), Scheme.MXFP8, parse_version("0.20.0"))
    assert reason == ("MXFP8 is known to run on CUDA from vLLM 0.22.0 on; the engine is 0.20.0, so use a newer image")


TRIED_ON_CPU = {"BF16", "W8A8-INT8", "W4A16", "W4A16-ASYM", "W4A8", "FP8-DYNAMIC"}


@pytest.mark.parametrize("scheme", [scheme.value for scheme in MADE_SCHEMES])
def test_cpu_with_avx512_loads_what_was_tried(scheme: str) -> None:
    assert (unmet(cpu(), Scheme(scheme), (0, 32, 0)) is None) == (scheme in TRIED_ON_CPU)


# What vLLM 0.32 answers with, in the order of WIDENING: y = yes, - = no.
VLLM_0_32_ON_CPU = {
    "BF16": "yyyyyy",
    "W8A8-INT8": "yyyyyy",
    "W4A16": "-yyyyy",
    "W4A16-ASYM": "-yyyyy",
    "W4A8": "yyyyyy",
    "FP8-DYNAMIC": "yyyyyy",
    "FP8-BLOCK": "-----y",
}


@pytest.mark.parametrize("scheme", VLLM_0_32_ON_CPU)
def test_scheme_by_instruction_set(scheme: str) -> None:
    assert "".join(answer(cpu(isa), scheme) for isa in WIDENING) == VLLM_0_32_ON_CPU[scheme]


@pytest.mark.parametrize("scheme", VLLM_0_32_ON_CPU)
def test_nothing_is_ruled_out_on_a_cpu_whose_instruction_set_nobody_knows(scheme: str) -> None:
    assert unmet(cpu(None), Scheme(scheme), (0, 32, 0)) is None


@pytest.mark.parametrize("scheme", ["W4A16", "W4A16-ASYM"])
def test_a_cap_of_onednn_takes_nothing_from_vllms_own_kernels(scheme: str) -> None:
    assert unmet(cpu("avx512_vnni", onednn_cap="avx2"), Scheme(scheme), (0, 32, 0)) is None


@pytest.mark.parametrize("scheme", ["W8A8-INT8", "W4A16", "W4A16-ASYM", "FP8-DYNAMIC", "FP8-BLOCK"])
def test_a_cap_below_amx_on_a_cpu_that_has_it_leaves_vllms_kernels_without_their_tiles(scheme: str) -> None:
    reason = unmet(cpu("amx", onednn_cap="avx2"), Scheme(scheme), (0, 32, 0))
    assert reason is not None
    assert "ONEDNN_MAX_CPU_ISA leaves it avx2; raise the cap to AVX512_CORE_AMX, or use BF16" in reason


@pytest.mark.parametrize("scheme", ["BF16", "W4A8"])
def test_what_needs_no_tiles_is_served_under_such_a_cap(scheme: str) -> None:
    assert unmet(cpu("amx", onednn_cap="avx2"), Scheme(scheme), (0, 32, 0)) is None


def test_amx_adds_fp8() -> None:
    assert unmet(cpu("amx"), Scheme.FP8_BLOCK, (0, 32, 0)) is None
    assert unmet(cpu("amx"), Scheme.FP8_DYNAMIC, (0, 32, 0)) is None


@pytest.mark.parametrize(
    ("product", "scheme"), [("MI300X", "FP8-DYNAMIC"), ("MI355X", "MXFP4"), ("MI210", "W8A8-INT8"), ("MI210", "W4A16")]
)
def test_amd_runs_what_its_chip_has(product: str, scheme: str) -> None:
    assert unmet(amd(product), Scheme(scheme), (0, 32, 0)) is None


def test_unknown_compute_capability_rules_nothing_out_by_it() -> None:
    unknown = nvidia("Quadro-P2000")
    assert unknown.compute_capability is None
    assert unmet(unknown, Scheme.FP8_DYNAMIC, (0, 32, 0)) is None


def test_table_has_an_answer_for_everything() -> None:
    for platform in Platform:
        for scheme in MADE_SCHEMES:
            assert requirement(platform, scheme, (0, 32, 0)).source
            assert requirement(platform, scheme, (0, 1, 0)).source
            assert TABLE[platform][scheme][-1].until is None, "the last row holds for every later release"


def test_int8_without_vnni_is_noted() -> None:
    assert "without it slower" in present(note(cpu("avx2"), Scheme.W8A8_INT8, (0, 32, 0)))
    assert "without it slower" in present(note(cpu("avx512_vnni", onednn_cap="avx2"), Scheme.W8A8_INT8, (0, 32, 0)))
    assert note(cpu("avx512_vnni"), Scheme.W8A8_INT8, (0, 32, 0)) is None


@pytest.mark.parametrize(
    ("text", "version"),
    [("0.32.0", (0, 32, 0)), ("v0.32.1+cpu", (0, 32, 1)), ("0.33.0rc1", (0, 33, 0)), ("1.2", (1, 2, 0))],
)
def test_versions(text: str, version: Version) -> None:
    assert parse_version(text) == version


def test_text_without_a_version_is_an_error() -> None:
    with pytest.raises(ValueError, match="'latest' is not a version of vLLM"):
        parse_version("latest")


def test_bits_of_products_are_those_of_the_kernels_that_are_chosen() -> None:
    def bits(accelerator: Accelerator, scheme: Scheme, version: Version = (0, 32, 0)) -> int:
        return product_bits(accelerator, scheme, version)

    assert bits(gpu_of(8, 0), Scheme.FP8_DYNAMIC) == 16
    assert bits(gpu_of(8, 9), Scheme.FP8_DYNAMIC) == 8
    assert bits(gpu_of(8, 9), Scheme.FP8_BLOCK) == 16, "Marlin comes before Triton"
    assert bits(gpu_of(9, 0), Scheme.FP8_BLOCK) == 8
    assert bits(gpu_of(9, 0), Scheme.MXFP4) == 8
    assert bits(gpu_of(9, 0), Scheme.MXFP4, (0, 31, 0)) == 16
    assert bits(gpu_of(10, 0), Scheme.MXFP4A16) == 4, "vLLM rounds activations whatever the checkpoint says"
    assert bits(gpu_of(10, 0), Scheme.NVFP4A16) == 16
    assert bits(Accelerator(Vendor.INTEL, "Arc"), Scheme.FP8_DYNAMIC) == 16


def test_a_chip_that_came_later_runs_on_later_releases_only() -> None:
    chip = Accelerator(Vendor.AMD, "MI400", architecture="gfx1250")
    assert unmet(chip, Scheme.MXFP8, (0, 32, 0)) is None
    assert unmet(chip, Scheme.MXFP8, (0, 31, 0)) is not None
