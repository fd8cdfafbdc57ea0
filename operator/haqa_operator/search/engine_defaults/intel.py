"""Default settings on Intel's GPUs and on Gaudi."""

from __future__ import annotations

from haqa_operator.search.cases import Case
from haqa_operator.search.engine_defaults.parallelism import PARALLELISM
from haqa_operator.search.engine_defaults.settings import DefaultSetting, Value, Values, all_attention, most
from haqa_operator.search.engine_defaults.shared import (
    ASYNC_SCHEDULING,
    MEMORY_SHARE,
    PERFORMANCE_MODE,
    PREFIX_CACHING,
    batched_tokens,
    sequences,
    speculation,
)

_GAUDI_PLUGIN = "vllm-gaudi, docs/configuration"

XPU: tuple[DefaultSetting, ...] = (
    PARALLELISM,
    DefaultSetting(
        "kv-cache-dtype",
        (Value({"kv-cache-dtype": "fp8"}, factor=1.01, recipe=True),),
        "half of the KV cache's memory and traffic; the accuracy gate decides",
        "vllm/v1/attention/backends/fa_utils.py, flash_attn_supports_kv_cache_dtype",
        crossed=True,
    ),
    batched_tokens(2048, 4096, 8192, recipe=8192, crossed=True),
    sequences(),
    DefaultSetting(
        "attention-backend",
        (Value({"attention-backend": "TRITON_ATTN"}, factor=0.95),),
        "Triton's attention where FlashAttention's kernels do not suit the head size",
        "vllm/platforms/xpu.py, get_attn_backend_cls",
        when=all_attention,
        applies="plain attention",
    ),
    speculation(),
    ASYNC_SCHEDULING,
    PERFORMANCE_MODE,
    MEMORY_SHARE,
    DefaultSetting(
        "enforce-eager",
        (Value({"enforce-eager": True}, factor=1.0),),
        "without graphs there is more memory, and some models do not compile on Intel's GPUs",
        "vllm/platforms/xpu.py",
        since=(0, 9, 0),
        related=frozenset({"compilation-config", "optimization-level"}),
    ),
    DefaultSetting(
        "VLLM_XPU_USE_SAMPLER_KERNEL",
        (Value({"VLLM_XPU_USE_SAMPLER_KERNEL": False}, factor=0.98),),
        "torch's sampler in the place of Intel's kernel, which pays in large batches",
        "vllm/envs.py",
    ),
    PREFIX_CACHING,
)


def _prompt_batches(case: Case) -> Values:
    return tuple(Value({"VLLM_PROMPT_BS_BUCKET_MAX": size}, factor=1.03) for size in (4, 8) if size <= most(case))


GAUDI: tuple[DefaultSetting, ...] = (
    PARALLELISM,
    batched_tokens(2048, 4096, 8192, recipe=8192, crossed=True),
    sequences(crossed=True),
    DefaultSetting(
        "VLLM_PROMPT_BS_BUCKET_MAX",
        _prompt_batches,
        "several prompts in one step; the plugin takes one at a time",
        f"{_GAUDI_PLUGIN}/env_variables.md",
        applies="levels with as many requests",
        shown="4, 8",
        since=(0, 11, 0),
    ),
    DefaultSetting(
        "VLLM_GRAPH_RESERVED_MEM",
        (
            Value({"VLLM_GRAPH_RESERVED_MEM": 0.05}),
            Value({"VLLM_GRAPH_RESERVED_MEM": 0.2}),
            Value({"VLLM_GRAPH_RESERVED_MEM": 0.4}, factor=0.98),
        ),
        "graphs and KV cache share what the weights leave: the plugin keeps a tenth for graphs",
        f"{_GAUDI_PLUGIN}/performance_tuning.md",
        since=(0, 11, 0),
    ),
    MEMORY_SHARE,
    DefaultSetting(
        "PT_HPU_LAZY_MODE",
        (Value({"PT_HPU_LAZY_MODE": 1}, factor=0.98),),
        "PyTorch's lazy mode in the place of compiled graphs",
        f"{_GAUDI_PLUGIN}/env_variables.md",
        since=(0, 11, 0),
    ),
    DefaultSetting(
        "block-size",
        (Value({"block-size": 256}, factor=0.99),),
        "longer blocks are fewer gathers in a step; the plugin takes 128",
        f"{_GAUDI_PLUGIN}/env_variables.md",
        since=(0, 11, 0),
    ),
    speculation(prompts_only=True),
    ASYNC_SCHEDULING,
    PREFIX_CACHING,
)
