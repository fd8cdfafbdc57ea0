"""The figures of a window by the names that objectives and constraints have for them."""

from __future__ import annotations

from typing import Final

from haqa_contract.reports import Latency, Window

RATES: Final = ("throughput", "totalThroughput", "requestRate")
"""Output tokens/s, all tokens/s, requests/s."""
LATENCIES: Final = ("ttft", "itl", "tpot", "e2e")
"""Time to first token, inter-token latency, time per output token, end to end; all in milliseconds."""
PERCENTILES: Final = (50, 90, 95, 99)


def figure(window: Window, metric: str, percentile: int | None = None) -> float:
    """A rate per second or a latency in milliseconds (`percentile` None = its mean); NaN where a window has none.

    Raises:
        KeyError: no window has such a figure.
    """
    if metric in RATES:
        return {
            "throughput": window.output_tokens_per_s,
            "totalThroughput": window.total_tokens_per_s,
            "requestRate": window.requests_per_s,
        }[metric]
    latency: Latency = {
        "ttft": window.ttft_ms,
        "itl": window.itl_ms,
        "tpot": window.tpot_ms,
        "e2e": window.e2e_ms,
    }[metric]
    if percentile is None:
        return latency.mean
    return {50: latency.p50, 90: latency.p90, 95: latency.p95, 99: latency.p99}[percentile]
