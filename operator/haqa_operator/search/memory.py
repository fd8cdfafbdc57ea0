"""How a device's memory is shared out between weights, running and the KV cache.

The estimate leaves out what cannot be known (fragmentation, communication buffers, the number of CUDA graphs), so it
errs towards "fits": what it rules out would not start, what it lets through may still fail in its trial.
"""

from __future__ import annotations

from dataclasses import dataclass

from haqa_operator.search.cases import Case
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.serving.launch import kv_cache_space_gib

GIB = 2**30

DEFAULT_UTILIZATION = 0.92
"""vllm/config/cache.py, 0.32: `gpu_memory_utilization`, on CPU the share of the machine's memory."""

_RUNTIME_GIB = 0.5
"""Device context, libraries and the allocator's slack: a lower bound on every platform."""

_DEFAULT_BATCHED_TOKENS = 2048
_DEFAULT_SEQUENCES = 128
"""The smallest defaults that vLLM has on any device (`EngineArgs.get_batch_defaults`), since this is a lower bound."""

BATCH_SETTINGS = ("max-num-batched-tokens", "max-num-seqs", "enable-chunked-prefill")
"""What the reserve depends on."""

_SETTINGS = (
    *BATCH_SETTINGS,
    "gpu-memory-utilization",
    "dtype",
    "tensor-parallel-size",
    "pipeline-parallel-size",
    "data-parallel-size",
    "kv-cache-memory-bytes",
    "VLLM_CPU_KVCACHE_SPACE",
)
"""What the estimate looks at."""

_CPU_CACHE_SIZES = ("kv-cache-memory-bytes", "gpu-memory-utilization")


@dataclass(frozen=True)
class Memory:
    """One accelerator's memory under a configuration, in GiB; of the machine on CPU.

    Attributes:
        usable_gib: What weights and running may use (and the KV cache, unless its size is set), from `usable_from`.
        reserve_gib: Activations of one step and the runtime.
        kv_gib: The KV cache; below 0 where not even the weights fit.
        cache_is_fixed: The KV cache's size is set outright and is not what the weights leave.
        settings: Names of the engine settings that these numbers depend on.
    """

    usable_gib: float
    usable_from: str
    weights_gib: float
    reserve_gib: float
    kv_gib: float
    cache_is_fixed: bool
    devices: int
    settings: tuple[str, ...]
    model: ModelProfile
    cache_dtype: str
    compute_bytes: int
    heads_share: float

    def sequence_gib(self, tokens: int) -> float:
        """KV cache of one sequence on one accelerator."""
        return self.model.kv_bytes(tokens, self.cache_dtype, self.compute_bytes) * self.heads_share / GIB

    def sequences(self, tokens: int) -> float:
        """How many sequences of this length the KV cache holds at once; infinite where nothing is cached."""
        each = self.sequence_gib(tokens)
        return max(0.0, self.kv_gib) / each if each else float("inf")


def memory_of(case: Case) -> Memory | None:
    """How memory is shared out, or None where the model or the memory's size is not known."""
    if memory_of not in case.worked_out:
        case.worked_out[memory_of] = _memory_of(case)
    found: Memory | None = case.worked_out[memory_of]
    return found


def _memory_of(case: Case) -> Memory | None:
    model, size_gib = case.model, case.accelerator.memory_gib
    if model is None or not model.is_known or size_gib is None:
        return None
    tensor, pipeline = case.tensor_parallel, int(case.number("pipeline-parallel-size") or 1)
    weights_gib = _weight_bytes(case, model, tensor) / pipeline / GIB
    reserve_gib = _reserve_gib(case, model, tensor)
    usable_gib, usable_from, fixed_gib = _usable(case, size_gib)
    left_gib = usable_gib - weights_gib - reserve_gib
    kv_heads = max(1, model.facts.kv_heads)
    return Memory(
        usable_gib=usable_gib,
        usable_from=usable_from,
        weights_gib=weights_gib,
        reserve_gib=reserve_gib,
        kv_gib=left_gib if fixed_gib is None or left_gib < 0 else fixed_gib,
        cache_is_fixed=fixed_gib is not None,
        devices=tensor * pipeline,
        settings=tuple(name for name in _SETTINGS if case.setting(name) is not None),
        model=model,
        cache_dtype=case.kv_cache_dtype,
        compute_bytes=model.compute_bytes(case.configuration),
        # Key-value heads fewer than accelerators are copied, not cut.
        heads_share=1 / (min(tensor, kv_heads) * pipeline),
    )


def _weight_bytes(case: Case, model: ModelProfile, tensor: int) -> float:
    """Of one accelerator's share of all layers, and room for adapters: experts are spread over the replicas of data
    parallelism too."""
    whole = model.configured_weight_bytes(case.configuration)
    data = int(case.number("data-parallel-size") or 1)
    routed = model.routed_bytes(case.configuration)
    adapters = model.adapter_bytes(tensor, data, model.compute_bytes(case.configuration))
    return (whole - routed + routed / data) / tensor + adapters


def _usable(case: Case, size_gib: float) -> tuple[float, str, float | None]:
    """What weights and running may use, where that is from, and the KV cache's size where it is set outright."""
    device, fixed_gib = case.accelerator.product, _fixed_cache_gib(case, size_gib)
    if fixed_gib is not None:
        return size_gib - fixed_gib, f"{device} has beside {fixed_gib:g} GiB of KV cache", fixed_gib
    utilization = case.number("gpu-memory-utilization") or DEFAULT_UTILIZATION
    source = f"gpu-memory-utilization {utilization:g} leaves of {device}'s {size_gib:.0f} GiB"
    return size_gib * utilization, source, None


def _reserve_gib(case: Case, model: ModelProfile, tensor: int) -> float:
    """Activations of the largest step (residual, gate and up of one layer, logits of the sequences) and the runtime."""
    compute = model.compute_bytes(case.configuration)
    sequences = case.number("max-num-seqs") or _DEFAULT_SEQUENCES
    tokens = case.number("max-num-batched-tokens") or max(_DEFAULT_BATCHED_TOKENS, sequences, _whole_prompt(case))
    widest = max((linear.rows for linear in model.linears if not linear.routed), default=0) / tensor
    step = tokens * (2 * model.facts.hidden_size + 2 * widest) * compute + sequences * model.facts.vocab_size * 4
    return _RUNTIME_GIB + step / GIB


def _whole_prompt(case: Case) -> int:
    """Without chunked prefill a step takes the longest sequence whole."""
    return case.planned_limit if case.setting("enable-chunked-prefill") is False else 0


def _fixed_cache_gib(case: Case, size_gib: float) -> float | None:
    """The KV cache's size where it is set outright, as HAQA does on CPU; None where it is what the weights leave."""
    if (exact := case.number("kv-cache-memory-bytes")) is not None:
        return exact / GIB
    if not case.accelerator.is_cpu:
        return None
    space = case.setting("VLLM_CPU_KVCACHE_SPACE") or case.env.get("VLLM_CPU_KVCACHE_SPACE")
    if space is not None and str(space).isdigit():
        return float(space)
    if any(case.setting(name) is not None for name in _CPU_CACHE_SIZES):
        return None
    return float(kv_cache_space_gib(size_gib, case.tensor_parallel))
