"""Environment variables that a tuning may give to the engine.

An allow-list by prefix: the names that engines, their kernels and their runtimes read. Everything else (PATH,
PYTHONPATH, proxies, credentials) would change the machine around the engine instead of the engine.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from typing import Final

from haqa_contract import Scalar
from haqa_operator.serving.reserved import why_variable_is_reserved

VARIABLE_NAME: Final = "[A-Z][A-Z0-9_]*"
"""Of an environment variable, in `search.engine` and `search.fixedEngine`: command-line settings are lower case."""

_ALLOWED = re.compile(
    r"(VLLM|ONEDNN|DNNL|OMP|KMP|GOMP|MKL|OPENBLAS|MALLOC|TCMALLOC"  # vLLM and its CPU kernels, threads and allocators
    r"|CUDA|CUBLAS|CUDNN|NCCL|FLASHINFER|PYTORCH|TORCH|TORCHINDUCTOR|TRITON"  # NVIDIA and torch
    r"|HIP|HSA|ROCR|ROCBLAS|HIPBLASLT|MIOPEN|RCCL|AITER"  # AMD
    r"|HABANA|PT_HPU|HPU|SYCL|ZE|CCL|UR|ONEAPI"  # Intel
    r"|UCX|GLOO|NUMA|HF_HUB|SAFETENSORS|TOKENIZERS)_[A-Z0-9_]+"
)

_OTHER_ENGINES = re.compile(r"VLLM_(PROMPT|DECODE|GRAPH)_[A-Z0-9_]+")
"""Read by vLLM's plugin for Gaudi, unknown to vLLM itself."""

_SHARED_OBJECTS = re.compile(r"/[\w.+-]+(/[\w.+-]+)*\.so(\.\d+)*")

_WHOLE_NUMBERS = frozenset({"VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_NUM_OF_RESERVED_CPU", "OMP_NUM_THREADS"})


def is_variable(name: str) -> bool:
    """Whether a setting's name is that of an environment variable."""
    return re.fullmatch(VARIABLE_NAME, name) is not None


def variable_text(value: Scalar) -> str:
    """A value as it stands in the environment; booleans are 1 and 0, as vLLM reads them."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def check_variable(name: str, value: Scalar, known: Collection[str]) -> str | None:
    """What is wrong with this variable, as a sentence without its name; None when it may be set.

    Args:
        known: The variables of vLLM's own, all starting with VLLM_.
    """
    text = variable_text(value)
    if name == "LD_PRELOAD":
        return _check_preload(text)
    if reason := why_variable_is_reserved(name):
        return f"cannot be set here: {reason}"
    if not _ALLOWED.fullmatch(name):
        return "is not a variable of the engine or its runtime; leave it out, or set it in the engine image"
    if name.startswith("VLLM_") and name not in known and not _OTHER_ENGINES.fullmatch(name):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "it would have no effect"
        return f"is not known to vLLM; {hint}"
    if not text.isprintable():
        return f"{text!r} has characters that cannot be printed; leave them out"
    if name in _WHOLE_NUMBERS and not text.isdecimal():
        return f"{text!r} is not a whole number"
    return None


def _check_preload(text: str) -> str | None:
    """vLLM's documentation recommends tcmalloc and libiomp5 on CPU; nothing else is a reason to preload."""
    for path in text.split(":"):
        if not _SHARED_OBJECTS.fullmatch(path) or ".." in path.split("/"):
            return (
                f"{path!r} is not the absolute path of a shared object; "
                "write one like /usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4, several with `:` between them"
            )
    return None
