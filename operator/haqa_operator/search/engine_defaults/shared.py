"""Default settings that several platforms have in common: batches, KV cache, speculation."""

from __future__ import annotations

from haqa_operator.search.cases import Case
from haqa_operator.search.engine_defaults.settings import DefaultSetting, Value, Values, most, usual
from haqa_operator.search.memory import DEFAULT_UTILIZATION, memory_of

RECIPES = "vLLM's recipes"
"""github.com/vllm-project/recipes, read in August 2026."""

_LARGE_GIB, _HUGE_GIB = 70, 160
"""Where vLLM's batch defaults change (vllm/engine/arg_utils.py, `get_batch_defaults`)."""

_BATCH_DEFAULTS = "vllm/engine/arg_utils.py, get_batch_defaults"


def default_batched_tokens(case: Case) -> int:
    """vLLM's own `max-num-batched-tokens` for a server on one worker: by the device's memory."""
    return 2048 if case.accelerator.is_cpu else _by_memory(case, small=2048, large=8192, huge=16384)


def default_sequences(case: Case) -> int:
    """vLLM's own `max-num-seqs`, the same way."""
    return 128 if case.accelerator.is_cpu else _by_memory(case, small=256, large=1024, huge=1024)


def _by_memory(case: Case, small: int, large: int, huge: int) -> int:
    memory_gib = case.accelerator.memory_gib or 0
    if memory_gib >= _HUGE_GIB:
        return huge
    return large if memory_gib >= _LARGE_GIB and "a100" not in case.accelerator.product.lower() else small


def batched_tokens(*sizes: int, recipe: int | None = None, crossed: bool = False) -> DefaultSetting:
    """Tokens of a step: never fewer than sequences of a measured level.

    Args:
        recipe: The size that recipes have, where vLLM's own is smaller.
    """

    def values(case: Case) -> Values:
        own = default_batched_tokens(case)
        # All prompts of the highest level at once: a limit above that changes nothing.
        whole = most(case) * case.workload.input_tokens
        return tuple(
            Value(
                {"max-num-batched-tokens": size},
                factor=1.05 if size > own else 0.97,
                recipe=size == recipe and size > own,
            )
            for size in sizes
            if (most(case) <= size < min(own, whole)) or own < size < 2 * whole
        )

    return DefaultSetting(
        "max-num-batched-tokens",
        values,
        "larger steps take more prompts at once, smaller ones shorten the wait between two tokens",
        f"{RECIPES}; {_BATCH_DEFAULTS}",
        shown=f"{', '.join(map(str, sizes))}, as far as prompts fill them; vLLM's own by memory is 2048, 8192 or 16384",
        crossed=crossed,
        since=(0, 9, 0),
    )


def sequences(crossed: bool = False) -> DefaultSetting:
    """Sequences at once: the highest measured level, and never fewer."""

    def values(case: Case) -> Values:
        level, own = most(case), default_sequences(case)
        # Above vLLM's own the gain is what `prior` gets from more sequences at once.
        return () if level == own else (Value({"max-num-seqs": level}, factor=1.01, recipe=level > own),)

    return DefaultSetting(
        "max-num-seqs",
        values,
        "with fewer places than requests some wait; with many more, buffers and graphs are kept for nobody",
        f"{RECIPES}, Llama-3.3-70B: set it to the actual concurrency; {_BATCH_DEFAULTS}",
        shown="the highest measured concurrency",
        crossed=crossed,
        since=(0, 9, 0),
    )


def memory_is_short(case: Case) -> bool:
    """Whether the KV cache holds fewer sequences than the highest measured level has."""
    memory = memory_of(case)
    return memory is not None and memory.sequences(case.request_tokens) < most(case)


MEMORY_SHARE = DefaultSetting(
    "gpu-memory-utilization",
    (Value({"gpu-memory-utilization": 0.95}),),
    f"more of the memory is KV cache, so that more sequences run at once; vLLM's own share is {DEFAULT_UTILIZATION}",
    f"{RECIPES}: 0.95 where memory is short; vllm/config/cache.py",
    when=memory_is_short,
    applies="the KV cache holds fewer sequences than the highest measured concurrency",
    since=(0, 9, 0),
    related=frozenset({"kv-cache-memory-bytes", "num-gpu-blocks-override"}),
)

PERFORMANCE_MODE = DefaultSetting(
    "performance-mode",
    (
        Value({"performance-mode": "throughput"}, factor=1.01, when=lambda case: most(case) > 32),
        Value(
            {"performance-mode": "interactivity"}, factor=1.01, when=lambda case: min(case.workload.concurrency) <= 8
        ),
    ),
    "`throughput` doubles the batch limits, `interactivity` captures a graph for every small batch up to 32",
    "vllm/config/vllm.py and engine/arg_utils.py, performance_mode",
    applies="`throughput` above 32 concurrent requests, `interactivity` where a level has 8 or fewer",
)


def _proposals(method: str, tokens: int, extra: str = "") -> str:
    return f'{{"method": "{method}", "num_speculative_tokens": {tokens}{extra}}}'


_LOOKUP = ', "prompt_lookup_min": 2, "prompt_lookup_max": 4'


def _has_prompts(case: Case) -> bool:
    return case.workload.dataset is not None


def _predicts_more(case: Case) -> bool:
    # Artifacts keep such layers in 16 bit, so what is made has those of the model.
    if case.model is None:
        return False
    served = case.model.published(case.configuration) or case.model.itself
    return served.predicted_tokens > 0


def speculation(prompts_only: bool = False) -> DefaultSetting:
    """Several tokens a step.

    Args:
        prompts_only: Leave out heads that the checkpoint brings.
    """
    lookup = tuple(
        Value(
            {"speculative-config": _proposals("ngram", tokens, _LOOKUP)},
            factor=lambda case: 1.05 if usual(case) <= 8 else 0.85,
            when=_has_prompts,
        )
        for tokens in (3, 5)
    )
    heads = tuple(
        Value(
            {"speculative-config": _proposals("mtp", tokens)},
            factor=lambda case: 1.4 if usual(case) <= 8 else 1.05,
            when=_predicts_more,
            recipe=tokens == 1,
        )
        for tokens in (1, 3)
    )
    return DefaultSetting(
        "speculative-config",
        lookup if prompts_only else (*heads, *lookup),
        "guessed tokens are checked in one step: by heads that the checkpoint brings (mtp), or from the prompt (ngram)",
        f"{RECIPES}: mtp with 1 to 3 tokens; vllm/config/speculative.py",
        applies="ngram with a dataset, whose answers may repeat the prompt"
        + ("" if prompts_only else "; mtp for models with prediction layers (num_nextn_predict_layers)"),
        since=(0, 14, 0),
        related=frozenset({"spec-method", "spec-model", "spec-tokens"}),
    )


PREFIX_CACHING = DefaultSetting(
    "enable-prefix-caching",
    (Value({"enable-prefix-caching": True}, factor=1.1),),
    "prompts that share beginnings are computed once; by itself vLLM does so for plain attention, and now for hybrids",
    "vllm/config/model.py, is_prefix_caching_supported",
    when=lambda case: _has_prompts(case) and case.model is not None and not case.model.is_all_attention,
    applies="hybrid models with a dataset, before vLLM 0.32",
    since=(0, 11, 0),
    until=(0, 32, 0),
)

ASYNC_SCHEDULING = DefaultSetting(
    "async-scheduling",
    (Value({"async-scheduling": True}, factor=1.08, recipe=True),),
    "the next step is scheduled while one runs; vLLM does so by itself from 0.14 on",
    f"{RECIPES}; vLLM's release notes of 0.11.1 and 0.14.0",
    applies="vLLM 0.11.1 to 0.13",
    since=(0, 11, 1),
    until=(0, 14, 0),
)

GRAPHS = DefaultSetting(
    "compilation-config",
    (
        Value({"compilation-config": '{"cudagraph_mode": "FULL_DECODE_ONLY"}'}, factor=0.99),
        Value({"compilation-config": '{"cudagraph_mode": "PIECEWISE"}'}, factor=0.96),
    ),
    "graphs of decoding alone leave memory for the KV cache; piecewise ones work with every attention backend",
    "vllm/config/compilation.py, CUDAGraphMode; by itself vLLM captures both kinds",
    since=(0, 11, 0),
    related=frozenset({"enforce-eager", "optimization-level"}),
)
