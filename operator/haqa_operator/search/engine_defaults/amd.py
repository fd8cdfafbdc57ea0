"""Default settings on AMD's GPUs."""

from __future__ import annotations

from haqa_contract import Scalar, Scheme
from haqa_contract.model_facts import Role
from haqa_operator.search.cases import Case
from haqa_operator.search.engine_defaults.parallelism import PARALLELISM
from haqa_operator.search.engine_defaults.settings import (
    DefaultSetting,
    Value,
    Values,
    all_attention,
    has_experts,
    is_current,
)
from haqa_operator.search.engine_defaults.shared import (
    ASYNC_SCHEDULING,
    GRAPHS,
    MEMORY_SHARE,
    PERFORMANCE_MODE,
    PREFIX_CACHING,
    RECIPES,
    batched_tokens,
    sequences,
    speculation,
)

_CDNA3 = frozenset({"gfx942", "gfx950"})
_AITER = "VLLM_ROCM_USE_AITER"


def _has_aiter(case: Case) -> bool:
    return case.accelerator.architecture in _CDNA3


def _without(part: str) -> dict[str, Scalar]:
    return {_AITER: True, f"{_AITER}_{part}": False}


def _with(part: str) -> dict[str, Scalar]:
    return {_AITER: True, f"{_AITER}_{part}": True}


def _is_fp8(case: Case) -> bool:
    return case.configuration.scheme in (Scheme.FP8_DYNAMIC, Scheme.FP8_BLOCK)


def _is_mxfp4(case: Case) -> bool:
    return is_current(case) and case.configuration.scheme is Scheme.MXFP4


def _has_shared_expert(case: Case) -> bool:
    linears = case.model.linears if case.model else ()
    return is_current(case) and any(linear.role is Role.SHARED_EXPERT for linear in linears)


def _attention(case: Case) -> Values:
    aiter = (
        Value({"attention-backend": "ROCM_AITER_FA"}, factor=1.03, when=_has_aiter),
        Value({"attention-backend": "ROCM_AITER_UNIFIED_ATTN"}, factor=1.03, when=_has_aiter),
    )
    return (*aiter, Value({"attention-backend": "TRITON_ATTN"}, factor=0.97))


AMD: tuple[DefaultSetting, ...] = (
    DefaultSetting(
        "AITER",
        (
            Value({_AITER: True}, factor=1.3, recipe=True),
            Value(_with("LINEAR_HIPBMM"), factor=1.28, when=lambda case: is_current(case) and _is_fp8(case)),
            Value(
                _with("FUSION_SHARED_EXPERTS"),
                factor=1.32,
                when=lambda case: is_current(case) and _has_shared_expert(case),
            ),
            Value(_with("FP4_ASM_GEMM"), factor=1.28, when=_is_mxfp4),
            Value(_without("MOE"), factor=1.1, when=has_experts),
            Value(_without("LINEAR"), factor=1.15, when=_is_fp8),
            Value(_without("RMSNORM"), factor=1.25),
        ),
        "AMD's own kernels for attention, experts, FP8 products and norms, which vLLM leaves off by itself",
        f"{RECIPES} for MI300X and later; vllm/_aiter_ops.py, vllm/envs.py",
        when=_has_aiter,
        applies="MI300X, MI325X, MI350X, MI355X (CDNA 3 and 4)",
        crossed=True,
        since=(0, 9, 0),
    ),
    PARALLELISM,
    DefaultSetting(
        "kv-cache-dtype",
        (Value({"kv-cache-dtype": "fp8"}, factor=1.01, recipe=True),),
        "half of the KV cache's memory and traffic, so that twice as many tokens stay; the accuracy gate decides",
        f"{RECIPES}; vllm/v1/attention/backends/rocm_attn.py",
        when=_has_aiter,
        applies="MI300X, MI325X, MI350X, MI355X",
        crossed=True,
        since=(0, 9, 0),
    ),
    batched_tokens(2048, 8192, 16384, 32768, recipe=8192, crossed=True),
    sequences(),
    DefaultSetting(
        "VLLM_ROCM_QUICK_REDUCE_QUANTIZATION",
        (
            Value({"VLLM_ROCM_QUICK_REDUCE_QUANTIZATION": "FP"}, factor=1.02),
            Value({"VLLM_ROCM_QUICK_REDUCE_QUANTIZATION": "INT8"}, factor=1.03),
            Value({"VLLM_ROCM_QUICK_REDUCE_QUANTIZATION": "INT4"}, factor=1.04),
        ),
        "results of tensor parallelism are added up in fewer bits; the accuracy gate decides",
        f"{RECIPES}, GPT-OSS and MiniMax-M3; vllm/envs.py",
        when=lambda case: case.accelerator.count > 1 and _has_aiter(case),
        applies="more than one GPU in a replica, MI300X and later",
    ),
    DefaultSetting(
        "attention-backend",
        _attention,
        "vLLM takes its own ROCm attention; AITER's and Triton's differ by context length and batch",
        "vllm/platforms/rocm.py, _get_backend_priorities",
        when=all_attention,
        applies="plain attention; AITER's on MI300X and later",
        shown="ROCM_AITER_FA, ROCM_AITER_UNIFIED_ATTN, TRITON_ATTN",
    ),
    speculation(),
    ASYNC_SCHEDULING,
    PERFORMANCE_MODE,
    MEMORY_SHARE,
    GRAPHS,
    PREFIX_CACHING,
)
