"""Scheme, algorithm and group size: what cannot be quantized or loaded, and the sentence for it."""

from dataclasses import replace
from typing import Any

import pytest
from tests.optional import present
from tests.unit.search.builders import LLAMA_8B, LLAMA_SMALL, amd, case, cpu, gpu_of, model, nvidia

from haqa_contract import MADE_SCHEMES, Algorithm, Scheme
from haqa_contract.model_facts import Unsuited
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.search.algorithms import APPLICABLE, DEFAULT
from haqa_operator.search.artifact_policies import ARTIFACT_POLICIES, adapters_have_kernel
from haqa_operator.search.cases import first_violation
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.serving.adapters import LoraSlots

XPU = Accelerator(Vendor.INTEL, "Arc B580", memory_gib=48)


def reason(accelerator: Accelerator, *args: Any, **kwargs: Any) -> str | None:
    violation = first_violation(case(accelerator, *args, **kwargs), ARTIFACT_POLICIES)
    return violation.reason if violation else None


@pytest.mark.parametrize(
    ("scheme", "algorithm", "allowed"),
    [
        ("BF16", "none", True),
        ("BF16", "rtn", False),
        ("W4A16", "none", False),
        ("W4A16", "rtn", True),
        ("W4A16", "gptq", True),
        ("W4A16", "awq", True),
        ("W4A16", "autoround", True),
        ("W4A16", "smoothquant", False),
        ("W8A8-INT8", "smoothquant", True),
        ("W8A8-INT8", "smoothquant-gptq", True),
        ("W8A8-INT8", "awq", False),
        ("FP8-DYNAMIC", "rtn", True),
        ("FP8-DYNAMIC", "gptq", False),
        ("FP8-BLOCK", "rtn", True),
        ("FP8-BLOCK", "smoothquant-gptq", False),
        ("NVFP4", "gptq", True),
    ],
)
def test_algorithm_goes_with_scheme(scheme: str, algorithm: str, allowed: bool) -> None:
    assert (
        reason(nvidia("NVIDIA-B200" if scheme == "NVFP4" else "NVIDIA-H100-80GB-HBM3"), scheme, algorithm) is None
    ) == allowed


def test_every_quantized_scheme_can_be_made_by_rounding() -> None:
    assert {s for s in MADE_SCHEMES if Algorithm.RTN in APPLICABLE[s]} == set(MADE_SCHEMES) - {Scheme.BF16}
    assert all(set(DEFAULT[s]) <= set(APPLICABLE[s]) and DEFAULT[s] for s in MADE_SCHEMES)


def test_wrong_algorithm_comes_with_the_right_ones() -> None:
    assert reason(cpu(), "W4A16", "smoothquant") == (
        "algorithm smoothquant does nothing for W4A16; use one of rtn, gptq, awq, autoround"
    )
    assert present(reason(cpu(), "BF16", "gptq")).startswith("BF16 is the unquantized model")
    assert "needs an algorithm that makes it; use one of rtn" in present(reason(cpu(), "W8A8-INT8", "none"))


def test_awq_needs_an_accelerator() -> None:
    assert "fails on a machine without an accelerator" in present(reason(cpu(), "W4A16", "awq"))
    assert reason(nvidia("NVIDIA-L4"), "W4A16", "awq") is None


@pytest.mark.parametrize(
    ("accelerator", "scheme", "group", "sentence"),
    [
        (nvidia(), "W4A16", 64, None),
        (nvidia(), "W4A16", -1, None),
        (nvidia(), "W4A16", 256, "vLLM's CUDA kernels take group sizes -1, 32, 64, 128, not 256"),
        (cpu(), "W4A16", 256, None),
        (cpu(), "W4A16", 33, "group size 33 is odd"),
        (cpu(), "W4A16", 0, "group size 0 is not a number of weights"),
        (cpu(), "W8A8-INT8", 64, "W8A8-INT8 has a fixed layout of scales"),
        (nvidia("NVIDIA-H200"), "W4AFP8", 64, "W4AFP8 kernel takes group size 128 only, not 64"),
        (nvidia("NVIDIA-B200"), "NVFP4", 32, "NVFP4 has a fixed layout of scales"),
    ],
)
def test_group_size_goes_with_scheme_and_kernel(
    accelerator: Accelerator, scheme: str, group: int, sentence: str | None
) -> None:
    found = reason(accelerator, scheme, None, group)
    assert found is None if sentence is None else sentence in present(found)


@pytest.mark.parametrize(
    ("intermediate", "group", "sentence"),
    [
        (2816, 128, None),
        (
            704,
            128,
            "does not divide mlp.down_proj's 704 columns; group sizes that divide every layer: 16, 32, 64",
        ),
        (704, 64, None),
        (704, -1, None),
        (704, None, "group size 128 does not divide mlp.down_proj's 704 columns"),
        (1001, 128, "no usual group size divides every layer; use -1"),
    ],
)
def test_group_divides_the_columns_of_every_linear(intermediate: int, group: int | None, sentence: str | None) -> None:
    profile = model(LLAMA_SMALL, intermediate_size=intermediate)
    found = reason(nvidia(), "W4A16", "gptq", group, profile=profile)
    assert found is None if sentence is None else sentence in present(found)


def test_scheme_with_fixed_groups_that_do_not_divide_is_out() -> None:
    profile = model(LLAMA_SMALL, intermediate_size=1000)
    found = reason(nvidia("NVIDIA-B200"), "NVFP4", profile=profile)
    assert found == (
        "group size 16 does not divide mlp.down_proj's 1000 columns; NVFP4 has no other group size, so use another "
        "scheme"
    )


def test_channelwise_schemes_take_any_columns() -> None:
    profile = model(LLAMA_SMALL, intermediate_size=1001)
    assert reason(nvidia(), "W8A8-INT8", profile=profile) is None


def test_four_bit_kernel_for_cpus_takes_multiples_of_32() -> None:
    profile = model(LLAMA_SMALL, hidden_size=1024, intermediate_size=2832)
    found = present(reason(cpu(), "W4A16", "gptq", 16, profile=profile))
    assert "vLLM's 4-bit kernel for CPUs takes multiples of 32; mlp.gate_proj has 2832 x 1024; use W8A8-INT8" in found


def test_fp8_blocks_are_whole_where_matrices_are_stacked() -> None:
    profile = model(LLAMA_SMALL, num_key_value_heads=1)
    found = reason(nvidia(), "FP8-BLOCK", profile=profile)
    assert found is None or "k_proj has 64 x 1024; use FP8-DYNAMIC" in found
    assert found is not None


def test_device_is_looked_at_before_the_model() -> None:
    """The first violation is the reason: a scheme that the device lacks is not blamed on group sizes."""
    profile = model(LLAMA_SMALL, intermediate_size=1000)
    assert "needs compute capability 7.5" in present(reason(gpu_of(7, 0), "NVFP4", profile=profile))


def test_unknown_model_is_left_to_its_trial() -> None:
    assert reason(nvidia(), "W4A16", "gptq", 128) is None


def mixture(inner: int = 768) -> ModelProfile:
    return model(LLAMA_SMALL, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=inner)


@pytest.mark.parametrize(
    ("accelerator", "scheme", "group_size", "sentence"),
    [
        (gpu_of(9, 0), "W4AFP8", None, "kernel for experts takes multiples of 256"),
        (gpu_of(9, 0), "W4A16", -1, "take groups here, and no scale for a whole row; use group size 128, 64 or 32"),
        (amd("MI300X"), "W4A16", -1, "take groups here"),
        (amd("MI355X"), "MXFP4", None, "kernels of NVIDIA's for experts under MXFP4, which fail on AMD"),
        (XPU, "W4A8", None, "no kernel for experts under W4A8 here"),
        (XPU, "W4A16-ASYM", None, "no kernel for experts under W4A16-ASYM here"),
    ],
)
def test_experts_have_fewer_kernels(
    accelerator: Accelerator, scheme: str, group_size: int | None, sentence: str
) -> None:
    assert sentence in present(reason(accelerator, scheme, "rtn", group_size, profile=mixture(1408)))
    assert reason(accelerator, scheme, "rtn", group_size, profile=model(LLAMA_SMALL)) is None


@pytest.mark.parametrize(
    ("accelerator", "scheme", "group_size", "vllm"),
    [
        (gpu_of(9, 0), "W4AFP8", None, "0.32.0"),
        (gpu_of(9, 0), "W4A16", 128, "0.32.0"),
        (gpu_of(9, 0), "W4A16", -1, "0.31.0"),
        (gpu_of(9, 0), "W4A16-ASYM", -1, "0.32.0"),
        (gpu_of(8, 0), "W4A16", -1, "0.32.0"),
        (XPU, "MXFP4", None, "0.32.0"),
    ],
)
def test_experts_that_have_a_kernel(accelerator: Accelerator, scheme: str, group_size: int | None, vllm: str) -> None:
    assert reason(accelerator, scheme, "rtn", group_size, profile=mixture(), vllm=vllm) is None


def test_columns_suit_intel_s_kernels() -> None:
    odd = model(LLAMA_SMALL, intermediate_size=2832)
    assert "multiples of 32 inputs" in present(reason(XPU, "W4A16", "rtn", -1, profile=odd))
    assert reason(gpu_of(8, 9), "W4A16", "rtn", -1, profile=odd) is None
    assert reason(XPU, "FP8-DYNAMIC", "rtn", profile=odd) is None


def test_experts_with_4_bit_weights_are_not_for_cpus() -> None:
    found = reason(cpu(), "W4A16", "rtn", profile=mixture())
    assert "no kernel for experts with 4-bit weights" in present(found)
    assert reason(cpu(), "W8A8-INT8", "rtn", profile=mixture()) is None
    assert reason(nvidia(), "W4A16", "gptq", profile=mixture()) is None
    assert reason(cpu(), "W4A16", "rtn", profile=model(LLAMA_SMALL)) is None


def test_an_algorithm_that_harms_the_model_is_not_for_it() -> None:
    why = "llm-compressor finds no layers to smooth in LlamaForCausalLM"
    unsuited = (Unsuited(algorithm=Algorithm.SMOOTHQUANT, reason=why),)
    rough = ModelProfile(model(LLAMA_SMALL).facts.model_copy(update={"unsuited": unsuited}))
    found = present(reason(cpu(), "W8A8-INT8", "smoothquant", profile=rough))
    assert found == f"algorithm smoothquant: {why}; use rtn or gptq"
    assert reason(cpu(), "W8A8-INT8", "smoothquant-gptq", profile=rough) is None
    assert reason(cpu(), "W8A8-INT8", "smoothquant", profile=model(LLAMA_SMALL)) is None


def test_int8_serves_no_adapters_on_a_cpu() -> None:
    profile = replace(model(LLAMA_8B), adapters=LoraSlots(1, 8, ()))
    (refused,) = [
        scheme
        for scheme in ("BF16", "W8A8-INT8", "W4A16", "W4A8")
        if adapters_have_kernel(case(cpu(), scheme, profile=profile)) is not None
    ]
    assert refused == "W8A8-INT8"
    assert adapters_have_kernel(case(cpu(), "W8A8-INT8", profile=model(LLAMA_8B))) is None
    assert adapters_have_kernel(case(nvidia(), "W8A8-INT8", profile=profile)) is None


def test_mixtures_serve_no_adapters_on_a_cpu() -> None:
    mixture = model(LLAMA_SMALL, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=512)
    profile = replace(mixture, adapters=LoraSlots(1, 8, ("q_proj", "v_proj")))
    found = present(adapters_have_kernel(case(cpu(), "BF16", profile=profile)))
    assert "no adapters with a mixture of experts on a CPU; leave model.adapters out" in found.reason
    assert adapters_have_kernel(case(nvidia(), "BF16", profile=profile)) is None
    assert adapters_have_kernel(case(cpu(), "BF16", profile=mixture)) is None
