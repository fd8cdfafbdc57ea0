"""What a setting can change: whether a configuration fits into memory, and which numbers it computes.

Reviewed by hand, for vLLM 0.32. A setting that is not listed may change anything, so nothing is concluded across two
values of it.
"""

from __future__ import annotations

import re
from enum import Enum

from haqa_contract import Scalar
from haqa_operator.api.tuning import MAX_MODEL_LEN
from haqa_operator.search.number_formats import FORMATS, cache_bytes


class Shortage(Enum):
    """What there was too little of, as an EngineOOM says."""

    CACHE = "cache"
    """Memory of the KV cache: a larger share for the engine would help"""
    DEVICE = "device"
    """Memory outside of what the engine had planned: a smaller share would help"""
    UNKNOWN = "unknown"


_CACHE = re.compile(
    r"KV cache is too small|no memory is left for the KV cache|memory is left for the state of|the weights alone take"
    r"|raise (?:it|gpu-memory-utilization)"
)
_DEVICE = re.compile(
    r"lower (?:gpu-memory-utilization|VLLM_CPU_KVCACHE_SPACE)|or (?:a lower )?gpu-memory-utilization|killed"
)


def shortage(message: str) -> Shortage:
    """Of the sentence of an EngineOOM."""
    if _CACHE.search(message):
        return Shortage.CACHE
    return Shortage.DEVICE if _DEVICE.search(message) else Shortage.UNKNOWN


_MORE_TAKES_MORE = frozenset({"max-num-seqs", "max-num-batched-tokens", MAX_MODEL_LEN, "data-parallel-size"})
"""More of it never leaves more memory free. At a given number of accelerators, more data parallelism means more copies
of the weights."""
_MORE_LEAVES_MORE = frozenset({"tensor-parallel-size", "pipeline-parallel-size"})
"""Accelerators that share the weights."""
_SHARE = frozenset({"gpu-memory-utilization", "VLLM_CPU_KVCACHE_SPACE", "kv-cache-memory-bytes"})
"""What the engine plans with: more of it is less for everything else."""
_BITS = {scheme.value: number_format.weight_bits for scheme, number_format in FORMATS.items()}
_BYTES = {"float32": 4, "float": 4}

_ONLY_SPEED = frozenset(
    {
        "OMP_NUM_THREADS",
        "VLLM_CPU_NUM_OF_RESERVED_CPU",
        "VLLM_CPU_OMP_THREADS_BIND",
        "async-scheduling",
        "enable-prefix-caching",
        "scheduling-policy",
    }
)
"""Neither memory nor numbers depend on it."""

FREE_OF_MEMORY = _ONLY_SPEED | {"algorithm"}
"""Weights are as large whichever way they were rounded."""

FREE_OF_NUMBERS = frozenset(
    {
        *_ONLY_SPEED,
        *_MORE_TAKES_MORE,
        *_MORE_LEAVES_MORE,
        *_SHARE,
        "LD_PRELOAD",
        "block-size",
        "compilation-config",
        "cudagraph-mode",
        "enable-chunked-prefill",
        "enable-expert-parallel",
        "enforce-eager",
        "max-cudagraph-capture-size",
        "optimization-level",
        "performance-mode",
        "speculative-config",
    }
)
"""Settings that change speed and the order of additions, no number format: no accuracy limit is kept by one of them
that is broken without."""


def need(name: str, value: Scalar | None, short_of: Shortage) -> float | None:
    """How much memory a value takes, on a scale of its own: a larger need never repairs an EngineOOM.

    None where two values of the parameter cannot be compared.
    """
    if name == "scheme":
        return _BITS.get(str(value))
    if name == "dtype":
        return _BYTES.get(str(value), 2)
    if name == "kv-cache-dtype":
        return cache_bytes(str(value or "auto"), 2)
    if value is None or isinstance(value, (bool, str)):
        return float(value) if name in _SHARE and str(value).isdigit() and isinstance(value, str) else None
    if name == "group-size":
        return -value if value > 0 else None
    if name in _MORE_TAKES_MORE:
        return value
    if name in _MORE_LEAVES_MORE:
        return -value
    if name in _SHARE and short_of is not Shortage.UNKNOWN:
        return value if short_of is Shortage.DEVICE else -value
    return None
