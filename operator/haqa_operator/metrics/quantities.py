"""Measured numbers as people read them, so that every sentence gives the same unit in the same way."""

from __future__ import annotations

from haqa_operator.api.metrics import LATENCIES, MetricKey

_UNITS = {
    "throughput": "tokens/s",
    "totalThroughput": "tokens/s",
    "requestRate": "requests/s",
    "throughputPerCost": "tokens per unit of cost",
    "artifactBytes": "bytes",
    **dict.fromkeys(LATENCIES, "ms"),
}


def unit(metric: str) -> str:
    """Unit of a metric; empty for pure numbers and for metrics that a replayed table brought along."""
    return _UNITS.get(metric, "")


def quantity(key: MetricKey, value: float) -> str:
    """`240 ms`, `203.4 tokens/s`, `12.36`: four significant digits, or all digits before the point."""
    number = f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
    return f"{number} {unit(key.metric)}".rstrip()


def signed_percent(fraction: float) -> str:
    """0.013 -> `+1.3 %`; keeps two significant digits below 10 % so that `+0.04 %` does not read as nothing."""
    percent = fraction * 100
    text = f"{percent:+.0f}" if abs(percent) >= 10 else f"{percent:+.2g}"
    return f"{text} %"
