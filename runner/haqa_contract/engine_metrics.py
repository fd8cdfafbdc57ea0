"""vLLM's own metrics, as both sides read them: the runner from /metrics, the operator from Prometheus.

The names are those of vLLM's V1 engine (`vllm/v1/metrics/loggers.py`).
"""

from __future__ import annotations

from typing import Final

COUNTERS: Final = {
    "generation_tokens": "vllm:generation_tokens_total",
    "prompt_tokens": "vllm:prompt_tokens_total",
    "requests": "vllm:request_success_total",
    "preemptions": "vllm:num_preemptions_total",
}
HISTOGRAMS: Final = {
    "ttft": "vllm:time_to_first_token_seconds",
    "itl": "vllm:inter_token_latency_seconds",
    "e2e": "vllm:e2e_request_latency_seconds",
    "queue": "vllm:request_queue_time_seconds",
}
FINISHED: Final = ("stop", "length")
"""Reasons of `requests` that count as an answer; aborted requests are in the same counter."""
STARTED: Final = "process_start_time_seconds"
"""Changes where the engine was started anew, and its counters with it."""

DISAGREEMENT_LIMIT: Final = 0.1
"""Relative difference between the engine's throughput and the load generator's that marks a window."""


def sums_and_counts() -> tuple[str, ...]:
    """The series of the histograms that are used: their buckets are far too coarse for percentiles."""
    return tuple(f"{name}_{part}" for name in HISTOGRAMS.values() for part in ("sum", "count"))
