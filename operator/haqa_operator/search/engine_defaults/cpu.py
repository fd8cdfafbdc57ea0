"""Default settings on CPUs."""

from __future__ import annotations

from haqa_contract import Scheme
from haqa_operator.hardware.instruction_sets import NEON, at_least, onednn_isa
from haqa_operator.search.cases import Case
from haqa_operator.search.engine_defaults.settings import DefaultSetting, Value, Values, all_attention, most
from haqa_operator.search.engine_defaults.shared import (
    PREFIX_CACHING,
    RECIPES,
    batched_tokens,
    memory_is_short,
    sequences,
    speculation,
)
from haqa_operator.search.memory import memory_of

_PLATFORM = "vllm/platforms/cpu.py"
_THREADS = "vllm/utils/ompmultiprocessing.py"

UNPACKED = frozenset({Scheme.BF16, Scheme.W8A8_INT8, Scheme.W4A8, Scheme.FP8_DYNAMIC, Scheme.FP8_BLOCK})
"""Schemes whose kernels compute in float32 too; the 4-bit kernel takes 16 bit only (`cpu_gemm_wna16`)."""


def _multiplies_bf16(case: Case) -> bool:
    return at_least(onednn_isa(case.accelerator), "avx512_bf16")


def _float32(case: Case) -> float:
    """Measured with BF16 weights; under a quantized scheme the rest of the model is the small part."""
    if case.accelerator.isa == NEON or _multiplies_bf16(case):
        return 0.6
    of_matrices = 1.2 if at_least(onednn_isa(case.accelerator), "avx512") else 2.5
    return of_matrices if case.configuration.scheme is Scheme.BF16 else 1.1


def _helps(case: Case) -> bool:
    return _float32(case) > 1.05


def _cores(case: Case) -> int:
    return case.accelerator.cores or 0


def _threads(case: Case) -> Values:
    """One more of few cores is much: 1.4 times with two (measured), 1.05 with 16."""
    gain = 1 + 0.8 / max(1, _cores(case))
    return (
        Value({"VLLM_CPU_NUM_OF_RESERVED_CPU": 0}, factor=gain, recipe=_cores(case) <= 8),
        Value({"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": _cores(case)}, factor=0.95 * gain),
    )


def _preloads(case: Case) -> Values:
    """All of them together, and each alone."""
    found = case.accelerator.preloads
    together = [":".join(found)] if len(found) > 1 else []
    return tuple(
        Value({"LD_PRELOAD": paths}, factor=_preload_factor(paths), recipe=n == 0)
        for n, paths in enumerate([*together, *reversed(found)])
    )


def _preload_factor(paths: str) -> float:
    return (1.25 if "libiomp" in paths else 1.0) * (1.01 if "tcmalloc" in paths else 1.0)


def _cache_space(case: Case) -> Values:
    """What the highest level needs, no more than the weights leave of three quarters of the memory."""
    memory, total_gib = memory_of(case), case.accelerator.memory_gib
    if memory is None or total_gib is None:
        return ()
    needed_gib = most(case) * memory.sequence_gib(case.request_tokens)
    left_gib = 0.75 * total_gib - memory.weights_gib - memory.reserve_gib
    size_gib = int(min(needed_gib + 1, left_gib))
    return (Value({"VLLM_CPU_KVCACHE_SPACE": size_gib}, recipe=True),) if size_gib > memory.kv_gib else ()


def _reads_fp8(case: Case) -> bool:
    if case.model is None or not all_attention(case):
        return False
    return at_least(case.accelerator.isa, "avx512") and case.model.facts.head_dim % 32 == 0


CPU: tuple[DefaultSetting, ...] = (
    DefaultSetting(
        "dtype",
        (
            Value(
                {"dtype": "float32"},
                factor=_float32,
                when=lambda case: case.configuration.scheme in UNPACKED and not _multiplies_bf16(case),
                recipe=_helps,
            ),
            Value(
                {"dtype": "float16"},
                factor=lambda case: 0.95 if at_least(onednn_isa(case.accelerator), "amx") else 0.8,
                when=lambda case: case.configuration.scheme is not Scheme.FP8_BLOCK,
            ),
        ),
        "without BF16 instructions every product is converted: with AVX2 alone float32 was 2.55 times as fast at the "
        "same perplexity; float16 has instructions from AVX512-FP16 on, which came with AMX",
        f"measured (demo model, AMD EPYC with AVX2); supported_dtypes in {_PLATFORM}",
        applies="float32 on x86 without AVX512-BF16 and not for 4-bit weights, whose kernel takes 16 bit only",
        crossed=True,
        since=(0, 9, 0),
    ),
    DefaultSetting(
        "threads",
        _threads,
        "vLLM keeps one core of each worker free for its scheduler, half of a machine with two; and it binds threads "
        "to every core it sees, whatever share of them a container may use",
        f"measured (2 cores: 1.4 times); {_THREADS}",
        when=lambda case: _cores(case) > 1,
        applies="machines with more than one core",
        shown="`VLLM_CPU_NUM_OF_RESERVED_CPU=0`, or `VLLM_CPU_OMP_THREADS_BIND=nobind` with `OMP_NUM_THREADS` = cores",
        crossed=True,
        related=frozenset({"VLLM_CPU_NUM_OF_RESERVED_CPU", "VLLM_CPU_OMP_THREADS_BIND", "OMP_NUM_THREADS"}),
    ),
    DefaultSetting(
        "LD_PRELOAD",
        _preloads,
        "vLLM's guide asks for them and its images preload them: Intel's OpenMP keeps threads waiting between the many "
        "short loops of a decode step where GNU's puts them to sleep, tcmalloc spares locks",
        "measured (2 cores, W8A8: libiomp5 1.25 times tcmalloc); vllm/v1/worker/cpu_worker.py, check_preloaded_libs",
        when=lambda case: bool(case.accelerator.preloads),
        applies="one machine that has libiomp5 or tcmalloc and preloads neither; images preload their own",
        shown="paths of `libiomp5.so` (comes with vLLM on x86) and `libtcmalloc_minimal.so.4`, together and alone",
        crossed=True,
        since=(0, 9, 0),
    ),
    DefaultSetting(
        "VLLM_CPU_KVCACHE_SPACE",
        _cache_space,
        "HAQA gives a quarter of the memory; more lets more sequences run at once",
        f"{_PLATFORM}; serving.launch.DEFAULTS",
        when=memory_is_short,
        applies="the KV cache holds fewer sequences than the highest measured concurrency",
        shown="what the highest concurrency needs, in GiB",
        crossed=True,
        since=(0, 9, 0),
        related=frozenset({"kv-cache-memory-bytes", "gpu-memory-utilization"}),
    ),
    batched_tokens(1024, 4096, 16384, recipe=16384),
    sequences(),
    DefaultSetting(
        "enforce-eager",
        (Value({"enforce-eager": True}, factor=0.91),),
        "without compilation an engine starts a minute sooner, and where shapes change much it may be as fast",
        f"measured (compilation: 1.1 times with float32); {_PLATFORM}",
        since=(0, 9, 0),
        related=frozenset({"compilation-config", "optimization-level"}),
    ),
    DefaultSetting(
        "kv-cache-dtype",
        (
            Value({"kv-cache-dtype": "fp8"}, factor=0.97),
            Value({"kv-cache-dtype": "fp8_e5m2"}, factor=0.96),
        ),
        "half of the KV cache's memory and traffic, for conversions in every step",
        "vllm/v1/attention/backends/cpu_attn.py, supported_kv_cache_dtypes and _get_attn_isa",
        when=_reads_fp8,
        applies="x86 with AVX512, plain attention, head sizes that are multiples of 32",
    ),
    DefaultSetting(
        "block-size",
        (
            Value({"block-size": 32}, factor=0.99),
            Value({"block-size": 64}, factor=0.995),
            Value({"block-size": 256}, factor=0.99),
        ),
        "smaller blocks waste less on short sequences, larger ones are longer runs for the kernel; vLLM takes 128",
        f"{_PLATFORM}: multiples of 32",
        when=all_attention,
        applies="plain attention",
        since=(0, 9, 0),
    ),
    DefaultSetting(
        "VLLM_CPU_ATTN_SPLIT_KV",
        (Value({"VLLM_CPU_ATTN_SPLIT_KV": False}, factor=0.995),),
        "a long context is split over cores; for short ones joining the parts is lost time",
        f"vllm/envs.py; {RECIPES}: off for Gemma on CPU",
        when=lambda case: _cores(case) > 1,
        applies="machines with more than one core",
    ),
    DefaultSetting(
        "VLLM_CPU_INT4_W4A8",
        (Value({"VLLM_CPU_INT4_W4A8": False}, factor=0.7),),
        "with AMX vLLM rounds activations of 4-bit models to 8 bit; off, they keep 16 bit and accuracy",
        "vllm/model_executor/kernels/linear/mixed_precision/cpu.py",
        when=lambda case: (
            case.configuration.scheme in (Scheme.W4A16, Scheme.W4A16_ASYM) and at_least(case.accelerator.isa, "amx")
        ),
        applies="4-bit weights with AMX",
    ),
    speculation(prompts_only=True),
    PREFIX_CACHING,
)
