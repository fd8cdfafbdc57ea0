"""Engine settings: what vLLM refuses to start with, and what does not fit the memory."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest
from tests.optional import present
from tests.unit.search.builders import LLAMA_8B, LLAMA_SMALL, case, cpu, gaudi, gpu_of, model, nvidia

from haqa_contract import Scheme, Workload
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.search.artifact_policies import ARTIFACT_POLICIES
from haqa_operator.search.cases import Policy, first_violation
from haqa_operator.search.engine_policies import ENGINE_POLICIES
from haqa_operator.search.memory import memory_of

LLAMA_70B = LLAMA_8B | {
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "intermediate_size": 28672,
}


def reason(
    accelerator: Accelerator, *args: Any, policies: Sequence[Policy] = ENGINE_POLICIES, **kwargs: Any
) -> str | None:
    violation = first_violation(case(accelerator, *args, **kwargs), policies)
    return violation.reason if violation else None


@pytest.mark.parametrize(
    ("gpu", "scheme", "fits"),
    [
        ("Tesla-T4", "BF16", False),
        ("Tesla-T4", "W8A8-INT8", True),
        ("Tesla-T4", "W4A16", True),
        ("NVIDIA-L4", "BF16", True),
        ("NVIDIA-L40S", "BF16", True),
    ],
)
def test_llama_8b_fits_by_scheme(gpu: str, scheme: str, fits: bool) -> None:
    assert (reason(nvidia(gpu), scheme, profile=model()) is None) == fits


@pytest.mark.parametrize(
    ("count", "scheme", "fits"),
    [
        (1, "BF16", False),
        (1, "FP8-DYNAMIC", True),
        (1, "W4A16", True),
        (2, "BF16", True),
    ],
)
def test_llama_70b_on_h100s_fits_by_scheme_and_number(count: int, scheme: str, fits: bool) -> None:
    accelerator = nvidia("NVIDIA-H100-80GB-HBM3", count=count)
    assert (reason(accelerator, scheme, profile=model(LLAMA_70B)) is None) == fits


def test_weights_that_do_not_fit_are_told_with_the_numbers() -> None:
    assert reason(nvidia("Tesla-T4"), profile=model()) == (
        "weights under BF16 take 15.0 GiB, more than the 13.8 GiB that gpu-memory-utilization 0.92 leaves of "
        "Tesla-T4's 15 GiB; use a scheme with fewer bits, more accelerators or more memory"
    )


def test_utilization_is_the_share_that_counts() -> None:
    tight = present(reason(nvidia("NVIDIA-L4"), profile=model(), gpu_memory_utilization=0.6))
    assert "gpu-memory-utilization 0.6 leaves of NVIDIA-L4" in tight


def test_model_length_needs_its_cache_before_anything_runs() -> None:
    """vLLM does not start when the KV cache is smaller than one sequence of max-model-len."""
    accelerator, profile = nvidia("NVIDIA-L4"), model()
    assert reason(accelerator, profile=profile, max_model_len=8192) is None
    found = present(reason(accelerator, profile=profile, max_model_len=131072))
    assert found.startswith("one sequence of 131072 tokens need 16.0 GiB of KV cache; weights under BF16 leave")
    assert reason(accelerator, "W4A16", profile=profile, max_model_len=65536) is None
    assert reason(accelerator, "W4A16", profile=profile, max_model_len=131072, kv_cache_dtype="fp8") is None


@pytest.mark.parametrize(
    ("length", "sentence"),
    [
        # vLLM fits it to what the memory holds, so the workload's requests are what has to fit.
        ("auto", None),
        (16384, None),
        (131072, "one sequence of 131072 tokens need 16.0 GiB of KV cache"),
        # Not given: vLLM plans with the model's limit and refuses to start.
        (None, "one sequence of 131072 tokens need 16.0 GiB of KV cache"),
        (256, "serving.maxModelLen 256 is less than the 384 tokens of one request (input 256 + output 128)"),
        (200_000, "serving.maxModelLen 200000 is more than the 131072 tokens that the model takes (config.json)"),
    ],
)
def test_one_request_of_the_served_length_has_to_fit(
    length: int | Literal["auto"] | None, sentence: str | None
) -> None:
    violation = first_violation(
        replace(case(nvidia("NVIDIA-L4"), profile=model()), max_model_len=length), ENGINE_POLICIES
    )
    assert violation is None if sentence is None else sentence in present(violation).reason


def test_a_length_of_the_configuration_goes_before_the_pool_s() -> None:
    served = replace(case(nvidia("NVIDIA-L4"), profile=model(), max_model_len=8192), max_model_len=131072)
    assert first_violation(served, ENGINE_POLICIES) is None


def test_with_the_automatic_length_a_workload_that_memory_does_not_hold_is_infeasible() -> None:
    workload = Workload(input_tokens=100_000, output_tokens=1000, concurrency=(1,))
    found = present(reason(nvidia("NVIDIA-L4"), profile=model(), workload=workload))
    assert found.startswith("one sequence of 101000 tokens need 12.3 GiB of KV cache; weights under BF16 leave")


def test_without_chunked_prefill_a_step_of_the_longest_sequence_takes_memory() -> None:
    chunked = present(memory_of(case(nvidia(), profile=model())))
    whole = present(memory_of(case(nvidia(), profile=model(), enable_chunked_prefill=False)))
    short = present(memory_of(case(nvidia(), profile=model(), enable_chunked_prefill=False, max_model_len=2048)))
    assert whole.reserve_gib > 4 * chunked.reserve_gib
    assert short.reserve_gib == chunked.reserve_gib


def test_lightest_load_has_to_fit_and_the_heaviest_may_wait() -> None:
    profile, accelerator = model(), nvidia("NVIDIA-L4")
    light = Workload(input_tokens=4000, output_tokens=96, concurrency=(1, 256))
    heavy = Workload(input_tokens=4000, output_tokens=96, concurrency=(256,))
    assert reason(accelerator, profile=profile, workload=light) is None
    found = present(reason(accelerator, profile=profile, workload=heavy))
    assert "256 concurrent requests of 4096 tokens need 128.0 GiB" in found


def test_cache_shrinks_with_its_type_and_the_window() -> None:
    memory = memory_of(case(nvidia("NVIDIA-L40S"), profile=model()))
    narrow = memory_of(case(nvidia("NVIDIA-L40S"), profile=model(), kv_cache_dtype="fp8"))
    assert present(narrow).sequences(1024) == pytest.approx(2 * present(memory).sequences(1024))


def test_cpu_keeps_the_cache_that_its_variable_says() -> None:
    profile = model(LLAMA_SMALL)
    assert present(memory_of(case(cpu(memory_gib=64), profile=profile))).kv_gib == 16
    assert present(memory_of(case(cpu(memory_gib=64), profile=profile, VLLM_CPU_KVCACHE_SPACE=4))).kv_gib == 4
    assert (
        present(memory_of(case(cpu(memory_gib=64), profile=profile, env={"VLLM_CPU_KVCACHE_SPACE": "8"}))).kv_gib == 8
    )


def test_cache_that_is_set_too_small_says_so() -> None:
    found = present(reason(cpu(), profile=model(), max_model_len=131072, VLLM_CPU_KVCACHE_SPACE=4))
    assert "need 16.0 GiB of KV cache; it is set to 4.0 GiB" in found


def test_weights_and_cache_share_the_memory_of_a_cpu_machine() -> None:
    found = present(reason(cpu(memory_gib=16), profile=model()))
    assert "more than the 12.0 GiB that Xeon has beside 4 GiB of KV cache" in found
    assert reason(cpu(memory_gib=32), profile=model()) is None


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        ({"max_num_seqs": 256, "max_num_batched_tokens": 256}, None),
        (
            {"max_num_seqs": 512, "max_num_batched_tokens": 256},
            "batched-tokens 256 is less than max-num-seqs 512",
        ),
        ({"max_num_seqs": 512}, None),
        (
            {"max_model_len": 100},
            "100 is less than the 384 tokens of one request (input 256 + output 128)",
        ),
        ({"max_model_len": 200_000}, "max-model-len 200000 is more than the 131072 tokens that the model takes"),
        ({"max_model_len": "auto"}, None),
        (
            {"enable_chunked_prefill": False, "max_num_batched_tokens": 256},
            "max-num-batched-tokens 256 is less than the 131072 tokens of the longest sequence",
        ),
        ({"enable_chunked_prefill": False, "max_num_batched_tokens": 131072}, None),
        ({"enable_chunked_prefill": False, "max_num_batched_tokens": 2048, "max_model_len": 2048}, None),
    ],
)
def test_settings_go_together(engine: dict[str, Any], sentence: str | None) -> None:
    found = reason(nvidia(), profile=model(), **engine)
    assert found is None if sentence is None else sentence in present(found)


def test_workload_longer_than_the_model_takes() -> None:
    workload = Workload(input_tokens=2000, output_tokens=100)
    found = present(reason(nvidia(), profile=model(LLAMA_SMALL), workload=workload))
    assert found.startswith(
        "the model takes 2048 tokens, less than the 2100 tokens of one request (input 2000 + output"
    )


@pytest.mark.parametrize(
    ("count", "engine", "sentence"),
    [
        (4, {}, None),
        (4, {"tensor_parallel_size": 4}, None),
        (4, {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, None),
        (4, {"tensor_parallel_size": 8}, "tensor-parallel-size 8 do not fit nodePools[].gpusPerReplica 4"),
        (3, {}, "tensor parallelism over 3 does not divide the model's 32 attention heads"),
        (16, {}, None),
    ],
)
def test_parallelism_fits_the_replica_and_the_heads(count: int, engine: dict[str, Any], sentence: str | None) -> None:
    found = reason(nvidia("NVIDIA-H100-80GB-HBM3", count=count), profile=model(), **engine)
    assert found is None if sentence is None else sentence in present(found)


def test_group_may_not_lie_on_both_sides_of_a_cut() -> None:
    profile = model(LLAMA_SMALL, intermediate_size=2816)
    accelerator = nvidia("NVIDIA-H100-80GB-HBM3", count=4)
    found = present(reason(accelerator, "W4A16", "gptq", 128, profile=profile))
    assert "group size 128 does not divide the 2816/4 columns of mlp.down_proj" in found
    assert reason(accelerator, "W4A16", "gptq", 64, profile=profile) is None


def test_block_may_not_lie_on_both_sides_of_a_cut() -> None:
    profile = model(LLAMA_SMALL, num_key_value_heads=4, intermediate_size=4096)
    found = present(reason(nvidia("NVIDIA-H100-80GB-HBM3", count=4), "FP8-BLOCK", profile=profile))
    assert "blocks of 128 rows do not divide the 256/4 rows of self_attn.k_proj" in found


@pytest.mark.parametrize(
    ("accelerator", "dtype", "sentence"),
    [
        (cpu(), "fp8", None),
        (cpu(), "int8_per_token_head", "vLLM on CPU takes kv-cache-dtype auto, fp8, fp8_e4m3, fp8_e5m2, not int8_per"),
        (gaudi(), "fp8_inc", None),
        (cpu("avx2"), "fp8", "kv-cache-dtype fp8 needs AVX512 on a CPU; Xeon has avx2; use auto"),
        (gaudi(), "fp8_e5m2", "vLLM on Gaudi takes kv-cache-dtype"),
        (nvidia("Tesla-T4"), "nvfp4", "kv-cache-dtype nvfp4 needs compute capability 8.0 or more; Tesla-T4 has 7.5"),
        (nvidia("NVIDIA-B200"), "nvfp4", None),
    ],
)
def test_cache_type_has_a_kernel(accelerator: Accelerator, dtype: str, sentence: str | None) -> None:
    found = reason(accelerator, profile=model(LLAMA_SMALL), kv_cache_dtype=dtype)
    assert found is None if sentence is None else sentence in present(found)


def test_head_size_has_a_kernel_on_cpu() -> None:
    odd = model(LLAMA_SMALL, head_dim=48)
    assert "the model's is 48" in present(reason(cpu(), profile=odd))
    assert reason(nvidia(), profile=odd) is None


def test_unknown_memory_and_unknown_model_rule_nothing_out() -> None:
    assert reason(cpu(memory_gib=None), profile=model()) is None
    assert reason(gpu_of(8, 0, memory_gib=1)) is None


def test_all_policies_together_give_one_reason() -> None:
    def first(product: str, *args: Any) -> str | None:
        return reason(nvidia(product), *args, policies=(*ARTIFACT_POLICIES, *ENGINE_POLICIES), profile=model())

    assert present(first("Tesla-T4")).startswith("weights under BF16")
    assert "compute capability" in present(first("Tesla-V100-SXM2-16GB"))
    assert first("NVIDIA-L4", "W4A16", "gptq") is None


def test_an_fp8_cache_on_a_cpu_takes_head_sizes_of_its_kernel() -> None:
    assert "multiple of 32 on a CPU, not 80" in present(
        reason(cpu(), profile=model(LLAMA_SMALL, head_dim=80), kv_cache_dtype="fp8")
    )


@pytest.mark.parametrize(
    ("accelerator", "backend", "dtype", "works"),
    [
        (nvidia("NVIDIA-H200"), "FLASH_ATTN", "fp8", True),
        (nvidia("NVIDIA-B200"), "FLASH_ATTN", "fp8", False),
        (nvidia("NVIDIA-B200"), "FLASH_ATTN", "auto", True),
        (nvidia("NVIDIA-B200"), "FLASHINFER", "fp8", True),
        (gpu_of(8, 9), "FLASH_ATTN", "fp8", False),
    ],
)
def test_a_named_attention_backend_reads_the_cache(
    accelerator: Accelerator, backend: str, dtype: str, works: bool
) -> None:
    found = reason(accelerator, profile=model(LLAMA_SMALL), attention_backend=backend, kv_cache_dtype=dtype)
    assert (found is None) is works


@pytest.mark.parametrize(
    ("accelerator", "scheme", "dtype", "works"),
    [
        (cpu(), "BF16", "float32", True),
        (cpu(), "W8A8-INT8", "float32", True),
        (cpu(), "W4A16", "float32", False),
        (cpu(), "W4A16-ASYM", "float", False),
        (cpu(), "W4A16", "float16", True),
        (cpu("amx"), "FP8-BLOCK", "float16", False),
        (cpu("amx"), "FP8-BLOCK", "float32", True),
        (nvidia("NVIDIA-H200"), "W4A16", "float32", True),
    ],
)
def test_a_type_has_a_kernel_for_the_scheme_on_a_cpu(
    accelerator: Accelerator, scheme: str, dtype: str, works: bool
) -> None:
    assert (reason(accelerator, scheme, profile=model(LLAMA_SMALL), dtype=dtype) is None) is works


MIXTURE = model(
    LLAMA_8B | {"num_local_experts": 64, "num_experts_per_tok": 4, "moe_intermediate_size": 768, "head_dim": 128}
)


@pytest.mark.parametrize(
    ("engine", "works"),
    [
        ({}, False),
        ({"enable_expert_parallel": True}, True),
        ({"data_parallel_size": 8}, False),
        ({"data_parallel_size": 8, "enable_expert_parallel": True}, True),
        ({"pipeline_parallel_size": 8}, True),
    ],
)
def test_groups_of_experts_are_cut_unless_experts_are_whole(engine: dict[str, Any], works: bool) -> None:
    """768 columns are no multiple of 8 times 128."""
    assert (reason(nvidia("NVIDIA-H200", 8), "W4A16", profile=MIXTURE, **engine) is None) is works


def test_experts_are_spread_over_replicas_of_data_parallelism_and_the_rest_is_not() -> None:
    splits: tuple[dict[str, Any], ...] = ({"pipeline_parallel_size": 8}, {}, {"data_parallel_size": 8})
    memories = (memory_of(case(nvidia("NVIDIA-H200", 8), profile=MIXTURE, **split)) for split in splits)
    one, all_tensor, all_data = (present(memory).weights_gib for memory in memories)
    dense = (MIXTURE.weight_bytes(Scheme.BF16) - 2 * sum(x.parameters for x in MIXTURE.linears if x.routed)) / 2**30
    assert one == pytest.approx(all_tensor)
    assert all_data == pytest.approx(all_tensor + dense * 7 / 8)
