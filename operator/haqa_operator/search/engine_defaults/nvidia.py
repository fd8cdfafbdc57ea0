"""Default settings on NVIDIA's GPUs."""

from __future__ import annotations

from collections.abc import Iterable

from haqa_contract import Scheme
from haqa_operator.search.cases import Case
from haqa_operator.search.engine_defaults.parallelism import PARALLELISM
from haqa_operator.search.engine_defaults.settings import (
    DefaultSetting,
    Value,
    Values,
    all_attention,
    capability,
    has_experts,
    most,
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

_KERNELS = "vllm/model_executor/kernels/linear/__init__.py, kernels in their order"
_EXPERTS = "vllm/model_executor/layers/fused_moe/oracle"

_WEIGHT_ONLY = frozenset({Scheme.W4A16, Scheme.W4A16_ASYM, Scheme.W8A16, Scheme.NVFP4A16, Scheme.MXFP4A16})


def _attention(case: Case) -> Values:
    """The backends that vLLM does not choose by itself (vllm/platforms/cuda.py, `_get_backend_priorities`)."""
    own = "FLASHINFER" if capability(case)[0] == 10 else "FLASH_ATTN"
    factors = {"FLASHINFER": 0.99, "FLASH_ATTN": 0.97, "TRITON_ATTN": 0.92}
    return tuple(Value({"attention-backend": name}, factors[name]) for name in factors if name != own)


def _linear_backends(case: Case) -> Iterable[tuple[str, float]]:
    """What has a kernel for the scheme on this GPU and is not the first in vLLM's list."""
    scheme, has = case.configuration.scheme, capability(case)
    native_fp8, blackwell = has >= (8, 9), (10, 0) <= has < (11, 0)
    if scheme is Scheme.FP8_DYNAMIC and native_fp8:
        return (("torch", 0.97), ("marlin", 0.9))
    if scheme is Scheme.FP8_BLOCK and native_fp8:
        return (("cutlass", 0.97), ("triton", 0.95)) if has >= (9, 0) else (("triton", 0.95),)
    if scheme is Scheme.W8A8_INT8:
        return (("triton", 0.93),)
    if scheme is Scheme.W4A16 and has == (9, 0):
        return (("marlin", 1.0),)
    if scheme is Scheme.NVFP4 and blackwell:
        return (("flashinfer_trtllm", 1.0), ("flashinfer_cudnn", 0.99), ("cutlass", 0.97))
    if scheme is Scheme.MXFP8 and blackwell:
        return (("flashinfer_cutlass", 0.99),)
    return ()


def _expert_backends(case: Case) -> Iterable[tuple[str, float]]:
    scheme, has = case.configuration.scheme, capability(case)
    blackwell = (10, 0) <= has < (11, 0)
    if scheme is Scheme.BF16:
        if blackwell:
            return (("triton", 0.93),)
        return (("flashinfer_cutlass", 0.95),) if has == (9, 0) else ()
    if scheme is Scheme.FP8_BLOCK and has == (9, 0):
        return (("deep_gemm", 1.0), ("flashinfer_cutlass", 1.0))
    if scheme in (Scheme.FP8_DYNAMIC, Scheme.FP8_BLOCK) and has >= (8, 9):
        return (("triton", 0.97),)
    if scheme is Scheme.NVFP4 and blackwell:
        return (("flashinfer_cutlass", 0.98), ("cutlass", 0.95))
    return ()


def _is_narrow(case: Case) -> bool:
    """Whether some product has few outputs and many inputs (`should_use_atomic_add_reduce`)."""
    return case.model is not None and any(linear.rows < 2048 <= linear.columns for linear in case.model.linears)


def _more_graphs(case: Case) -> Values:
    return (Value({"max-cudagraph-capture-size": min(1024, most(case))}, factor=1.05),)


NVIDIA: tuple[DefaultSetting, ...] = (
    PARALLELISM,
    DefaultSetting(
        "kv-cache-dtype",
        (Value({"kv-cache-dtype": "fp8"}, factor=1.01, recipe=True),),
        "half of the KV cache's memory and traffic, so that twice as many tokens stay; the accuracy gate decides",
        f"{RECIPES}, Llama-3.3-70B among them; vllm/v1/attention/backends",
        when=lambda case: capability(case) >= (8, 9),
        applies="compute capability 8.9 and more",
        crossed=True,
        since=(0, 9, 0),
    ),
    batched_tokens(2048, 8192, 16384, recipe=8192, crossed=True),
    sequences(),
    speculation(),
    ASYNC_SCHEDULING,
    PERFORMANCE_MODE,
    MEMORY_SHARE,
    DefaultSetting(
        "max-cudagraph-capture-size",
        _more_graphs,
        "steps with more sequences than the largest captured graph, 512, launch every kernel for itself",
        "vllm/config/vllm.py, _set_cudagraph_sizes",
        when=lambda case: most(case) > 512 and capability(case)[0] != 10,
        applies="more than 512 concurrent requests, compute capability other than 10 (there it is 1024)",
        shown="the highest measured concurrency, at most 1024",
        related=frozenset({"enforce-eager", "cudagraph-capture-sizes"}),
    ),
    DefaultSetting(
        "attention-backend",
        _attention,
        "FlashAttention, FlashInfer and Triton differ by head size, context length and batch",
        "vllm/platforms/cuda.py, _get_backend_priorities",
        when=lambda case: all_attention(case) and capability(case) >= (8, 0),
        applies="plain attention, compute capability 8.0 and more",
        shown="FLASH_ATTN, FLASHINFER, TRITON_ATTN, without vLLM's own choice",
    ),
    DefaultSetting(
        "moe-backend",
        lambda case: tuple(Value({"moe-backend": name}, factor) for name, factor in _expert_backends(case)),
        "kernels for experts differ by how many tokens each expert gets",
        f"{_EXPERTS}; {RECIPES}",
        when=has_experts,
        applies="mixtures of experts; by scheme and compute capability",
        shown="triton, cutlass, deep_gemm, flashinfer_cutlass, without vLLM's own choice",
    ),
    DefaultSetting(
        "linear-backend",
        lambda case: tuple(Value({"linear-backend": name}, factor) for name, factor in _linear_backends(case)),
        "kernels for the same format differ by the size of the step: weight-only ones are best in small steps",
        _KERNELS,
        applies="by scheme and compute capability",
        shown="cutlass, triton, torch, marlin, flashinfer_cutlass, flashinfer_trtllm, flashinfer_cudnn, "
        "without vLLM's own choice",
    ),
    GRAPHS,
    DefaultSetting(
        "optimization-level",
        (Value({"optimization-level": 1}, factor=0.96),),
        "fewer fusions and no graphs of whole steps, for models on which those of level 2 do not pay",
        "vllm/config/vllm.py, OPTIMIZATION_LEVEL_TO_CONFIG; level 3 is level 2 in 0.32",
        related=frozenset({"enforce-eager", "compilation-config"}),
    ),
    DefaultSetting(
        "VLLM_MARLIN_USE_ATOMIC_ADD",
        (Value({"VLLM_MARLIN_USE_ATOMIC_ADD": True}),),
        "Marlin splits products with few outputs over the GPU and adds up atomically",
        "vllm/envs.py and marlin_utils.py, should_use_atomic_add_reduce",
        when=lambda case: case.configuration.scheme in _WEIGHT_ONLY and capability(case) >= (9, 0) and _is_narrow(case),
        applies="weight-only schemes with products of fewer than 2048 outputs, compute capability 9.0 and more",
        since=(0, 9, 0),
    ),
    PREFIX_CACHING,
)
