"""The figures of a window by the names that objectives and constraints have for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from haqa_contract.reports import Latency, Window

_RATE_FIELDS = {
    "throughput": "output_tokens_per_s",
    "totalThroughput": "total_tokens_per_s",
    "requestRate": "requests_per_s",
}
_LATENCY_FIELDS = {"ttft": "ttft_ms", "itl": "itl_ms", "tpot": "tpot_ms", "e2e": "e2e_ms"}

RATES: Final = tuple(_RATE_FIELDS)
"""Output tokens/s, all tokens/s, requests/s."""
LATENCIES: Final = tuple(_LATENCY_FIELDS)
"""Time to first token, inter-token latency, time per output token, end to end; all in milliseconds."""
PERCENTILES: Final = (50, 90, 95, 99)


def counted(windows: Sequence[Window]) -> list[Window]:
    """Valid full windows; valid short looks only at levels without any."""
    full = {window.concurrency for window in windows if window.counts}
    return [w for w in windows if w.counts or (w.invalid is None and w.concurrency not in full)]


def figure(window: Window, metric: str, percentile: int | None = None) -> float:
    """A rate per second or a latency in milliseconds (`percentile` None = its mean); NaN where a window has none.

    Raises:
        KeyError: no window has such a figure.
    """
    if metric in _RATE_FIELDS:
        rate: float = getattr(window, _RATE_FIELDS[metric])
        return rate
    latency: Latency = getattr(window, _LATENCY_FIELDS[metric])
    if percentile is None:
        return latency.mean
    return {50: latency.p50, 90: latency.p90, 95: latency.p95, 99: latency.p99}[percentile]
